"""When to renew, to try again, to raise the alarm: tables of times."""

from __future__ import annotations

import itertools
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureserve.acme import renewal
from secureserve.acme.renewal import DAY, HOUR, MINUTE, RenewalInformation

START = datetime(2026, 6, 1, tzinfo=timezone.utc)
DAYS = timedelta(days=1)
HOURS = timedelta(hours=1)
NEVER = datetime(9999, 12, 31, tzinfo=timezone.utc)
LONG_AGO = datetime(1970, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("lifetime", "fraction", "expected"),
    [
        (90 * DAYS, 0.0, 60 * DAYS),
        (90 * DAYS, 0.5, 57.75 * DAYS),
        (90 * DAYS, 1.0, 55.5 * DAYS),
        (47 * DAYS, 0.0, 47 * DAYS * 2 / 3),
        (47 * DAYS, 1.0, 47 * DAYS * (2 / 3 - 1 / 20)),
        (6 * DAYS, 0.0, 4 * DAYS),
        (6 * DAYS, 1.0, 88.8 * HOURS),
        (398 * DAYS, 0.0, 398 * DAYS * 2 / 3),
        (1 * HOURS, 0.0, HOURS * 2 / 3),
    ],
)
def test_two_thirds_of_the_lifetime(lifetime: timedelta, fraction: float, expected: timedelta) -> None:
    """Where the authority has no wish, renewal is due after two thirds of the life, a little earlier by chance."""
    moment = renewal.renewal_moment(START, START + lifetime, fraction=fraction)
    assert abs(moment - (START + expected)) < timedelta(seconds=1)


@pytest.mark.parametrize("lifetime", [90 * DAYS, 47 * DAYS, 6 * DAYS])
@pytest.mark.parametrize(
    ("begin", "end", "fraction", "expected"),
    [
        pytest.param(0.5, 0.6, 0.0, 0.5, id="its beginning"),
        pytest.param(0.5, 0.6, 0.5, 0.55, id="its middle"),
        pytest.param(0.5, 0.6, 1.0, 0.6, id="its end"),
        pytest.param(-2.0, -1.0, 0.5, -1.5, id="past: at once"),
        pytest.param(0.1, 0.2, 0.25, 0.125, id="early: after an incident"),
        pytest.param(0.6, 5.0, 1.0, 0.9, id="beyond the end of the life"),
        pytest.param(3.0, 4.0, 0.0, 0.9, id="after the end of the life"),
        pytest.param(0.6, 0.6, 0.0, 2 / 3, id="empty: ignored"),
        pytest.param(0.6, 0.5, 0.0, 2 / 3, id="inverted: ignored"),
    ],
)
def test_the_window_of_the_authority(
    lifetime: timedelta, begin: float, end: float, fraction: float, expected: float
) -> None:
    """Renewal is due at the moment that chance chooses in the window, whatever window it is, while there is time."""
    information = RenewalInformation(START + lifetime * begin, START + lifetime * end)
    moment = renewal.renewal_moment(START, START + lifetime, fraction=fraction, information=information)
    assert abs(moment - (START + lifetime * expected)) < timedelta(seconds=1)


def test_chance() -> None:
    """A text always has the same place, and texts are spread evenly over all places."""
    places = [renewal.fraction_of(f"certificate {number}") for number in range(1000)]
    assert places == [renewal.fraction_of(f"certificate {number}") for number in range(1000)]
    assert 0 <= min(places) < 0.01
    assert 0.99 < max(places) < 1
    assert sum(places) / 1000 == pytest.approx(0.5, abs=0.03)


def test_a_window_of_all_time() -> None:
    """A window as wide as dates go is a window: most of it is past or too late."""
    information = RenewalInformation(LONG_AGO, NEVER)
    assert information.is_valid
    soon = renewal.renewal_moment(START, START + 90 * DAYS, fraction=0.0, information=information)
    late = renewal.renewal_moment(START, START + 90 * DAYS, fraction=1.0, information=information)
    assert soon == LONG_AGO
    assert late == START + 81 * DAYS


