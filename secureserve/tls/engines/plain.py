"""The transport without TLS, behind the same interface."""

from __future__ import annotations

import contextlib
import socket

from secureserve.tls.engines.base import Want

__all__ = ["PlainTransport"]


class PlainTransport:
    """A plain socket as a `Transport`.

    Args:
        sock: A connected, non-blocking socket, which belongs to the transport from now on.

    Threads: one thread at a time; which one may change between calls.
    """

    __slots__ = ("close_notify_received", "sock", "tls")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tls: None = None
        self.close_notify_received = False

    def fileno(self) -> int:
        """Return the descriptor, or -1 once closed."""
        return self.sock.fileno()

    def handshake(self) -> None:
        """Return at once: there is nothing to agree on."""

    def receive(self, max_bytes: int) -> bytes | Want:
        """Return up to `max_bytes` of what has arrived; ``b""`` at the end of the stream.

        Raises:
            ConnectionError: The connection broke.
        """
        try:
            return self.sock.recv(max_bytes)
        except BlockingIOError:
            return Want.READ
        except ConnectionError:
            raise
        except OSError as error:
            raise ConnectionAbortedError(*error.args) from error

    def receive_into(self, buffer: memoryview) -> int | Want:
        """Put what has arrived into `buffer`; return its size, 0 at the end of the stream.

        Raises:
            ConnectionError: The connection broke.
        """
        try:
            return self.sock.recv_into(buffer)
        except BlockingIOError:
            return Want.READ
        except ConnectionError:
            raise
        except OSError as error:
            raise ConnectionAbortedError(*error.args) from error

    def send(self, data: bytes | memoryview) -> int | Want:
        """Hand over as much of `data` as is taken without waiting, and return how much that was.

        Raises:
            ConnectionError: The connection broke.
        """
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return Want.WRITE
        except ConnectionError:
            raise
        except OSError as error:
            raise ConnectionAbortedError(*error.args) from error

    def pending(self) -> int:
        """Return 0: a plain socket keeps nothing back from its selector."""
        return 0

    def close_notify(self) -> None:
        """Say that nothing more will be sent, which `close` does not where the application has started a process."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket, at once and without a word. Harmless when closed."""
        self.sock.close()
