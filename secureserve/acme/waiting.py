"""Waiting for others within bounds: a call that may hang, and the time between two looks."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Final, TypeVar

from secureserve.errors import IssuanceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.clock import Clock

__all__ = ["Patience", "call_within"]

Result = TypeVar("Result")

FIRST_POLL: Final = 0.1
SLOWEST_POLL: Final = 5.0
POLL_GROWTH: Final = 1.7
"""Seconds between looks where the other side does not say how long to wait, and by how much that grows each time."""


def call_within(timeout: float, call: Callable[[], Result], *, name: str) -> Result:
    """Return what a call returns, or give up on it.

    The time-outs of sockets bound single steps alone, and looking up a host has none at all. So the call runs on a
    thread of its own, a daemon, which is left to itself when it takes too long.

    Args:
        timeout: Seconds.
        call: What to call. Whatever it raises is raised here.
        name: What the thread is called.

    Raises:
        TimeoutError: It takes longer.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the caller's thread
            outcome.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return outcome.result(timeout)
    except FutureTimeoutError:
        if outcome.done():
            raise
        raise TimeoutError(f"{name} took more than {timeout:g} s") from None


class Patience:
    """How long something is waited for: until a deadline, or until somebody calls it off.

    Args:
        clock: What tells when it is over.
        timeout: Seconds.
        cancelled: Set by whoever calls it off.
    """

    def __init__(self, clock: Clock, timeout: float, cancelled: threading.Event) -> None:
        self._clock = clock
        self._timeout = timeout
        self._cancelled = cancelled
        self.renew()

    def renew(self) -> None:
        """Begin anew, with all of the time."""
        self._deadline = self._clock.monotonic() + self._timeout
        self._pause = FIRST_POLL

    @property
    def remaining(self) -> float:
        """Seconds that are left; never negative."""
        return max(0.0, self._deadline - self._clock.monotonic())

    def require(self, doing: str) -> None:
        """Go on only while nobody has called it off.

        Raises:
            IssuanceError: Somebody has.
        """
        if self._cancelled.is_set():
            raise IssuanceError(f"{doing} was called off, because the server stops or the command was interrupted.")

    def let_pass(self, seconds: float, doing: str) -> None:
        """Wait for something that takes its time, whatever is left of ours.

        Args:
            seconds: How long.
            doing: What is waited for, as a noun.

        Raises:
            IssuanceError: It was called off.
        """
        self.require(doing)
        self._cancelled.wait(seconds)
        self.require(doing)

    def pause(self, doing: str, retry_after: float | None = None) -> bool:
        """Wait until it is time for another look; return False when there is no time left for one.

        Args:
            doing: What is waited for, as a noun.
            retry_after: Seconds that the other side asks to wait; None where it does not say.

        Raises:
            IssuanceError: It was called off.
        """
        self.require(doing)
        left = self.remaining
        if left <= 0:
            return False
        wanted = self._pause if retry_after is None else max(retry_after, FIRST_POLL)
        self._pause = min(self._pause * POLL_GROWTH, SLOWEST_POLL)
        self._cancelled.wait(min(wanted, left))
        self.require(doing)
        return True
