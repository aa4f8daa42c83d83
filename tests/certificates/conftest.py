"""What the certificate tests share: somebody who listens for events and can be waited for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_Event = TypeVar("_Event")

PATIENCE = 20.0
"""Seconds after which a test gives up waiting for what normally takes a fraction of one."""


class Listener:
    """Collects events, and waits for one of a kind."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self._arrived = threading.Condition()

    def __call__(self, event: object) -> None:
        """Take an event."""
        with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type[_Event], when: Callable[[_Event], bool] = lambda _event: True) -> _Event:
        """Return the first event of a kind that fits, waiting for it if need be."""

        def found() -> list[_Event]:
            return [event for event in self.of(kind) if when(event)]

        with self._arrived:
            assert self._arrived.wait_for(found, PATIENCE), f"no such {kind.__name__} among {self.events}"
            return found()[0]


@pytest.fixture
def listener() -> Listener:
    """Who listens for events."""
    return Listener()
