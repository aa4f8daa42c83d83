"""When the coming end of a certificate is announced."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from secureserve.certificates import expiry

if TYPE_CHECKING:
    from secureserve.testing import Authority

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        (6 * DAY, [36 * HOUR, 18 * HOUR, 9 * HOUR, 4.5 * HOUR, 2.25 * HOUR]),
        (47 * DAY, [11.75 * DAY, 5.875 * DAY, 2.9375 * DAY, 1.46875 * DAY, 0.734375 * DAY]),
        (90 * DAY, [22.5 * DAY, 11.25 * DAY, 5.625 * DAY, 2.8125 * DAY, 1.40625 * DAY]),
        (398 * DAY, [30 * DAY, 15 * DAY, 7.5 * DAY, 3.75 * DAY, 1.875 * DAY]),
        (4 * HOUR, [1 * HOUR, 0.5 * HOUR, 0.25 * HOUR, 0.125 * HOUR, 0.0625 * HOUR]),
    ],
)
def test_thresholds(lifetime: timedelta, expected: list[timedelta]) -> None:
    """They fall by halves from a quarter of the lifetime, or from 30 days, down to the end itself."""
    assert expiry.thresholds(lifetime) == (*expected, timedelta())
    assert expiry.thresholds(lifetime)[0] < lifetime / 3


@pytest.mark.parametrize(
    ("left", "passed", "until_next"),
    [
        (90 * DAY, 0, 67.5 * DAY),
        (22.5 * DAY, 1, 11.25 * DAY),
        (12 * DAY, 1, 0.75 * DAY),
        (5 * DAY, 3, 2.1875 * DAY),
        (1 * DAY, 5, 1 * DAY),
        (timedelta(), 6, None),
        (-9 * DAY, 6, None),
    ],
)
def test_passed_and_next(left: timedelta, passed: int, until_next: timedelta | None) -> None:
    """At each moment it is known how many have been passed and when the next one will be."""
    end = START + 90 * DAY
    now = end - left
    assert expiry.passed_thresholds(START, end, now) == passed
    assert expiry.next_threshold(START, end, now) == (None if until_next is None else now + until_next)


def test_once_each(tls_authority: Authority) -> None:
    """Each threshold is announced once; a start late in life announces once, for all that were missed."""
    one = tls_authority.issue("six.test", not_before=START, not_after=START + 6 * DAY).credential
    watch = expiry.ExpiryWatch()
    seen: list[tuple[float, float]] = []
    for hours in range(150):
        for warning in watch.due([("place", one)], START + hours * HOUR):
            assert warning.names == ("six.test",)
            assert warning.fingerprint == one.fingerprint
            seen.append((hours, warning.remaining / 3600))
    assert seen == [(108, 36), (126, 18), (135, 9), (140, 4), (142, 2), (144, 0)]
    late = expiry.ExpiryWatch()
    assert len(late.due([("place", one), ("other place", one)], START + 143 * HOUR)) == 1
    assert late.due([("place", one)], START + 143 * HOUR) == []
    assert late.next_due([("place", one)], START + 143 * HOUR) == START + 6 * DAY


def test_successor_starts_afresh(tls_authority: Authority) -> None:
    """A certificate that took the place of another is announced on its own dates."""
    watch = expiry.ExpiryWatch()
    first = tls_authority.issue("six.test", not_before=START, not_after=START + 6 * DAY).credential
    second = tls_authority.issue("six.test", not_before=START + 4 * DAY, not_after=START + 10 * DAY).credential
    assert watch.due([("place", first)], START + 5 * DAY)
    assert watch.due([("place", second)], START + 5 * DAY) == []
    assert watch.due([("place", second)], START + 9 * DAY)
    assert watch.next_due([], START) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (30 * 86400, "30.0 days"),
        (86400, "24.0 hours"),
        (3600, "60.0 minutes"),
        (90, "90 seconds"),
        (0.4, "0 seconds"),
    ],
)
def test_in_words(seconds: float, words: str) -> None:
    """What is left is said in the unit that suits it: a certificate for an hour has no days."""
    assert expiry.in_words(seconds) == words
