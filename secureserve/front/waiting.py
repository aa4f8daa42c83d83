"""Waiting for one socket: until it is ready, and whether its peer takes what it is sent."""

from __future__ import annotations

import contextlib
import fcntl
import select
import struct
import termios
from typing import TYPE_CHECKING, Final

from secureserve.tls.engines.base import Want

if TYPE_CHECKING:
    import socket

__all__ = ["held_for", "wait_for"]

_NUMBER: Final = struct.Struct("i")


def wait_for(sock: socket.socket, want: Want, timeout: float) -> bool:
    """Wait until `sock` is ready for what is wanted, or broken.

    Args:
        sock: A connected socket.
        want: What it should be ready for.
        timeout: Seconds to wait at the most.

    Returns:
        Whether it is ready; False when the time is up.
    """
    poll = select.poll()
    poll.register(sock, select.POLLIN if want is Want.READ else select.POLLOUT)
    # Rounded up, so that a wait which is cut short is never mistaken for one that was too long.
    return bool(poll.poll(int(timeout * 1000) + 1))


def held_for(fd: int) -> int:
    """Return how many bytes the kernel holds that the peer of a socket has not taken; 0 where it does not tell."""
    with contextlib.suppress(OSError):
        (held,) = _NUMBER.unpack(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(_NUMBER.size)))
        return int(held)
    return 0
