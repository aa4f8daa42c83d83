"""More work than threads: what waits, what is refused, and what goes on all the same."""

from __future__ import annotations

import contextlib
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from secureserve.front.settings import FrontSettings
from tests.http.serving import DEADLINE, GET, Gate, connect, get, read_all, running, wait_for

if TYPE_CHECKING:
    from secureserve.http.server import HTTPServer


def blocked(stack: contextlib.ExitStack, server: HTTPServer, gate: Gate, count: int) -> list[socket.socket]:
    """Open connections whose requests wait at the gate, one for each worker thread."""
    clients = [stack.enter_context(connect(server)) for _ in range(count)]
    for client in clients:
        client.sendall(GET)
    gate.wait_for(count)
    return clients


def test_an_application_that_waits_does_not_keep_others_waiting() -> None:
    """Beside a request that blocks its thread, another is answered."""
    gate = Gate()
    with running(gate, numthreads=2) as server, contextlib.ExitStack() as stack:
        (client,) = blocked(stack, server, gate, 1)
        assert get(server, "/quick") == (200, b"hello")
        gate.open.set()
        assert client.recv(65536).endswith(b"hello")


def test_all_threads_run_at_once() -> None:
    """As many requests wait in the application at one time as there are threads."""
    gate = Gate()
    with running(gate, numthreads=8) as server, contextlib.ExitStack() as stack:
        clients = blocked(stack, server, gate, 8)
        gate.open.set()
        for client in clients:
            assert client.recv(65536).endswith(b"hello")


def test_a_request_waits_for_a_thread_and_is_answered() -> None:
    """With every thread busy a request is accepted, read and queued; it runs as soon as one is free."""
    gate = Gate()
    with running(gate, numthreads=2) as server, contextlib.ExitStack() as stack:
        blocked(stack, server, gate, 2)
        before = server.totals()
        queued = stack.enter_context(connect(server))
        queued.sendall(GET.replace(b"GET /", b"GET /quick"))
        wait_for(lambda: server.requests.qsize == 1)
        assert server.connections_by_state()["queued"] == 1
        gate.open.set()
        assert queued.recv(65536).endswith(b"hello")
        assert server.totals().queued == before.queued + 1
        assert server.totals().queue_seconds > before.queue_seconds


def test_the_server_does_not_go_deaf_when_every_thread_is_busy() -> None:
    """Phases have their deadlines and plain garbage gets its answer while the application holds every thread."""
    gate = Gate()
    settings = FrontSettings(handshake_timeout=0.1, read_header_timeout=0.1)
    with running(gate, numthreads=1, settings=settings) as server, contextlib.ExitStack() as stack:
        blocked(stack, server, gate, 1)
        silent, slow, garbage = (stack.enter_context(connect(server)) for _ in range(3))
        slow.sendall(b"GET / HTTP/1.1\r\n")
        garbage.sendall(b"\x00\x00\r\n\r\n")
        assert read_all(silent) == b""
        assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        assert read_all(garbage).startswith(b"HTTP/1.1 400 ")
        gate.open.set()


def test_what_the_queue_has_no_room_for_gets_503() -> None:
    """A request beyond accepted_queue_size waits accepted_queue_timeout, then gets 503 with Retry-After."""
    gate = Gate()
    with (
        running(gate, numthreads=1, accepted_queue_size=1, accepted_queue_timeout=0.05) as server,
        contextlib.ExitStack() as stack,
    ):
        blocked(stack, server, gate, 1)
        first = stack.enter_context(connect(server))
        first.sendall(GET)
        wait_for(lambda: server.requests.qsize == 1)
        second = stack.enter_context(connect(server))
        second.sendall(GET)
        answer = read_all(second)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in answer
        gate.open.set()
        assert first.recv(65536).endswith(b"hello")
        assert server.totals().refused == {"overload": 1}


def test_the_pool_grows_under_load_and_not_beyond_its_maximum() -> None:
    """thread_pool_max is as far as the pool grows when every thread is held."""
    gate = Gate()
    with running(gate, numthreads=1, max=4) as server, contextlib.ExitStack() as stack:
        blocked(stack, server, gate, 4)
        assert server.requests.size == 4
        queued = stack.enter_context(connect(server))
        queued.sendall(GET)
        wait_for(lambda: server.requests.qsize == 1)
        assert server.requests.size == 4
        gate.open.set()
        assert queued.recv(65536).endswith(b"hello")


