"""The port that redirects to https, and answers http-01 challenges."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.errors import ConfigurationError, StartFailed
from secureserve.managed.server import Server
from tests.managed.clients import application, connect, exchange, is_refused, read_all, server_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from secureserve.testing.credentials import IssuedCredential

GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PROXY = b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 80\r\n"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """See that no test leaves a server's thread behind."""
    yield
    assert server_threads() == []


@pytest.fixture
def issued(tls_credential: Any) -> IssuedCredential:
    """Return a certificate for localhost."""
    credential: IssuedCredential = tls_credential("localhost")
    return credential


@pytest.fixture
def port() -> int:
    """Return a port of 127.0.0.1 that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        number: int = chosen.getsockname()[1]
        return number


def local(issued: IssuedCredential, port: int, **settings: Any) -> Server:
    """Return a server for a free port of 127.0.0.1, and for `port` beside it."""
    return Server(
        application,
        socket_host="127.0.0.1",
        socket_port=0,
        redirect_port=port,
        ssl_certificate=issued.pem_path,
        **settings,
    )


def first_line(answer: bytes) -> bytes:
    """Return the status line of an answer."""
    return answer.partition(b"\r\n")[0]


def test_what_is_served_here_is_redirected(issued: IssuedCredential, port: int) -> None:
    """A second, plain port redirects to https, answers ACME challenges, and is gone after the stop."""
    with local(issued, port) as server:
        answer = exchange(("127.0.0.1", port), GET % b"there")
        assert b" 308 " in first_line(answer)
        assert f"Location: https://localhost:{server.bound_addr[1]}/there".encode() in answer
        elsewhere = b"GET / HTTP/1.1\r\nHost: elsewhere.test\r\nConnection: close\r\n\r\n"
        assert b" 421 " in first_line(exchange(("127.0.0.1", port), elsewhere))
        server.acme_challenges["token"] = "token.proof"
        assert exchange(("127.0.0.1", port), GET % b".well-known/acme-challenge/token").endswith(b"token.proof")
    assert is_refused(("127.0.0.1", port))


def test_a_redirect_names_the_port_where_clients_reach_https(issued: IssuedCredential, port: int) -> None:
    """Behind a balancer that is another one than we listen at; the usual one is not written (RFC 9110, 4.2.2)."""
    for to_port, location in ((8443, b"https://localhost:8443/there"), (443, b"https://localhost/there")):
        with local(issued, port, redirect_to_port=to_port):
            answer = exchange(("127.0.0.1", port), GET % b"there")
            assert b"\r\nLocation: " + location + b"\r\n" in answer


def test_a_balancer_says_who_the_client_is_here_too(
    issued: IssuedCredential, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With proxy_protocol the header is expected at both ports, and the access log names the client that it tells."""
    caplog.set_level(logging.INFO, logger="secureserve.access")
    with local(issued, port, proxy_protocol=True):
        assert b" 308 " in first_line(exchange(("127.0.0.1", port), PROXY + GET % b"there"))
        assert exchange(("127.0.0.1", port), GET % b"there") == b""
    (line,) = [record.getMessage() for record in caplog.records if record.name == "secureserve.access"]
    assert line.startswith("192.0.2.7 ")
    assert '"GET /there HTTP/1.1" 308 ' in line


def test_a_balancer_that_is_not_trusted_is_not_believed_here_either(issued: IssuedCredential, port: int) -> None:
    """proxy_allow_ips holds at both ports."""
    with local(issued, port, proxy_protocol=True, proxy_allow_ips=("192.0.2.0/24",)):
        assert exchange(("127.0.0.1", port), PROXY + GET % b"there") == b""


def test_what_a_peer_is_granted_holds_here_too(issued: IssuedCredential, port: int) -> None:
    """Half a request has as long as at the other port, and a head may be as large."""
    with local(issued, port, read_header_timeout=0.05, max_request_header_size=200) as server:
        with connect(("127.0.0.1", port)) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\n")
            assert b" 408 " in first_line(read_all(slow))
        large = (GET % b"there").replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 300 + b"\r\n\r\n")
        assert b" 413 " in first_line(exchange(("127.0.0.1", port), large))
        server.change({"max_request_header_size": 1000})
        assert b" 308 " in first_line(exchange(("127.0.0.1", port), large))


def test_a_client_has_no_more_connections_here(issued: IssuedCredential, port: int) -> None:
    """max_connections_per_address holds at each of the two ports."""
    with (
        local(issued, port, max_connections_per_address=1) as server,
        connect(("127.0.0.1", port)),
    ):
        assert exchange(("127.0.0.1", port), GET % b"there") == b""
        assert b" 400 " in first_line(exchange(server.bound_addr, GET % b"there"))


def test_two_processes_share_the_port(issued: IssuedCredential, port: int) -> None:
    """With reuse_port a second server starts beside the first, at the redirecting port as well."""
    with local(issued, port, reuse_port=True), local(issued, port, reuse_port=True):
        assert b" 308 " in first_line(exchange(("127.0.0.1", port), GET % b"there"))
    assert is_refused(("127.0.0.1", port))


def test_a_taken_port_stops_the_server_too(issued: IssuedCredential) -> None:
    """Where the redirecting port cannot be had, the start fails and the main port is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = local(issued, taken.getsockname()[1])
        with pytest.raises(StartFailed, match=f"redirect_port = {taken.getsockname()[1]} is in use"):
            server.start()
        assert not server.running


def test_a_unix_socket_has_no_redirecting_port(issued: IssuedCredential, tmp_path: Path) -> None:
    """redirect_port beside socket_file is refused, since it would lead nowhere."""
    server = Server(application, socket_file=tmp_path / "x", redirect_port=0, ssl_certificate=issued.pem_path)
    with pytest.raises(ConfigurationError, match="redirect_port = 0 needs a TCP port"):
        server.start()
