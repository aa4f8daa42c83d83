"""What a server presents: one handshake that verifies nothing and asks for nothing."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final

from secureserve.errors import HandshakeFailed

__all__ = ["PROBE_TIMEOUT", "presented_chain"]

PROBE_TIMEOUT: Final = 10.0
"""Seconds for connecting and shaking hands."""

_SUITES: Final = {"rsa": "aRSA", "ecdsa": "aECDSA"}
"""OpenSSL's names for the TLS 1.2 cipher suites that a key of each type can be used with."""

_DER: Final = 2
"""What the library calls the encoding."""


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
        key_type: ``rsa`` or ``ecdsa``: present what a client is shown that speaks TLS 1.2 and can verify no other.
        preface: What to send before the handshake, such as a PROXY protocol header.
        timeout: Seconds for connecting and for shaking hands.

    Raises:
        HandshakeFailed: It does not speak TLS, or refused.
        OSError: Nobody answers there.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if key_type is not None:
        # Under TLS 1.3 it is the signature schemes that decide, which the standard library does not let us choose.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_SUITES[key_type])
    with _connect(address, timeout) as sock:
        sock.settimeout(timeout)
        sock.sendall(preface)
        with context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False) as tls:
            try:
                tls.do_handshake()
            except OSError as error:
                chain = _chain(tls)
                if not chain and isinstance(error, ssl.SSLError):
                    message = f"The TLS handshake failed: {error.reason or error}."
                    raise HandshakeFailed(message) from error
                if not chain:
                    raise
                return chain
            return _chain(tls)


def _chain(tls: ssl.SSLSocket) -> tuple[bytes, ...]:
    """Return what has been presented, leaf first. The public call (Python 3.13) wants a handshake that succeeded."""
    library: Any = tls
    chain = library._sslobj.get_unverified_chain() or ()  # noqa: SLF001 - as the docstring says
    return tuple(certificate.public_bytes(_DER) for certificate in chain)


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
