"""What a TLS library has to be, to serve here.

An engine binds TLS to a non-blocking socket (memory buffers cost more than they give) and translates everything its
library says into the values and errors below. "Not yet" is a value, `Want.READ` or `Want.WRITE`, never an exception:
the Front and the worker threads decide how to wait.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket

    from secureserve.tls.info import TLSInfo

__all__ = ["TLSConnection", "Transport", "Want"]


class Want(enum.Enum):
    """What an operation needs before it can go on."""

    READ = "read"
    """Bytes from the peer."""
    WRITE = "write"
    """Room in the socket's send buffer."""


class Transport(Protocol):
    """A non-blocking byte stream over a connected socket: a TLS connection, or the plain socket itself.

    Threads: one thread at a time; which one may change between calls.
    """

    @property
    def sock(self) -> socket.socket:
        """The socket underneath. It is non-blocking and belongs to the transport."""

    @property
    def tls(self) -> TLSInfo | None:
        """What was negotiated; None on a plain transport and before the handshake is done."""

    def fileno(self) -> int:
        """Return the descriptor, or -1 once closed."""

    def handshake(self) -> Want | None:
        """Take the handshake as far as it goes without waiting.

        Returns:
            None when it is done (at once on a plain transport), else what it waits for.

        Raises:
            HandshakeFailed: It cannot succeed any more. The alert, if one was due, has been handed to the socket.
        """

    def receive(self, max_bytes: int) -> bytes | Want:
        """Return up to `max_bytes` of what has arrived; ``b""`` at the end of the stream.

        Raises:
            ConnectionError: The connection broke (reset, or a TLS error in the middle of the stream).
        """

    def send(self, data: bytes | memoryview) -> int | Want:
        """Hand over as much of `data` as is taken without waiting, and return how much that was.

        A call that returned a `Want` is repeated with the same bytes at the front (the object may be another).

        Raises:
            ConnectionError: The connection broke.
        """

    def pending(self) -> int:
        """Return how many decrypted bytes wait inside; a selector never tells of them."""

    def close_notify(self) -> Want | None:
        """Say that nothing more will be sent (RFC 8446, 6.1), without waiting for the peer's. None when on its way."""

    def close(self) -> None:
        """Close the socket, at once and without a word. Harmless when closed."""


class TLSConnection(Transport, Protocol):
    """A `Transport` that speaks TLS."""
