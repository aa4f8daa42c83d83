"""The manual clock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from secureserve.testing import ManualClock

START = datetime(2026, 3, 29, 12, tzinfo=timezone.utc)


def test_stands_still_until_moved() -> None:
    """Both times stay what they were, and advance together."""
    clock = ManualClock(START, monotonic=5.0)
    assert (clock.now(), clock.monotonic()) == (START, 5.0)
    clock.advance(1.5)
    clock.advance(timedelta(hours=1))
    assert (clock.now(), clock.monotonic()) == (START + timedelta(hours=1, seconds=1.5), 3606.5)


def test_a_jump_leaves_monotonic_time() -> None:
    """An administrator who sets the clock back changes the wall time alone."""
    clock = ManualClock(START, monotonic=5.0)
    clock.jump_to(START - timedelta(days=400))
    assert (clock.now(), clock.monotonic()) == (START - timedelta(days=400), 5.0)


@pytest.mark.parametrize("step", [-1, timedelta(seconds=-1)])
def test_time_never_passes_backwards(step: float | timedelta) -> None:
    """Advancing by a negative amount names the method that sets a clock back."""
    with pytest.raises(ValueError, match=r"jump_to"):
        ManualClock().advance(step)


def test_needs_a_time_zone() -> None:
    """A time without a zone is refused, with what to write."""
    with pytest.raises(ValueError, match=r"tzinfo=timezone\.utc"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake under test
