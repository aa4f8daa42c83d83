"""The poller: each descriptor is told of once, however many the kernel is asked for at a time."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from secureserve.front.poller import Poller

if TYPE_CHECKING:
    from collections.abc import Iterator

READY = 5


@pytest.fixture
def poller() -> Iterator[Poller]:
    """Return a poller that is closed afterwards."""
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def ready(poller: Poller) -> Iterator[set[int]]:
    """Return descriptors that are being served, and all of which have something to read."""
    with ExitStack() as stack:
        fds = set()
        for _ in range(READY):
            ours, theirs = map(stack.enter_context, socket.socketpair())
            theirs.send(b"x")
            fds.add(ours.fileno())
            poller.add(ours.fileno())
            poller.admit(ours.fileno())
            poller.arm(ours.fileno())
        yield fds


@pytest.mark.parametrize("at_once", [1, 2, READY, 100])
def test_each_is_told_of_once(poller: Poller, ready: set[int], at_once: int) -> None:
    """Whatever number is asked for at once, every poll returns another, and then none until one is armed again."""
    poller.at_once = at_once
    assert {poller.poll(0) for _ in range(READY)} == ready
    assert poller.poll(0) is None
    again = min(ready)
    poller.arm(again)
    assert poller.poll(0) == again


def test_it_says_whether_some_wait_here(poller: Poller, ready: set[int]) -> None:
    """Those that the kernel told of and no poll has returned are known, since no thread that waits learns of them."""
    assert not poller.has_found()
    poller.at_once = READY
    poller.poll(0)
    assert poller.has_found()
    poller.at_once = 1
    for _ in range(READY - 1):
        assert poller.poll(0) in ready
    assert not poller.has_found()


def test_waking_one_ends_one_poll(poller: Poller, ready: set[int]) -> None:
    """Of several polls one returns early, at the latest behind those that are ready, and none after it."""
    poller.at_once = 100
    poller.wake_one()
    found = [poller.poll(5) for _ in range(READY + 1)]
    assert set(found) == ready | {None}
    with pytest.raises(TimeoutError):
        poll_in_vain(poller)
    poller.wake_one()
    poll_in_vain(poller)


def test_waking_is_harmless_when_it_is_closed() -> None:
    """A thread that comes back late wakes nobody."""
    poller = Poller()
    poller.close()
    poller.wake_one()


def poll_in_vain(poller: Poller) -> None:
    """Poll with nothing ready, and see it return early.

    Raises:
        TimeoutError: It did not.
    """
    began = time.monotonic()
    assert poller.poll(0.2) is None
    if time.monotonic() - began >= 0.2:
        raise TimeoutError
