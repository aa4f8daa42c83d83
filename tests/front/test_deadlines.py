"""Who is due next."""

from __future__ import annotations

import weakref

from hypothesis import given
from hypothesis import strategies as st

from secureserve.front.deadlines import NEVER, Alarm, Deadlines


class Holder:
    """Something that can be due."""

    def __init__(self) -> None:
        self.alarm = Alarm(self)


def test_nothing_is_due_when_nothing_waits() -> None:
    """Without deadlines there is nothing to wake for."""
    deadlines: Deadlines[Holder] = Deadlines()
    assert deadlines.earliest() == NEVER
    assert deadlines.due(1e9) == []


def test_what_is_due_comes_once() -> None:
    """A holder whose deadline has passed is given out once, and not before."""
    deadlines: Deadlines[Holder] = Deadlines()
    holder = Holder()
    assert deadlines.set(holder.alarm, 5.0)
    assert deadlines.due(4.9) == []
    assert deadlines.due(5.0) == [holder]
    assert deadlines.due(9.0) == []


def test_a_deadline_that_moves_to_later_adds_nothing() -> None:
    """A connection that is busy for long costs one entry, however many requests it serves."""
    deadlines: Deadlines[Holder] = Deadlines()
    holder = Holder()
    for when in range(1, 1000):
        deadlines.set(holder.alarm, float(when))
    assert len(deadlines) == 1
    assert deadlines.due(998.0) == []
    assert deadlines.earliest() == 999.0
    assert deadlines.due(999.0) == [holder]


def test_a_deadline_that_moves_to_earlier_is_kept() -> None:
    """The earlier deadline counts, and the entry that it replaced brings nothing later."""
    deadlines: Deadlines[Holder] = Deadlines()
    holder = Holder()
    deadlines.set(holder.alarm, 10.0)
    assert deadlines.set(holder.alarm, 2.0)
    assert deadlines.due(2.0) == [holder]
    assert deadlines.due(10.0) == []


def test_only_the_earliest_of_all_wakes_the_sleeper() -> None:
    """Setting a deadline tells whether it is the next of all."""
    deadlines: Deadlines[Holder] = Deadlines()
    kept = {when: Holder() for when in (4.0, 5.0, 6.0)}
    assert deadlines.set(kept[5.0].alarm, 5.0)
    assert not deadlines.set(kept[6.0].alarm, 6.0)
    assert deadlines.set(kept[4.0].alarm, 4.0)


def test_a_closed_holder_is_never_due() -> None:
    """A deadline of never takes a holder out."""
    deadlines: Deadlines[Holder] = Deadlines()
    holder = Holder()
    deadlines.set(holder.alarm, 5.0)
    holder.alarm.cancel()
    assert deadlines.due(6.0) == []
    assert len(deadlines) == 0


def test_a_holder_that_somebody_has_is_looked_at_again() -> None:
    """What is due and cannot be dealt with now comes again, unless its deadline has moved meanwhile."""
    deadlines: Deadlines[Holder] = Deadlines()
    holder = Holder()
    deadlines.set(holder.alarm, 5.0)
    assert deadlines.due(5.0) == [holder]
    deadlines.again(holder.alarm, 6.0)
    assert deadlines.due(5.9) == []
    assert deadlines.due(6.0) == [holder]
    deadlines.again(holder.alarm, 7.0)
    deadlines.set(holder.alarm, 20.0)
    assert deadlines.due(7.0) == []
    assert deadlines.due(20.0) == [holder]


def test_a_closed_holder_is_not_kept() -> None:
    """Whoever is of no interest any more is let go at once, though its deadline is still to come."""
    deadlines: Deadlines[Holder] = Deadlines()
    holder = Holder()
    deadlines.set(holder.alarm, 5.0)
    watch = weakref.ref(holder)
    holder.alarm.cancel()
    del holder
    assert watch() is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 100)), max_size=60), st.integers(0, 120))
def test_every_holder_is_due_at_its_last_deadline(moves: list[tuple[int, int]], until: int) -> None:
    """Whatever way the deadlines moved, each holder is due once, at the last one that was set."""
    deadlines: Deadlines[Holder] = Deadlines()
    holders = [Holder() for _ in range(10)]
    last: dict[int, int] = {}
    for number, when in moves:
        deadlines.set(holders[number].alarm, float(when))
        last[number] = when
    found = []
    for now in range(until + 1):
        for holder in deadlines.due(float(now)):
            assert holder.alarm.deadline == now
            found.append(holders.index(holder))
    assert sorted(found) == sorted(number for number, when in last.items() if when <= until)