@given(
    lifetime=st.timedeltas(min_value=timedelta(minutes=5), max_value=400 * DAYS),
    fraction=st.floats(0, 1),
    window=st.tuples(st.datetimes(), st.datetimes()),
)
def test_never_too_late(lifetime: timedelta, fraction: float, window: tuple[datetime, datetime]) -> None:
    """Whatever an authority suggests, a renewal is due before nine tenths of the life are over."""
    begin, end = (moment.replace(tzinfo=timezone.utc) for moment in window)
    for information in (None, RenewalInformation(begin, end)):
        moment = renewal.renewal_moment(START, START + lifetime, fraction=fraction, information=information)
        assert moment <= START + lifetime * 0.9


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        (None, 6 * HOUR),
        (6 * HOUR, 6 * HOUR),
        (0.0, MINUTE),
        (-5.0, MINUTE),
        (59.0, MINUTE),
        (61.0, 61.0),
        (10 * DAY, DAY),
    ],
)
def test_how_often_to_ask(retry_after: float | None, expected: float) -> None:
    """Renewal information is asked for as often as the authority says, from once a minute to once a day."""
    assert renewal.poll_interval(RenewalInformation(START, START + DAYS, None, retry_after)) == expected
    assert renewal.poll_interval(None) == 6 * HOUR


def test_waits_grow_to_a_day() -> None:
    """Each failure is followed by three times the wait, from a minute to a day, and by no more however many."""
    waits = [renewal.retry_delay(failures, fraction=0.0, remaining=None) for failures in range(1, 12)]
    assert waits == [60.0 * factor for factor in (1, 3, 9, 27, 81, 243, 729, 1440, 1440, 1440, 1440)]
    assert renewal.retry_delay(10**9, fraction=0.0, remaining=None) == DAY
    # Let's Encrypt allows five failed validations of a name an hour.
    assert sum(total <= HOUR for total in itertools.accumulate(waits)) + 1 <= 5


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [
        pytest.param(None, DAY, id="nothing to lose"),
        pytest.param(30 * DAYS, DAY, id="30 days"),
        pytest.param(2 * DAYS, 12 * HOUR, id="2 days"),
        pytest.param(8 * HOURS, 2 * HOUR, id="8 hours"),
        pytest.param(1 * HOURS, HOUR, id="1 hour"),
        pytest.param(0 * HOURS, DAY, id="expired now"),
        pytest.param(-9 * DAYS, DAY, id="expired long ago"),
    ],
)
def test_attempts_do_not_thin_out_before_the_end(remaining: timedelta | None, expected: float) -> None:
    """While a certificate lives, the next attempt comes within a quarter of what it has left, hours apart."""
    assert renewal.retry_delay(50, fraction=0.0, remaining=remaining) == expected


def test_attempts_are_spread() -> None:
    """Chance takes up to a fifth off a wait, so that servers which failed together do not come back together."""
    assert renewal.retry_delay(1, fraction=1.0, remaining=None) == pytest.approx(48.0)
    assert renewal.retry_delay(9, fraction=0.5, remaining=None) == pytest.approx(0.9 * DAY)


@pytest.mark.parametrize(
    ("retry_after", "rate_limited", "expected"),
    [
        (None, False, 0.0),
        (None, True, HOUR),
        (120.0, True, 120.0),
        (120.0, False, 120.0),
        (-1.0, False, 0.0),
        (30 * DAY, True, DAY),
        (float("inf"), False, DAY),
    ],
)
def test_what_an_authority_asks_for_is_honoured(retry_after: float | None, rate_limited: bool, expected: float) -> None:
    """Retry-After and rate limits are kept to, but not for more than a day, as a mistake there must not end renewal."""
    assert renewal.pause_after(retry_after, rate_limited=rate_limited) == expected


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        (START + HOURS, HOUR),
        (START, 0.0),
        (START - 99 * DAYS, 0.0),
        pytest.param(START + 365 * DAYS, DAY, id="the clock was set back"),
    ],
)
def test_a_written_pause(until: datetime, expected: float) -> None:
    """A pause that was written down before a restart ends in time, whatever became of the clock meanwhile."""
    assert renewal.remaining_pause(until, now=START) == expected


