"""A project on cheroot switches by changing one import: the same suite runs on both servers."""

from __future__ import annotations

import contextlib
import http.client
import inspect
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import cheroot.server
import cheroot.wsgi
import pytest

from secureserve.http.server import HTTPServer
from tests.http.serving import DEADLINE, hello, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

Server = Any
ADDRESS = ("127.0.0.1", 0)


@pytest.fixture(params=[cheroot.wsgi.Server, HTTPServer], ids=["cheroot", "secureserve"])
def server_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    """The class of the server; a test that takes it runs once on each."""
    # How long cheroot takes to notice that it is to stop.
    monkeypatch.setattr(cheroot.wsgi.Server, "expiration_interval", 0.02)
    found: Callable[..., Server] = request.param
    return found


def client_of(server: Server) -> http.client.HTTPConnection:
    """Return a client of a server."""
    host, port = server.bind_addr[:2]
    return http.client.HTTPConnection(host, port, timeout=DEADLINE)


def get(server: Server, path: str = "/") -> tuple[int, bytes]:
    """Fetch a path."""
    with contextlib.closing(client_of(server)) as client:
        client.request("GET", path, headers={"Connection": "close"})
        response = client.getresponse()
        return response.status, response.read()


@contextlib.contextmanager
def started(server: Server) -> Iterator[list[BaseException]]:
    """Start a server in a thread; what comes out of start() is in the list in the end."""
    raised: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            raised.append(error)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    try:
        wait_for(lambda: bool(server.ready or raised))
        assert server.ready, raised
        yield raised
    finally:
        server.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_the_constructors_are_alike() -> None:
    """Every argument of cheroot's constructor has its place, its name and its default in ours."""
    theirs = list(inspect.signature(cheroot.wsgi.Server.__init__).parameters.values())
    ours = list(inspect.signature(HTTPServer.__init__).parameters.values())
    for their, our in zip(theirs, ours, strict=False):
        assert (their.name, their.default) == (our.name, our.default)
    assert {parameter.kind for parameter in ours[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}


def test_arguments_are_taken_by_position(server_class: Callable[..., Server]) -> None:
    """All of them in cheroot's order."""
    server = server_class(ADDRESS, hello, 3, "named", 7, 11, 4, 2, 5, 6, False, False, True)
    assert (server.bind_addr, server.wsgi_app, server.numthreads) == (ADDRESS, hello, 3)
    assert (server.server_name, server.requests.min, server.requests.max) == ("named", 3, 7)
    assert (server.request_queue_size, server.timeout, server.shutdown_timeout) == (11, 4, 2)
    assert (server.peercreds_enabled, server.peercreds_resolve_enabled, server.reuse_port) == (False, False, True)


def test_arguments_are_taken_by_keyword(server_class: Callable[..., Server]) -> None:
    """And those not given have cheroot's defaults."""
    server = server_class(bind_addr=ADDRESS, wsgi_app=hello, request_queue_size=9, peercreds_enabled=True)
    assert (server.request_queue_size, server.numthreads, server.timeout, server.shutdown_timeout) == (9, 10, 10, 5)
    assert (server.peercreds_enabled, server.peercreds_resolve_enabled) == (True, False)
    assert (server.ready, server.protocol, server.nodelay, server.ssl_adapter) == (False, "HTTP/1.1", True, None)
    assert server.interrupt is None
    assert isinstance(server, cheroot.wsgi.Server)


def test_it_runs_between_start_and_stop(server_class: Callable[..., Server]) -> None:
    """start() blocks, `ready` tells when it answers, `bind_addr` where, and after stop() nobody listens there."""
    server = server_class(ADDRESS, hello)
    with started(server) as raised:
        host, port = server.bind_addr[:2]
        assert host == "127.0.0.1"
        assert port > 0
        assert get(server) == (200, b"hello")
    assert raised == []
    assert not server.ready
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), DEADLINE)


def test_it_may_be_prepared_and_served_apart(server_class: Callable[..., Server]) -> None:
    """prepare() binds, serve() blocks, and the address is known in between."""
    server = server_class(ADDRESS, hello)
    server.prepare()
    assert server.ready
    assert server.bind_addr[1] > 0
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        assert get(server) == (200, b"hello")
    finally:
        server.stop()
        thread.join(DEADLINE)
    assert not thread.is_alive()


