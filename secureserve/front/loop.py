"""The Front: every step of a connection that must not wait for its peer.

Theory of operation
-------------------
A connection that waits is in `_waiting`, armed in the poller, and belongs to nobody. Two things end its rest: the poller
tells a thread that it is ready, or its deadline passes. Both claim it by taking it out of `_waiting`, one atomic `pop`
that only one thread wins; the winner has the connection to itself until it arms it again, runs its request or closes it.
No connection has a lock.

A claim may come for nothing (the descriptor was closed and its number given to a newcomer between the poll and the
`pop`). That is harmless: every step takes what is there without waiting, and arms again, and arming looks afresh at
whether the descriptor is ready.

Which threads poll, how many, and when, is not decided here: see `secureserve.http.workers`. The steps assume nothing of it but
that each is taken by one thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from secureserve.errors import HandshakeFailed, PeerError, PeerTimeout, PlainHTTPOnTLSPort
from secureserve.front.addresses import TrustedNetworks
from secureserve.front.connection import Connection, Conversation, Need, State
from secureserve.front.deadlines import NEVER, Deadlines
from secureserve.front.limits import Admission, ConnectionLimits
from secureserve.front.listener import AcceptStatus, Listener
from secureserve.front.poller import Poller
from secureserve.front.proxy_protocol import ProxyHeaderParser, ProxyProgress
from secureserve.tls.engines.base import Want
from secureserve.tls.engines.plain import PlainTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from secureserve.clock import Clock
    from secureserve.front.accounting import Accounting
    from secureserve.front.reverse_dns import ReverseDNS
    from secureserve.front.settings import FrontSettings
    from secureserve.tls.engines.base import Transport

__all__ = ["Front", "Observer"]

ACCEPT_AT_ONCE: Final = 64
"""Connections accepted in one step, so that a flood of them delays nobody who is being served."""
FLUSH_AT_ONCE: Final = 256 * 1024
"""Bytes flushed in one step, so that a quick reader of a large response does not keep the thread."""
ACCEPT_AGAIN_SECONDS: Final = 0.5
"""When to try accepting again after the descriptors ran out, if nothing was closed before."""
LINGER_AT_MOST: Final = 1024 * 1024
"""Bytes of a refused request that are read and thrown away before the connection is cut."""

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER without time: the peer is told that the connection broke, not that it ended."""


class Observer:
    """What the Front tells of. Every method may be called by any thread, and must be quick."""

    def refused(self, connection: Connection, error: PeerError) -> None:
        """Take note of a peer's fault."""

    def shaken(self, connection: Connection, seconds: float) -> None:
        """Take note of a handshake that was completed."""

    def broken(self, connection: Connection, error: Exception) -> None:
        """Take note of a fault of our own, which has cost this connection."""


class Door:
    """A listener as the Front keeps it: it may have to rest until a descriptor is free."""

    __slots__ = ("deadline", "entry", "listener")

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.deadline = NEVER
        self.entry = NEVER


