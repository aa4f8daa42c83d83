"""Waiting for one socket: until it is ready, whether its peer takes what it is sent, and whether it has sent more."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
from typing import Final

from secureserve.tls.engines.base import Want

__all__ = ["acknowledged", "has_unread", "wait_for"]

_NUMBER: Final = struct.Struct("i")
_NOTHING: Final = bytes(_NUMBER.size)
_COUNT: Final = struct.Struct("Q")
_BYTES_ACKED: Final = 120
"""Where that is in Linux's struct tcp_info."""
_INFO_SIZE: Final = _BYTES_ACKED + _COUNT.size


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


def acknowledged(sock: socket.socket, sent: int) -> int:
    """Return how many bytes the peer of a socket has acknowledged; only what this grows by means anything.

    Args:
        sock: A connected socket.
        sent: How many were sent, for a system that only tells how many it still holds.
    """
    with contextlib.suppress(OSError):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        # Kernels before 4.1 do not count them, and some that only look like Linux always say 0.
        if len(info) == _INFO_SIZE and (count := _COUNT.unpack_from(info, _BYTES_ACKED)[0]):
            return int(count)
    with contextlib.suppress(OSError, ValueError):
        (held,) = _NUMBER.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, _NOTHING))
        return sent - int(held)
    return sent


def has_unread(sock: socket.socket) -> bool:
    """Return whether something that the peer has sent waits in a socket.

    Args:
        sock: A connected socket.
    """
    try:
        return any(fcntl.ioctl(sock.fileno(), termios.FIONREAD, _NOTHING))
    except (OSError, ValueError):
        return False
