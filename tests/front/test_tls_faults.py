"""What a peer can do wrong below HTTP: it costs that peer its connection, and nobody else anything."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.serving import DEADLINE, hello

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from secureserve.testing import TestServer

BEFORE: Mapping[str, bytes] = {
    "a flood of alerts": b"\x15\x03\x01\x00\x02\x01\x5a" * 10_000,
    "an oversized record": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "empty records": b"\x17\x03\x03\x00\x00" * 10_000,
    "half a record": b"\x16\x03\x01\x02\x00\x01",
    "noise": bytes(range(256)),
}

AFTER: Mapping[str, bytes] = {
    "a record that was not encrypted": b"\x17\x03\x03\x00\x20" + bytes(32),
    "an oversized record": b"\x17\x03\x03\xff\xff" + bytes(70_000),
    "half a record": b"\x17\x03\x03\x01\x00" + bytes(10),
    "plain alerts": b"\x15\x03\x03\x00\x02\x01\x5a" * 10_000,
}


@pytest.fixture
def served(https_server: Any, engine: str) -> TestServer:
    """A server over TLS."""
    server: TestServer = https_server(hello, engine=engine)
    return server


def send(sock: socket.socket, data: bytes) -> None:
    """Send all of it and half close, then wait until the server has closed its side."""
    with contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            continue


def require_good_service(server: TestServer, context: ssl.SSLContext) -> None:
    """Fetch as a good client does, and see that no fault was the server's own."""
    client = http.client.HTTPSConnection("localhost", server.port, timeout=DEADLINE, context=context)
    with contextlib.closing(client):
        client.request("GET", "/")
        assert client.getresponse().read() == b"hello"
    assert "error" not in server.http_server.totals().closed


@pytest.mark.parametrize("fault", BEFORE)
def test_a_fault_in_the_handshake(served: TestServer, tls_client_context: ssl.SSLContext, fault: str) -> None:
    """Whatever comes instead of a handshake, the connection ends and good clients are served."""
    for _ in range(20):
        with socket.create_connection(served.bound_addr, DEADLINE) as peer:
            send(peer, BEFORE[fault])
    require_good_service(served, tls_client_context)
    assert sum(served.http_server.totals().handshakes.values()) == 21


@pytest.mark.parametrize("fault", AFTER)
def test_a_fault_after_the_handshake(
    served: TestServer, tls_client_context: ssl.SSLContext, tls_version: str, fault: str, past: Callable[..., Any]
) -> None:
    """Whatever comes between good records, the connection ends and good clients are served."""
    for _ in range(5):
        with past(served, tls_version) as peer:
            send(peer, AFTER[fault])
    require_good_service(served, tls_client_context)


@pytest.fixture
def past(tls_client_context: ssl.SSLContext) -> Callable[..., contextlib.AbstractContextManager[socket.socket]]:
    """A function that shakes hands, and gives the socket below."""

    @contextlib.contextmanager
    def shake(server: TestServer, version: str) -> Any:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls_client_context.maximum_version = getattr(ssl.TLSVersion, version.replace(".", "_"))
        client = tls_client_context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(server.bound_addr, DEADLINE) as sock:
            while True:
                try:
                    client.do_handshake()
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))
                else:
                    break
            sock.sendall(outgoing.read())
            yield sock

    return shake