@pytest.mark.parametrize(
    ("lifetime", "hasty", "expected"),
    [
        (90 * DAYS, 0, HOUR),
        (90 * DAYS, 1, 3 * HOUR),
        (90 * DAYS, 2, 9 * HOUR),
        (90 * DAYS, 99, DAY),
        (6 * DAYS, 0, HOUR),
        (6 * DAYS, 3, DAY),
        pytest.param(2 * HOURS, 0, 12 * MINUTE, id="certificates of two hours"),
    ],
)
def test_a_success_is_followed_by_a_rest(lifetime: timedelta, hasty: int, expected: float) -> None:
    """Names are left alone after a success, for longer each time that the new certificate seems to be due at once."""
    assert renewal.success_pause(lifetime, hasty) == pytest.approx(expected)


@pytest.mark.parametrize("lifetime", [90 * DAYS, 47 * DAYS, 6 * DAYS, 1 * DAYS])
def test_a_rest_ends_before_the_next_renewal(lifetime: timedelta) -> None:
    """The rest after a first success is over long before the certificate is to be renewed."""
    assert renewal.success_pause(lifetime, 0) < (lifetime * (2 / 3 - 1 / 20)).total_seconds() / 2


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        (90 * DAYS, [22.5, 11.25, 5.625, 2.8125, 1.40625, 0]),
        (47 * DAYS, [11.75, 5.875, 2.9375, 1.46875, 0.734375, 0]),
        (6 * DAYS, [1.5, 0.75, 0.375, 0.1875, 0.09375, 0]),
    ],
)
def test_thresholds_of_the_alarm(lifetime: timedelta, expected: list[float]) -> None:
    """The alarm comes with a quarter of the life left, and each time that half of that has gone again, and at the end.

    None comes while a renewal at the usual moment still has time for a second and a third attempt.
    """
    end = START + lifetime
    renew_at = renewal.renewal_moment(START, end, fraction=0.0)
    assert renewal.alarms_passed(START, end, now=renew_at) == 0
    for number, days in enumerate(expected):
        moment = end - days * DAYS
        assert renewal.next_alarm(START, end, now=moment - timedelta(seconds=1)) == moment
        assert renewal.alarms_passed(START, end, now=moment - timedelta(seconds=1)) == number
        assert renewal.alarms_passed(START, end, now=moment) == number + 1
    assert renewal.next_alarm(START, end, now=end) is None


def test_the_arithmetic_knows_no_clock() -> None:
    """The module asks nobody for the time or a random number: everything is handed in."""
    named = {name for name in vars(renewal) if not name.startswith("_")}
    assert not named & {"time", "random", "secrets", "threading", "os"}


def test_the_page_that_explains_it() -> None:
    """The numbers in the documentation are those of the code."""
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "renewal.md").read_text(encoding="utf-8")
    for days in (90, 47, 6):
        early, late = (
            (renewal.renewal_moment(START, START + days * DAYS, fraction=fraction) - START) / DAYS
            for fraction in (1.0, 0.0)
        )
        numbers = [f"{number:.1f}".removesuffix(".0") for number in (late, days - late)]
        assert re.search(rf"\| {days} days \| {early:.1f} to {numbers[0]} days \| {numbers[1]} days \|", page)
    waits = [renewal.retry_delay(failures, fraction=0.0, remaining=None) / MINUTE for failures in range(1, 6)]
    assert "1 minute, then {:g}, {:g}, {:g}, {:g} and so on".format(*waits[1:]) in page
