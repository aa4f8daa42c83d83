"""Who is due next. Pure: it is told the time and never asks for it.

A connection's deadline moves with nearly every request, almost always to later, so moving one must cost next to
nothing. Each holder therefore has an alarm with one entry in a heap, and a deadline that moves to later leaves the
entry there: when it comes up and the alarm is not due yet, it goes back in at the new time. Only a deadline that moves
to earlier adds an entry, and the one that it replaces is passed over when its time comes.

The heap and the alarms' attributes change by single operations that the interpreter makes whole (`heappush`, `heappop`,
one assignment), so any thread may set a deadline while another takes what is due.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Final, Generic, TypeVar

__all__ = ["NEVER", "Alarm", "Deadlines"]

NEVER: Final = float("inf")

H = TypeVar("H")


class Alarm(Generic[H]):
    """When somebody is due.

    Args:
        holder: Who.

    Attributes:
        holder: Who; None once it is of no interest any more. The heap may keep the alarm for a while after that, and
            must not keep the holder.
        deadline: When, in seconds of the monotonic clock; `NEVER` when it is not.
        entry: When its earliest entry in the heap comes up; `NEVER` when it has none. Kept by `Deadlines`.
    """

    __slots__ = ("deadline", "entry", "holder")

    def __init__(self, holder: H) -> None:
        self.holder: H | None = holder
        self.deadline = NEVER
        self.entry = NEVER

    def cancel(self) -> None:
        """Let go of the holder, which is never due again."""
        self.deadline = NEVER
        self.holder = None


class Deadlines(Generic[H]):
    """The alarms of many holders.

    Threads: `set` by any, each for a holder that it has to itself; `due` and `earliest` by one at a time.
    """

    __slots__ = ("_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm[H]]] = []
        self._serial = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, alarm: Alarm[H], when: float) -> bool:
        """Set when the alarm's holder is due.

        Returns:
            Whether that is now the earliest of all, so that whoever sleeps until the next one must wake.
        """
        alarm.deadline = when
        if when >= alarm.entry:
            return False
        alarm.entry = when
        heap = self._heap
        heapq.heappush(heap, (when, next(self._serial), alarm))
        return heap[0][0] >= when

    def again(self, alarm: Alarm[H], when: float) -> None:
        """Look at the alarm at `when`, whatever its deadline is by then: somebody else has its holder now."""
        if when < alarm.entry:
            alarm.entry = when
            heapq.heappush(self._heap, (when, next(self._serial), alarm))

    def earliest(self) -> float:
        """Return when `due` should be asked again; `NEVER` if nothing waits."""
        try:
            return self._heap[0][0]
        except IndexError:
            return NEVER

    def due(self, now: float) -> list[H]:
        """Take out and return those whose deadline has passed."""
        heap = self._heap
        found: list[H] = []
        while heap and heap[0][0] <= now:
            when, _, alarm = heapq.heappop(heap)
            if alarm.entry != when:
                continue
            alarm.entry = NEVER
            holder = alarm.holder
            if alarm.deadline > now:
                if alarm.deadline < NEVER:
                    self.set(alarm, alarm.deadline)
            elif holder is not None:
                found.append(holder)
        return found
