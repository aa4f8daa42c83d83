"""Starting and stopping: whatever is under way, stopping ends within its bound and leaves nothing behind."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.errors import AlreadyStarted, StartFailed
from secureserve.front.connection import Connection
from secureserve.front.settings import FrontSettings
from secureserve.http.server import HTTPServer
from tests.http.serving import DEADLINE, GET, Gate, connect, get, hello, read_all, running, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.http.talking import Serving, Talker


def threads_of(server: HTTPServer) -> list[str]:
    """The names of the server's threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(server.server_name)]


def wait_until_refused(server: HTTPServer) -> None:
    """Connect until nobody listens any more."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            connect(server).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            # It was in the listener's queue when the listener was closed.
            continue
    pytest.fail("the listener is still open")


def descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_server_answers_between_start_and_stop() -> None:
    """It is ready when it says so; afterwards its port is released and its threads have ended."""
    with running(server_name="lifecycle-a") as server:
        assert server.ready
        assert get(server) == (200, b"hello")
        address = server.bind_addr
    assert not server.ready
    assert threads_of(server) == []
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)


def test_a_server_can_be_started_again() -> None:
    """Stopping is not the end: the same object serves once more."""
    server = HTTPServer(("127.0.0.1", 0), hello)
    for _ in range(2):
        server.bind_addr = ("127.0.0.1", 0)
        with server._run_in_thread():
            assert get(server) == (200, b"hello")
    assert server.totals().requests == 2


def test_starting_twice_is_refused() -> None:
    """A second start names the server, and the first goes on."""
    with running() as server:
        with pytest.raises(AlreadyStarted):
            server.prepare()
        assert get(server) == (200, b"hello")


def test_a_port_in_use_is_an_error_that_leaves_nothing_running() -> None:
    """The second server on a port fails in its caller's thread, and has started no thread."""
    with running() as server:
        second = HTTPServer(server.bind_addr, hello, server_name="lifecycle-b")
        with pytest.raises(StartFailed, match=str(server.bind_addr[1])):
            second.start()
        assert threads_of(second) == []
        assert not second.ready


def test_stopping_lets_a_request_finish() -> None:
    """A request under way gets its response, which says that the connection closes; new connections are refused."""
    gate = Gate()
    with running(gate) as server, connect(server) as client:
        client.sendall(GET)
        gate.wait_for(1)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        while server.ready:
            pass
        wait_until_refused(server)
        gate.open.set()
        response = read_all(client)
        stopper.join(DEADLINE)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in response
    assert response.endswith(b"hello")


def test_stopping_closes_idle_connections_at_once() -> None:
    """A keep-alive connection between two requests, and one that never said anything, do not delay the stop."""
    with running(shutdown_timeout=DEADLINE) as server, connect(server) as idle, connect(server) as silent:
        idle.sendall(GET)
        assert idle.recv(65536).endswith(b"hello")
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < DEADLINE / 2
        assert idle.recv(1) == b""
        assert read_all(silent) == b""


def test_stopping_ends_every_thread_that_polls(caplog: pytest.LogCaptureFixture) -> None:
    """However many wait for something to do when the server stops, each of them ends, and none is given up."""
    gate = Gate()
    with (
        running(gate, numthreads=4, server_name="lifecycle-p", shutdown_timeout=DEADLINE) as server,
        ExitStack() as stack,
    ):
        socks = [stack.enter_context(connect(server)) for _ in range(4)]
        for sock in socks:
            sock.sendall(GET)
        gate.wait_for(len(socks))
        gate.open.set()
        for sock in socks:
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
        began = time.monotonic()
        server.stop()
    assert time.monotonic() - began < DEADLINE
    assert threads_of(server) == []
    assert "still run" not in caplog.text


def test_stopping_cuts_what_does_not_finish(caplog: pytest.LogCaptureFixture) -> None:
    """An application that sleeps for ever costs shutdown_timeout, and its thread is reported by name."""
    gate = Gate()
    with (
        caplog.at_level(logging.ERROR, "secureserve.error"),
        running(gate, shutdown_timeout=0.2, server_name="lifecycle-c") as server,
        connect(server) as client,
    ):
        client.sendall(GET)
        gate.wait_for(1)
        server.stop()
        assert read_all(client) == b""
    names = threads_of(server)
    assert len(names) == 1
    assert names[0] in caplog.text
    gate.open.set()
    next(thread for thread in threading.enumerate() if thread.name == names[0]).join(DEADLINE)
    assert threads_of(server) == []


