"""ServerAdapter: anybody's server, well-behaved or not, on an engine."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import wsgiref.simple_server
from typing import TYPE_CHECKING, Any

import cheroot.wsgi
import pytest
import uvicorn
import waitress.server
import waitress.wasyncore

from secureserve.errors import ConfigurationError, LifecycleError, StartFailed, StopTimedOut
from secureserve.managed.adapter import ServerAdapter
from secureserve.managed.channels import ChannelFailures
from secureserve.managed.engine import Engine, State
from tests.managed.clients import DEADLINE, application, fetch, is_refused, server_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class QuietHandler(wsgiref.simple_server.WSGIRequestHandler):
    """wsgiref's handler without its lines on standard error."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Wsgiref:
    """wsgiref's server, with the two methods that a managed server needs, and no `ready`."""

    def __init__(self) -> None:
        self.server = wsgiref.simple_server.make_server("127.0.0.1", 0, application, handler_class=QuietHandler)
        self.bind_addr = ("127.0.0.1", self.server.server_port)

    def start(self) -> None:
        """Serve until stopped."""
        self.server.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        """Stop, and close the socket."""
        self.server.shutdown()
        self.server.server_close()


class Waitress:
    """waitress, with the two methods that a managed server needs."""

    def __init__(self) -> None:
        self.server = waitress.server.create_server(application, host="127.0.0.1", port=0, threads=2, _start=True)
        self.bind_addr = ("127.0.0.1", int(self.server.effective_port))

    def start(self) -> None:
        """Serve until stopped."""
        self.server.run()

    def stop(self) -> None:
        """Close the socket on the thread that polls it, and end its loop."""
        with contextlib.suppress(OSError):
            # waitress may run the function, which closes the trigger, before the byte that wakes it is written.
            self.server.trigger.pull_trigger(self._close)

    def _close(self) -> None:
        self.server.task_dispatcher.shutdown()
        waitress.wasyncore.close_all(self.server._map)


class Uvicorn(uvicorn.Server):
    """uvicorn, with the two methods and the attribute that a managed server needs."""

    def __init__(self) -> None:
        super().__init__(uvicorn.Config(application, host="127.0.0.1", port=0, interface="wsgi", log_level="error"))
        self.bind_addr = ("127.0.0.1", 0)

    @property
    def ready(self) -> bool:
        """Whether it listens."""
        return self.started

    @property
    def bound_addr(self) -> tuple[str, int]:
        """Where it listens."""
        if not self.started:
            return self.bind_addr
        name: tuple[str, int] = self.servers[0].sockets[0].getsockname()
        return name

    def start(self) -> None:
        """Serve until stopped; signals are the engine's business."""
        self.run()

    def stop(self) -> None:
        """End the loop."""
        self.should_exit = True


class Cheroot(cheroot.wsgi.Server):
    """cheroot's server, as it is."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), application, numthreads=2)


@pytest.fixture
def bus() -> Iterator[Engine]:
    """An engine that has exited at the end, with none of its servers' threads left."""
    engine = Engine()
    yield engine
    engine.exit()
    assert server_threads() == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [Cheroot, Wsgiref, Waitress, Uvicorn], ids=lambda make: make.__name__)
def test_real_servers_are_started_used_and_stopped(bus: Engine, make: Callable[[], Any]) -> None:
    """cheroot, wsgiref, waitress and uvicorn answer while the engine runs, and their port is released after."""
    httpserver = make()
    adapter = ServerAdapter(bus, httpserver, httpserver.bind_addr)
    adapter.subscribe()
    bus.start()
    address = adapter.bound_addr
    assert fetch(address, "/there") == b"hello /there"
    assert adapter.running
    assert f"127.0.0.1:{address[1]}" in adapter.description
    bus.exit()
    assert not adapter.running
    assert is_refused(address)


