"""Clients and small servers that the tests of this directory share."""

from __future__ import annotations

import http.client
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEADLINE = 20.0


def application(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer every request with its path, by WSGI."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {environ['PATH_INFO']}".encode()]


def fetch(address: tuple[str, int], path: str = "/") -> bytes:
    """Return the body of one plain request on a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=DEADLINE)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read()
    finally:
        connection.close()


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
