"""An event for signal handlers."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pytest

from secureserve.http.safe_event import SafeEvent
from tests.http.serving import DEADLINE


def test_all_who_wait_are_woken() -> None:
    """Whoever waits goes on when it happens, and nobody waits who comes later."""
    event, woken = SafeEvent(), []
    threads = [threading.Thread(target=lambda: woken.append(event.wait(DEADLINE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert woken == [True] * 3
    assert event.is_set()
    assert event.wait()
    assert event.wait(0)


def test_who_waits_in_vain_is_told() -> None:
    """What has not happened in time, or not again, is False."""
    event = SafeEvent()
    assert not event.wait(0)
    assert not event.wait(-1)
    event.set()
    event.clear()
    assert not event.is_set()
    assert not event.wait(0.001)


@pytest.mark.parametrize("moment", ["append", "remove"])
def test_nobody_misses_what_happens_at_that_very_moment(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Whoever is about to wait, or about to give up, when it happens is told that it did."""
    event = SafeEvent()

    class Waiting(deque[Any]):
        def append(self, gate: Any) -> None:
            if moment == "append":
                event.set()
            super().append(gate)

        def remove(self, gate: Any) -> None:
            event.set()
            super().remove(gate)

    monkeypatch.setattr(event, "_waiting", Waiting())
    assert event.wait(0.001)
