"""Clients and small servers that the tests of this directory share."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEADLINE = 20.0


def application(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer every request with its path, by WSGI."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {environ['PATH_INFO']}".encode()]


def show_environ(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer every request with the environ's variable that the path names."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(environ.get(str(environ["PATH_INFO"])[1:])).encode()]


def fetch(address: tuple[str, int], path: str = "/", context: ssl.SSLContext | None = None) -> bytes:
    """Return the body of one request on a connection of its own, over TLS if there is a context."""
    connection = (
        http.client.HTTPConnection(*address, timeout=DEADLINE)
        if context is None
        else http.client.HTTPSConnection("localhost", address[1], timeout=DEADLINE, context=context)
    )
    if context is not None:
        connection.sock = context.wrap_socket(
            socket.create_connection(address, timeout=DEADLINE), server_hostname="localhost"
        )
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read()
    finally:
        connection.close()


def exchange(address: tuple[str, int] | str, request: bytes) -> bytes:
    """Send bytes on a connection of their own, and return everything that comes back until the end."""
    with connect(address) as sock:
        sock.sendall(request)
        return read_all(sock)


def connect(address: tuple[str, int] | str) -> socket.socket:
    """Connect to a TCP address or a unix socket's path."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        sock.connect(address)
        return sock
    return socket.create_connection(address, timeout=DEADLINE)


def read_all(sock: socket.socket) -> bytes:
    """Return everything until the peer closes."""
    received = b""
    try:
        while chunk := sock.recv(65536):
            received += chunk
    except ConnectionResetError:
        return received
    return received


def served_fingerprint(address: tuple[str, int], server_hostname: str = "localhost") -> bytes:
    """Return the DER of the certificate that a handshake is shown, verified or not."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(address, timeout=DEADLINE) as sock,
        context.wrap_socket(sock, server_hostname=server_hostname) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        return shown


def is_refused(address: tuple[str, int]) -> bool:
    """Return whether nobody listens at the address."""
    try:
        socket.create_connection(address, timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return True
    return False


def server_threads() -> list[str]:
    """Return the names of the threads that adapters have started and that still run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("HTTPServer ", "stop "))]
