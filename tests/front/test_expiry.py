"""Deadlines that pass while somebody is just then busy with the connection."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from secureserve.front.connection import Connection, State
from secureserve.front.listener import Listener
from tests.front.conftest import PHASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.front.loop import Front
    from secureserve.testing.clock import ManualClock


@pytest.fixture
def held(front: Front) -> Iterator[tuple[Connection, socket.socket]]:
    """A connection that the test has, in the phase HEAD, and its peer."""
    (listener,) = Listener.bind(("127.0.0.1", 0))
    front.open([listener])
    with socket.create_connection(listener.bound_addr, 20) as peer:
        peer.sendall(b"x")
        connection = None
        while connection is None:
            connection = front.poll(20)
        yield connection, peer


def test_a_connection_that_a_thread_has_is_not_forgotten(
    front: Front, clock: ManualClock, held: tuple[Connection, socket.socket]
) -> None:
    """Its deadline passes while a step is taken; the step leaves it waiting, and it is ended all the same."""
    connection, _ = held
    clock.advance(PHASE_SECONDS + 1)
    front.expire()
    assert connection.state is not State.CLOSED
    assert not front.advance(connection)
    clock.advance(PHASE_SECONDS + 1)
    front.expire()
    assert connection.state is State.CLOSED


def test_a_deadline_that_is_set_when_it_has_passed_is_kept(
    front: Front, clock: ManualClock, held: tuple[Connection, socket.socket]
) -> None:
    """A step so slow that its phase is over when it ends leaves a connection that is ended at the next look."""
    connection, _ = held
    assert not front.advance(connection)
    assert front.registry.claim(connection)
    clock.advance(PHASE_SECONDS + 1)
    # As in the middle of giving it up: due, and nobody can claim it yet.
    front.expire()
    front.registry.give_back(connection)
    assert connection.state is State.HEAD
    clock.advance(1)
    front.expire()
    assert connection.state is State.CLOSED


def test_a_connection_that_was_served_meanwhile_is_spared(
    front: Front, clock: ManualClock, held: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the deadlines and the claim a request may come: the new deadline counts."""
    connection, peer = held
    assert not front.advance(connection)
    clock.advance(PHASE_SECONDS + 1)
    claim = front.registry.claim

    def served_first(candidate: Connection) -> bool:
        claimed = claim(candidate)
        front.registry.set_deadline(candidate, clock.monotonic() + PHASE_SECONDS)
        return claimed

    monkeypatch.setattr(front.registry, "claim", served_first)
    front.expire()
    assert connection.state is State.HEAD
    peer.sendall(b"y")
    assert front.poll(20) is connection


def test_a_connection_that_ends_while_it_is_given_up_harms_nobody(
    front: Front, held: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread hears of a hang-up, claims the connection and closes it before it is armed: nothing is raised."""
    connection, _ = held
    registry = front.registry

    class Overtaken(dict[int, Connection]):
        """Has every connection that begins to wait claimed and ended at that moment."""

        def __setitem__(self, fd: int, waiting: Connection) -> None:
            super().__setitem__(fd, waiting)
            claimed = registry.found(fd)
            assert claimed is waiting
            registry.end(claimed, "reset")

    monkeypatch.setattr(registry, "_waiting", Overtaken())
    registry.give_back(connection)
    assert connection.state is State.CLOSED
    assert not registry.connections
