"""How worker threads share their time between connections, and learn of what waits for them."""

from __future__ import annotations

import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from secureserve.http.workers import ARRIVALS_SECONDS, TURN_SECONDS, Worker, Workers

STEP = ARRIVALS_SECONDS / 4


class Ticking:
    """A clock that goes on a step at every look."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        self.time += STEP
        return self.time


def turns(arrivals: int, looks: int) -> list[bool]:
    """Return, for each look of a busy thread, whether it took an arrival, of which there are so many."""
    waiting = list(range(1, arrivals + 1))
    workers: Any = Workers.__new__(Workers)
    workers._clock = Ticking()
    workers._front = SimpleNamespace(poll_arrival=lambda: waiting.pop() if waiting else None)
    worker = Worker()
    return [workers._next_arrival(worker) is not None for _ in range(looks)]


def test_arrivals_have_a_share_of_a_busy_threads_time() -> None:
    """However many wait, they get their part of every turn, and the connections being served get the rest."""
    looks = 1200
    taken = turns(arrivals=looks, looks=looks)
    share = ARRIVALS_SECONDS / TURN_SECONDS
    assert share * 0.8 < sum(taken) / looks < share * 1.2
    assert not all(taken[:12])
    assert any(taken[:12])


def test_a_thread_does_not_look_for_arrivals_again_before_their_next_turn() -> None:
    """Once there are none, the rest of the turn belongs to the connections being served."""
    taken = turns(arrivals=2, looks=1200)
    assert sum(taken) == 2
    assert taken.index(True) < 12


@pytest.mark.parametrize(
    ("connection", "is_parked", "woken"), [(None, False, 1), (None, True, 0), (object(), False, 0)]
)
def test_a_request_that_waits_wakes_a_thread_that_polls(connection: Any, woken: int, *, is_parked: bool) -> None:
    """A thread went to poll while the monitor took a request for it: it is woken, and only then."""
    wakes: list[None] = []
    workers: Any = Workers.__new__(Workers)
    workers._clock = Ticking()
    workers._lock = threading.Lock()
    workers._queue = deque()
    workers._front = SimpleNamespace(wake_one=lambda: wakes.append(None))
    worker = Worker()
    worker.connection, worker.is_parked = connection, is_parked
    workers.threads = [worker]
    workers.wake_for_queue()
    assert not wakes
    workers.enqueue(SimpleNamespace(move=lambda _state: None, queued_at=0.0))
    assert workers.qsize == 1
    workers.wake_for_queue()
    assert len(wakes) == woken
