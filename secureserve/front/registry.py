"""Every connection there is: which wait, who has the others, and how they end.

Theory of operation
-------------------
A connection that waits is in `_waiting`, armed in the poller, and belongs to nobody. Two things end its rest: the
poller tells a thread that it is ready, or its deadline passes. Both claim it by taking it out of `_waiting`, one atomic
`pop` that only one thread wins; the winner has the connection to itself until it arms it again, runs its request or
closes it. No connection has a lock.

A claim may come for nothing (the descriptor was closed and its number given to a newcomer between the poll and the
`pop`). That is harmless: every step takes what is there without waiting, and arms again, and arming looks afresh at
whether the descriptor is ready.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from secureserve.front.connection import Connection, State
from secureserve.front.deadlines import Deadlines
from secureserve.front.poller import Poller
from secureserve.front.waiting import has_unread
from secureserve.tls.engines.base import Want

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.clock import Clock
    from secureserve.front.accounting import Accounting
    from secureserve.front.limits import ConnectionLimits
    from secureserve.tls.engines.base import Transport

__all__ = ["Registry"]

LINGER_AT_MOST: Final = 1024 * 1024
"""Bytes of a refused request that are read and thrown away before the connection is cut."""
BEHIND_A_RESPONSE: Final = frozenset({"finished", "stopped"})
"""Reasons for which a connection ends whose last response may still be on its way."""
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER without time: the peer is told that the connection broke, not that it ended."""


