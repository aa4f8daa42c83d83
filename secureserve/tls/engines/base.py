"""What a TLS library has to be, to serve here.

An engine binds TLS to a non-blocking socket (memory buffers cost more than they give) and translates everything its
library says into the values and errors below. "Not yet" is a value, `Want.READ` or `Want.WRITE`, never an exception:
the Front and the worker threads decide how to wait.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from secureserve.tls.info import Negotiations

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from secureserve.certificates.credential import Credential
    from secureserve.tls.client_trust import ClientTrust
    from secureserve.tls.info import TLSInfo

__all__ = ["CLOSED", "RECORD", "Choose", "Presented", "TLSConnection", "TLSEngine", "Transport", "Want"]

RECORD: Final = 16 * 1024
"""Bytes that a TLS record carries at the most (RFC 8446, 5.1)."""


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
            PlainHTTPOnTLSPort: The peer speaks plain HTTP. Nothing was sent.
        """

    def receive(self, max_bytes: int) -> bytes | Want:
        """Return up to `max_bytes` of what has arrived; ``b""`` at the end of the stream.

        Raises:
            ConnectionError: The connection broke (reset, or a TLS error in the middle of the stream).
        """

    def receive_into(self, buffer: memoryview) -> int | Want:
        """Put what has arrived into `buffer`, no more than one TLS record; return its size, 0 at the end of the stream.

        Raises:
            ConnectionError: The connection broke (reset, or a TLS error in the middle of the stream).
        """

    def send(self, data: bytes | memoryview) -> int | Want:
        """Hand over as much of `data` as is taken without waiting, and return how much that was.

        A call that returned a `Want` may have sent part of it, and is repeated with the same bytes and no fewer (the
        object may be another).

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
    """A `Transport` that speaks TLS.

    A handshake that was answered with an ACME challenge (RFC 8737) is over when it is done: `receive` returns ``b""``.
    """

    @property
    def close_notify_received(self) -> bool:
        """Whether the end of the stream was said by the peer (RFC 8446, 6.1), and not only its socket closed."""


@dataclass(frozen=True, slots=True, eq=False)
class Presented:
    """What a handshake presents: one credential, or several of different key types for the same names.

    Args:
        credentials: The credentials, most preferred first.
        context: The library's own object that holds them.
        answers_acme: Whether they answer an ACME challenge, and nothing else.

    Attributes:
        negotiations: What the handshakes agreed on.
    """

    credentials: tuple[Credential, ...]
    context: Any
    answers_acme: bool = False
    negotiations: Negotiations = field(default_factory=Negotiations, init=False, repr=False)


class _ClosedConnection:
    """What is left of a library's own connection after `Transport.close`: every call says so."""

    def __getattr__(self, name: str) -> Any:
        if name == "pending":
            return int
        raise OSError(errno.EBADF, "the connection is closed")


CLOSED: Final[Any] = _ClosedConnection()


class TLSEngine(Protocol):
    """A TLS library, set up with one policy.

    Threads: any thread.
    """

    def prepare(
        self, credentials: Sequence[Credential], trust: ClientTrust | None, *, acme_challenge: bool = False
    ) -> Presented:
        """Load credentials into the library. This is slow, and done before anybody is served with them.

        Args:
            credentials: Of different key types, most preferred first.
            trust: What client certificates are verified against.
            acme_challenge: Whether they answer an ACME challenge, and nothing else.

        Raises:
            CredentialError: The library does not take one.
            ConfigurationError: The library does not take the authorities or revocation lists.
        """

    def accept(self, sock: socket.socket, *, watch_hello: bool) -> TLSConnection:
        """Bind TLS to a non-blocking socket from which nothing has been read.

        Args:
            sock: The socket, which belongs to the connection from now on.
            watch_hello: Whether an ACME challenge may be asked for.

        Raises:
            ConnectionError: The library has no room for it. The socket is the caller's still.
        """

    def renew_ticket_keys(self) -> None:
        """Make it impossible to resume sessions from before."""


class Choose(Protocol):
    """Decides what a handshake presents."""

    def __call__(self, server_name: str | None, sock: socket.socket, *, acme_challenge: bool) -> Presented | None:
        """Return it; None to refuse with ``unrecognized_name``.

        Args:
            server_name: What the client asked for, in small letters; None when it named nothing.
            sock: What the client is connected to.
            acme_challenge: Whether it is an ACME authority that validates.
        """
