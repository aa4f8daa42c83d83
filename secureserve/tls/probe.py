"""What a server presents: one handshake that verifies nothing and asks for nothing."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from secureserve.errors import HandshakeFailed

__all__ = ["PROBE_TIMEOUT", "presented_chain"]

PROBE_TIMEOUT: Final = 10.0
"""Seconds for connecting and shaking hands."""


def presented_chain(
    address: tuple[str, int] | str, *, server_name: str | None = None, timeout: float = PROBE_TIMEOUT
) -> tuple[bytes, ...]:
    """Return the certificates in DER that a server presents, leaf first.

    Before Python 3.13 the standard library tells the leaf alone.

    Args:
        address: Host and port, or the path of a unix socket.
        server_name: The name to ask for; None asks for none.
        timeout: Seconds for connecting and for shaking hands.

    Raises:
        HandshakeFailed: It does not speak TLS, or refused.
        OSError: Nobody answers there.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _connect(address, timeout) as sock:
        sock.settimeout(timeout)
        try:
            with context.wrap_socket(sock, server_hostname=server_name) as tls:
                if hasattr(tls, "get_unverified_chain"):
                    return tuple(tls.get_unverified_chain())
                leaf = tls.getpeercert(binary_form=True)
                return () if leaf is None else (leaf,)
        except ssl.SSLError as error:
            raise HandshakeFailed(f"The TLS handshake with {address} failed: {error.reason or error}.") from error


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
