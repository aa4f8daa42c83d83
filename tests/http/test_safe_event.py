"""An event for signal handlers."""

from __future__ import annotations

import threading

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
