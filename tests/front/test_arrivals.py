"""Connections between the listener and their first wait."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from secureserve.front.connection import State
from secureserve.front.listener import Listener
from tests.front.conftest import PHASE_SECONDS, accept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.front.loop import Front
    from secureserve.testing.clock import ManualClock


@pytest.fixture
def peers(front: Front) -> Iterator[list[socket.socket]]:
    """Three clients, who wait to be accepted; each has sent half a request line."""
    (listener,) = Listener.bind(("127.0.0.1", 0))
    front.open([listener])
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(listener.bound_addr, 20)) for _ in range(3)]
        for client in clients:
            client.sendall(b"GET")
        yield clients


@pytest.mark.usefixtures("peers")
def test_one_of_those_accepted_goes_on_at_once(front: Front) -> None:
    """The poll that tells of the listener returns a connection whose first step can be taken; all others wait."""
    first = accept(front)
    assert first.state is State.NEW
    assert len(front.connections) == 3
    assert not front.advance(first)
    assert first.state is State.HEAD
    assert {accept(front), accept(front)} == front.connections - {first}


def test_who_has_said_nothing_waits_for_the_first_byte(front: Front, clock: ManualClock) -> None:
    """The first step of a silent client's connection leaves it waiting, until it speaks or its time has passed."""
    (listener,) = Listener.bind(("127.0.0.1", 0))
    front.open([listener])
    with socket.create_connection(listener.bound_addr, 20) as talker, socket.create_connection(listener.bound_addr, 20):
        talks = accept(front)
        assert not front.advance(talks)
        (silent,) = front.connections - {talks}
        assert {talks.state, silent.state} == {State.NEW}
        talker.sendall(b"G")
        assert accept(front) is (talks if talks.address == talker.getsockname() else silent)
        clock.advance(PHASE_SECONDS + 1)
        front.expire()
        assert len(front.connections) == 1


@pytest.mark.usefixtures("peers")
def test_a_connection_that_the_poller_has_no_room_for_ends(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel bounds what a user may poll (epoll(7), max_user_watches): beyond it connections end at once."""
    first = accept(front)

    def refuse(_fd: int, **_options: bool) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(type(front.registry.poller), "admit", lambda _self, fd, **options: refuse(fd, **options))
    assert not front.advance(first)
    assert first.state is State.CLOSED
    assert first not in front.connections
