"""The poller: each descriptor is told of once, however many the kernel is asked for at a time."""

from __future__ import annotations

import socket
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


def test_waking_ends_polls_though_others_are_ready(poller: Poller, ready: set[int]) -> None:
    """A poll that is woken returns, at the latest behind those that are ready, and does so until it may rest."""
    poller.at_once = 100
    poller.wake()
    assert None in {poller.poll(5) for _ in range(READY + 1)}
    poller.rest()
    assert {poller.poll(0) for _ in range(READY + 1)} <= ready | {None}
