"""A ClientHello that does not come in one piece."""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from secureserve.certificates.store import CertificateStore
from secureserve.errors import HandshakeFailed
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.engines.base import TLSConnection, Want
from tests.tls.lockstep import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.testing.authority import Authority

HALF = 100


def hello_for(protocol: str) -> bytes:
    """Return what a client that speaks nothing but `protocol` says first."""
    context = ssl.create_default_context()
    context.set_alpn_protocols([protocol])
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@contextmanager
def connection_of(ours: socket.socket, store: CertificateStore, engine: str) -> Iterator[TLSConnection]:
    """Put TLS on a socket, and close it at the end."""
    ours.setblocking(False)
    connection = TLSAcceptor(store, engine=engine).accept(ours)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def store(tls_authority: Authority) -> CertificateStore:
    """Return a store with one credential."""
    return CertificateStore([tls_authority.issue("localhost").credential])


@pytest.fixture
def network() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection, ours and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, theirs:
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield ours, theirs


def is_readable(connection: TLSConnection, timeout: float) -> bool:
    """Return whether a poll reports the connection."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def test_a_hello_in_two_pieces_is_understood(
    network: tuple[socket.socket, socket.socket], store: CertificateStore, engine: str
) -> None:
    """A client without a protocol of ours is refused however its hello comes, and half of one keeps nobody busy."""
    ours, theirs = network
    hello = hello_for("h2")
    with connection_of(ours, store, engine) as connection:
        assert connection.handshake() is Want.READ
        theirs.sendall(hello[:HALF])
        assert is_readable(connection, DEADLINE)
        assert connection.handshake() is Want.READ
        assert not is_readable(connection, 0)
        theirs.sendall(hello[HALF:])
        assert is_readable(connection, DEADLINE)
        with pytest.raises(HandshakeFailed) as caught:
            assert connection.handshake() is Want.READ
        assert caught.value.alert == "no_application_protocol"


def test_half_a_hello_and_an_end_is_the_end(
    network: tuple[socket.socket, socket.socket], store: CertificateStore, engine: str
) -> None:
    """A client that closes in the middle of its hello is not waited for."""
    ours, theirs = network
    with connection_of(ours, store, engine) as connection:
        theirs.sendall(hello_for("http/1.1")[:HALF])
        assert is_readable(connection, DEADLINE)
        assert connection.handshake() is Want.READ
        theirs.shutdown(socket.SHUT_WR)
        assert is_readable(connection, DEADLINE)
        with pytest.raises(HandshakeFailed, match="closed the connection"):
            connection.handshake()


def test_where_it_cannot_be_waited_for_it_is_served_all_the_same(store: CertificateStore, engine: str) -> None:
    """Over a unix socket half a hello cannot rest; the handshake goes on, with whatever the library makes of it."""
    ours, theirs = socket.socketpair()
    hello = hello_for("http/1.1")
    with ours, theirs, connection_of(ours, store, engine) as connection:
        theirs.sendall(hello[:HALF])
        assert connection.handshake() is Want.READ
        assert not is_readable(connection, 0)
        theirs.sendall(hello[HALF:])
        assert connection.handshake() is Want.READ
        assert is_readable_at(theirs)


def is_readable_at(sock: socket.socket) -> bool:
    """Return whether an answer has come."""
    return bool(select.select([sock], [], [], DEADLINE)[0])
