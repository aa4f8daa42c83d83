"""When to renew, when to try again, when to raise the alarm: arithmetic on times, and nothing else.

No function here asks for the time or draws lots. Both are handed in, so each has a table for a test.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from secureserve.certificates import expiry

__all__ = [
    "RenewalInformation",
    "alarms_passed",
    "fraction_of",
    "next_alarm",
    "pause_after",
    "poll_interval",
    "remaining_pause",
    "renewal_moment",
    "retry_delay",
    "shortest_use",
    "success_pause",
]

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86400.0

FIRST_RETRY: Final = MINUTE
"""Seconds before the second attempt. Each further one waits three times as long, up to a day."""

LONGEST_PAUSE: Final = DAY
"""Seconds that nothing an authority says, and no number of failures, keeps us from asking again for longer."""

POLL_INTERVAL: Final = 6 * HOUR
"""Seconds between looks at the renewal information where the authority does not say (RFC 9773, 4.3.3)."""

RATE_LIMIT_PAUSE: Final = HOUR
"""Seconds to wait when a rate limit was hit and the authority does not say for how long."""

_DUE: Final = 2 / 3
"""Of the lifetime has passed when renewal is due where the authority has no wish."""
_JITTER: Final = 1 / 20
"""Of the lifetime: how much earlier chance may have it."""
_LATEST: Final = 9 / 10
"""Of the lifetime: nobody's wish delays a renewal beyond."""
_GROWTH: Final = 3.0
_MOST_GROWTH: Final = 16
_EAGERNESS: Final = 1 / 4
"""Of the remaining life: the longest wait between attempts while there is some, though not less than an hour."""


@dataclass(frozen=True, slots=True)
class RenewalInformation:
    """When the authority would like a certificate to be renewed (RFC 9773, 4.2).

    Args:
        start: When its window begins, aware.
        end: When it ends, aware.
        explanation_url: A page that says why, where there is one.
        retry_after: Seconds after which to ask again; None where it did not say.
    """

    start: datetime
    end: datetime
    explanation_url: str | None = None
    retry_after: float | None = None

    @property
    def is_valid(self) -> bool:
        """Whether the window is one: RFC 9773, 4.2, has those that end before they begin ignored."""
        return self.end > self.start


def renewal_moment(
    not_before: datetime, not_after: datetime, *, fraction: float, information: RenewalInformation | None = None
) -> datetime:
    """Return when to renew a certificate: in the authority's window, or after two thirds of its life.

    A window that lies in the past means at once. None delays it beyond nine tenths of the lifetime.

    Args:
        not_before: From when on it is valid.
        not_after: Until when it is valid.
        fraction: Where chance puts it, from 0 to 1; keep it for one certificate, so that asking often changes nothing.
        information: What the authority would like.
    """
    lifetime = not_after - not_before
    if information is None or not information.is_valid:
        return not_before + lifetime * (_DUE - _JITTER * fraction)
    wished = information.start + (information.end - information.start) * fraction
    return min(wished, not_before + lifetime * _LATEST)


def fraction_of(text: str) -> float:
    """Return a number from 0 to 1 that differs for each text and is the same whenever it is asked for.

    The chance that spreads renewals: of a fingerprint, it is as random, and a restart does not draw anew.
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def poll_interval(information: RenewalInformation | None) -> float:
    """Return for how many seconds renewal information is good: what the authority says, from a minute to a day.

    Args:
        information: What it said last; None when it could not be had.
    """
    if information is None or information.retry_after is None:
        return POLL_INTERVAL
    return min(max(information.retry_after, MINUTE), DAY)


def retry_delay(failures: int, *, fraction: float, remaining: timedelta | None) -> float:
    """Return how many seconds to wait after a failure: more each time, up to a day.

    While a certificate still lives, a quarter of what it has left is the most, so that attempts do not thin out as its
    end comes near; but never less than an hour on that account.

    Args:
        failures: How many there have been in a row, at least 1.
        fraction: Where chance puts it, from 0 to 1: up to a fifth less.
        remaining: The life left to the certificate that is to be renewed; None where there is none.
    """
    delay = min(FIRST_RETRY * _GROWTH ** min(failures - 1, _MOST_GROWTH), DAY)
    if remaining is not None and remaining > timedelta():
        delay = min(delay, max(remaining.total_seconds() * _EAGERNESS, HOUR))
    return delay * (1 - fraction / 5)


def pause_after(retry_after: float | None, *, rate_limited: bool) -> float:
    """Return for how many seconds an authority must not be asked again after it has refused.

    Args:
        retry_after: What it asked for, in seconds.
        rate_limited: Whether it was a rate limit that refused.
    """
    if retry_after is None:
        return RATE_LIMIT_PAUSE if rate_limited else 0.0
    return min(max(retry_after, 0.0), LONGEST_PAUSE)


def remaining_pause(until: datetime, *, now: datetime) -> float:
    """Return for how many seconds a pause that was written down still goes on.

    Whatever a clock that was set meanwhile makes of it, never for longer than the longest there is.
    """
    return min(max((until - now).total_seconds(), 0.0), LONGEST_PAUSE)


def success_pause(lifetime: timedelta, hasty: int) -> float:
    """Return for how many seconds names are left alone after a success, whatever dates seem to say.

    A clock that is wrong, or an authority that always wants a renewal, would otherwise have us renew without end.

    Args:
        lifetime: Of the certificate that was obtained.
        hasty: How many in a row were to be renewed when they had hardly been used.
    """
    return min(min(HOUR, shortest_use(lifetime)) * _GROWTH ** min(hasty, _MOST_GROWTH), DAY)


def shortest_use(lifetime: timedelta) -> float:
    """Return for how many seconds a certificate should be used at least; less is suspicious."""
    return lifetime.total_seconds() / 10


def alarms_passed(not_before: datetime, not_after: datetime, *, now: datetime) -> int:
    """Return how many of the thresholds at which a missing renewal is an alarm have been passed.

    They fall by halves from a quarter of the lifetime, or from 30 days where that is less, and the last is the end.
    """
    return expiry.passed_thresholds(not_before, not_after, now)


def next_alarm(not_before: datetime, not_after: datetime, *, now: datetime) -> datetime | None:
    """Return when the next such threshold will be passed; None when all have been."""
    return expiry.next_threshold(not_before, not_after, now)
