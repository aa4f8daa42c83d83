"""Waiting for one socket: what a worker thread does when the application asked for more than has arrived."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from secureserve.tls.engines.base import Want

if TYPE_CHECKING:
    import socket

__all__ = ["wait_for"]


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
