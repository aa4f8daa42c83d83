"""Clients that no server should have: silent, slow, and gone without a word.

Each connection is real, and stays as it is until the test or the end of the test closes it. Nothing here sleeps: what
dribbles does so in a thread that waits for an event, and whoever waits for the server's reaction names a deadline.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Protocol

    from typing_extensions import Self

    class HasURL(Protocol):
        """A server that says where it is."""

        @property
        def url(self) -> str:
            """Its URL."""


__all__ = ["HostileClient", "HostileConnection"]

CONNECT_TIMEOUT: Final = 30.0
"""Seconds; only a machine under load needs more than a moment on loopback."""

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER`` on, for no time: closing sends RST instead of FIN."""

WHOLE_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class HostileConnection:
    """One connection of a hostile client.

    Args:
        sock: The socket, plain or TLS, on which the client did what it does.

    Threads: the test's own; a dribbling thread ends before the socket is closed.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.was_reset = False
        self._enough = threading.Event()
        self._dribbler: threading.Thread | None = None

    def dribble(self, data: bytes, *, every: float, size: int = 1) -> None:
        """Send `data` a little at a time from a thread of its own, until all is sent or the server closes.

        Args:
            data: What to send.
            every: Seconds between two pieces.
            size: Bytes of a piece.
        """

        def send() -> None:
            for start in range(0, len(data), size):
                try:
                    self.sock.sendall(data[start : start + size])
                except OSError:
                    return
                if self._enough.wait(every):
                    return

        self._dribbler = threading.Thread(target=send, name="hostile client", daemon=True)
        self._dribbler.start()

    def closed_by_server(self, timeout: float) -> bool:
        """Wait for the server to end the connection; return whether it did, False after `timeout` seconds.

        What it sends before is kept in ``received``; ``was_reset`` tells whether it ended with a reset.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            pending = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
            if not pending and (left <= 0 or not select.select([self.sock], [], [], left)[0]):
                return False
            try:
                data = self.sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except OSError:
                self.was_reset = True
                return True
            if not data:
                return True
            self.received += data

    def reset(self) -> None:
        """Tear the connection down with RST, as a crashed machine's network does."""
        self._end_dribbling()
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.sock.close()

    def close(self) -> None:
        """Close the socket without TLS's close_notify. Harmless when closed."""
        self._end_dribbling()
        self.sock.close()

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _end_dribbling(self) -> None:
        self._enough.set()
        if self._dribbler is not None:
            # A thread that stands in sendall() is woken by the end of the connection.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            self._dribbler.join(CONNECT_TIMEOUT)


class HostileClient:
    """Makes hostile connections to one server, and closes them all at the end.

    Args:
        server: A server with a ``url``, a URL, or ``(host, port)``.

    Raises:
        TypeError: `server` is something else.
    """

    def __init__(self, server: HasURL | str | tuple[str, int]) -> None:
        self.address = _address(server)
        self.connections: list[HostileConnection] = []

    def silent(self) -> HostileConnection:
        """Connect and say nothing."""
        return self._keep(self._connect())

    def handshake_then_silent(self) -> HostileConnection:
        """Shake hands and say nothing."""
        return self._keep(self._shake_hands())

    def half_handshake(self) -> HostileConnection:
        """Send half of a ClientHello and nothing more."""
        sock = self._connect()
        hello = _client_hello()
        sock.sendall(hello[: len(hello) // 2])
        return self._keep(sock)

    def half_request(self, data: bytes = WHOLE_REQUEST[:-2]) -> HostileConnection:
        """Shake hands, send `data`, by default a request head without its last line, and nothing more."""
        sock = self._shake_hands()
        sock.sendall(data)
        return self._keep(sock)

    def slow(self, data: bytes = WHOLE_REQUEST, *, every: float = 0.2, size: int = 1) -> HostileConnection:
        """Shake hands and send `data` a few bytes at a time, always too slow and never silent.

        Args:
            data: What to send.
            every: Seconds between two pieces.
            size: Bytes of a piece.
        """
        connection = self._keep(self._shake_hands())
        connection.dribble(data, every=every, size=size)
        return connection

    def slow_handshake(self, *, every: float = 0.2) -> HostileConnection:
        """Send a ClientHello one byte at a time."""
        connection = self._keep(self._connect())
        connection.dribble(_client_hello(), every=every)
        return connection

    def never_reads(self, data: bytes = WHOLE_REQUEST, *, receive_buffer: int = 4096) -> HostileConnection:
        """Shake hands, send a request and read nothing of the answer, with as little room for it as can be had."""
        sock = self._shake_hands(receive_buffer=receive_buffer)
        sock.sendall(data)
        return self._keep(sock)

    def resets(self, after: str = "connect") -> None:
        """Connect and reset the connection.

        Args:
            after: When: ``connect``, ``handshake``, ``half_request`` or ``request``.

        Raises:
            ValueError: `after` is none of these.
        """
        steps: dict[str, Callable[[], HostileConnection]] = {
            "connect": self.silent,
            "handshake": self.handshake_then_silent,
            "half_request": self.half_request,
            "request": lambda: self.half_request(WHOLE_REQUEST),
        }
        if after not in steps:
            raise ValueError(f"resets(after={after!r}): write one of {', '.join(steps)}.")
        steps[after]().reset()

    def close(self) -> None:
        """Close every connection."""
        while self.connections:
            self.connections.pop().close()

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        """Close every connection."""
        self.close()

    def _keep(self, sock: socket.socket) -> HostileConnection:
        connection = HostileConnection(sock)
        self.connections.append(connection)
        return connection

    def _connect(self, receive_buffer: int | None = None) -> socket.socket:
        if receive_buffer is None:
            return socket.create_connection(self.address, CONNECT_TIMEOUT)
        family, kind, protocol, _, address = socket.getaddrinfo(*self.address, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(CONNECT_TIMEOUT)
        # Only before connecting does it bound the window that is announced.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(address)
        return sock

    def _shake_hands(self, receive_buffer: int | None = None) -> socket.socket:
        return _trusting_context().wrap_socket(self._connect(receive_buffer), server_hostname="localhost")


def _trusting_context() -> ssl.SSLContext:
    # Whoever attacks does not care whom he talks to.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = _trusting_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def _address(server: HasURL | str | tuple[str, int]) -> tuple[str, int]:
    if isinstance(server, tuple):
        return server[0], server[1]
    url = server if isinstance(server, str) else getattr(server, "url", None)
    if not isinstance(url, str):
        raise TypeError(f'hostile_client({server!r}): write hostile_client(server), a URL, or ("127.0.0.1", port).')
    parts = urlsplit(url)
    if parts.hostname is None:
        raise TypeError(f"hostile_client({server!r}): that URL names no host; write https://localhost:8443.")
    return parts.hostname, parts.port or 443
