"""Connections whose server stops while they begin to wait, or while a thread has them."""

from __future__ import annotations

import resource
import socket
from typing import TYPE_CHECKING

import pytest

from secureserve.front.connection import State
from secureserve.front.conversation import Need
from secureserve.front.listener import Listener
from tests.front.conftest import Listens, accept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.front.loop import Front


@pytest.fixture
def client(front: Front) -> Iterator[socket.socket]:
    """A client who waits to be accepted."""
    (listener,) = Listener.bind(("127.0.0.1", 0))
    front.open([listener])
    with socket.create_connection(listener.bound_addr, 20) as client:
        yield client


@pytest.mark.usefixtures("client")
def test_one_that_begins_to_wait_while_the_server_begins_to_stop_is_closed(front: Front) -> None:
    """A connection that those who stop the server did not find waiting yet does not outlive its phase's deadline."""
    connection = accept(front)
    # Called between a first look at whether the server stops, and the wait.
    front.registry.on_earlier_deadline = front.drain
    assert not front.advance(connection)
    assert connection.state is State.CLOSED


def test_one_that_becomes_idle_while_the_server_begins_to_stop_is_closed(
    front: Front, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection whose response has just been sent does not stay open when the server begins to stop."""
    monkeypatch.setattr(Listens, "received", lambda _self, _data: Need.WORKER)
    monkeypatch.setattr(Listens, "run", lambda _self: True)
    client.sendall(b"G")
    connection = accept(front)
    assert front.advance(connection)
    front.registry.on_earlier_deadline = front.drain
    assert not front.run(connection)
    assert connection.state is State.CLOSED
    assert not client.recv(1)


def test_one_that_speaks_while_the_server_begins_to_stop_is_heard(
    front: Front, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was found waiting, and has a request under way by then, goes on waiting for the rest."""
    connection = accept(front)
    assert not front.advance(connection)
    client.sendall(b"G")
    assert not front.advance(accept(front))
    assert connection.state is State.HEAD
    monkeypatch.setattr(Listens, "has_begun", lambda _self: True)
    front.registry.dismiss(connection)
    assert connection.state is State.HEAD
    client.sendall(b"E")
    assert accept(front) is connection


def test_what_a_thread_has_is_cut_without_a_descriptor(front: Front, client: socket.socket) -> None:
    """A server that is to end breaks off what its threads still do where there is no descriptor left, too."""
    connection = accept(front)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        front.cut()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert connection.state is State.NEW
    assert not client.recv(1)
