"""Peers that send without an end, and those who wait for their turn meanwhile."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from secureserve.front.exchanges import SERVED_IN_A_ROW_SECONDS
from secureserve.front.settings import FrontSettings
from secureserve.testing.clock import ManualClock
from tests.http.serving import DEADLINE, connect, hello, running, wait_for

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

PIPELINED = 50


def get(path: str) -> bytes:
    """Return a request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_requests_sent_one_behind_the_other_do_not_keep_others_from_their_turn() -> None:
    """Who pipelines requests is served for a moment in a row, then whoever else waits; and all of it is answered."""
    clock, first, begin, order = ManualClock(), threading.Event(), threading.Event(), []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        order.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/0":
            first.set()
            assert begin.wait(DEADLINE)
        clock.advance(SERVED_IN_A_ROW_SECONDS)
        return hello(environ, start_response)

    with running(app, numthreads=1, clock=clock) as server, connect(server) as greedy, connect(server) as other:
        greedy.sendall(b"".join(get(f"/{number}") for number in range(PIPELINED)))
        assert first.wait(DEADLINE)
        other.sendall(get("/other"))
        wait_for(lambda: server.requests.qsize == 1)
        begin.set()
        assert other.recv(65536).endswith(b"hello")
        received = greedy.makefile("rb")
        assert sum(line.startswith(b"HTTP/1.1 200") for line in _lines(received, PIPELINED)) == PIPELINED
    assert order.index("/other") < PIPELINED // 2
    assert [path for path in order if path != "/other"] == [f"/{number}" for number in range(PIPELINED)]


def test_empty_lines_without_an_end_are_cut_off() -> None:
    """Empty lines before a request are let pass, but no longer than a head may take, however fast they come."""
    settings = FrontSettings(read_header_timeout=0.05)
    with running(numthreads=1, settings=settings) as server, connect(server) as client:
        _send_until_cut_off(client, b"\r\n" * 30_000)
        wait_for(lambda: not server.connections_by_state())
        # Where a read ended between CR and LF, a head counts as begun, and is answered with 408 before the end.
        assert "timeout" in server.totals().closed | server.totals().refused


def test_a_head_without_limits_is_cut_off() -> None:
    """A head that may be of any size must still arrive in time, however fast it comes."""
    settings = FrontSettings(read_header_timeout=0.05)
    with running(numthreads=1, settings=settings) as server, connect(server) as client:
        server.max_request_header_size = 0
        server.settle()
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        _send_until_cut_off(client, b"A: b\r\n" * 1000)
        wait_for(lambda: not server.connections_by_state())
        assert server.totals().refused == {"timeout": 1}


def _lines(file: Any, responses: int) -> Iterable[bytes]:
    """Return the lines of so many responses, whose bodies are ``hello``."""
    for _ in range(responses):
        while (line := file.readline()) != b"\r\n":
            assert line
            yield line
        assert file.read(5) == b"hello"


def _send_until_cut_off(client: socket.socket, data: bytes) -> None:
    # A send that the server does not take within DEADLINE is no OSError of a connection, and fails the test.
    with contextlib.suppress(ConnectionError):
        while True:
            client.sendall(data)
