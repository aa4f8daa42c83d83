"""The Front: every step of a connection that must not wait for its peer, in one place to poll and to step.

Which threads poll, how many, and when, is not decided here: see `secureserve.http.monitor`. The steps assume nothing of
it but that each is taken by one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from secureserve.errors import HandshakeFailed, PeerError, PeerTimeout
from secureserve.front.arrivals import Arrivals
from secureserve.front.connection import Connection, State
from secureserve.front.deadlines import NEVER
from secureserve.front.exchanges import Exchanges
from secureserve.front.limits import ConnectionLimits
from secureserve.front.registry import Registry

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from secureserve.clock import Clock
    from secureserve.front.accounting import Accounting
    from secureserve.front.conversation import Conversation
    from secureserve.front.listener import Listener
    from secureserve.front.reverse_dns import ReverseDNS
    from secureserve.front.settings import FrontSettings
    from secureserve.tls.engines.base import Transport

__all__ = ["Front", "Observer"]

TOGETHER: Final = 16
"""Connections that a thread which polls alone learns of at once: it spares the others a system call each."""
HELD_SECONDS: Final = 0.05
"""When to look again at a connection that is due, but that a thread is just then taking a step with."""


class Observer:
    """What the Front tells of. Both methods may be called by any thread, and must be quick."""

    def refused(self, connection: Connection, error: PeerError) -> None:
        """Take note of a peer's fault."""

    def broken(self, connection: Connection, error: Exception) -> None:
        """Take note of a fault of our own, which has cost this connection."""


