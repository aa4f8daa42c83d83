"""Hostile clients, against a server of a few lines that shows exactly what they do."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from secureserve.testing.hostile import RESET_ON_CLOSE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from secureserve.testing import Authority, HostileClient, TestServer

DEADLINE = 30.0


@pytest.fixture
def one_connection(tls_authority: Authority) -> Generator[tuple[tuple[str, int], Callable[[], socket.socket]]]:
    """A listening address, and a function that accepts one connection there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        accepted: list[socket.socket] = []

        def accept() -> socket.socket:
            sock, _ = listener.accept()
            sock.settimeout(DEADLINE)
            accepted.append(sock)
            return sock

        yield listener.getsockname(), accept
        for sock in accepted:
            sock.close()


@contextlib.contextmanager
def shaking_hands(
    authority: Authority, accept: Callable[[], socket.socket], received: list[bytes], until: int
) -> Generator[None]:
    """Accept one TLS connection beside the block, and read `until` bytes or the end from it."""
    context = authority.issue().server_context()

    def serve() -> None:
        with context.wrap_socket(accept(), server_side=True, suppress_ragged_eofs=True) as sock:
            while sum(map(len, received)) < until:
                try:
                    data = sock.recv(1024)
                except OSError:
                    received.append(b"RESET")
                    return
                if not data:
                    return
                received.append(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_silent_sends_nothing(
    hostile_client: Callable[..., HostileClient],
    one_connection: tuple[tuple[str, int], Callable[[], socket.socket]],
) -> None:
    """A silent client is connected and says nothing, until the server or the test ends it."""
    address, accept = one_connection
    connection = hostile_client(address).silent()
    sock = accept()
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    assert not connection.closed_by_server(0.01)
    sock.close()
    assert connection.closed_by_server(DEADLINE)


def test_half_a_handshake(
    hostile_client: Callable[..., HostileClient],
    one_connection: tuple[tuple[str, int], Callable[[], socket.socket]],
) -> None:
    """Half of a ClientHello is the beginning of a handshake record, shorter than the record says."""
    address, accept = one_connection
    hostile_client(address).half_handshake()
    data = accept().recv(65536)
    assert data[0] == 0x16
    assert 5 < len(data) < 5 + int.from_bytes(data[3:5], "big")


def test_slow_handshake_comes_byte_by_byte(
    hostile_client: Callable[..., HostileClient],
    one_connection: tuple[tuple[str, int], Callable[[], socket.socket]],
) -> None:
    """A slow handshake goes on and never gets far."""
    address, accept = one_connection
    hostile_client(address).slow_handshake(every=0.001)
    sock = accept()
    assert sock.recv(1) == b"\x16"
    assert sock.recv(1) == b"\x03"


def test_slow_sends_all_a_little_at_a_time(
    hostile_client: Callable[..., HostileClient],
    one_connection: tuple[tuple[str, int], Callable[[], socket.socket]],
    tls_authority: Authority,
) -> None:
    """A slow client's bytes arrive in the pieces asked for, each in a record of its own."""
    address, accept = one_connection
    received: list[bytes] = []
    with shaking_hands(tls_authority, accept, received, 6):
        hostile_client(address).slow(b"abcdef", every=0.001, size=2)
    assert received == [b"ab", b"cd", b"ef"]


@pytest.mark.parametrize("after", ["connect", "handshake", "half_request", "request"])
def test_resets(
    https_server: Callable[..., TestServer], hostile_client: Callable[..., HostileClient], after: str
) -> None:
    """A reset at any moment tears the connection down, and the server serves the next client."""
    server = https_server()
    hostile_client(server).resets(after=after)
    polite = hostile_client(server).half_request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert polite.closed_by_server(DEADLINE)
    assert polite.received.endswith(b"hello\n")


def test_reset_is_a_reset(
    hostile_client: Callable[..., HostileClient],
    one_connection: tuple[tuple[str, int], Callable[[], socket.socket]],
) -> None:
    """The server sees RST, not an orderly end."""
    address, accept = one_connection
    hostile_client(address).resets(after="connect")
    with pytest.raises(ConnectionResetError):
        accept().recv(1)


def test_never_reads_fills_the_servers_buffers(
    hostile_client: Callable[..., HostileClient],
    one_connection: tuple[tuple[str, int], Callable[[], socket.socket]],
    tls_authority: Authority,
) -> None:
    """A client that never reads leaves the server with what it cannot send."""
    address, accept = one_connection
    context = tls_authority.issue().server_context()
    stuck = threading.Event()

    def serve() -> None:
        with context.wrap_socket(accept(), server_side=True) as sock:
            sock.recv(1024)
            sock.settimeout(0.05)
            with contextlib.suppress(OSError):
                while True:
                    try:
                        sock.sendall(b"x" * 65536)
                    except TimeoutError:
                        stuck.set()
                        return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    hostile_client(address).never_reads()
    assert stuck.wait(DEADLINE)
    thread.join(DEADLINE)


def test_a_reset_by_the_server_is_told(
    hostile_client: Callable[..., HostileClient],
    one_connection: tuple[tuple[str, int], Callable[[], socket.socket]],
) -> None:
    """What dribbles stops when the server tears the connection down, and the test is told that it did."""
    address, accept = one_connection
    connection = hostile_client(address).slow_handshake(every=0.001)
    sock = accept()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.recv(1)
    sock.close()
    assert connection.closed_by_server(DEADLINE)
    assert connection.was_reset


def test_connections_close_with_their_block(
    hostile_client: Callable[..., HostileClient],
    one_connection: tuple[tuple[str, int], Callable[[], socket.socket]],
) -> None:
    """Client and connection are context managers, and closing ends what dribbles."""
    address, accept = one_connection
    with hostile_client(address) as client, client.slow_handshake(every=30.0) as connection:
        sock = accept()
        assert sock.recv(1) == b"\x16"
    assert connection.sock.fileno() == -1
    assert sock.recv(1) == b""


def test_half_request_is_never_answered_until_the_deadline(
    https_server: Callable[..., TestServer], hostile_client: Callable[..., HostileClient]
) -> None:
    """Half a request keeps the connection without reaching the application; the server's deadline ends it."""
    server = https_server(timeout=0.2)
    connection = hostile_client(server.url).half_request()
    assert connection.closed_by_server(DEADLINE)
    assert not server.requests


def test_handshake_then_silent(
    https_server: Callable[..., TestServer], hostile_client: Callable[..., HostileClient]
) -> None:
    """A client that only shakes hands is sent away by the server's deadline."""
    connection = hostile_client(https_server(timeout=0.2)).handshake_then_silent()
    assert connection.closed_by_server(DEADLINE)


@pytest.mark.parametrize("victim", [None, 443, "localhost"])
def test_a_victim_has_an_address(hostile_client: Callable[..., HostileClient], victim: object) -> None:
    """What has no address is refused with what to write."""
    with pytest.raises(TypeError, match=r"write "):
        hostile_client(victim)


def test_misuse(hostile_client: Callable[..., HostileClient], https_url: str) -> None:
    """Forgetting the victim, or naming a moment that there is none of, says what to write."""
    with pytest.raises(AttributeError, match=r"hostile_client\(server\)\.silent"):
        hostile_client.silent  # type: ignore[attr-defined] # noqa: B018 - the mistake under test
    with pytest.raises(ValueError, match=r"write one of connect, handshake"):
        hostile_client(https_url).resets(after="lunch")