def test_restart_serves_again(bus: Engine) -> None:
    """Restart stops the server and starts it again."""
    adapter = ServerAdapter(bus, Cheroot(), ("127.0.0.1", 0))
    adapter.start()
    adapter.restart()
    assert fetch(adapter.bound_addr) == b"hello /"
    adapter.stop()


def test_starting_and_stopping_twice_is_harmless(bus: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A second start says that it serves already; a second stop does nothing."""
    caplog.set_level("INFO", "secureserve.error")
    adapter = ServerAdapter(bus, Cheroot(), ("127.0.0.1", 0))
    adapter.start()
    adapter.start()
    assert "Already serving on http://127.0.0.1:" in caplog.text
    adapter.stop()
    adapter.stop()


def test_an_unsubscribed_server_is_left_alone(bus: Engine) -> None:
    """After unsubscribe the engine starts the server no more."""
    adapter = ServerAdapter(bus, Cheroot(), ("127.0.0.1", 0))
    adapter.subscribe()
    adapter.unsubscribe()
    bus.start()
    assert not adapter.running


def test_an_adapter_without_a_server_says_so(bus: Engine) -> None:
    """Starting an adapter that was given no server names what is missing."""
    with pytest.raises(ConfigurationError, match="httpserver"):
        ServerAdapter(bus).start()


class HandMade:
    """A server without a socket, whose parts tests replace."""

    ready = False

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def start(self) -> None:
        """Be ready until stopped."""
        self.ready = True
        self.stopped.wait(DEADLINE)
        self.ready = False

    def stop(self) -> None:
        """Stop."""
        self.stopped.set()


class NeverReady(HandMade):
    """Starts, but is never ready."""

    def start(self) -> None:
        """Wait for stop."""
        self.stopped.wait(DEADLINE)


class RaisesBefore(HandMade):
    """Raises before it is ready."""

    def start(self) -> None:
        """Fail."""
        message = "no such database"
        raise RuntimeError(message)


class ReturnsBefore(HandMade):
    """Returns before it is ready."""

    def start(self) -> None:
        """Do nothing."""


class RaisesAfter(HandMade):
    """Raises some time after it was ready."""

    raised: BaseException = RuntimeError("lost the database")

    def start(self) -> None:
        """Serve for a while, and fail."""
        self.ready = True
        self.stopped.wait(DEADLINE)
        raise self.raised


class IgnoresStop(HandMade):
    """Goes on after stop."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def start(self) -> None:
        """Be ready until released."""
        self.ready = True
        self.released.wait(DEADLINE)


class HangsInStop(IgnoresStop):
    """Does not return from stop."""

    def stop(self) -> None:
        """Wait as well."""
        self.released.wait(DEADLINE)


class SilentAboutReadiness:
    """Has no `ready` at all."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def start(self) -> None:
        """Serve until stopped."""
        self.stopped.wait(DEADLINE)

    def stop(self) -> None:
        """Stop."""
        self.stopped.set()


def test_a_server_that_is_never_ready_fails_within_its_time(bus: Engine) -> None:
    """Its start fails after start_timeout with the reason, and the server is stopped."""
    server = NeverReady()
    ServerAdapter(bus, server, start_timeout=0.05).subscribe()
    with pytest.raises(StartFailed, match=r"NeverReady.*did not become ready within 0.05 seconds"):
        bus.start()
    assert server.stopped.is_set()
    assert bus.state is State.EXITING


def test_what_a_server_raises_before_it_is_ready_comes_out_of_start(
    bus: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged with its traceback, raised again where start was called, and the engine has exited."""
    ServerAdapter(bus, RaisesBefore()).subscribe()
    with pytest.raises(RuntimeError, match="no such database"):
        bus.start()
    assert "Traceback" in caplog.text
    assert bus.state is State.EXITING


def test_a_server_that_returns_before_it_is_ready_does_not_hang_the_start(bus: Engine) -> None:
    """A start() that returns without ready is a failed start."""
    with pytest.raises(StartFailed, match="returned before the server was ready"):
        ServerAdapter(bus, ReturnsBefore()).start()


def test_a_server_without_ready_is_taken_to_be_ready(bus: Engine) -> None:
    """One without the attribute is started at once and stopped as any other."""
    server = SilentAboutReadiness()
    adapter = ServerAdapter(bus, server)
    adapter.subscribe()
    bus.start()
    assert adapter.running
    bus.exit()
    assert server.stopped.is_set()


def test_a_server_that_fails_later_shuts_the_engine_down(bus: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged with its traceback, everything else is stopped, and block raises it."""
    server, other = RaisesAfter(), HandMade()
    for each in (server, other):
        ServerAdapter(bus, each).subscribe()
    bus.start()
    server.stopped.set()
    with pytest.raises(RuntimeError, match="lost the database"):
        bus.block()
    assert other.stopped.is_set()
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(4)], ids=lambda raised: type(raised).__name__)
def test_an_interrupt_out_of_a_server_shuts_everything_down(bus: Engine, raised: BaseException) -> None:
    """KeyboardInterrupt ends the engine in peace; SystemExit comes out of block with its code."""
    server, other = RaisesAfter(), HandMade()
    server.raised = raised
    adapter = ServerAdapter(bus, server)
    adapter.subscribe()
    ServerAdapter(bus, other).subscribe()
    bus.start()
    server.stopped.set()
    if isinstance(raised, SystemExit):
        with pytest.raises(SystemExit) as caught:
            bus.block()
        assert caught.value.code == 4
    else:
        bus.block()
    assert adapter.interrupt is raised
    assert other.stopped.is_set()
    assert bus.state is State.EXITING


def test_a_server_that_stops_by_itself_is_noticed(bus: Engine) -> None:
    """One whose start() returns while it should serve shuts the engine down and is named."""
    server = HandMade()
    ServerAdapter(bus, server).subscribe()
    bus.start()
    server.stopped.set()
    with pytest.raises(LifecycleError, match=r"HandMade.*stopped serving by itself"):
        bus.block()


def test_a_server_that_ignores_stop_is_left_behind_and_named() -> None:
    """Stop fails within the bound and names the thread; the engine exits all the same."""
    bus = Engine()
    server = IgnoresStop()
    ServerAdapter(bus, server, stop_timeout=0.05).subscribe()
    bus.start()
    with pytest.raises(ChannelFailures, match=r"still runs after 0.05 seconds: thread 'HTTPServer IgnoresStop"):
        bus.exit()
    assert bus.state is State.EXITING
    server.released.set()
    _wait_until_gone()


def test_a_stop_that_hangs_is_bounded() -> None:
    """A stop() that does not return is given up on within the bound."""
    bus = Engine()
    server = HangsInStop()
    adapter = ServerAdapter(bus, server, stop_timeout=0.05)
    adapter.start()
    with pytest.raises(StopTimedOut, match=r"did not return from stop\(\) within 0.05 seconds"):
        adapter.stop()
    server.released.set()
    _wait_until_gone()


def test_a_stop_that_hangs_can_be_cut() -> None:
    """cut, the second signal, ends the wait for a server that takes its time to stop."""
    bus = Engine()
    server = HangsInStop()
    adapter = ServerAdapter(bus, server, stop_timeout=DEADLINE)
    adapter.subscribe()
    bus.start()
    bus.subscribe("stop", lambda: threading.Thread(target=bus.cut).start(), priority=1)
    with pytest.raises(ChannelFailures, match="was cut short"):
        bus.exit()
    server.released.set()
    _wait_until_gone()


def test_exit_wakes_a_start_that_waits_for_readiness(bus: Engine) -> None:
    """Exit from another thread ends the wait for a server that is not ready, long before its time is up."""
    server = NeverReady()
    ServerAdapter(bus, server, start_timeout=DEADLINE * 10).subscribe()
    bus.subscribe("start", lambda: threading.Thread(target=bus.exit).start(), priority=1)
    with pytest.raises(StartFailed, match="told to exit"):
        bus.start()
    assert bus.state is State.EXITING


# cheroot forgets the socket that it could not bind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_taken_port_is_a_failed_start_that_says_who_has_it(bus: Engine) -> None:
    """A foreign server that cannot bind fails the start with the address and the occupant; the others are stopped."""
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        other = Cheroot()
        ServerAdapter(bus, other, ("127.0.0.1", 0)).subscribe()
        httpserver = cheroot.wsgi.Server(occupied.getsockname(), application, numthreads=1)
        ServerAdapter(bus, httpserver, occupied.getsockname()).subscribe()
        port = occupied.getsockname()[1]
        with pytest.raises(StartFailed, match=rf"127.0.0.1:{port} could not be bound.*taken by this process"):
            bus.start()
    assert not other.ready
    assert bus.state is State.EXITING


OCCUPANT = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    print(listening.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def occupant() -> Iterator[Callable[[int], int]]:
    """Have another process listen on a port of 127.0.0.1; returns the port."""
    processes = []

    def occupy(port: int = 0) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", OCCUPANT, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline())

    yield occupy
    for process in processes:
        process.communicate(timeout=DEADLINE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who listens")
def test_another_process_that_listens_does_not_pass_for_ours(bus: Engine, occupant: Callable[[int], int]) -> None:
    """A server that claims to be ready while another process has its port fails to start, and the message says who."""
    port = occupant(0)
    with pytest.raises(StartFailed, match=rf"127.0.0.1:{port}|does not listen there. Another does \(python"):
        ServerAdapter(bus, HandMade(), ("127.0.0.1", port), start_timeout=0.2).start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who listens")
def test_a_port_taken_over_by_another_process_counts_as_released(
    bus: Engine, occupant: Callable[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    """Once ours has let go, another process's listener on the port is reported by name, not taken for ours."""

    class LetsGoEarly(Cheroot):
        def stop(self) -> None:
            super().stop()
            occupant(self.bind_addr[1])

    adapter = ServerAdapter(bus, LetsGoEarly(), ("127.0.0.1", 0))
    adapter.start()
    adapter.stop()
    assert "is served by another process now (python" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who listens")
def test_a_socket_left_open_by_stop_is_noticed(bus: Engine) -> None:
    """A server whose stop() returns with its socket still listening has not stopped."""

    class KeepsListening(HandMade):
        def __init__(self) -> None:
            super().__init__()
            self.socket = socket.create_server(("127.0.0.1", 0))

    server = KeepsListening()
    adapter = ServerAdapter(bus, server, server.socket.getsockname())
    adapter.start()
    with pytest.raises(StopTimedOut, match="still listens"):
        adapter.stop()
    server.socket.close()


def test_a_request_may_shut_the_engine_down(bus: Engine) -> None:
    """An application that calls engine.exit() in a worker thread ends the process's serving, without a deadlock."""

    def leave(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        bus.exit()
        start_response("200 OK", [("Content-Length", "0")])
        return []

    httpserver = cheroot.wsgi.Server(("127.0.0.1", 0), leave, numthreads=2)
    adapter = ServerAdapter(bus, httpserver, ("127.0.0.1", 0))
    adapter.subscribe()
    bus.start()
    client = threading.Thread(target=_ignore_errors, args=(fetch, adapter.bound_addr))
    client.start()
    bus.block()
    client.join(DEADLINE)
    assert bus.state is State.EXITING


def _ignore_errors(call: Callable[..., object], *args: object) -> None:
    try:
        call(*args)
    except (OSError, http.client.HTTPException):
        return


def _wait_until_gone() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(("HTTPServer ", "stop ")):
            thread.join(DEADLINE)
            assert not thread.is_alive()
