"""The life of an engine: where it is, the one thread that moves it on, and whether it has been told to end."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from secureserve.errors import LifecycleError
from secureserve.managed.states import TRANSITIONS, State, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ["Life"]


class Life:
    """Where an engine is.

    Args:
        name: What errors call the engine.

    Attributes:
        state: The state it is in.
        exit_wanted: Whether it has been told to exit since it was last started.

    Threads: any. One at a time conducts; others who want to wait until it has ended.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.STOPPED
        self.exit_wanted = False
        self._changed = threading.Condition()
        self._conductor: threading.Thread | None = None
        self._wakers: list[Callable[[], None]] = []

    @property
    def conducted_here(self) -> bool:
        """Whether this thread is the one that moves it on."""
        return self._conductor is threading.current_thread()

    @contextlib.contextmanager
    def conducting(self) -> Iterator[bool]:
        """Be the one thread that moves it on; yields whether this thread was it already."""
        me = threading.current_thread()
        with self._changed:
            nested = self._conductor is me
            if not nested:
                self._changed.wait_for(lambda: self._conductor is None)
                self._conductor = me
        try:
            yield nested
        finally:
            if not nested:
                with self._changed:
                    self._conductor = None
                    self._changed.notify_all()

    def move(self, step: Step) -> None:
        """Go from one state to the next; for who conducts.

        Raises:
            LifecycleError: There is no such step from where it is.
        """
        with self._changed:
            try:
                self.state = TRANSITIONS[self.state][step]
            except KeyError:
                message = f"{self.name} cannot {step.value} while it is {self.state.name}."
                raise LifecycleError(message) from None
            self._changed.notify_all()

    def wait(
        self,
        wanted: Collection[State],
        *,
        timeout: float | None,
        interval: float,
        is_busy: Callable[[], bool],
        meanwhile: Callable[[], object],
    ) -> bool:
        """Wait until it is in one of the `wanted` states; EXITING counts when whoever conducts has done so.

        Args:
            wanted: The states.
            timeout: The longest to wait, in seconds; None waits as long as it takes.
            interval: Seconds between calls of `meanwhile`.
            is_busy: Asked before each sleep whether `meanwhile` is to be called at all.
            meanwhile: What to call, in this thread.

        Returns:
            Whether the state was reached.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:
                if self.state in wanted and not (self.state is State.EXITING and self._conductor is not None):
                    return True
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                busy = is_busy()
                self._changed.wait(left if not busy else interval if left is None else min(left, interval))
                if self.state in wanted:
                    continue
            if busy:
                meanwhile()

    def notify(self) -> None:
        """Have those who `wait` look again whether they are busy."""
        with self._changed:
            self._changed.notify_all()

    def want_exit(self) -> None:
        """Know that it has been told to exit, and wake who waits while starting."""
        self.exit_wanted = True
        for wake in list(self._wakers):
            wake()

    @contextlib.contextmanager
    def woken_by_exit(self, wake: Callable[[], None]) -> Iterator[None]:
        """Within the block, have `wake` called when it is told to exit."""
        self._wakers.append(wake)
        try:
            if self.exit_wanted:
                wake()
            yield
        finally:
            self._wakers.remove(wake)
