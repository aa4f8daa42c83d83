"""Who is due next. Pure: it is told the time and never asks for it.

A connection's deadline moves with nearly every request, almost always to later, so moving one must cost next to
nothing. Each holder therefore has one entry in a heap, and a deadline that moves to later leaves it there: when the
entry comes up and its holder is not due yet, the entry goes back in at the new time. Only a deadline that moves to
earlier adds an entry, and the one that it replaces is passed over when its time comes.

The heap and the holders' attributes change by single operations that the interpreter makes whole (`heappush`,
`heappop`, one assignment), so any thread may set a deadline while another takes what is due.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, Protocol, TypeVar

__all__ = ["NEVER", "Deadlines", "Holder"]

NEVER = float("inf")


class Holder(Protocol):
    """Whatever can be due."""

    deadline: float
    """When it is due, in seconds of the monotonic clock; `NEVER` when it is not."""
    entry: float
    """When its earliest entry in the heap comes up; `NEVER` when it has none. Kept by `Deadlines`."""


H = TypeVar("H", bound=Holder)


class Deadlines(Generic[H]):
    """The deadlines of many holders.

    Threads: `set` by any, each for a holder that it has to itself; `due` and `earliest` by one at a time.
    """

    __slots__ = ("_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, H]] = []
        self._serial = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, holder: H, when: float) -> bool:
        """Set when `holder` is due.

        Returns:
            Whether that is now the earliest of all, so that whoever sleeps until the next one must wake.
        """
        holder.deadline = when
        if when >= holder.entry:
            return False
        holder.entry = when
        heap = self._heap
        heapq.heappush(heap, (when, next(self._serial), holder))
        return heap[0][0] >= when

    def earliest(self) -> float:
        """Return when `due` should be asked again; `NEVER` if nothing waits."""
        try:
            return self._heap[0][0]
        except IndexError:
            return NEVER

    def due(self, now: float) -> list[H]:
        """Take out and return the holders whose deadline has passed."""
        heap = self._heap
        found: list[H] = []
        while heap and heap[0][0] <= now:
            when, _, holder = heapq.heappop(heap)
            if holder.entry != when:
                continue
            holder.entry = NEVER
            if holder.deadline <= now:
                found.append(holder)
            elif holder.deadline < NEVER:
                self.set(holder, holder.deadline)
        return found
