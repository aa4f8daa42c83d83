"""The monitor, where it takes the Front's steps itself."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

from secureserve.clock import SYSTEM_CLOCK
from secureserve.http.monitor import STEPS_AT_ONCE, Monitor


def test_whatever_the_monitor_claims_it_takes_further() -> None:
    """With more connections ready than it takes at once, none is claimed from the Front and then forgotten."""
    ready = deque(range(STEPS_AT_ONCE + 5))
    advanced: list[int] = []
    queued: list[int] = []

    def advance(connection: int) -> bool:
        advanced.append(connection)
        return connection % 2 == 0

    front: Any = SimpleNamespace(poll=lambda _: ready.popleft() if ready else None, advance=advance)
    workers: Any = SimpleNamespace(enqueue=queued.append)
    monitor = Monitor(workers, front, SYSTEM_CLOCK)
    while ready:
        monitor._stand_in()
    assert advanced == list(range(STEPS_AT_ONCE + 5))
    assert queued == advanced[::2]
