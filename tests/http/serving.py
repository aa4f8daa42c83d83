"""Running an `HTTPServer` for a test, over plain HTTP: what these tests are about is the same with TLS on top."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from secureserve.http.server import HTTPServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEADLINE = 20.0
"""Seconds within which anything that is waited for happens, on a busy machine too."""

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def hello(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application of tests that need none of their own."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


class Gate:
    """An application that waits at a gate: a test sees how many wait, and opens it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Wait, unless the path is /quick."""
        if environ["PATH_INFO"] != "/quick":
            self.waiting.release()
            assert self.open.wait(DEADLINE)
        return hello(environ, start_response)

    def wait_for(self, count: int) -> None:
        """Wait until `count` more requests wait at the gate."""
        for _ in range(count):
            assert self.waiting.acquire(timeout=DEADLINE)


@contextlib.contextmanager
def running(app: Callable[..., Iterable[bytes]] = hello, **options: Any) -> Iterator[HTTPServer]:
    """Run a server on a free port of loopback; it is stopped in the end."""
    server = HTTPServer(("127.0.0.1", 0), app, **options)
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    try:
        assert server.wait_ready(DEADLINE)
        yield server
    finally:
        server.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def connect(server: HTTPServer) -> socket.socket:
    """Open a connection to `server`."""
    return socket.create_connection(server.bind_addr, DEADLINE)


def get(server: HTTPServer, path: str = "/", timeout: float = DEADLINE) -> tuple[int, bytes]:
    """Fetch a path over a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection(*server.bind_addr, timeout=timeout)) as client:
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read()


def read_all(sock: socket.socket) -> bytes:
    """Return everything up to the end of the stream, or the reset that ends it."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            received += data
    return received


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds; what it asks about is counted, and not announced."""
    event, deadline = threading.Event(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        event.wait(0.002)
