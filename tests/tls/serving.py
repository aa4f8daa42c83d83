"""A small server for clients of other makes: a thread for each connection, one answer, and everything recorded."""

from __future__ import annotations

import json
import queue
import selectors
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from secureserve.errors import PeerError
from secureserve.tls.engines.base import Want

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from secureserve.tls.acceptor import TLSAcceptor
    from secureserve.tls.engines.base import TLSConnection
    from secureserve.tls.info import TLSInfo

DEADLINE = 30.0
_EVENTS = {Want.READ: selectors.EVENT_READ, Want.WRITE: selectors.EVENT_WRITE}


class SmallServer:
    """Serves one request on each connection: the answer is the connection's variables as JSON.

    Attributes:
        outcomes: A `TLSInfo` or the error of each connection whose handshake ended, in the order of their ends.
    """

    def __init__(self, acceptor: TLSAcceptor, *, headers: str = "") -> None:
        self.acceptor = acceptor
        self.outcomes: queue.Queue[TLSInfo | PeerError] = queue.Queue()
        self._headers = headers
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Where it listens, by name."""
        return f"https://localhost:{self.port}/"

    def __enter__(self) -> Self:
        """Start."""
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and wait until all threads have ended."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE)
        self._listener.close()
        for thread in self._threads:
            thread.join(DEADLINE)

    def outcome(self) -> TLSInfo | PeerError:
        """Return the next connection's outcome, waiting for it."""
        return self.outcomes.get(timeout=DEADLINE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            connection = self.acceptor.accept(sock)
        except ConnectionError:
            return
        try:
            self._answer(connection)
        except (ConnectionError, TimeoutError):
            return
        except PeerError as error:
            self.outcomes.put(error)
            linger(connection.sock)
        finally:
            connection.close()

    def _answer(self, connection: TLSConnection) -> None:
        wait(connection, connection.handshake)
        info = connection.tls
        assert info is not None
        self.outcomes.put(info)
        request = b""
        while b"\r\n\r\n" not in request:
            data = wait(connection, lambda: connection.receive(65536))
            if not data:
                return
            request += data
        body = json.dumps(info.environ()).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{self._headers}\r\n".encode()
        send_all(connection, head + body)
        wait(connection, connection.close_notify)
        linger(connection.sock)


def wait(connection: TLSConnection, step: Any) -> Any:
    """Repeat a step until it has a result, waiting for what it wants."""
    deadline = time.monotonic() + DEADLINE
    while True:
        result = step()
        if not isinstance(result, Want):
            return result
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), _EVENTS[result])
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError


def send_all(connection: TLSConnection, data: bytes) -> None:
    """Send everything, waiting where the peer is slow to take it."""
    sent = 0
    while sent < len(data):
        left = memoryview(data)[sent:]
        sent += wait(connection, partial(connection.send, left))


def linger(sock: socket.socket) -> None:
    """Let the peer read what was sent before the socket is closed under it."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_WR)
        with selectors.DefaultSelector() as selector:
            selector.register(sock.fileno(), selectors.EVENT_READ)
            while selector.select(5.0) and socket.socket.recv(sock, 65536):
                pass
    except OSError:
        return
