"""Connections of both engines: handshake, bytes in both directions, the end of the stream."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from secureserve.certificates.store import CertificateStore
from secureserve.errors import HandshakeFailed, PlainHTTPOnTLSPort
from secureserve.front.waiting import wait_for
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.engines.base import Want
from secureserve.tls.engines.plain import PlainTransport
from tests.tls.lockstep import DEADLINE, connected, limited

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from secureserve.testing.authority import Authority


@pytest.fixture(scope="module")
def store(tls_authority: Authority) -> CertificateStore:
    """A store with one credential for localhost, issued by an intermediate."""
    return CertificateStore([tls_authority.issue("localhost", chain_depth=1).credential])


@pytest.fixture
def acceptor(store: CertificateStore, engine: str) -> TLSAcceptor:
    """An acceptor of each engine."""
    return TLSAcceptor(store, engine=engine)


@pytest.fixture
def client(tls_client_context: ssl.SSLContext, tls_version: str) -> ssl.SSLContext:
    """A client that verifies and speaks one version."""
    return limited(tls_client_context, tls_version)


@pytest.fixture(params=[False, True], ids=["receive", "receive_into"])
def into(request: pytest.FixtureRequest) -> bool:
    """Return whether the server receives into a buffer."""
    return bool(request.param)


def test_a_client_that_verifies_gets_through(acceptor: TLSAcceptor, client: ssl.SSLContext, tls_version: str) -> None:
    """The handshake succeeds, and what was negotiated is the same on both sides."""
    client.set_alpn_protocols(["h2", "http/1.1"])
    with connected(acceptor, client) as pair:
        assert pair.server.tls is None
        pair.shake_hands()
        info = pair.server.tls
        assert info is not None
        assert pair.client.tls.version() == info.version == tls_version
        assert pair.client.tls.cipher() is not None
        assert pair.client.tls.cipher()[0] == info.cipher
        assert pair.client.tls.selected_alpn_protocol() == info.alpn_protocol == "http/1.1"
        assert info.server_name == "localhost"
        assert not info.resumed
        assert not info.verified
        assert info.cipher_bits in {128, 256}
        assert pair.server.handshake() is None


def test_a_handshake_says_what_it_waits_for(acceptor: TLSAcceptor, client: ssl.SSLContext) -> None:
    """Before the client has sent anything the handshake wants to read, and does not block."""
    with connected(acceptor, client) as pair:
        assert pair.server.handshake() is Want.READ
        assert pair.server.fileno() >= 0
        pair.shake_hands()
        assert pair.server.tls is not None


def test_many_bytes_arrive_bit_for_bit(acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool) -> None:
    """A megabyte goes through in both directions over buffers that are smaller than it."""
    data = os.urandom(1_000_000)
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        assert pair.to_server(data) == data
        assert pair.to_client(data) == data


def test_sending_stops_where_the_peer_does_not_read(acceptor: TLSAcceptor, client: ssl.SSLContext) -> None:
    """A full send buffer is Want.WRITE, and the same bytes in another object can be sent on afterwards."""
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        chunk, sent = os.urandom(16384), 0
        for _ in range(100_000):
            result = pair.server.send(memoryview(chunk))
            if result is Want.WRITE:
                break
            assert isinstance(result, int)
            sent += result
        else:
            pytest.fail("the socket never filled up")
        received = 0
        while received < sent:
            received += len(pair.client_receives())
        assert pair.to_client(bytes(chunk)) == chunk


def test_nothing_to_receive_is_a_value(acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool) -> None:
    """Receiving before anything has come gives Want.READ."""
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        assert pair.receive(1000) is Want.READ
        assert pair.server.pending() == 0


def test_decrypted_bytes_are_told_of(acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool) -> None:
    """What is left of a record after a short receive is counted by pending(), and comes with the next receive."""
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        pair.client.tls.send(b"a request and some more")
        got = pair.receive(9)
        while got is Want.READ:
            got = pair.receive(9)
        assert got == b"a request"
        assert pair.server.pending() == len(b" and some more")
        assert pair.receive(100) == b" and some more"


def test_the_peers_close_notify_ends_the_stream(acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool) -> None:
    """A client that says goodbye gives an end of stream which is known to be its own."""
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        with pytest.raises(ssl.SSLWantReadError):
            pair.client.tls.unwrap()
        assert pair.server_receives() == b""
        assert pair.server.close_notify_received
        assert pair.receive(10) == b""


def test_a_stream_cut_off_ends_without_close_notify(acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool) -> None:
    """A socket that is merely closed gives an end of stream too, but one which is known to prove nothing."""
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        pair.client.tls.shutdown(socket.SHUT_WR)
        assert pair.server_receives() == b""
        assert not pair.server.close_notify_received


def test_a_reset_is_an_error(acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool) -> None:
    """A connection that the peer resets raises ConnectionError, not an error of the library."""
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        pair.client.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.client.tls.close()
        with pytest.raises(ConnectionError):
            pair.server_receives()
        with pytest.raises(ConnectionError):
            pair.server.send(b"into the void")


def test_sending_to_a_peer_that_has_gone_is_a_reset(acceptor: TLSAcceptor, client: ssl.SSLContext) -> None:
    """The peer has broken off, not we: what is counted and how the connection ends depend on which it was."""
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        pair.client.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.client.tls.close()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            pair.server.send(b"into the void")


@pytest.mark.parametrize("call", ["handshake", "receive", "send", "close_notify"])
def test_what_befell_a_connection_is_not_taken_for_the_end_of_the_next(
    acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool, call: str
) -> None:
    """The libraries keep errors for each thread, and one that a connection left there is not found by another's."""
    with connected(acceptor, client) as pair, connected(acceptor, client) as broken:
        pair.into = into
        pair.shake_hands()
        if call != "handshake":
            broken.shake_hands()
        broken.client.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        broken.client.tls.close()
        with contextlib.suppress(ConnectionError, HandshakeFailed):
            getattr(broken.server, call)(*{"receive": [10], "send": [b"into the void"]}.get(call, []))
        assert pair.receive(10) is Want.READ
        pair.client.tls.shutdown(socket.SHUT_WR)
        assert pair.server_receives() == b""
        assert not pair.server.close_notify_received


