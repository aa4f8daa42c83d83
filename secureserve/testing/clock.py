"""A clock that stands still until a test moves it.

Only what is handed a `Clock` sees it. Certificates are compared with the real time by the TLS libraries, so a bad date
in this package is always a real date in a real certificate, never a trick with this clock.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import Final

__all__ = ["ManualClock"]

DEFAULT_NOW: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)


class ManualClock:
    """A `secureserve.clock.Clock` whose time a test sets.

    Args:
        now: The wall time it starts at; must be aware.
        monotonic: The monotonic seconds it starts at.

    Raises:
        ValueError: `now` has no time zone.

    Threads: any thread may read it and move it.
    """

    def __init__(self, now: datetime = DEFAULT_NOW, *, monotonic: float = 1000.0) -> None:
        self._lock = threading.Lock()
        self._now = _aware(now)
        self._monotonic = monotonic

    def __repr__(self) -> str:
        """Show both times."""
        return f"ManualClock({self._now.isoformat()}, monotonic={self._monotonic})"

    def now(self) -> datetime:
        """Return the wall time as an aware datetime in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return the monotonic seconds."""
        return self._monotonic

    def advance(self, by: float | timedelta) -> None:
        """Let time pass: both times move on by the same amount.

        Args:
            by: Seconds, or a timedelta; not negative, as time that passes never goes back.

        Raises:
            ValueError: `by` is negative. To set the wall time back, use `jump_to`.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        if seconds < 0:
            raise ValueError(f"advance({by!r}): time that passes never goes back; use jump_to() to set the wall time.")
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._monotonic += seconds

    def jump_to(self, now: datetime) -> None:
        """Set the wall time alone, forwards or back, as an administrator or NTP does. Monotonic time stays.

        Raises:
            ValueError: `now` has no time zone.
        """
        with self._lock:
            self._now = _aware(now)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; write datetime(..., tzinfo=timezone.utc).")
    return moment.astimezone(timezone.utc)
