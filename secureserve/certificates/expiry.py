"""When to warn of a certificate's end: pure arithmetic on its dates.

Thresholds fall by halves from a quarter of the lifetime, or from 30 days where that is less. Renewal is due at a third
of the lifetime, so a renewal that works never causes a warning, whether a certificate lives for a year or for a week.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from secureserve.events import CredentialExpiring

if TYPE_CHECKING:
    from collections.abc import Iterable

    from secureserve.certificates.credential import Credential

__all__ = ["ExpiryWatch", "in_words", "next_threshold", "passed_thresholds", "thresholds"]

LONGEST_NOTICE: Final = timedelta(days=30)
"""What the first warning comes before the end at most."""

_HALVINGS: Final = 5
_ZERO: Final = timedelta()


def thresholds(lifetime: timedelta) -> tuple[timedelta, ...]:
    """Return the remaining times at which to warn, falling; the last is zero."""
    first = min(lifetime / 4, LONGEST_NOTICE)
    return (*(first / 2**n for n in range(_HALVINGS)), _ZERO)


def passed_thresholds(not_before: datetime, not_after: datetime, now: datetime) -> int:
    """Return how many thresholds have been passed."""
    remaining = not_after - now
    return sum(remaining <= threshold for threshold in thresholds(not_after - not_before))


def next_threshold(not_before: datetime, not_after: datetime, now: datetime) -> datetime | None:
    """Return when the next threshold will be passed; None when all have been."""
    moments = (not_after - threshold for threshold in thresholds(not_after - not_before))
    return next((moment for moment in moments if moment > now), None)


def in_words(seconds: float) -> str:
    """Return how long something is, in the unit that suits it: a certificate may live for a year or for an hour.

    Args:
        seconds: The time.
    """
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} seconds"


class ExpiryWatch:
    """Remembers what has been warned of, so that each threshold is announced once.

    Threads: one at a time.
    """

    def __init__(self) -> None:
        self._announced: dict[str, int] = {}

    def due(self, served: Iterable[tuple[str, Credential]], now: datetime) -> list[CredentialExpiring]:
        """Return the warnings that are due, one for each certificate at most, and count them as given.

        Args:
            served: Place and credential of everything that is served.
            now: The moment, aware.
        """
        found: list[CredentialExpiring] = []
        current: dict[str, int] = {}
        for place, credential in served:
            passed = passed_thresholds(credential.not_before, credential.not_after, now)
            before = current.get(credential.fingerprint, self._announced.get(credential.fingerprint, 0))
            current[credential.fingerprint] = max(passed, before)
            if passed > before:
                remaining = (credential.not_after - now).total_seconds()
                found.append(
                    CredentialExpiring(place, credential.names, credential.fingerprint, credential.not_after, remaining)
                )
        self._announced = current
        return found

    @staticmethod
    def next_due(served: Iterable[tuple[str, Credential]], now: datetime) -> datetime | None:
        """Return when to look again; None when there will be nothing more to say."""
        moments = (next_threshold(one.not_before, one.not_after, now) for _place, one in served)
        return min((moment for moment in moments if moment is not None), default=None)
