"""The threads that belong to an engine, which it waits for before its program ends."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["OwnThreads"]

JOIN_SECONDS: Final = 5.0
"""How long they are waited for once everything has been stopped, unless one was given longer."""


class OwnThreads(list[threading.Thread]):
    """The threads of an engine.

    Threads: any thread may add one; `join` is for one at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seconds = JOIN_SECONDS

    def wait_for(self, thread: threading.Thread, seconds: float) -> None:
        """Have `join` wait for a thread too, and for at least that many seconds in all."""
        self.append(thread)
        self._seconds = max(self._seconds, seconds)

    @contextlib.contextmanager
    def calling_after(self, callback: Callable[[], object], name: str) -> Iterator[threading.Thread]:
        """Start a thread that waits for the end of the block, and calls `callback` unless that raised.

        Args:
            callback: What to call.
            name: What to call the thread.
        """
        outcome: list[bool] = []
        done = threading.Event()

        def call() -> None:
            done.wait()
            if outcome:
                callback()

        thread = threading.Thread(target=call, name=name)
        self.append(thread)
        thread.start()
        try:
            yield thread
            outcome.append(True)
        finally:
            done.set()

    def join(self) -> list[threading.Thread]:
        """Wait for all but the current one, forget those that have ended, and return those that have not."""
        deadline = time.monotonic() + self._seconds
        others = [thread for thread in self if thread is not threading.current_thread()]
        for thread in others:
            thread.join(max(0.0, deadline - time.monotonic()))
        self[:] = [thread for thread in self if thread.is_alive()]
        return [thread for thread in others if thread.is_alive()]
