"""An event that a signal handler may wait for, or tell of, in the very thread that it has interrupted in doing so."""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["SafeEvent"]


class SafeEvent:
    """A `threading.Event` without a lock that all share.

    Python runs signal handlers between any two steps of the main thread. One that came while that thread held the lock
    of an event would wait for it for ever. Here everybody who waits has a lock of their own.

    Threads: any, and signal handlers.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: deque[threading.Lock] = deque()

    def is_set(self) -> bool:
        """Return whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """Let it happen, and wake those who wait."""
        self._is_set = True
        while True:
            try:
                gate = self._waiting.pop()
            except IndexError:
                return
            gate.release()

    def clear(self) -> None:
        """Let it not have happened."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it happens; return whether it did, False after `timeout` seconds."""
        if self.is_set():
            return True
        gate = threading.Lock()
        gate.acquire()
        self._waiting.append(gate)
        # Looked at last: whoever sets it finds this gate, or is seen here.
        if self.is_set():
            return True
        if gate.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            return True
        try:
            self._waiting.remove(gate)
        except ValueError:
            # It happened at this very moment.
            return True
        return False
