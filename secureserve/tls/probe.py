"""What a server presents: one handshake that verifies nothing and asks for nothing."""

from __future__ import annotations

import select
import socket
import time
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from secureserve.errors import HandshakeFailed
from secureserve.tls.engines.pyopenssl import binding
from secureserve.tls.engines.pyopenssl.library import connection_error, reason_of

__all__ = ["PROBE_TIMEOUT", "presented_chain"]

PROBE_TIMEOUT: Final = 10.0
"""Seconds for connecting and shaking hands."""

_SCHEMES: Final = {
    "rsa": "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
    "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512",
    "ecdsa": "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512",
}
"""The signature schemes that a key of each type can be used with (RFC 8446, 4.2.3)."""

_ANY_STRENGTH: Final = b"ALL:@SECLEVEL=0"
"""What is presented is to be seen, however weak it is."""


def presented_chain(
    address: tuple[str, int] | str,
    *,
    server_name: str | None = None,
    key_type: str | None = None,
    preface: bytes = b"",
    timeout: float = PROBE_TIMEOUT,
) -> tuple[bytes, ...]:
    """Return the certificates in DER that a server presents, leaf first.

    A server that goes on to refuse the handshake, for want of a client certificate, has presented its own before.

    Args:
        address: Host and port, or the path of a unix socket.
        server_name: The name to ask for; None asks for none.
        key_type: ``rsa`` or ``ecdsa``: present what a client is shown that can verify no other.
        preface: What to send before the handshake, such as a PROXY protocol header.
        timeout: Seconds for connecting, and for shaking hands.

    Raises:
        HandshakeFailed: It does not speak TLS, or refused.
        OSError: Nobody answers there.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(_ANY_STRENGTH)
    if key_type is not None:
        binding.set_signature_schemes(context, _SCHEMES[key_type])
    with _connect(address, timeout) as sock:
        sock.sendall(preface)
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        if server_name is not None:
            connection.set_tlsext_host_name(server_name.encode("idna"))
        try:
            _shake_hands(connection, sock, timeout)
        except (SSL.Error, OSError) as error:
            chain = _chain(connection)
            if chain:
                return chain
            if isinstance(error, OSError):
                raise
            if isinstance(error, SSL.SysCallError):
                raise connection_error(error) from error
            raise HandshakeFailed(f"The TLS handshake failed: {reason_of(error)}.") from error
        return _chain(connection)


def _shake_hands(connection: SSL.Connection, sock: socket.socket, timeout: float) -> None:
    sock.setblocking(False)
    deadline = time.monotonic() + timeout
    poll = select.poll()
    while True:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            poll.register(sock, select.POLLIN)
        except SSL.WantWriteError:
            poll.register(sock, select.POLLOUT)
        else:
            return
        if not poll.poll(max(deadline - time.monotonic(), 0.0) * 1000):
            raise TimeoutError("timed out")


def _chain(connection: SSL.Connection) -> tuple[bytes, ...]:
    chain = connection.get_peer_cert_chain(as_cryptography=True) or ()
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)


def _connect(address: tuple[str, int] | str, timeout: float) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout=timeout)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock
