"""Clients of our own: one good connection at a time, resumed or not."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from typing import Final

__all__ = ["TIMEOUT", "ask", "connect", "fetch_once", "fingerprint", "latencies", "negotiated", "resume", "tls_context"]

HOST: Final = "127.0.0.1"
TIMEOUT: Final = 5.0
"""Seconds that a connection may take where nothing else is said."""
REQUEST: Final = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: %b\r\n\r\n"


def tls_context() -> ssl.SSLContext:
    """Return a context that speaks TLS 1.3 only, and verifies as little as the load generator does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


_CONTEXT: Final = tls_context()


def connect(port: int, *, timeout: float, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """Return a new connection.

    Args:
        port: Of the server, on loopback.
        timeout: Seconds for the whole of connecting and the handshake, and for each operation later.
        session: What to resume.

    Raises:
        OSError: There is none.
    """
    deadline = time.monotonic() + timeout
    sock = socket.create_connection((HOST, port), timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(max(deadline - time.monotonic(), 0.01))
        return _CONTEXT.wrap_socket(sock, server_hostname="localhost", session=session)
    except BaseException:
        sock.close()
        raise


def ask(sock: ssl.SSLSocket, path: str = "/", *, keep: bool = False) -> bytes:
    """Return the content of an answer of known length.

    Raises:
        OSError: The connection broke.
        ValueError: The answer is not 200 with a Content-Length.
    """
    sock.sendall(REQUEST % (path.encode(), b"keep-alive" if keep else b"close"))
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        message = f"answered {head[:40]!r}"
        raise ValueError(message)
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _more(sock)
    return body


def _more(sock: ssl.SSLSocket) -> bytes:
    data = sock.recv(65536)
    if not data:
        message = "the answer broke off"
        raise ConnectionError(message)
    return data


def fetch_once(port: int, path: str = "/", *, timeout: float) -> bytes:
    """Return the content of one answer on a connection of its own.

    Raises:
        OSError: There is none in time.
        ValueError: It is not as it should be.
    """
    with connect(port, timeout=timeout) as sock:
        return ask(sock, path)


def latencies(port: int, *, count: int, seconds: float, timeout: float) -> tuple[list[float], int]:
    """Make new connections with one request each, one after the other.

    Args:
        port: Of the server.
        count: Connections at most.
        seconds: After which no more are begun.
        timeout: Seconds after which one counts as failed.

    Returns:
        The seconds that each took, and how many failed.
    """
    taken: list[float] = []
    failed = 0
    deadline = time.monotonic() + seconds
    for _ in range(count):
        began = time.monotonic()
        if began > deadline:
            break
        try:
            fetch_once(port, timeout=timeout)
        except (OSError, ValueError):
            failed += 1
        else:
            taken.append(time.monotonic() - began)
    return taken, failed


def resume(port: int, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
    """Make a connection that resumes a session, with one request.

    Returns:
        The newest session, and whether the given one was resumed.
    """
    with connect(port, timeout=TIMEOUT, session=session) as sock:
        ask(sock)
        return sock.session, bool(sock.session_reused)


def fingerprint(sock: ssl.SSLSocket) -> str:
    """Return the SHA-256 of the certificate that a connection was shown."""
    return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()


def negotiated(port: int) -> str:
    """Return the version and cipher suite that a connection gets."""
    with connect(port, timeout=TIMEOUT) as sock:
        cipher = sock.cipher()
        return f"{sock.version()} {cipher[0] if cipher else ''}"