class Registry:
    """The connections of one server.

    Args:
        clock: Tells the time.
        accounting: Counts how connections end.
        limits: Counts those that there are.
        max_idle: How many may be idle; beyond it the longest idle is closed.

    Attributes:
        connections: All of them.
        draining: Whether the server wants to be rid of them.
        on_earlier_deadline: Called when something is due earlier than all else.
        on_room: Called when a connection has ended, and with it a descriptor is free.
        on_empty: Called while draining when there is none left.

    Threads: any, each for a connection that it has; see above.
    """

    def __init__(self, clock: Clock, accounting: Accounting, limits: ConnectionLimits, max_idle: int) -> None:
        self.connections: set[Connection] = set()
        self.draining = False
        self.on_earlier_deadline: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing
        self.on_empty: Callable[[], None] = _nothing
        self.poller = Poller()
        self.deadlines: Deadlines[Connection] = Deadlines()
        self._clock = clock
        self._accounting = accounting
        self._limits = limits
        self._max_idle = max_idle
        self._waiting: dict[int, Connection] = {}
        self._idle: dict[int, Connection] = {}

    def enter(self, connection: Connection) -> None:
        """Take in a connection that was accepted; it is the caller's."""
        self.connections.add(connection)

    def admit(self, connection: Connection) -> None:
        """Let a connection be served: it is no arrival any more."""
        connection.admitted = True

    # Waiting, and who has whom.

    def set_deadline(self, connection: Connection, deadline: float) -> None:
        """Set when the connection is due."""
        if self.deadlines.set(connection.alarm, deadline):
            self.on_earlier_deadline()

    def wait(self, connection: Connection, want: Want, deadline: float) -> None:
        """Give the connection up until it is ready or due."""
        if connection.polled_as is not connection.admitted and not self._enrol(connection):
            return
        self.set_deadline(connection, deadline)
        connection.want, connection.turn_began = want, None
        self._waiting[connection.fd] = connection
        # Looked at last: whoever drains finds it waiting, or is seen here.
        if self.draining and connection.is_quiet():
            self.dismiss(connection)
            return
        self._arm(connection)

    def wait_idle(self, connection: Connection, want: Want, deadline: float) -> None:
        """Give the connection up between two requests."""
        if not connection.polled_as and not self._enrol(connection):
            return
        if self.deadlines.set(connection.alarm, deadline):
            self.on_earlier_deadline()
        connection.want, connection.turn_began = want, None
        self._idle[connection.fd] = self._waiting[connection.fd] = connection
        if self.draining:
            self.dismiss(connection)
            return
        self._arm(connection)
        if len(self._idle) > self._max_idle:
            self.evict()

    def found(self, fd: int) -> Connection | None:
        """Claim the connection that a poll told of; None if another thread was quicker, or there is none."""
        connection = self._waiting.pop(fd, None)
        if connection is not None:
            self._idle.pop(fd, None)
        return connection

    def claim(self, connection: Connection) -> bool:
        """Claim a connection whose time has come; return whether it waited."""
        fd = connection.fd
        if self._waiting.get(fd) is not connection:
            return False
        found = self._waiting.pop(fd, None)
        if found is not connection:
            if found is not None:
                # The number went to a newcomer between the look and the pop: put it back, and look afresh.
                self._waiting[fd] = found
                self._arm(found)
            return False
        self._idle.pop(fd, None)
        return True

    def give_back(self, connection: Connection) -> None:
        """Let a connection wait again as it did before it was claimed."""
        if connection.state is State.IDLE:
            self._idle[connection.fd] = connection
        self._waiting[connection.fd] = connection
        self._arm(connection)

    def quiet(self) -> list[Connection]:
        """Return those that wait and have no request under way."""
        return [connection for connection in list(self._waiting.values()) if connection.is_quiet()]

    def dismiss(self, connection: Connection) -> None:
        """Part with a connection that waits for a request, if it still does."""
        if self.claim(connection):
            if connection.is_quiet():
                self.part(connection, "stopped")
            else:
                self.give_back(connection)

    def evict(self) -> bool:
        """Part with the connection that has been idle longest; return whether there was one."""
        for connection in list(self._idle.values()):
            if self.claim(connection):
                self.part(connection, "evicted")
                return True
        return False

    def _enrol(self, connection: Connection) -> bool:
        """Make a connection known to the poller, when it waits for the first time, or for the first time as admitted.

        That is done while nobody else can claim it, since whoever does may arm it again at once.

        Returns:
            Whether the kernel had room for it; otherwise the connection is over.
        """
        was_arrival = connection.polled_as is not None
        connection.polled_as = connection.admitted
        try:
            if connection.admitted:
                self.poller.admit(connection.fd, arrived=was_arrival)
            else:
                self.poller.add(connection.fd)
        except OSError:
            self.end(connection, "error")
            return False
        return True

    def _arm(self, connection: Connection) -> None:
        write = connection.want is Want.WRITE
        try:
            if connection.admitted:
                self.poller.arm(connection.fd, write=write)
            else:
                self.poller.arm_arrival(connection.fd, write=write)
        except OSError:
            # A hang-up is told of a connection at rest too: since it began to wait another thread may have claimed it,
            # and closed or moved its descriptor.
            return

    # Ending.

    def part(self, connection: Connection, reason: str) -> None:
        """Say farewell as TLS wants it, and close: at once, or after the peer has had time to read our last words."""
        try:
            if connection.admitted:
                connection.transport.close_notify()
                if reason in BEHIND_A_RESPONSE and not connection.linger:
                    # Closed over what the peer has sent since, the socket would take back what it has not read (RFC
                    # 9112, 9.6).
                    connection.linger = connection.conversation.has_rest() or has_unread(connection.transport.sock)
            if connection.linger:
                _shut_down(connection.transport, socket.SHUT_WR)
                connection.begin(State.LINGERING)
                self.discard(connection)
                return
        except ConnectionError:
            reason = "reset"
        self.end(connection, reason)

    def discard(self, connection: Connection) -> bool:
        """Throw away what a peer still sends that has had its last answer."""
        try:
            while connection.moved < LINGER_AT_MOST:
                # Read below TLS: what the peer still says is not looked at.
                data = os.read(connection.fd, 64 * 1024)
                if not data:
                    break
                connection.moved += len(data)
        except BlockingIOError:
            self.wait(connection, Want.READ, connection.since + connection.timeouts.linger)
            return False
        self.end(connection, "finished")
        return False

    def abort(self, connection: Connection, reason: str) -> None:
        """Break the connection off so that the peer cannot take what it has for a complete response."""
        with contextlib.suppress(OSError):
            connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.end(connection, reason)

    def end(self, connection: Connection, reason: str) -> None:
        """Close the connection, at once and without a word."""
        if connection.state is State.CLOSED:
            return
        connection.state = State.CLOSED
        connection.alarm.cancel()
        if connection.lookup is not None:
            connection.lookup.cancel()
        connection.transport.close()
        connection.release()
        self.connections.discard(connection)
        self._limits.release(connection.counted_as)
        self._accounting.closed(reason)
        self.on_room()
        if self.draining and not self.connections:
            self.on_empty()

    def cut(self) -> None:
        """Break off what is left: close what waits, and shut down under the threads that still have one."""
        for connection in list(self.connections):
            if self.claim(connection):
                self.end(connection, "cut")
            else:
                _shut_down(connection.transport)

    def close(self) -> None:
        """End every connection and release the poller. No thread may be polling."""
        for connection in list(self.connections):
            self.end(connection, "cut")
        self.poller.close()


def _shut_down(transport: Transport, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):
        transport.sock.shutdown(how)


def _nothing() -> None:
    return