class Front:
    """The non-blocking side of one server.

    Args:
        settings: What each peer is granted.
        timeout: Seconds from which the phases take their deadlines unless set.
        clock: Tells the time.
        accounting: Counts.
        observer: Is told of what goes wrong.
        converse: Makes the HTTP side of a connection.
        secure: Puts TLS on an accepted socket; None for a server that speaks plain HTTP.
        reverse_dns: Looks up clients' names; None for no look-ups.

    Threads: `poll`, `advance` and `run` by any number; `expire` by one at a time; `open`, `drain`, `cut` and `close` by
    whoever starts and stops the server.
    """

    def __init__(
        self,
        *,
        settings: FrontSettings,
        timeout: float,
        clock: Clock,
        accounting: Accounting,
        observer: Observer,
        converse: Callable[[Connection], Conversation],
        secure: Callable[[socket.socket], Transport] | None,
        reverse_dns: ReverseDNS | None,
    ) -> None:
        timeouts = settings.timeouts(timeout)
        limits = ConnectionLimits(settings.max_connections, settings.max_connections_per_address)
        self.registry = Registry(clock, accounting, limits, settings.max_idle_connections)
        self._arrivals = Arrivals(
            self.registry,
            settings=settings,
            timeouts=timeouts,
            clock=clock,
            accounting=accounting,
            limits=limits,
            converse=converse,
            secure=secure,
            reverse_dns=reverse_dns,
        )
        self._exchanges = Exchanges(self.registry, settings, timeouts)
        self._steps = self._arrivals.steps | self._exchanges.steps
        self._poller = self.registry.poller
        self._clock = clock
        self._accounting = accounting
        self._observer = observer

    @property
    def connections(self) -> set[Connection]:
        """Every connection there is."""
        return self.registry.connections

    @property
    def draining(self) -> bool:
        """Whether the server is on its way to stop."""
        return self.registry.draining

    # The life of the Front.

    def open(self, listeners: Iterable[Listener]) -> None:
        """Start accepting from `listeners`, which are the Front's from now on."""
        for listener in listeners:
            self._arrivals.open(listener)

    def drain(self) -> None:
        """Accept no more, let go of those who are between requests, and keep no connection open after its request."""
        registry = self.registry
        registry.draining = True
        self._arrivals.close()
        for connection in registry.quiet():
            registry.dismiss(connection)
        if not registry.connections:
            registry.on_empty()

    def cut(self) -> None:
        """Break off what is left."""
        self.registry.cut()

    def close(self) -> None:
        """Release everything. No thread may be polling."""
        self._arrivals.close()
        self.registry.close()

    # Polling.

    def poll(self, timeout: float | None) -> Connection | None:
        """Wait for a connection that is ready, and claim it.

        Args:
            timeout: Seconds; None waits until there is one, or until `wake`.

        Returns:
            A connection to `advance`, just accepted perhaps; None when there is none.
        """
        fd = self._poller.poll(timeout)
        return None if fd is None else self._found(fd)

    def poll_arrival(self) -> Connection | None:
        """Claim a connection that has not been admitted yet and is ready, without waiting; None if there is none."""
        fd = self._poller.poll_arrival()
        return None if fd is None else self._found(fd)

    def wake_one(self) -> None:
        """Make one `poll` return, which is under way or comes next."""
        self._poller.wake_one()

    def polled_by(self, threads: int) -> bool:
        """Be told how many threads poll: a lone one may ask the kernel for several connections at once.

        Returns:
            Whether connections are ready that the kernel will not tell of again, so that a thread which waits for it
            must be woken.
        """
        self._poller.at_once = TOGETHER if threads == 1 else 1
        return self._poller.has_found()

    def next_deadline(self) -> float:
        """Return when `expire` should be called, in seconds of the monotonic clock."""
        return min(self.registry.deadlines.earliest(), self._arrivals.retry_at)

    def expire(self) -> None:
        """Deal with everything whose deadline has passed."""
        now = self._clock.monotonic()
        if self._arrivals.retry_at <= now:
            self._arrivals.accept_again()
        registry = self.registry
        for connection in registry.deadlines.due(now):
            if connection.alarm.deadline > now:
                # It was served since, and has a deadline of its own again.
                continue
            if not registry.claim(connection):
                registry.deadlines.again(connection.alarm, now + HELD_SECONDS)
            elif connection.alarm.deadline > now:
                registry.give_back(connection)
            else:
                self._guard(self._too_late, connection)

    # What a thread does with a connection that it has.

    def advance(self, connection: Connection) -> bool:
        """Take the connection's steps until it waits for its peer, or is over, or needs a worker thread.

        Returns:
            Whether a request is ready to run; then the connection stays the caller's.
        """
        try:
            return self._advance(connection)
        except BaseException as error:  # noqa: BLE001 - sorted there
            return self._failed(connection, error)

    def run(self, connection: Connection) -> bool:
        """Run the request that is ready, and what follows from it.

        Returns:
            Whether the next request is ready already; then the connection stays the caller's.
        """
        connection.move(State.ACTIVE)
        connection.alarm.deadline = NEVER
        try:
            outcome = self._exchanges.run(connection)
            return self._advance(connection) if outcome is None else outcome
        except BaseException as error:  # noqa: BLE001 - sorted there
            return self._failed(connection, error)

    def refuse(self, connection: Connection, error: PeerError) -> None:
        """Answer with what the error says, and part."""
        self._guard(lambda connection: self._refuse(connection, error), connection)

    def end(self, connection: Connection, reason: str) -> None:
        """Close the connection, at once and without a word."""
        self.registry.end(connection, reason)

    # Inside.

    def _found(self, fd: int) -> Connection | None:
        return self.registry.found(fd) or self._arrivals.accept(fd)

    def _guard(self, step: Callable[[Connection], bool | None], connection: Connection) -> bool:
        try:
            return bool(step(connection))
        except BaseException as error:  # noqa: BLE001 - sorted there
            return self._failed(connection, error)

    def _failed(self, connection: Connection, error: BaseException) -> bool:
        """Deal with what went wrong in a step: it costs this connection, and nobody else anything."""
        if not isinstance(error, PeerError):
            return self._lost(connection, error)
        try:
            return self._refuse(connection, error)
        except BaseException as failure:  # noqa: BLE001 - sorted there
            return self._lost(connection, failure)

    def _lost(self, connection: Connection, error: BaseException) -> bool:
        """End a connection with whose peer nothing can be settled any more."""
        registry = self.registry
        if isinstance(error, ConnectionAbortedError):
            registry.abort(connection, "aborted")
        elif isinstance(error, ConnectionError):
            registry.end(connection, "reset")
        elif not isinstance(error, Exception):
            registry.end(connection, "error")
            raise error
        elif connection.state is not State.CLOSED:
            # Else the server was stopped under a request that ran too long, and there is nobody to answer any more.
            self._observer.broken(connection, error)
            registry.end(connection, "error")
        return False

    def _advance(self, connection: Connection) -> bool:
        while True:
            outcome = self._steps[connection.state](connection)
            if outcome is not None:
                return outcome

    def _refuse(self, connection: Connection, error: PeerError) -> bool:
        self._accounting.refused(error.reason)
        self._observer.refused(connection, error)
        if not connection.admitted:
            # Closed over what the peer has sent since (with TLS 1.3, a request), the socket would lose our alert.
            connection.linger = isinstance(error, HandshakeFailed) and error.alert is not None
            self.registry.part(connection, error.reason)
            return False
        outcome = self._exchanges.answer(connection, error)
        return self._advance(connection) if outcome is None else outcome

    def _too_late(self, connection: Connection) -> bool | None:
        if connection.admitted or connection.state is State.LINGERING:
            return self._exchanges.too_late(connection, self._clock.monotonic())
        if connection.state is State.HANDSHAKE:
            self._accounting.handshake("timeout", 0.0)
        raise PeerTimeout(f"The client said nothing more in the phase {connection.state.value}.")