class Front:
    """The connections of one server, and their steps.

    Args:
        settings: What each peer is granted.
        timeout: Seconds from which the phases take their deadlines unless set.
        clock: Tells the time.
        accounting: Counts.
        observer: Is told of what peers do wrong.
        converse: Makes the HTTP side of a connection.
        secure: Puts TLS on an accepted socket; None for a server that speaks plain HTTP.
        reverse_dns: Looks up clients' names; None for no look-ups.

    Threads: `poll` and `advance` by any number; `expire` by one at a time; `open`, `drain` and `close` by whoever
    starts and stops the server.
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
        self.settings = settings
        self.timeouts = settings.timeouts(timeout)
        self.connections: set[Connection] = set()
        self.draining = False
        self.on_earlier_deadline: Callable[[], None] = _nothing
        self.on_empty: Callable[[], None] = _nothing
        self._clock = clock
        self._accounting = accounting
        self._observer = observer
        self._converse = converse
        self._secure = secure
        self._reverse_dns = reverse_dns
        self._limits = ConnectionLimits(settings.max_connections, settings.max_connections_per_address)
        self._proxies = TrustedNetworks.parse(settings.proxy_allow_ips)
        self._poller = Poller()
        self._deadlines: Deadlines[Connection | Door] = Deadlines()
        self._waiting: dict[int, Connection] = {}
        self._idle: dict[int, Connection] = {}
        self._doors: dict[int, Door] = {}
        self._resting: list[Door] = []
        self._steps: dict[State, Callable[[Connection], bool | None]] = {
            State.NEW: self._first_byte,
            State.PROXY: self._read_proxy_header,
            State.HANDSHAKE: self._shake,
            State.HEAD: self._read_head,
            State.BODY: self._read_body,
            State.FLUSHING: self._flush,
            State.IDLE: self._awake,
            State.LINGERING: self._discard,
        }

    # The life of the Front.

    def open(self, listeners: Iterable[Listener]) -> None:
        """Start accepting from `listeners`, which are the Front's from now on."""
        for listener in listeners:
            door = Door(listener)
            self._doors[listener.fileno()] = door
            self._poller.add(listener.fileno())

    def drain(self) -> None:
        """Accept no more, let go of those who are between requests, and keep no connection open after its request."""
        self.draining = True
        for fd in list(self._doors):
            self._doors.pop(fd).listener.close()
        for connection in list(self._waiting.values()):
            if connection.is_quiet() and self._claim(connection):
                self._part(connection, "stopped")
        if not self.connections:
            self.on_empty()

    def cut(self) -> None:
        """Break off what is left: close what waits, and shut down under the threads that still run a request."""
        for connection in list(self.connections):
            if self._claim(connection):
                self.end(connection, "cut")
            else:
                _shut_down(connection.transport)

    def close(self) -> None:
        """Release everything. No thread may be polling."""
        for connection in list(self.connections):
            self.end(connection, "cut")
        self._poller.close()

    # Polling.

    def poll(self, timeout: float | None) -> Connection | None:
        """Wait for a connection that is ready, and claim it.

        Args:
            timeout: Seconds; None waits until there is one, or until `wake`.

        Returns:
            A connection to `advance`; None when there is none, or when what was ready was a listener.
        """
        fd = self._poller.poll(timeout)
        return None if fd is None else self._found(fd)

    def poll_arrival(self) -> Connection | None:
        """Claim a connection that has not been admitted yet and is ready, without waiting; None if there is none."""
        fd = self._poller.poll_arrival()
        return None if fd is None else self._found(fd)

    def _found(self, fd: int) -> Connection | None:
        connection = self._waiting.pop(fd, None)
        if connection is not None:
            self._idle.pop(fd, None)
            return connection
        door = self._doors.get(fd)
        if door is not None:
            self._accept(door)
        return None

    def wake(self) -> None:
        """Make every `poll` return at once, until `rest`."""
        self._poller.wake()

    def rest(self) -> None:
        """Take `wake` back."""
        self._poller.rest()

    def next_deadline(self) -> float:
        """Return when `expire` should be called, in seconds of the monotonic clock."""
        return self._deadlines.earliest()

    def expire(self) -> None:
        """Deal with everything whose deadline has passed."""
        now = self._clock.monotonic()
        for holder in self._deadlines.due(now):
            if isinstance(holder, Door):
                self._accept_again()
            elif self._claim(holder):
                self._guard(self._too_late, holder)

    # What a thread does with a connection that it has.

    def advance(self, connection: Connection) -> bool:
        """Take the connection's steps until it waits for its peer, or is over, or needs a worker thread.

        Returns:
            Whether a request is ready to run; then the connection stays the caller's.
        """
        return self._guard(self._advance, connection)

    def run(self, connection: Connection) -> bool:
        """Run the request that is ready, and what follows from it.

        Returns:
            Whether the next request is ready already; then the connection stays the caller's.
        """
        connection.move(State.ACTIVE)
        return self._guard(self._run, connection)

    def refuse(self, connection: Connection, error: PeerError) -> None:
        """Answer with what the error says, and part."""
        self._guard(self._refuse_step(error), connection)

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
        connection.deadline = NEVER
        if connection.lookup is not None:
            connection.lookup.cancel()
        connection.transport.close()
        connection.release()
        self.connections.discard(connection)
        self._limits.release(connection.counted_as)
        self._accounting.closed(reason)
        if self._resting:
            self._accept_again()
        if self.draining and not self.connections:
            self.on_empty()

    # Inside.

    def _guard(self, step: Callable[[Connection], bool | None], connection: Connection) -> bool:
        try:
            try:
                return bool(step(connection))
            except PeerError as error:
                return bool(self._refuse(connection, error))
        except ConnectionAbortedError:
            self.abort(connection, "aborted")
        except ConnectionError:
            self.end(connection, "reset")
        except Exception as error:  # noqa: BLE001 - a bug costs this connection, and nobody else anything
            if connection.state is State.CLOSED:
                # The server was stopped under a request that ran too long; there is nobody to answer any more.
                return False
            self._observer.broken(connection, error)
            self.end(connection, "error")
        except BaseException:
            self.end(connection, "error")
            raise
        return False

    def _claim(self, connection: Connection) -> bool:
        fd = connection.fd
        if self._waiting.get(fd) is not connection:
            return False
        found = self._waiting.pop(fd, None)
        if found is not connection:
            if found is not None:
                # The number went to a newcomer between the look and the pop: put it back, and look afresh.
                self._waiting[fd] = found
                self._rearm(found, write=False)
            return False
        self._idle.pop(fd, None)
        return True

    def _wait(self, connection: Connection, want: Want, deadline: float) -> None:
        """Give the connection up until it is ready or due."""
        if self.draining and connection.is_quiet():
            self._part(connection, "stopped")
            return
        if self._deadlines.set(connection, deadline):
            self.on_earlier_deadline()
        self._waiting[connection.fd] = connection
        self._rearm(connection, write=want is Want.WRITE)

    def _rearm(self, connection: Connection, *, write: bool) -> None:
        if connection.admitted:
            self._poller.arm(connection.fd, write=write)
        else:
            self._poller.arm_arrival(connection.fd, write=write)

    def _advance(self, connection: Connection) -> bool:
        while True:
            outcome = self._steps[connection.state](connection)
            if outcome is not None:
                return outcome

    # Arriving. Each step returns True: a request is ready; False: waits or over; None: go on with the next step.

    def _accept(self, door: Door) -> None:
        outcome = door.listener.accept_many(ACCEPT_AT_ONCE)
        if outcome.connections:
            self._accounting.accepted(len(outcome.connections))
        for sock, address in outcome.connections:
            self._admit(sock, address)
        if outcome.status is AcceptStatus.EXHAUSTED:
            self._resting.append(door)
            self._deadlines.set(door, self._clock.monotonic() + ACCEPT_AGAIN_SECONDS)
            self.on_earlier_deadline()
            self._evict()
        elif outcome.status is not AcceptStatus.CLOSED and not self.draining:
            self._poller.arm_arrival(door.listener.fileno())

    def _accept_again(self) -> None:
        while self._resting and not self.draining:
            door = self._resting.pop()
            door.deadline = NEVER
            self._poller.arm_arrival(door.listener.fileno())

    def _admit(self, sock: socket.socket, address: tuple[str, int]) -> None:
        proxied = self.settings.proxy_protocol
        if proxied and not self._proxies.trusts(address[0]):
            self._accounting.refused("untrusted_proxy")
            sock.close()
            return
        # A proxy's own address is under no limit; the client is counted once its header has named it.
        counted_as = "" if proxied else address[0]
        admission = self._limits.admit(counted_as)
        if admission is Admission.TOO_MANY and self._evict():
            admission = self._limits.admit(counted_as)
        if admission is not Admission.ADMITTED:
            self._accounting.refused(admission.value)
            sock.close()
            return
        connection = Connection(PlainTransport(sock), address, self.settings, self.timeouts, self._clock)
        connection.counted_as = counted_as
        if proxied:
            connection.begin(State.PROXY)
            connection.proxy_parser = ProxyHeaderParser()
        else:
            self._know_client(connection, address)
        self.connections.add(connection)
        self._deadlines.set(connection, connection.since + self.timeouts.handshake)
        self._waiting[connection.fd] = connection
        try:
            self._poller.add(connection.fd)
        except OSError:
            self._waiting.pop(connection.fd, None)
            self.end(connection, "error")

    def _know_client(self, connection: Connection, address: tuple[str, int]) -> None:
        connection.client = address
        if self._reverse_dns is not None and address[0]:
            connection.lookup = self._reverse_dns.lookup(address[0])

    def _evict(self) -> bool:
        """Part with the connection that has been idle longest."""
        for connection in list(self._idle.values()):
            if self._claim(connection):
                self._part(connection, "evicted")
                return True
        return False

    def _read_proxy_header(self, connection: Connection) -> bool | None:
        parser = connection.proxy_parser
        if parser is None:
            return self._first_byte(connection)
        sock = connection.transport.sock
        try:
            ahead = sock.recv(parser.wants, socket.MSG_PEEK)
        except BlockingIOError:
            self._wait(connection, Want.READ, connection.since + self.timeouts.handshake)
            return False
        if not ahead:
            self.end(connection, "left")
            return False
        header = parser.feed(ahead)
        # What belongs to the header is taken off the socket; what follows it is TLS, and not ours to read.
        sock.recv(len(ahead) if isinstance(header, ProxyProgress) else header.consumed)
        if isinstance(header, ProxyProgress):
            return None
        client = header.source or connection.address
        if self._limits.move("", client[0]) is not Admission.ADMITTED:
            self._accounting.refused(Admission.TOO_MANY_OF_CLIENT.value)
            self.end(connection, "refused")
            return False
        connection.counted_as = client[0]
        connection.proxy, connection.proxy_parser = header, None
        self._know_client(connection, client)
        return self._first_byte(connection)

    def _first_byte(self, connection: Connection) -> bool | None:
        try:
            first = connection.transport.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._wait(connection, Want.READ, connection.since + self.timeouts.handshake)
            return False
        if not first:
            self.end(connection, "left")
            return False
        if self._secure is None:
            self._converse_over(connection)
            return None
        if first.isalpha():
            connection.plain_on_tls = True
            self._converse_over(connection)
            if self.settings.plain_http == "reject":
                message = "This port speaks HTTPS, and the request came as plain HTTP."
                raise PlainHTTPOnTLSPort(message)
            return None
        connection.begin(State.HANDSHAKE)
        connection.transport = self._secure(connection.transport.sock)
        return None

    def _converse_over(self, connection: Connection) -> None:
        self._poller.admit(connection.fd)
        connection.admitted = True
        connection.begin(State.HEAD)
        connection.conversation = self._converse(connection)

    def _shake(self, connection: Connection) -> bool | None:
        try:
            want = connection.transport.handshake()
        except HandshakeFailed as error:
            self._accounting.handshake(error.alert or error.reason, 0.0)
            raise
        if want is not None:
            self._wait(connection, want, connection.since + self.timeouts.handshake)
            return False
        seconds = self._clock.monotonic() - connection.since
        tls = connection.transport.tls
        self._accounting.handshake("resumed" if tls is not None and tls.resumed else "completed", seconds)
        self._observer.shaken(connection, seconds)
        self._converse_over(connection)
        return None

    # Requests.

    def _awake(self, connection: Connection) -> bool | None:
        data = connection.receive()
        if isinstance(data, Want):
            self._rest_idle(connection, data)
            return False
        if not data:
            self._part(connection, "left")
            return False
        connection.begin(State.HEAD)
        return self._proceed(connection, connection.conversation.received(data))

    def _read_head(self, connection: Connection) -> bool | None:
        data = connection.receive()
        if isinstance(data, Want):
            self._wait(connection, data, connection.since + self.timeouts.read_header)
            return False
        if not data:
            self._part(connection, "truncated" if connection.conversation.has_begun() else "left")
            return False
        return self._proceed(connection, connection.conversation.received(data))

    def _read_body(self, connection: Connection) -> bool | None:
        data = connection.receive()
        if isinstance(data, Want):
            self._wait(connection, data, self._body_deadline(connection))
            return False
        if not data:
            self._part(connection, "truncated")
            return False
        return self._proceed(connection, connection.conversation.received(data))

    def _proceed(self, connection: Connection, need: Need) -> bool | None:
        """Go on with what the conversation needs; True where that is a worker thread."""
        if need is Need.WORKER:
            return True
        if need is Need.BODY and connection.state is not State.BODY:
            connection.begin(State.BODY)
            connection.queue(connection.conversation.interim())
            connection.flush(FLUSH_AT_ONCE)
        return None

    def _body_deadline(self, connection: Connection) -> float:
        return connection.allowed_until(self.timeouts.read_body, self.settings.min_body_rate)

    def _flush_deadline(self, connection: Connection) -> float:
        return connection.allowed_until(self.timeouts.write, self.settings.min_write_rate)

    def _run(self, connection: Connection) -> bool:
        keep_open = connection.conversation.run()
        return self._finish(connection, keep_open=keep_open)

    def _finish(self, connection: Connection, *, keep_open: bool) -> bool:
        """Flush what is left of a response, then settle."""
        connection.keep_open = keep_open
        if connection.has_output():
            connection.begin(State.FLUSHING)
            return self._advance(connection)
        return self._settle(connection)

    def _flush(self, connection: Connection) -> bool | None:
        want = connection.flush(FLUSH_AT_ONCE)
        if want is None and connection.has_output():
            want = Want.WRITE
        if want is not None:
            self._wait(connection, want, self._flush_deadline(connection))
            return False
        return self._settle(connection)

    def _settle(self, connection: Connection) -> bool:
        """Look for the next request, or part."""
        if not connection.keep_open or self.draining:
            self._part(connection, "finished")
            return False
        conversation = connection.conversation
        need = conversation.received(b"")
        if need is Need.WORKER:
            return True
        if conversation.has_begun() or connection.transport.pending():
            connection.begin(State.HEAD)
            return bool(self._proceed(connection, need)) or self._advance(connection)
        connection.begin(State.IDLE)
        self._rest_idle(connection, Want.READ)
        return False

    def _rest_idle(self, connection: Connection, want: Want) -> None:
        idle = self._idle
        idle[connection.fd] = connection
        self._wait(connection, want, connection.since + self.timeouts.keep_alive)
        if len(idle) > self.settings.max_idle_connections:
            self._evict()

    # Parting.

    def _too_late(self, connection: Connection) -> None:
        state, now = connection.state, self._clock.monotonic()
        if state is State.IDLE:
            self._part(connection, "idle")
        elif state is State.LINGERING:
            self.end(connection, "finished")
        elif state is State.BODY:
            if (deadline := self._body_deadline(connection)) > now:
                self._wait(connection, Want.READ, deadline)
                return
            message = "The request body did not arrive in time."
            raise PeerTimeout(message)
        elif state is State.FLUSHING:
            if (deadline := self._flush_deadline(connection)) > now:
                self._wait(connection, Want.WRITE, deadline)
                return
            self._accounting.refused("slow_reader")
            self.abort(connection, "timeout")
        elif state is State.HEAD and connection.conversation.has_begun():
            message = "The request head did not arrive in time."
            raise PeerTimeout(message)
        else:
            message = f"The client said nothing more in the phase {state.value}."
            self._observer.refused(connection, PeerTimeout(message))
            if state is State.HANDSHAKE:
                self._accounting.handshake("timeout", 0.0)
            self._part(connection, "timeout")

    def _refuse_step(self, error: PeerError) -> Callable[[Connection], bool]:
        return lambda connection: self._refuse(connection, error)

    def _refuse(self, connection: Connection, error: PeerError) -> bool:
        self._accounting.refused(error.reason)
        self._observer.refused(connection, error)
        if not connection.admitted:
            self.end(connection, error.reason)
            return False
        if connection.state is State.FLUSHING:
            self.abort(connection, error.reason)
            return False
        connection.queue(connection.conversation.answer(error))
        connection.linger = True
        return self._finish(connection, keep_open=False)

    def _part(self, connection: Connection, reason: str) -> None:
        """Say farewell as TLS wants it, and close: at once, or after the peer has had time to read our last words."""
        try:
            if connection.admitted:
                connection.transport.close_notify()
            if connection.linger:
                _shut_down(connection.transport, socket.SHUT_WR)
                connection.begin(State.LINGERING)
                self._discard(connection)
                return
        except ConnectionError:
            reason = "reset"
        self.end(connection, reason)

    def _discard(self, connection: Connection) -> bool:
        try:
            while connection.moved < LINGER_AT_MOST:
                # Read below TLS: what the peer still says is not looked at.
                data = os.read(connection.fd, 64 * 1024)
                if not data:
                    break
                connection.moved += len(data)
        except BlockingIOError:
            self._wait(connection, Want.READ, connection.since + self.timeouts.linger)
            return False
        self.end(connection, "finished")
        return False


def _shut_down(transport: Transport, how: int = socket.SHUT_RDWR) -> None:
    # The socket object may be a TLS one, whose own shutdown() would take the TLS layer off under the thread that uses it.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(transport.fileno())) as duplicate:
        duplicate.shutdown(how)


def _nothing() -> None:
    return
