"""Waiting for many sockets at once, each told of once: the thin skin over the kernel's epoll."""

from __future__ import annotations

import contextlib
import os
import select
from collections import deque
from typing import Final

__all__ = ["Poller"]

READ: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
WRITE: Final = select.EPOLLOUT | select.EPOLLONESHOT
ARRIVAL: Final = select.EPOLLIN | select.EPOLLONESHOT
AT_REST: Final = select.EPOLLONESHOT
"""Nothing is waited for; a hang-up may still be told, once."""


class Poller:
    """Descriptors that wait, in two classes: those that are served, and arrivals.

    An arrival (a listener, or a connection whose handshake is not done) waits in an epoll of its own that is one entry
    of the outer one. However many arrivals are ready, they are one event among those of the connections being served,
    so that no request that is ready waits for a queue of handshakes.

    A descriptor is told of once and then rests until it is armed again, so that it belongs to one thread meanwhile.

    The kernel may be asked for several at once. Those that `poll` does not return at once wait here, for the next call
    by whatever thread. A thread that waits in the kernel meanwhile does not learn of them, so ask for several only
    while one thread polls.

    Attributes:
        at_once: How many descriptors to ask the kernel for.

    Threads: everything by any thread at any time, `close` last but for `wake_one`.
    """

    __slots__ = ("_arrivals", "_arrivals_fd", "_found", "_served", "_wake_fd", "at_once")

    def __init__(self) -> None:
        self.at_once = 1
        self._found: deque[int] = deque()
        self._served = select.epoll()
        self._arrivals = select.epoll()
        self._arrivals_fd = self._arrivals.fileno()
        # Always readable: arming it is what wakes.
        self._wake_fd = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._served.register(self._arrivals_fd, ARRIVAL)
        self._served.register(self._wake_fd, AT_REST)

    def add(self, fd: int) -> None:
        """Take in `fd`, which was not known before, at rest: `arm_arrival` waits for it."""
        self._arrivals.register(fd, AT_REST)

    def arm_arrival(self, fd: int, *, write: bool = False) -> None:
        """Wait again for an arrival on `fd`."""
        self._arrivals.modify(fd, WRITE if write else READ)

    def admit(self, fd: int, *, arrived: bool = True) -> None:
        """Move `fd` from the arrivals, or where it never was one from nowhere, to those being served, at rest."""
        if arrived:
            self._arrivals.unregister(fd)
        self._served.register(fd, AT_REST)

    def arm(self, fd: int, *, write: bool = False) -> None:
        """Wait again for `fd`, which was admitted."""
        self._served.modify(fd, WRITE if write else READ)

    def poll(self, timeout: float | None) -> int | None:
        """Return a descriptor that is ready; None after `timeout` seconds, when woken, or if another was quicker."""
        found = self._found
        if found:
            try:
                fd = found.popleft()
            except IndexError:
                return None
        else:
            events = self._served.poll(timeout, self.at_once)
            if not events:
                return None
            fd = events[0][0]
            if len(events) > 1:
                found.extend([each for each, _ in events[1:]])
        if fd == self._arrivals_fd:
            arrival = self.poll_arrival()
            # Armed again before the arrival is served, so that another thread may take the next one meanwhile.
            self._served.modify(fd, ARRIVAL)
            return arrival
        return None if fd == self._wake_fd else fd

    def has_found(self) -> bool:
        """Return whether descriptors are ready that no `poll` has returned yet."""
        return bool(self._found)

    def poll_arrival(self) -> int | None:
        """Return an arrival that is ready, without waiting; None if there is none."""
        found = self._arrivals.poll(0, 1)
        return found[0][0] if found else None

    def wake_one(self) -> None:
        """Make one `poll` return, which is under way or comes next. Harmless when closed."""
        with contextlib.suppress(ValueError):
            self._served.modify(self._wake_fd, ARRIVAL)

    def close(self) -> None:
        """Release the kernel's objects. No thread may be polling."""
        self._served.close()
        self._arrivals.close()
        os.close(self._wake_fd)
