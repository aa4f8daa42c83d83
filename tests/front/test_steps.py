"""The Front's steps over real sockets: phases, their deadlines, and that no step ever waits."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.front.settings import FrontSettings
from tests.front import blocking
from tests.http.serving import DEADLINE, GET, connect, get, read_all, running, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from secureserve.testing import TestServer

QUICK = FrontSettings(
    handshake_timeout=1.0,
    read_header_timeout=0.5,
    read_body_timeout=0.5,
    keep_alive_timeout=0.5,
    write_timeout=0.5,
    linger_timeout=0.5,
)
"""Deadlines that a test can wait for, and that a good client meets on a busy machine."""
RESET = struct.pack("ii", 1, 0)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer with as much as the path asks for."""
    body = environ["wsgi.input"].read()
    size = int(environ["PATH_INFO"].strip("/") or "5")
    start_response("200 OK", [("Content-Length", str(size)), ("X-Received", str(len(body)))])
    return [b"x" * size]


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[blocking.Guard]:
    """A guard over the Front's steps, which must have found nothing in the end."""
    guard = blocking.install(monkeypatch)
    yield guard
    assert guard.steps > 0
    assert guard.offences == []


@pytest.fixture
def secure_server(https_server: Any, engine: str) -> TestServer:
    """A server over TLS."""
    server: TestServer = https_server(application, engine=engine)
    return server


@pytest.fixture
def impatient_server(https_server: Any, engine: str) -> TestServer:
    """A server over TLS with short deadlines."""
    server: TestServer = https_server(application, engine=engine, settings=QUICK)
    return server