@pytest.fixture
def leave_an_error(tmp_path: Path) -> Callable[[], None]:
    """A function that leaves an error in the thread's queue, as an application may: a call made for ssl's own tests."""
    nothing = tmp_path / "nothing.pem"
    nothing.touch()

    def leave() -> None:
        with pytest.raises(ssl.SSLError):
            ssl._ssl._test_decode_cert(str(nothing))  # type: ignore[attr-defined]

    return leave


def test_an_error_left_by_others_does_not_end_a_connection_that_waits(
    acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool, leave_an_error: Callable[[], None]
) -> None:
    """What the application has done wrong in the thread is no fault of the peer's."""
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        leave_an_error()
        assert pair.receive(10) is Want.READ
        pair.client.tls.send(b"hello")
        leave_an_error()
        assert pair.server_receives() == b"hello"
        sent: int | Want = 0
        while sent is not Want.WRITE:
            leave_an_error()
            sent = pair.server.send(bytes(65536))


def test_an_error_left_by_others_hides_none_of_the_connections_own(
    acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool, leave_an_error: Callable[[], None]
) -> None:
    """The stream's end is told for what it is."""
    with connected(acceptor, client) as closed, connected(acceptor, client) as left, connected(acceptor, client) as bad:
        for pair in (closed, left, bad):
            pair.into = into
            pair.shake_hands()
        with pytest.raises(ssl.SSLWantReadError):
            closed.client.tls.unwrap()
        leave_an_error()
        assert closed.server_receives() == b""
        assert closed.server.close_notify_received
        left.client.tls.shutdown(socket.SHUT_WR)
        leave_an_error()
        assert left.server_receives() == b""
        assert not left.server.close_notify_received
        os.write(bad.client.tls.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        leave_an_error()
        with pytest.raises(ConnectionAbortedError):
            bad.server_receives()
        bad.client.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        bad.client.tls.close()
        leave_an_error()
        with pytest.raises(ConnectionError):
            bad.server.send(b"into the void")


def test_garbage_in_the_stream_is_an_error(acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool) -> None:
    """Bytes that are no TLS record raise ConnectionError."""
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        os.write(pair.client.tls.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with pytest.raises(ConnectionError):
            pair.server_receives()


def test_our_close_notify_reaches_the_peer(acceptor: TLSAcceptor, client: ssl.SSLContext) -> None:
    """What was sent before close_notify arrives, and after it the client reads a proper end."""
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        pair.server.send(b"goodbye")
        assert pair.server.close_notify() is None
        pair.server.close()
        assert pair.client_receives() == b"goodbye"
        assert pair.client_receives() == b""


def test_both_can_say_goodbye(acceptor: TLSAcceptor, client: ssl.SSLContext) -> None:
    """close_notify after the peer's is sent as well, and a second one is harmless."""
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        with pytest.raises(ssl.SSLWantReadError):
            pair.client.tls.unwrap()
        assert pair.server_receives() == b""
        assert pair.server.close_notify() is None
        assert pair.server.close_notify() is None
        assert pair.server.receive(10) == b""
        pair.client.tls.unwrap()


def test_a_closed_connection_touches_no_other(acceptor: TLSAcceptor, client: ssl.SSLContext, into: bool) -> None:
    """After close() nothing reads or writes the descriptor any more, which may belong to another connection by then."""
    with connected(acceptor, client) as pair:
        pair.into = into
        pair.shake_hands()
        pair.server.close()
        pair.server.close()
        assert pair.server.fileno() == -1
        assert pair.server.close_notify() is None
        assert pair.server.pending() == 0
        with pytest.raises(ConnectionError):
            pair.receive(10)
        with pytest.raises(ConnectionError):
            pair.server.send(b"x")


def test_plain_http_is_recognised(store: CertificateStore, engine: str) -> None:
    """A client that speaks HTTP to the TLS port is told apart from one whose TLS fails."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        connection = TLSAcceptor(store, engine=engine).accept(here)
        there.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(PlainHTTPOnTLSPort):
            connection.handshake()
        connection.close()


def test_noise_fails_the_handshake(store: CertificateStore, engine: str) -> None:
    """Bytes that are neither TLS nor HTTP fail with a reason and the alert that was sent for them."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        connection = TLSAcceptor(store, engine=engine).accept(here)
        there.sendall(b"\x01" * 200)
        with pytest.raises(HandshakeFailed, match=r"wrong version number|bad record type|packet length"):
            connection.handshake()
        connection.close()


def test_a_peer_that_goes_away_fails_the_handshake(store: CertificateStore, engine: str) -> None:
    """A connection closed in the middle of the handshake is a failed handshake that says so."""
    here, there = socket.socketpair()
    with here:
        here.setblocking(False)
        connection = TLSAcceptor(store, engine=engine).accept(here)
        there.close()
        with pytest.raises(HandshakeFailed, match="closed the connection"):
            connection.handshake()
        connection.close()


def test_an_alert_of_the_peer_is_named(acceptor: TLSAcceptor, tls_version: str) -> None:
    """A client that does not trust us says so, and the failure has the alert's RFC name and its sender."""
    with connected(acceptor, limited(ssl.create_default_context(), tls_version)) as pair:
        pair.shake_hands()
        assert isinstance(pair.client_error, ssl.SSLCertVerificationError)
        assert isinstance(pair.server_error, HandshakeFailed)
        assert pair.server_error.alert == "unknown_ca"
        assert pair.server_error.alert_sent_by_peer


def test_a_plain_transport_is_the_same_without_tls() -> None:
    """The transport for plain sockets keeps to the same interface: values for waiting, ConnectionError for breaking."""
    here, there = socket.socketpair()
    with there:
        here.setblocking(False)
        transport = PlainTransport(here)
        assert transport.handshake() is None
        assert transport.tls is None
        assert transport.receive(10) is Want.READ
        buffer = bytearray(10)
        assert transport.receive_into(memoryview(buffer)) is Want.READ
        there.sendall(b"hello")
        assert transport.receive(10) == b"hello"
        there.sendall(b"hello")
        assert transport.receive_into(memoryview(buffer)) == len(b"hello")
        assert buffer == b"hello" + bytes(5)
        assert transport.send(memoryview(b"bye")) == len(b"bye")
        assert there.recv(10) == b"bye"
        while transport.send(b"x" * 65536) is not Want.WRITE:
            pass
        there.close()
        with pytest.raises(ConnectionError):
            transport.send(b"x")
        assert transport.pending() == 0
        assert transport.close_notify() is None
        transport.close()
        transport.close()
        assert transport.fileno() == -1
        with pytest.raises(ConnectionError):
            transport.receive(1)
        with pytest.raises(ConnectionError):
            transport.receive_into(memoryview(buffer))


def test_a_plain_stream_ends_although_a_child_process_has_its_socket() -> None:
    """What a process started meanwhile has inherited does not keep the peer waiting for the end."""
    here, there = socket.socketpair()
    with there, here.dup():
        there.settimeout(DEADLINE)
        transport = PlainTransport(here)
        transport.close_notify()
        transport.close()
        assert there.recv(1) == b""
        # Harmless when the peer, or the socket, has gone.
        transport.close_notify()


def test_a_read_returns_after_one_message_without_data(store: CertificateStore) -> None:
    """Key updates (RFC 8446, 4.6.3), which a peer may send without an end, do not keep the thread that reads."""
    acceptor = TLSAcceptor(store, engine="pyopenssl")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", "-tls1_3"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([*command, "-servername", "localhost"], stdin=subprocess.PIPE, **quiet) as client:
            sock, _ = listener.accept()
            sock.setblocking(False)
            connection = acceptor.accept(sock)
            try:
                while connection.handshake() is not None:
                    assert wait_for(sock, Want.READ, DEADLINE)
                assert client.stdin is not None
                for sent in (1, 2):
                    # A line of its own is a command: k sends a key update.
                    client.stdin.write(b"k\n")
                    client.stdin.flush()
                    arrives(sock, sent * KEY_UPDATE_SIZE)
                assert connection.receive(100) is Want.READ
                assert unread(sock) == KEY_UPDATE_SIZE
                assert connection.receive(100) is Want.READ
                assert unread(sock) == 0
                client.stdin.write(b"hello\n")
                client.stdin.flush()
                assert wait_for(sock, Want.READ, DEADLINE)
                assert connection.receive(100) == b"hello\n"
            finally:
                connection.close()
                client.kill()


KEY_UPDATE_SIZE = 5 + (4 + 1) + 1 + 16
"""Record header, message, content type and tag."""


def unread(sock: socket.socket) -> int:
    """Return how many bytes have arrived."""
    try:
        return len(sock.recv(65536, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


def arrives(sock: socket.socket, size: int) -> None:
    """Wait until so many bytes have arrived."""
    deadline = time.monotonic() + DEADLINE
    while unread(sock) < size:
        assert time.monotonic() < deadline, "it did not arrive"
        select.select([], [], [], 0.001)
