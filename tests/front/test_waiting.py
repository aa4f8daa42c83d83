"""What a peer has taken, as the system tells it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from secureserve.front import waiting

DEADLINE = 20.0


class Telling:
    """A socket that says what a test wants of TCP_INFO."""

    def __init__(self, sock: socket.socket, info: bytes) -> None:
        self._sock = sock
        self._info = info

    def fileno(self) -> int:
        """The descriptor of the real one."""
        return self._sock.fileno()

    def getsockopt(self, *_: int) -> bytes:
        """What was made up."""
        return self._info


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), DEADLINE)
        ours, _ = listener.accept()
    return ours, theirs


def test_what_the_peer_has_acknowledged_grows_with_what_it_takes() -> None:
    """Only what has reached the peer counts, not what our own kernel holds."""
    ours, theirs = connected()
    with ours, theirs:
        ours.settimeout(DEADLINE)
        theirs.settimeout(DEADLINE)
        before = waiting.acknowledged(ours, 0)
        ours.sendall(b"x" * 1000)
        assert theirs.recv(1000, socket.MSG_WAITALL) == b"x" * 1000
        theirs.sendall(b"done")
        ours.recv(4)
        assert waiting.acknowledged(ours, 1000) - before == 1000


@pytest.mark.parametrize("info", [b"", bytes(104), bytes(128)], ids=["none", "short", "always 0"])
def test_a_system_that_does_not_count_is_asked_what_it_still_holds(info: bytes) -> None:
    """An old kernel, or one that only looks like Linux, does not make every peer look as if it took nothing."""
    ours, theirs = connected()
    with ours, theirs:
        theirs.settimeout(DEADLINE)
        ours.sendall(b"x" * 1000)
        assert theirs.recv(1000, socket.MSG_WAITALL) == b"x" * 1000
        theirs.sendall(b"done")
        ours.recv(4)
        telling: Any = Telling(ours, info)
        assert waiting.acknowledged(telling, 1000) == 1000


def test_a_unix_socket_counts_what_was_sent_and_is_not_held() -> None:
    """There is no TCP to ask."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"x" * 100)
        assert theirs.recv(100) == b"x" * 100
        assert waiting.acknowledged(ours, 100) == 100
