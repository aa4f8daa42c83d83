"""What the Front knows of what is spoken over a connection: the HTTP side, behind a protocol of few calls."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from secureserve.errors import PeerError

__all__ = ["NOTHING_SAID", "Conversation", "Need", "Supply"]


class Need(enum.Enum):
    """What a conversation needs next."""

    HEAD = "head"
    """More of a request head."""
    BODY = "body"
    """More of a body before its request may run."""
    WORKER = "worker"
    """A worker thread: a request is ready."""


class Conversation(Protocol):
    """What is spoken over a connection: the HTTP side, as the Front sees it. None of it waits but `run`.

    Threads: the one that has the connection.
    """

    def received(self, data: bytes) -> Need:
        """Take what arrived (``b""``: look again at what had arrived before) and say what is needed.

        Raises:
            PeerError: The peer broke a rule; `answer` has what to say.
        """

    def has_begun(self) -> bool:
        """Return whether part of a request has arrived, so that its end is the peer's fault."""

    def has_rest(self) -> bool:
        """Return whether something arrived behind the last request, and is still to be looked at."""

    def interim(self) -> bytes:
        """Return what is to be sent while more of the body is awaited (RFC 9110, 15.2); ``b""`` for nothing."""

    def answer(self, error: PeerError) -> bytes:
        """Return the response to an error, complete; ``b""`` where nothing can be said."""

    def run(self) -> bool:
        """Run the request that is ready, on a worker thread; return whether the connection stays open.

        Raises:
            ConnectionAbortedError: The response broke off, and the peer must be able to tell.
        """

    def close(self) -> None:
        """Let go of everything: the connection is over."""


class _NothingSaid:
    """The conversation of a connection that has not been admitted."""

    def received(self, data: bytes) -> Need:
        raise RuntimeError(f"{len(data)} bytes arrived on a connection that was not admitted")

    def has_begun(self) -> bool:
        return False

    def has_rest(self) -> bool:
        return False

    def interim(self) -> bytes:
        return b""

    def answer(self, error: PeerError) -> bytes:  # noqa: ARG002 - there is nobody to answer yet
        return b""

    def run(self) -> bool:
        return False

    def close(self) -> None:
        return


NOTHING_SAID: Final = _NothingSaid()


class Supply(Protocol):
    """Content that is drawn as the peer takes it.

    Threads: one at a time, not always the same.
    """

    def __next__(self) -> bytes:
        """Return the next piece, which is never empty; StopIteration at the end.

        Raises:
            ConnectionAbortedError: There should be more, and is not.
        """

    def close(self) -> None:
        """Let go of it; called once, at the end or earlier."""