def test_the_pool_shrinks_when_its_threads_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that nobody needed for a while end, down to thread_pool."""
    monkeypatch.setattr("secureserve.http.workers.PARKED_AT_MOST", 0.05)
    gate = Gate()
    with running(gate, numthreads=2, max=6) as server, contextlib.ExitStack() as stack:
        clients = blocked(stack, server, gate, 6)
        gate.open.set()
        for client in clients:
            assert client.recv(65536)
        wait_for(lambda: server.requests.size == 2)
        assert get(server, "/quick") == (200, b"hello")
        assert server.totals().requests == 7


def test_max_connections_closes_the_longest_idle_before_it_refuses() -> None:
    """At the limit an idle keep-alive connection makes room; with none idle, the newcomer is closed."""
    gate = Gate()
    settings = FrontSettings(max_connections=3)
    with running(gate, numthreads=4, settings=settings) as server, contextlib.ExitStack() as stack:
        blocked(stack, server, gate, 1)
        oldest, newer = (stack.enter_context(connect(server)) for _ in range(2))
        for client in (oldest, newer):
            client.sendall(GET.replace(b"GET /", b"GET /quick"))
            assert client.recv(65536).endswith(b"hello")
            wait_for(lambda: server.connections_by_state().get("idle", 0) > 0)
        wait_for(lambda: server.connections_by_state().get("idle", 0) == 2)
        third = stack.enter_context(connect(server))
        third.sendall(GET)
        gate.wait_for(1)
        assert read_all(oldest) == b""
        newer.sendall(GET)
        gate.wait_for(1)
        refused = stack.enter_context(connect(server))
        assert read_all(refused) == b""
        assert server.totals().refused == {"too_many": 1}
        assert server.totals().closed["evicted"] == 1
        gate.open.set()


def test_max_connections_of_one_client() -> None:
    """One address gets no more connections than it may have, and another gets its own."""
    with (
        running(settings=FrontSettings(max_connections_per_address=2)) as server,
        connect(server) as one,
        connect(server) as two,
    ):
        for client in (one, two):
            client.sendall(GET)
            assert client.recv(65536).endswith(b"hello")
        with connect(server) as three:
            assert read_all(three) == b""
        with socket.create_connection(server.bind_addr, DEADLINE, source_address=("127.0.0.2", 0)) as other:
            other.sendall(GET)
            assert other.recv(65536).endswith(b"hello")
        assert server.totals().refused == {"too_many_of_client": 1}


def test_idle_connections_beyond_their_limit_are_closed_longest_first() -> None:
    """max_idle_connections keeps those that were used last."""
    with (
        running(settings=FrontSettings(max_idle_connections=2)) as server,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        for _ in range(4):
            client = stack.enter_context(connect(server))
            client.sendall(GET)
            assert client.recv(65536).endswith(b"hello")
            # It is idle a moment after its response is here; the next one must not overtake it.
            wait_for(lambda: not server.connections_by_state().get("active"))
            clients.append(client)
        assert read_all(clients[0]) == b""
        assert read_all(clients[1]) == b""
        for client in clients[2:]:
            client.sendall(GET)
            assert client.recv(65536).endswith(b"hello")


def test_running_out_of_descriptors_does_not_end_the_accepting() -> None:
    """With no descriptor left the server serves whom it has, and goes on accepting when one is free."""
    gate = Gate()
    with running(gate) as server, contextlib.ExitStack() as stack:
        (client,) = blocked(stack, server, gate, 1)
        newcomer = stack.enter_context(socket.socket())
        newcomer.settimeout(DEADLINE)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.ExitStack() as held:
            probe = held.enter_context(socket.socket())
            # The limit is on descriptor numbers: just above the highest, none is left for the server to accept with.
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + 1, hard))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    [held.enter_context(socket.socket()) for _ in range(soft)]
                newcomer.connect(server.bind_addr)
                newcomer.sendall(GET.replace(b"GET /", b"GET /quick"))
                gate.open.set()
                assert client.recv(65536).endswith(b"hello")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert newcomer.recv(65536).endswith(b"hello")


def test_pipelined_requests_of_one_client_do_not_starve_another() -> None:
    """While one connection has a hundred requests in hand, a newcomer is answered."""
    gate = Gate()
    with running(gate, numthreads=2) as server, connect(server) as greedy:
        greedy.sendall(GET + GET.replace(b"GET /", b"GET /quick") * 100)
        gate.wait_for(1)
        assert get(server, "/quick") == (200, b"hello")
        gate.open.set()
        received = b""
        while received.count(b"hello") < 101:
            received += greedy.recv(65536)


def test_a_server_without_a_queue_limit_refuses_nothing() -> None:
    """accepted_queue_size of -1 lets every request wait, as cheroot does."""
    gate = Gate()
    with running(gate, numthreads=1, accepted_queue_timeout=0.01) as server, contextlib.ExitStack() as stack:
        blocked(stack, server, gate, 1)
        clients = [stack.enter_context(connect(server)) for _ in range(5)]
        for client in clients:
            client.sendall(GET)
        wait_for(lambda: server.requests.qsize == 5)
        gate.open.set()
        for client in clients:
            assert client.recv(65536).endswith(b"hello")
