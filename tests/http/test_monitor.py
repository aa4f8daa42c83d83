"""The monitor, where it takes the Front's steps itself."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from secureserve.clock import SYSTEM_CLOCK
from secureserve.http import monitor as monitor_module
from secureserve.http.monitor import STEPS_AT_ONCE, Look, Monitor


def test_whatever_the_monitor_claims_it_takes_further() -> None:
    """With more connections ready than it takes at once, none is claimed from the Front and then forgotten."""
    ready = deque(range(STEPS_AT_ONCE + 5))
    advanced: list[int] = []
    queued: list[int] = []
    woken: list[int] = []

    def advance(connection: int) -> bool:
        advanced.append(connection)
        return connection % 2 == 0

    front: Any = SimpleNamespace(poll=lambda _: ready.popleft() if ready else None, advance=advance)
    workers: Any = SimpleNamespace(enqueue=queued.append, wake_for_queue=lambda: woken.append(len(ready)))
    monitor = Monitor(workers, front, SYSTEM_CLOCK)
    while ready:
        monitor._stand_in()
    assert advanced == list(range(STEPS_AT_ONCE + 5))
    assert queued == advanced[::2]
    assert woken == [5, 0]


@pytest.mark.parametrize(
    ("active", "busy", "shaking", "events", "load", "misses"),
    [
        (2, 1, 0, 0, 0.0, False),
        (2, 2, 0, 0, 0.0, True),
        (2, 2, 0, 1, 0.1, True),
        (2, 2, 0, 1, 0.9, False),
        (2, 2, 0, 50, 0.1, False),
        (monitor_module.PROCESSORS + 1, monitor_module.PROCESSORS + 1, monitor_module.PROCESSORS + 1, 0, 0.1, False),
        (3, 3, 1, 0, 0.0, False),
    ],
    ids=["polled", "stuck", "waiting", "computing", "quick", "all shaking", "one shaking"],
)
def test_who_is_missed(*, active: int, busy: int, shaking: int, events: int, load: float, misses: bool) -> None:
    """One more thread is wanted where all wait for the application, and not for a processor or the interpreter."""
    look = Look(active=active, busy=busy, events=events, shaking=shaking, ticks=1.0, load=load)
    assert look.misses_somebody() is misses


def test_handshakes_alone_use_every_processor() -> None:
    """While all threads shake hands and processors are left, another thread is wanted."""
    for active in range(1, monitor_module.PROCESSORS + 2):
        look = Look(active=active, busy=active, events=1, shaking=active, ticks=1.0, load=float(active))
        assert look.misses_somebody() is (active < monitor_module.PROCESSORS)


@pytest.mark.parametrize(
    ("parked", "room", "is_stuck", "helped", "stands_in"),
    [
        (True, False, False, True, False),
        (False, True, True, True, False),
        (False, False, True, True, True),
        (False, True, False, False, False),
    ],
    ids=["a thread rests", "the pool may grow", "nobody is left", "all get on"],
)
def test_who_helps(*, parked: bool, room: bool, is_stuck: bool, helped: bool, stands_in: bool) -> None:
    """Threads that rest come first; only while nothing goes on is one added, or does the monitor poll itself."""
    polled: list[float] = []
    workers: Any = SimpleNamespace(unpark=lambda: parked, grow=lambda: room, wake_for_queue=lambda: None)
    monitor = Monitor(workers, SimpleNamespace(poll=polled.append), SYSTEM_CLOCK)  # type: ignore[arg-type]
    assert monitor._relieve(is_stuck=is_stuck) is helped
    assert bool(polled) is stands_in
