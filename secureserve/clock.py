"""Time, as something that can be handed over.

Wall time is for certificates (they name dates), monotonic time for deadlines (they measure waiting). The two are never
mixed, and nothing that decides by time asks the system itself: it asks the clock it was given.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Final, Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> datetime:
        """Return the wall time as an aware datetime in UTC."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def now(self) -> datetime:
        """Return the wall time as an aware datetime in UTC."""
        return datetime.now(timezone.utc)

    monotonic = staticmethod(time.monotonic)
    """Return seconds on a clock that never goes back. It is asked several times for each request: by no detour."""


SYSTEM_CLOCK: Final = SystemClock()