def test_it_may_run_in_a_thread_of_its_own(server_class: Callable[..., Server]) -> None:
    """_run_in_thread, which test suites use, runs it for a block."""
    server = server_class(ADDRESS, hello)
    with server._run_in_thread() as thread:
        assert thread.is_alive()
        assert get(server) == (200, b"hello")
    assert not thread.is_alive()


def test_safe_start_stops_what_was_started(server_class: Callable[..., Server]) -> None:
    """An interrupt comes out of safe_start(), and the server has stopped by then."""

    def app(_environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        raise KeyboardInterrupt

    server = server_class(ADDRESS, app)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            server.safe_start()
        except KeyboardInterrupt as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for(lambda: server.ready)
    with pytest.raises((http.client.HTTPException, OSError)):
        get(server)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert len(raised) == 1
    assert not server.ready


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_process_ends_the_server(server_class: Callable[..., Server], kind: type[BaseException]) -> None:
    """KeyboardInterrupt and SystemExit of an application come out of start()."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/end":
            raise kind("from the application")
        return hello(environ, start_response)

    server = server_class(ADDRESS, app)
    with started(server) as raised:
        assert get(server) == (200, b"hello")
        with pytest.raises((http.client.HTTPException, OSError)):
            get(server, "/end")
        wait_for(lambda: bool(raised))
    assert [type(error) for error in raised] == [kind]
    assert raised[0].args == ("from the application",)


def test_an_interrupt_may_be_set_from_outside(server_class: Callable[..., Server]) -> None:
    """Setting `interrupt` stops the server, and start() raises it."""
    server = server_class(ADDRESS, hello)
    with started(server) as raised:
        interrupt = SystemExit("enough")
        threading.Thread(target=setattr, args=(server, "interrupt", interrupt), daemon=True).start()
        wait_for(lambda: bool(raised))
    assert raised == [interrupt]


def test_it_may_be_started_again(server_class: Callable[..., Server]) -> None:
    """A server that has stopped starts again, with its settings as they are then."""
    server = server_class(ADDRESS, hello)
    for threads in (1, 2):
        server.bind_addr, server.numthreads = ADDRESS, threads
        with started(server):
            assert get(server) == (200, b"hello")
            wait_for(lambda: server.requests.idle == server.numthreads)


def test_an_address_in_use_is_an_oserror() -> None:
    """As on cheroot (which leaks a socket then), and nothing is left running."""
    with socket.create_server(ADDRESS) as taken:
        server = HTTPServer(taken.getsockname(), hello)
        with pytest.raises(OSError, match=str(taken.getsockname()[1])):
            server.prepare()
        assert not server.ready


def test_a_unix_socket_is_an_address(server_class: Callable[..., Server], tmp_path: Path) -> None:
    """A path binds a unix socket, and the environ says who is at the other end."""
    path = str(tmp_path / "socket")
    environs: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environs.append(environ)
        return hello(environ, start_response)

    server = server_class(path, app, peercreds_enabled=True, peercreds_resolve_enabled=True)
    with started(server), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(path)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert server.bind_addr == path
    (environ,) = environs
    assert (environ["REMOTE_ADDR"], environ["SERVER_PORT"]) == ("", "")
    for name in ("X_REMOTE_PID", "X_REMOTE_UID", "X_REMOTE_GID", "X_REMOTE_USER", "X_REMOTE_GROUP", "REMOTE_USER"):
        assert environ[name]


def test_names_of_hosts_are_addresses(server_class: Callable[..., Server]) -> None:
    """A host name is resolved by the system."""
    with started(server_class(("localhost", 0), hello)):
        pass


def test_the_number_of_threads_may_be_set_before_the_start(server_class: Callable[..., Server]) -> None:
    """`numthreads` is what the pool starts with."""
    server = server_class(ADDRESS, hello)
    server.numthreads = 2
    assert server.numthreads == server.requests.min == 2
    with started(server):
        wait_for(lambda: server.requests.idle == 2)
        assert server.requests.qsize == 0


def test_attributes_of_the_instance_and_of_the_class_count(server_class: Any) -> None:
    """Limits and names may be set on the server, or on a class derived from it."""
    derived: Any = type("Derived", (server_class,), {"max_request_body_size": 10, "version": "Derived/1"})
    server = derived(ADDRESS, hello, server_name="named")
    with started(server):
        with contextlib.closing(client_of(server)) as client:
            client.request("POST", "/", body=b"x" * 11)
            assert client.getresponse().status == 413
        with contextlib.closing(client_of(server)) as client:
            client.request("GET", "/")
            response = client.getresponse()
            assert response.getheader("Server") == "named"
            response.read()


def test_the_gateway_may_be_exchanged(server_class: Callable[..., Server]) -> None:
    """`gateway` is a class; one derived from cheroot's answers on both."""

    class Gateway(cheroot.server.Gateway):  # type: ignore[misc]
        def respond(self) -> None:
            request = self.req
            request.status = b"200 OK"
            request.outheaders.append((b"Content-Length", b"2"))
            request.ensure_headers_sent()
            request.write(request.path[1:3])

    server = server_class(ADDRESS, None)
    server.gateway = Gateway
    with started(server):
        assert get(server, "/ok") == (200, b"ok")


def test_the_application_may_be_exchanged(server_class: Callable[..., Server]) -> None:
    """`wsgi_app` is looked up for each request."""

    def other(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return [b"other"]

    server = server_class(ADDRESS, hello)
    with started(server):
        assert get(server) == (200, b"hello")
        server.wsgi_app = other
        assert get(server) == (200, b"other")


def test_errors_go_to_error_log(server_class: Callable[..., Server], capsys: Any, caplog: Any) -> None:
    """error_log() takes a message, a level and whether to show the traceback."""
    caplog.set_level(logging.INFO)
    server = server_class(ADDRESS, hello)
    try:
        int("the reason")
    except ValueError:
        server.error_log("it happened", level=logging.WARNING, traceback=True)
    server.error_log("nothing much")
    said = caplog.text + capsys.readouterr().err
    for words in ("it happened", "the reason", "nothing much"):
        assert words in said


def test_statistics_are_kept(server_class: Callable[..., Server]) -> None:
    """`stats` has cheroot's names, and is among `logging.statistics`; what is computed is a function of it."""
    server = server_class(ADDRESS, hello)
    server.stats["Enabled"] = True
    with started(server):
        for _ in range(3):
            assert get(server) == (200, b"hello")

        def value(name: str) -> Any:
            found = server.stats[name]
            return found(server.stats) if callable(found) else found

        wait_for(lambda: value("Accepts") == 3)
        wait_for(lambda: value("Requests") == 3)
        assert value("Bind Address") == repr(server.bind_addr)
        assert value("Run time") > 0
        assert value("Accepts/sec") > 0
        assert value("Threads") == 10
        assert value("Queue") == 0
        assert value("Socket Errors") == 0
    assert server.stats in logging.statistics.values()  # type: ignore[attr-defined]
    before = server.runtime()
    assert before > 0
    server.clear_stats()
    assert server.runtime() == 0


def test_it_says_what_it_is(server_class: Callable[..., Server]) -> None:
    """Its str() has its class and its address."""
    server = server_class(ADDRESS, hello)
    assert str(server).endswith(f"Server({ADDRESS!r})")
    assert isinstance(server.version, str)


def test_its_socket_may_be_looked_at(server_class: Callable[..., Server]) -> None:
    """`socket` is what it listens at, while it runs."""
    server = server_class(ADDRESS, hello)
    with started(server):
        assert server.socket.getsockname() == server.bind_addr


def test_idle_connections_may_be_limited(server_class: Callable[..., Server]) -> None:
    """`keep_alive_conn_limit` bounds how many connections are kept open between requests."""
    server = server_class(ADDRESS, hello)
    server.keep_alive_conn_limit = 2
    with started(server), contextlib.ExitStack() as stack:
        clients = [client_of(server) for _ in range(6)]
        for client in clients:
            stack.callback(client.close)
            client.request("GET", "/")
            client.getresponse().read()
        wait_for(lambda: sum(map(_is_open, clients)) <= 2)


def _is_open(client: http.client.HTTPConnection) -> bool:
    if client.sock is None:
        return False
    client.sock.setblocking(False)
    try:
        return client.sock.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    finally:
        client.sock.settimeout(DEADLINE)
