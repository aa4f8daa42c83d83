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

PHASE_SECONDS = 10.0
"""What every phase of a connection may take."""


class _Listens:
    """A conversation in which nothing is ever complete."""

    def received(self, data: bytes) -> Need:
        return Need.HEAD

    def has_begun(self) -> bool:
        return False

    def has_rest(self) -> bool:
        return False

    def interim(self) -> bytes:
        return b""

    def answer(self, error: PeerError) -> bytes:
        return b""

    def run(self) -> bool:
        return False

    def close(self) -> None:
        return


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
        converse=lambda _: _Listens(),
        secure=None,
        reverse_dns=None,
    )
    yield front
    front.close()