def test_stopping_twice_and_from_several_threads() -> None:
    """Every caller of stop returns when the server has stopped."""
    with running() as server:
        threads = [threading.Thread(target=server.stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        server.stop()


def test_stopping_from_the_application() -> None:
    """A request may stop its server: it gets its response, and the server ends."""

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        server.stop()
        start_response("200 OK", [("Content-Length", "3")])
        return [b"bye"]

    server = HTTPServer(("127.0.0.1", 0), app)
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    assert server.wait_ready(DEADLINE)
    assert get(server) == (200, b"bye")
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_stopping_before_start_does_nothing() -> None:
    """A server that never ran is stopped already."""
    server = HTTPServer(("127.0.0.1", 0), hello)
    server.stop()
    with server._run_in_thread():
        assert get(server) == (200, b"hello")


def test_stopping_while_it_starts() -> None:
    """A stop that comes while the server is being prepared is carried out as soon as it can be."""
    server = HTTPServer(("127.0.0.1", 0), hello)
    server.when_ready(server.stop)
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert not server.ready


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_application_may_end_the_process(kind: type[BaseException]) -> None:
    """SystemExit and KeyboardInterrupt of the application stop the server, and come out of the thread that serves."""

    def app(_environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        raise kind

    server = HTTPServer(("127.0.0.1", 0), app)
    raised = []

    def serve() -> None:
        try:
            server.safe_start()
        except BaseException as error:  # noqa: BLE001 - this is what the test is about
            raised.append(type(error))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert server.wait_ready(DEADLINE)
    with connect(server) as client:
        client.sendall(GET)
        assert read_all(client) == b""
    thread.join(DEADLINE)
    assert raised == [kind]
    assert not server.ready


def test_a_thread_that_dies_of_a_bug_ends_the_server_visibly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server does not go deaf: it says what happened, stops, and raises it where it serves."""
    server = HTTPServer(("127.0.0.1", 0), hello)
    raised: list[BaseException] = []

    def serve() -> None:
        try:
            server.start()
        except BaseException as error:  # noqa: BLE001 - this is what the test is about
            raised.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert server.wait_ready(DEADLINE)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    assert server._run is not None
    monkeypatch.setattr(server._run.front, "advance", broken)
    with caplog.at_level(logging.CRITICAL, "secureserve.error"), connect(server) as client:
        client.sendall(GET)
        thread.join(DEADLINE)
    assert [type(error) for error in raised] == [ZeroDivisionError]
    assert "died" in caplog.text


def test_signals_during_a_stop_do_no_harm() -> None:
    """A handler that stops the server, run again and again in the very thread that is stopping it, ends the process."""
    program = """
import signal, sys
from secureserve.http.server import HTTPServer
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
server = HTTPServer(("127.0.0.1", 0), app)
signal.signal(signal.SIGTERM, lambda *_: server.stop())
server.prepare()
print(server.bind_addr[1], flush=True)
server.serve()
print("stopped", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline())
            for _ in range(20):
                os.kill(process.pid, signal.SIGTERM)
            output, _ = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert output == "stopped\n"
    assert process.returncode == 0


def test_a_stop_may_be_interrupted_anywhere_by_another() -> None:
    """Whichever line of a stop a signal handler interrupts that stops as well, both return, and the server is over."""
    program = """
import sys
from secureserve.http.server import HTTPServer
server = HTTPServer(("127.0.0.1", 0), None, numthreads=1)
def interrupt(line):
    lines = 0
    def trace(frame, event, _):
        nonlocal lines
        lines += event == "line"
        if lines == line and event == "line":
            sys.settrace(None)
            server.stop()
        return trace
    server.prepare()
    sys.settrace(trace)
    server.stop()
    sys.settrace(None)
    assert not server.ready and not server.listeners
    return lines >= line
line = 1
while interrupt(line):
    line += 1
print("stopped", line > 5)
"""
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (output.stdout, output.stderr) == ("stopped True\n", "")


def test_many_starts_and_stops_leave_no_descriptor() -> None:
    """Twenty lives of a server leave the process with the descriptors that it had."""
    with running() as server:
        get(server)
    before = descriptors()
    for _ in range(20):
        with running(settings=FrontSettings(reverse_dns=True)) as server, connect(server) as client:
            client.sendall(GET)
            assert client.recv(65536)
    assert descriptors() <= before + 1


def content_without_end(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """An application that sends until the client is gone."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return itertools.repeat(b"x" * 65536)


def is_answered(talker: Talker) -> None:
    """Ask, and read the answer."""
    talker.get()
    talker.close()


def breaks_off_the_response(talker: Talker) -> None:
    """Go while it is being sent."""
    talker.request(line="GET /without-end HTTP/1.1")
    talker.sock.recv(1000)
    talker.reset()


def breaks_off_before_a_refusal(talker: Talker) -> None:
    """Go without waiting for what there is to say to nonsense."""
    talker.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n bad: field\r\n\r\n")
    talker.reset()


@pytest.mark.parametrize("ends", [is_answered, breaks_off_the_response, breaks_off_before_a_refusal])
def test_a_closed_connection_is_freed_at_once(serve_any: Serving, ends: Callable[[Talker], None]) -> None:
    """Nothing holds a connection that is over: neither a deadline to come nor a cycle for the garbage collector."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return (hello if environ["PATH_INFO"] == "/" else content_without_end)(environ, start_response)

    def connections() -> set[int]:
        return {id(kept) for kept in gc.get_objects() if isinstance(kept, Connection)}

    gc.collect()
    others = connections()
    gc.disable()
    try:
        with serve_any(app) as server:
            for _ in range(5):
                with serve_any.talk(server) as talker:
                    ends(talker)
            # The thread that ended the last one may still be on its way out of it.
            wait_for(lambda: connections() <= others)
    finally:
        gc.enable()