def open_tls(server: TestServer, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Connect and shake hands."""
    sock = socket.create_connection(server.bound_addr, DEADLINE)
    return context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)


def ended(sock: socket.socket) -> bytes:
    """Return what came until the server ended the connection, however it did."""
    with contextlib.suppress(ssl.SSLError):
        return read_all(sock)
    return b""


def read_to_the_end(sock: socket.socket) -> None:
    """Read until the stream ends properly; what breaks it is raised."""
    while sock.recv(1 << 20):
        continue


def test_no_step_waits_for_a_good_client(
    guard: blocking.Guard, secure_server: TestServer, tls_client_context: ssl.SSLContext
) -> None:
    """Handshake, heads, bodies in pieces, a large response, keep-alive and farewell take no blocking call."""
    with open_tls(secure_server, tls_client_context) as client:
        for piece in (b"POST /2000000 HTTP/1.1\r\nHost: localhost\r\nContent-Le", b"ngth: 6\r\n\r\nabc", b"def"):
            client.sendall(piece)
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.headers["X-Received"] == "6"
        assert len(response.read()) == 2_000_000
        client.sendall(GET)
        assert client.recv(65536).endswith(b"xxxxx")


def test_no_step_waits_for_clients_that_let_every_phase_pass(
    guard: blocking.Guard, impatient_server: TestServer, tls_client_context: ssl.SSLContext
) -> None:
    """Clients that stop in each phase are ended by that phase's deadline, and no step waited for them."""
    address = impatient_server.bound_addr
    silent = socket.create_connection(address, DEADLINE)
    half = socket.create_connection(address, DEADLINE)
    half.sendall(b"\x16\x03\x01\x02\x00\x01")
    shaken, headless, bodiless, idle = (open_tls(impatient_server, tls_client_context) for _ in range(4))
    headless.sendall(b"GET / HTTP/1.1\r\nHost: lo")
    bodiless.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
    idle.sendall(GET)
    assert idle.recv(65536).endswith(b"xxxxx")
    assert ended(silent) == b""
    assert ended(half) == b""
    assert ended(shaken) == b""
    assert ended(headless).startswith(b"HTTP/1.1 408 ")
    assert ended(bodiless).startswith(b"HTTP/1.1 408 ")
    assert ended(idle) == b""
    for sock in (silent, half, shaken, headless, bodiless, idle):
        sock.close()
    # A connection is counted when it is over, a moment after its peer has been told.
    wait_for(lambda: not impatient_server.http_server.connections_by_state())
    totals = impatient_server.http_server.totals()
    assert totals.handshakes["timeout"] == 1
    assert totals.closed["idle"] == 1
    assert totals.refused["timeout"] == 4


def test_no_step_waits_for_clients_that_reset_in_each_phase(
    guard: blocking.Guard, secure_server: TestServer, tls_client_context: ssl.SSLContext
) -> None:
    """Resets before, during and after the handshake, in a head, a body and a response cost nobody else anything."""
    for bytes_sent in (b"", b"\x16\x03\x01"):
        sock = socket.create_connection(secure_server.bound_addr, DEADLINE)
        sock.sendall(bytes_sent)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    for request in (
        b"",
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
        GET.replace(b"GET /", b"GET /5000000"),
    ):
        client = open_tls(secure_server, tls_client_context)
        client.sendall(request)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
    with open_tls(secure_server, tls_client_context) as client:
        client.sendall(GET)
        assert client.recv(65536).endswith(b"xxxxx")


def test_a_slow_reader_holds_no_thread_and_is_given_up(
    guard: blocking.Guard, https_server: Any, engine: str, tls_client_context: ssl.SSLContext
) -> None:
    """A response that nobody reads is the Front's to flush; its thread serves others, and write_timeout ends it."""
    settings = FrontSettings(write_timeout=0.2)
    server: TestServer = https_server(application, engine=engine, settings=settings, threads=1)
    with open_tls(server, tls_client_context) as slow:
        slow.sendall(GET.replace(b"GET /", b"GET /20000000"))
        with open_tls(server, tls_client_context) as client:
            client.sendall(GET)
            assert client.recv(65536).endswith(b"xxxxx")
        wait_for(lambda: "timeout" in server.http_server.totals().closed)
        with pytest.raises((ConnectionError, ssl.SSLEOFError)):
            read_to_the_end(slow)


def test_every_phase_is_seen_in_the_accounts(secure_server: TestServer, tls_client_context: ssl.SSLContext) -> None:
    """Connections are counted by where they are, and handshakes by how they ended."""
    with open_tls(secure_server, tls_client_context) as client:
        client.sendall(GET)
        assert client.recv(65536)
        totals = secure_server.http_server.totals()
        assert totals.accepted == 1
        assert totals.requests == 1
        assert totals.handshakes == {"completed": 1}
        assert totals.handshake_seconds > 0


def test_plain_http_on_the_tls_port_is_told_at_once(secure_server: TestServer) -> None:
    """The first bytes tell; the answer is 400 with a text that says what to do, without any timeout passing."""
    with socket.create_connection(secure_server.bound_addr, DEADLINE) as client:
        client.sendall(b"G")
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in answer


def test_plain_http_on_the_tls_port_can_be_redirected(https_server: Any, engine: str) -> None:
    """With plain_http="redirect" a request for a host that is served goes to https, and any other is told off."""
    settings = FrontSettings(plain_http="redirect")
    server: TestServer = https_server(application, engine=engine, settings=settings)
    for host, status, location in (
        (f"localhost:{server.port}", 308, f"https://localhost:{server.port}/a?b=c"),
        ("evil.example", 400, None),
    ):
        client = http.client.HTTPConnection(*server.bound_addr, timeout=DEADLINE)
        with contextlib.closing(client):
            client.request("GET", "/a?b=c", headers={"Host": host})
            response = client.getresponse()
            assert (response.status, response.headers["Location"]) == (status, location)


def test_hsts_is_sent_over_tls_only(https_server: Any, tls_client_context: ssl.SSLContext) -> None:
    """Strict-Transport-Security stands in responses over TLS; over plain HTTP it would mean nothing (RFC 6797, 7.2)."""
    settings = FrontSettings(hsts="max-age=600")
    server: TestServer = https_server(application, settings=settings)
    with open_tls(server, tls_client_context) as client:
        client.sendall(GET)
        assert b"\r\nStrict-Transport-Security: max-age=600\r\n" in client.recv(65536)
    with running(application, settings=settings) as plain, connect(plain) as client:
        client.sendall(GET)
        assert b"Strict-Transport-Security" not in client.recv(65536)


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"], ids=["v1"])
def test_a_proxy_header_precedes_tls(
    header: bytes, guard: blocking.Guard, https_server: Any, engine: str, tls_client_context: ssl.SSLContext
) -> None:
    """The client's address comes from the header, in however many pieces it arrives; TLS follows it."""
    seen = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append((environ["REMOTE_ADDR"], environ["REMOTE_PORT"]))
        return application(environ, start_response)

    server: TestServer = https_server(app, engine=engine, settings=FrontSettings(proxy_protocol=True))
    with socket.create_connection(server.bound_addr, DEADLINE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header:
            sock.sendall(bytes([byte]))
        with tls_client_context.wrap_socket(sock, server_hostname="localhost") as client:
            client.sendall(GET)
            assert client.recv(65536).endswith(b"xxxxx")
    assert seen == [("192.0.2.7", "4711")]


def test_a_proxy_header_is_taken_from_trusted_networks_only() -> None:
    """A peer that is not listed is closed and counted, and so is one that sends no header, or a malformed one."""
    settings = FrontSettings(proxy_protocol=True, proxy_allow_ips=("192.0.2.0/24",))
    with running(application, settings=settings) as server, connect(server) as client:
        assert read_all(client) == b""
        assert server.totals().refused == {"untrusted_proxy": 1}
    with running(application, settings=FrontSettings(proxy_protocol=True)) as server, connect(server) as client:
        client.sendall(GET)
        assert read_all(client) == b""
        assert sum(server.totals().refused.values()) == 1


def test_a_proxied_client_counts_by_its_own_address() -> None:
    """The limit for each client is on whom the proxy speaks for, not on the proxy."""
    settings = FrontSettings(proxy_protocol=True, max_connections_per_address=1)
    with running(application, settings=settings) as server, contextlib.ExitStack() as stack:
        outcomes = []
        for client_address in (b"192.0.2.7", b"192.0.2.8", b"192.0.2.7"):
            client = stack.enter_context(connect(server))
            client.sendall(b"PROXY TCP4 %b 192.0.2.1 4711 443\r\n" % client_address + GET)
            received = b""
            with contextlib.suppress(ConnectionError):
                received = client.recv(65536)
            outcomes.append(received[:12])
        assert outcomes == [b"HTTP/1.1 200", b"HTTP/1.1 200", b""]


def test_remote_host_is_looked_up_and_confirmed() -> None:
    """With reverse_dns the name of loopback stands in REMOTE_HOST; without it there is none."""
    names = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        names.append(environ.get("REMOTE_HOST"))
        return application(environ, start_response)

    with running(app, settings=FrontSettings(reverse_dns=True, reverse_dns_timeout=DEADLINE)) as server:
        assert get(server)[0] == 200
    with running(app) as server:
        assert get(server)[0] == 200
    assert names[0] in {"localhost", None}
    assert names[1] is None


def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    """A path is listened at with mode 0600, answers, and is gone after the stop."""
    path = tmp_path / "socket"
    from secureserve.http.server import HTTPServer

    server = HTTPServer(str(path), application)
    with server._run_in_thread(), socket.socket(socket.AF_UNIX) as client:
        assert path.stat().st_mode & 0o777 == 0o600
        client.settimeout(DEADLINE)
        client.connect(str(path))
        client.sendall(GET)
        assert client.recv(65536).endswith(b"xxxxx")
    assert not path.exists()
