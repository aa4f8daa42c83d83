"""`TLSSocket`: a TLS connection as a blocking socket with a timeout, and what cheroot reads from and writes to it with.

The handshake happens with the first read or write, in the worker thread that makes it and under a deadline of its own.
From there on the connection waits with poll() where those of cheroot's own adapters sleep or fail.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from cheroot import errors as cheroot_errors
from cheroot.makefile import StreamReader, StreamWriter

from secureserve.errors import HandshakeFailed, PeerError, PlainHTTPOnTLSPort
from secureserve.http.plain import answer_to_plain_http
from secureserve.tls.engines.base import Want

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.tls.engines.base import TLSConnection

__all__ = ["TLSReader", "TLSSocket", "TLSWriter"]

CLOSE_TIMEOUT: Final = 1.0
"""Seconds for our close_notify to leave when the peer does not read."""

BUFFER_SIZE: Final = 16384
"""What cheroot reads and writes in at once unless it says otherwise."""

_SENT_AT_ONCE: Final = 4 * BUFFER_SIZE
"""What has the timeout to be sent in, however much more there is."""
_MAX_DRAINED: Final = 65536
_POLL: Final = {Want.READ: select.POLLIN, Want.WRITE: select.POLLOUT}


class TLSSocket:
    """A TLS connection that behaves as a blocking socket with a timeout.

    Args:
        connection: The connection, not yet shaken.
        environ: Is given the connection's variables when the handshake is done.
        report: Is told of a handshake that failed, with the peer's address.
        peer: The peer's address, for people.
        handshake_timeout: Seconds for the whole handshake.

    Threads: one thread at a time reads and writes; `shutdown` for reading may be called by another to wake it.
    """

    def __init__(
        self,
        connection: TLSConnection,
        environ: dict[str, Any],
        report: Callable[[PeerError, str], None],
        *,
        peer: str,
        handshake_timeout: float,
    ) -> None:
        self._connection = connection
        self._environ = environ
        self._report = report
        self._peer = peer
        self._handshake_timeout = handshake_timeout
        self._timeout: float | None = None
        self._shaken = False

    @property
    def family(self) -> int:
        """The socket's address family."""
        return self._connection.sock.family

    def fileno(self) -> int:
        """Return the descriptor, or -1 once closed."""
        return self._connection.fileno()

    def gettimeout(self) -> float | None:
        """Return the seconds that one call may wait; None for ever."""
        return self._timeout

    def settimeout(self, timeout: float | None) -> None:
        """Set the seconds that one call may wait; None for ever."""
        self._timeout = timeout

    def getpeername(self) -> Any:
        """Return the peer's address."""
        return self._connection.sock.getpeername()

    def getsockname(self) -> Any:
        """Return our own address."""
        return self._connection.sock.getsockname()

    def getsockopt(self, *args: Any) -> Any:
        """Return an option of the socket."""
        return self._connection.sock.getsockopt(*args)

    def pending(self) -> int:
        """Return how many decrypted bytes wait inside; a selector never tells of them."""
        return self._connection.pending()

    def recv(self, max_bytes: int) -> bytes:
        """Wait for bytes and return up to `max_bytes`; ``b""`` at the end of the stream.

        Raises:
            TimeoutError: None came in time.
            ConnectionError: The connection broke.
            FatalSSLAlert: The handshake failed, or the peer speaks plain HTTP; it has been told then.
        """
        self._shake_hands()
        deadline = self._deadline(self._timeout)
        while True:
            data = self._connection.receive(max_bytes)
            if isinstance(data, bytes):
                return data
            self._wait(data, deadline)

    def recv_into(self, buffer: Any) -> int:
        """Wait for bytes, put them into `buffer`, and return how many there were; raises as `recv`."""
        view = memoryview(buffer).cast("B")
        data = self.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview) -> int:
        """Wait until some of `data` can be sent and return how much was; raises as `recv`."""
        self._shake_hands()
        part = memoryview(data)[:_SENT_AT_ONCE]
        deadline = self._deadline(self._timeout)
        while True:
            sent = self._connection.send(part)
            if isinstance(sent, int):
                return sent
            self._wait(sent, deadline)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; each part of it has the timeout. Raises as `recv`."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End one direction or both, saying goodbye as TLS does (RFC 8446, 6.1) where that includes ours.

        Raises:
            OSError: The socket is not connected.
        """
        if how != socket.SHUT_RD and self._shaken:
            self._say_goodbye()
            self._drain()
        self._connection.sock.shutdown(how)

    def close(self) -> None:
        """Close the socket. Harmless when closed."""
        self._connection.close()

    def _decref_socketios(self) -> None:
        """Let `socket.SocketIO` close without closing us."""

    def _shake_hands(self) -> None:
        if self._shaken:
            return
        deadline = self._deadline(self._handshake_timeout)
        try:
            while True:
                want = self._connection.handshake()
                if want is None:
                    break
                self._wait(want, deadline)
        except PeerError as error:
            self._report(error, self._peer)
            self._part(answer_to_plain_http() if isinstance(error, PlainHTTPOnTLSPort) else b"")
            raise cheroot_errors.FatalSSLAlert(str(error)) from error
        except TimeoutError as error:
            failure = HandshakeFailed(f"not done within {self._handshake_timeout:g} seconds")
            self._report(failure, self._peer)
            raise cheroot_errors.FatalSSLAlert(str(failure)) from error
        self._shaken = True
        info = self._connection.tls
        if info is not None:
            self._environ.update(info.environ())
            self._environ["secureserve.tls"] = info

    def _part(self, last_words: bytes) -> None:
        """Let the peer read our alert or answer: a socket that is closed over unread bytes would lose it."""
        sock = self._connection.sock
        deadline = self._deadline(CLOSE_TIMEOUT)
        try:
            if last_words:
                sock.send(last_words)
            sock.shutdown(socket.SHUT_WR)
            while self._drain():
                self._wait(Want.READ, deadline)
        except OSError:
            return

    def _say_goodbye(self) -> None:
        deadline = self._deadline(CLOSE_TIMEOUT)
        try:
            while True:
                want = self._connection.close_notify()
                if want is None:
                    return
                self._wait(want, deadline)
        except (TimeoutError, OSError):
            return

    def _drain(self) -> bool:
        """Read, below TLS and without waiting, what nobody will look at; return whether more may come."""
        left = _MAX_DRAINED
        try:
            while left > 0:
                data = self._connection.sock.recv(left)
                if not data:
                    return False
                left -= len(data)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @staticmethod
    def _deadline(timeout: float | None) -> float | None:
        return None if timeout is None else time.monotonic() + timeout

    def _wait(self, want: Want, deadline: float | None) -> None:
        descriptor = self._connection.fileno()
        if descriptor < 0:
            raise ConnectionAbortedError("the connection is closed")
        poll = select.poll()
        poll.register(descriptor, _POLL[want])
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            raise TimeoutError("timed out")


class TLSReader(StreamReader):  # type: ignore[misc]
    """What cheroot reads from."""

    def __init__(self, sock: TLSSocket, mode: str, bufsize: int) -> None:
        super().__init__(sock, mode, bufsize)
        self._tls_socket = sock

    def has_data(self) -> bool:
        """Return whether a read would get something without waiting, be it in our buffer or inside TLS."""
        return bool(super().has_data()) or self._tls_socket.pending() > 0


class TLSWriter(StreamWriter):  # type: ignore[misc]
    """What cheroot writes to. It keeps nothing back, and so copies nothing."""

    def __init__(self, sock: TLSSocket, mode: str, bufsize: int) -> None:
        super().__init__(sock, mode, bufsize)
        self._tls_socket = sock

    def write(self, data: bytes) -> int:
        """Send all of `data`.

        Raises:
            TypeError: It is text.
        """
        self._tls_socket.sendall(data)
        self.bytes_written += len(data)
        return len(data)
