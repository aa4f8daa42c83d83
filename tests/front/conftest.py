"""A Front without threads, whose steps the tests take themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from secureserve.front.accounting import Accounting
from secureserve.front.conversation import Need
from secureserve.front.loop import Front, Observer
from secureserve.front.settings import FrontSettings
from secureserve.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.errors import PeerError
    from secureserve.front.connection import Connection

PHASE_SECONDS = 10.0
"""What every phase of a connection may take."""


class Listens:
    """A conversation in which nothing is ever complete."""

    def received(self, data: bytes) -> Need:
        """Take what arrived."""
        return Need.HEAD

    def has_begun(self) -> bool:
        """Return whether part of a request has arrived."""
        return False

    def has_rest(self) -> bool:
        """Return whether something waits to be looked at."""
        return False

    def interim(self) -> bytes:
        """Return what is to be sent meanwhile."""
        return b""

    def answer(self, error: PeerError) -> bytes:
        """Return the response to an error."""
        return b""

    def run(self) -> bool:
        """Return whether the connection stays open."""
        return False

    def close(self) -> None:
        """Let go of everything."""
        return


def accept(front: Front) -> Connection:
    """Return what the first poll that brings something brings."""
    while True:
        connection = front.poll(20)
        if connection is not None:
            return connection


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def front(clock: ManualClock) -> Iterator[Front]:
    """A Front without threads: the test takes its steps."""
    front = Front(
        settings=FrontSettings(),
        timeout=PHASE_SECONDS,
        clock=clock,
        accounting=Accounting(),
        observer=Observer(),
        converse=lambda _: Listens(),
        secure=None,
        reverse_dns=None,
    )
    yield front
    front.close()
