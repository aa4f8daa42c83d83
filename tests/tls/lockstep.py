"""Two ends of a connection on real sockets, taken forward in turns by one thread."""

from __future__ import annotations

import select
import socket
import ssl
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from secureserve.errors import PeerError
from secureserve.tls.engines.base import Want

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.tls.acceptor import TLSAcceptor
    from secureserve.tls.engines.base import TLSConnection

DEADLINE = 30.0
"""Seconds for what is on its way over loopback to arrive, however busy the machine is."""


class Client:
    """A client on the ssl module, over a non-blocking socket; like a person at a keyboard it shows what it gets."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None, session: Any) -> None:
        self.tls = context.wrap_socket(
            sock,
            server_hostname=server_name,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
            session=session,
        )

    def handshake(self) -> bool:
        """Go as far as it goes; True when done."""
        try:
            self.tls.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True


class Pair:
    """A server's connection and a client, connected.

    Attributes:
        into: Whether the server receives into a buffer.
    """

    into = False

    def __init__(self, server: TLSConnection, client: Client) -> None:
        self.server = server
        self.client = client
        self.server_error: PeerError | None = None
        self.client_error: ssl.SSLError | OSError | None = None

    def _turns(self) -> Iterator[None]:
        """Yield until the deadline, a moment later each time unless bytes have come."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            yield
            select.select([self.server.fileno(), self.client.tls.fileno()], [], [], 0.001)

    def shake_hands(self) -> Pair:
        """Take both ends forward until each is done or has failed; errors are kept on the pair."""
        server_done = client_done = False
        for _ in self._turns():
            if not client_done:
                try:
                    client_done = self.client.handshake()
                except OSError as error:
                    self.client_error, client_done = error, True
            if not server_done:
                try:
                    server_done = self.server.handshake() is None
                except PeerError as error:
                    self.server_error, server_done = error, True
            if server_done and client_done:
                return self
        raise AssertionError("the handshake made no progress")

    def receive(self, max_bytes: int) -> bytes | Want:
        """Receive at the server, one way or the other."""
        if not self.into:
            return self.server.receive(max_bytes)
        buffer = bytearray(max_bytes)
        size = self.server.receive_into(memoryview(buffer))
        return size if isinstance(size, Want) else bytes(buffer[:size])

    def to_server(self, data: bytes) -> bytes:
        """Send from the client and return what the server receives, all of it."""
        received, sent = b"", 0
        for _ in self._turns():
            if sent < len(data):
                with suppress(ssl.SSLWantWriteError):
                    sent += self.client.tls.send(data[sent : sent + 65536])
            got = self.receive(65536)
            if isinstance(got, bytes):
                received += got
            if len(received) >= len(data):
                return received
        raise AssertionError(f"{len(received)} of {len(data)} bytes arrived")

    def to_client(self, data: bytes) -> bytes:
        """Send from the server and return what the client receives, all of it."""
        view, received = memoryview(data), bytearray()
        for _ in self._turns():
            if view:
                sent = self.server.send(view)
                if isinstance(sent, int):
                    view = view[sent:]
            with suppress(ssl.SSLWantReadError):
                received += self.client.tls.recv(65536)
            if len(received) >= len(data):
                return bytes(received)
        raise AssertionError(f"{len(received)} of {len(data)} bytes arrived")

    def client_receives(self) -> bytes:
        """Return what the client reads next; errors of TLS are raised."""
        for _ in self._turns():
            try:
                return self.client.tls.recv(65536)
            except ssl.SSLWantReadError:
                pass
        raise AssertionError("nothing arrived")

    def server_receives(self) -> bytes:
        """Return what the server reads next."""
        for _ in self._turns():
            got = self.receive(65536)
            if got is not Want.READ:
                assert isinstance(got, bytes)
                return got
        raise AssertionError("nothing arrived")

    def close(self) -> None:
        """Close both ends."""
        self.server.close()
        self.client.tls.close()


@contextmanager
def connected(
    acceptor: TLSAcceptor, context: ssl.SSLContext, *, server_name: str | None = "localhost", session: Any = None
) -> Iterator[Pair]:
    """Connect a client over TCP on the loopback, without shaking hands yet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client_sock = socket.create_connection(listener.getsockname())
        server_sock, _ = listener.accept()
    for sock in (client_sock, server_sock):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pair = Pair(acceptor.accept(server_sock), Client(client_sock, context, server_name, session))
    try:
        yield pair
    finally:
        pair.close()


def limited(context: ssl.SSLContext, version: str) -> ssl.SSLContext:
    """Let a client context speak one version only, and return it."""
    number = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[version]
    context.minimum_version = context.maximum_version = number
    return context
