"""One accepted connection: the states it goes through, what waits in it, and what a worker thread may do with it."""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Final

from secureserve.errors import PeerTimeout
from secureserve.front.conversation import NOTHING_SAID
from secureserve.front.deadlines import Alarm
from secureserve.front.waiting import acknowledged, wait_for
from secureserve.tls.engines.base import RECORD, Want

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from secureserve.clock import Clock
    from secureserve.front.conversation import Conversation, Supply
    from secureserve.front.proxy_protocol import ProxyHeader, ProxyHeaderParser
    from secureserve.front.reverse_dns import Lookup
    from secureserve.front.settings import FrontSettings, Timeouts
    from secureserve.tls.engines.base import Transport

__all__ = ["TRANSITIONS", "Connection", "State"]

SENT_AT_ONCE: Final = 64 * RECORD
"""What one call sends at the most, which it does without the interpreter lock and, while the peer takes it, without an
end: about a millisecond of it."""


class State(enum.Enum):
    """Where a connection is."""

    NEW = "new"
    """Accepted; its first byte will tell what it speaks. Waits for the peer."""
    PROXY = "proxy"
    """A PROXY protocol header comes first. Waits for the peer."""
    HANDSHAKE = "handshake"
    """The TLS handshake is under way. Waits for the peer."""
    HEAD = "head"
    """Part of a request head may have arrived. Waits for the peer."""
    BODY = "body"
    """The head is complete; a body is being gathered. Waits for the peer."""
    QUEUED = "queued"
    """A request is complete, and no worker thread is free. Waits for us."""
    ACTIVE = "active"
    """A worker thread runs the request. Waits for us, or for more of a large body."""
    FLUSHING = "flushing"
    """The response is complete; the peer has not taken all of it. Waits for the peer."""
    IDLE = "idle"
    """Between two requests. Waits for the peer."""
    LINGERING = "lingering"
    """We have said our last; what the peer still sends is thrown away. Waits for the peer."""
    CLOSED = "closed"
    """Over."""

    # Members are unique objects. The hash of an Enum is made by Python code, and states are looked up all the time.
    __hash__ = object.__hash__


_QUIET: Final = frozenset({State.NEW, State.PROXY, State.HANDSHAKE, State.IDLE})
_END: Final = frozenset({State.CLOSED})
_LAST_WORDS: Final = frozenset({State.FLUSHING, State.LINGERING, State.CLOSED})

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.NEW: frozenset({State.PROXY, State.HANDSHAKE, State.HEAD}) | _LAST_WORDS,
    State.PROXY: frozenset({State.HANDSHAKE, State.HEAD}) | _LAST_WORDS,
    State.HANDSHAKE: frozenset({State.HEAD, State.LINGERING}) | _END,
    State.HEAD: frozenset({State.BODY, State.QUEUED, State.ACTIVE}) | _LAST_WORDS,
    State.BODY: frozenset({State.QUEUED, State.ACTIVE}) | _LAST_WORDS,
    State.QUEUED: frozenset({State.ACTIVE}) | _LAST_WORDS,
    State.ACTIVE: frozenset({State.HEAD, State.BODY, State.QUEUED, State.ACTIVE, State.IDLE}) | _LAST_WORDS,
    State.FLUSHING: frozenset({State.HEAD, State.BODY, State.QUEUED, State.ACTIVE, State.IDLE}) | _LAST_WORDS,
    State.IDLE: frozenset({State.HEAD}) | _LAST_WORDS,
    State.LINGERING: _END,
    State.CLOSED: frozenset(),
}
"""From which state to which. Whatever waits for the peer has a deadline, and passing it leads towards CLOSED."""


class Connection:
    """One accepted transport and all that is held for it.

    Threads: one at a time has the connection: the one that a poll told of it, or that took it from those waiting; it
    gives it up by arming it again. `write` and `read` may wait and are for worker threads, while ACTIVE.
    """

    __slots__ = (
        "address",
        "admitted",
        "alarm",
        "client",
        "clock",
        "conversation",
        "counted_as",
        "fd",
        "keep_open",
        "linger",
        "lookup",
        "moved",
        "out",
        "out_size",
        "paused",
        "plain_on_tls",
        "polled_as",
        "proxy",
        "proxy_parser",
        "queued_at",
        "received_size",
        "sent_size",
        "settings",
        "since",
        "state",
        "streamed",
        "supply",
        "taken",
        "timeouts",
        "transport",
        "turn_began",
        "want",
    )

    def __init__(
        self, transport: Transport, address: tuple[str, int], settings: FrontSettings, timeouts: Timeouts, clock: Clock
    ) -> None:
        self.transport = transport
        self.address = address
        self.settings = settings
        self.timeouts = timeouts
        self.clock = clock
        self.fd = transport.fileno()
        self.state = State.NEW
        self.since = self.paused = clock.monotonic()
        self.alarm = Alarm(self)
        self.admitted = False
        # What it was when the poller learned of it: None before that, False an arrival, True admitted.
        self.polled_as: bool | None = None
        # What it waits for, if it does; and since when it has been served without waiting, once that is looked at.
        self.want = Want.READ
        self.turn_began: float | None = None
        # Most connections wait with nothing to be sent, and an empty deque has room for 64.
        self.out: deque[memoryview] | None = None
        self.out_size = 0
        self.supply: Supply | None = None
        self.linger = False
        self.keep_open = False
        self.plain_on_tls = False
        self.streamed = False
        self.received_size = 0
        self.sent_size = 0
        self.moved = 0
        self.taken = 0
        self.queued_at = 0.0
        self.client: tuple[str, int] | None = None
        self.counted_as = ""
        self.proxy: ProxyHeader | None = None
        self.proxy_parser: ProxyHeaderParser | None = None
        self.lookup: Lookup | None = None
        self.conversation: Conversation = NOTHING_SAID

    def __repr__(self) -> str:
        return f"<Connection {self.fd} from {self.address!r}, {self.state.value}>"

    def move(self, state: State) -> None:
        """Enter `state`.

        Raises:
            RuntimeError: The table knows no way from here to there: a bug of ours.
        """
        if state not in TRANSITIONS[self.state]:
            message = f"a connection cannot go from {self.state.value} to {state.value}"
            raise RuntimeError(message)
        self.state = state

    def begin(self, state: State) -> None:
        """Enter `state` and start its clock: its deadline is counted from now."""
        self.move(state)
        self.since = self.clock.monotonic()
        self.moved = 0

    def begin_sending(self) -> None:
        """Start the clock of the peer's reading, which is counted by what the peer takes from now on."""
        self.since, self.moved = self.clock.monotonic(), 0
        self.taken = acknowledged(self.transport.sock, self.sent_size)

    def is_quiet(self) -> bool:
        """Return whether the peer has no request under way, so that the connection can be closed without loss."""
        return self.state in _QUIET or (self.state is State.HEAD and not self.conversation.has_begun())

    # What follows is shared by Front steps and worker threads, and never waits.

    def queue(self, data: bytes | memoryview) -> None:
        """Put `data` behind what waits to be sent."""
        if data:
            if self.out is None:
                self.out = deque()
            self.out.append(memoryview(data))
            self.out_size += len(data)

    def flush(self, limit: int) -> Want | None:
        """Send what waits, up to about `limit` bytes; None when nothing waits any more, or the limit was reached.

        Raises:
            ConnectionError: The connection broke.
        """
        send = self.transport.send
        sent = 0
        while sent < limit:
            out = self.out
            if out is None:
                if self.supply is None:
                    return None
                self._draw()
                continue
            view = out[0]
            taken = send(view[:SENT_AT_ONCE])
            if isinstance(taken, Want):
                return taken
            sent += taken
            self.sent_size += taken
            self.out_size -= taken
            if taken == len(view):
                out.popleft()
                self.out = out or None
            else:
                out[0] = view[taken:]
        return None

    def has_output(self) -> bool:
        """Return whether something waits to be sent."""
        return self.out is not None or self.supply is not None

    def receive(self) -> bytes | Want:
        """Return what has arrived; ``b""`` at the end of the stream.

        Raises:
            ConnectionError: The connection broke.
        """
        data = self.transport.receive(RECORD)
        if not isinstance(data, Want):
            self.received_size += len(data)
            self.moved += len(data)
        return data

    def _draw(self) -> None:
        supply = self.supply
        assert supply is not None  # noqa: S101 - the caller has looked
        try:
            self.queue(next(supply))
        except StopIteration:
            self.supply = None
            supply.close()

    def release(self) -> None:
        """Let go of everything that is held for the peer."""
        self.out = None
        self.out_size = 0
        supply, self.supply = self.supply, None
        if supply is not None:
            supply.close()
        conversation, self.conversation = self.conversation, NOTHING_SAID
        conversation.close()

    # What follows is for worker threads: it waits, within bounds.

    def write(self, data: bytes) -> None:
        """Send `data`, or keep what the peer does not take at once for the Front to flush.

        Waits only while more than ``max_buffered_response_size`` is held already.

        Raises:
            PeerTimeout: The peer does not read fast enough.
            ConnectionError: The connection broke.
        """
        if self.out is None and self.supply is None:
            size = len(data)
            if size > SENT_AT_ONCE:
                self.queue(data)
                self.flush(size)
                return
            taken = self.transport.send(data)
            if taken == size:
                self.sent_size += size
                return
            if isinstance(taken, Want):
                self.queue(data)
                return
            self.sent_size += taken
            self.queue(memoryview(data)[taken:])
            self.flush(size)
            return
        self._make_room()
        self.queue(data)
        self.flush(self.out_size)

    def begin_body(self) -> None:
        """Start the clock of a body that is read while its request runs."""
        self.since = self.paused = self.clock.monotonic()
        self.moved = 0

    def read(self) -> bytes:
        """Return more of a body that is too large to be gathered, waiting for it; ``b""`` at the end of the stream.

        Raises:
            PeerTimeout: The peer does not send fast enough.
            ConnectionError: The connection broke.
        """
        self._resume_body()
        while True:
            data = self.receive()
            if not isinstance(data, Want):
                self.paused = self.clock.monotonic()
                return data
            self._wait_for_body(data)

    def read_into(self, buffer: memoryview) -> int:
        """Put what has arrived of a body into `buffer`, waiting until there is some, and return its size.

        Returns:
            0 at the end of the stream.

        Raises:
            PeerTimeout: The peer does not send fast enough.
            ConnectionError: The connection broke.
        """
        self._resume_body()
        self.streamed = True
        receive_into, size = self.transport.receive_into, 0
        while size < len(buffer):
            got = receive_into(buffer[size:])
            if isinstance(got, Want):
                if size:
                    break
                self._wait_for_body(got)
            elif got:
                size += got
                self.moved += got
                self.received_size += got
            else:
                break
        self.paused = self.clock.monotonic()
        return size

    def _resume_body(self) -> None:
        # The time that the application took since the last read is not the peer's. What it wrote had its own clock.
        now = self.clock.monotonic()
        self.since = min(self.since + now - self.paused, now)

    def _wait_for_body(self, want: Want) -> None:
        self._wait(want, self.receiving_until, "send its request body", self.settings.min_body_rate)

    def _make_room(self) -> None:
        limit = self.settings.max_buffered_response_size
        if self.out_size <= limit and self.supply is None:
            return
        self.begin_sending()
        while self.out_size > limit or self.supply is not None:
            want = self.flush(self.out_size)
            if want is None:
                if self.supply is None:
                    return
                continue
            self._wait(want, self.sending_until, "read the response", self.settings.min_write_rate)

    def _wait(self, want: Want, until: Callable[[], float], what: str, rate: int) -> None:
        remaining = until() - self.clock.monotonic()
        if remaining <= 0 or not wait_for(self.transport.sock, want, remaining):
            if until() > self.clock.monotonic():
                return
            message = f"The client did not {what} at {rate} bytes per second."
            raise PeerTimeout(message)

    # How long a transfer may take.

    def receiving_until(self) -> float:
        """Return until when more of a body has to arrive."""
        return self._allowed_until(self.timeouts.read_body, self.settings.min_body_rate)

    def sending_until(self) -> float:
        """Return until when the peer has to read more."""
        # What the kernel took from us says nothing of the peer: it takes megabytes for one that reads nothing, too.
        # Nor does what a send returned: TLS tells of no part of it before the whole is sent.
        taken = acknowledged(self.transport.sock, self.sent_size)
        self.moved = max(self.moved + taken - self.taken, 0)
        self.taken = taken
        return self._allowed_until(self.timeouts.write, self.settings.min_write_rate)

    def _allowed_until(self, grace: float, rate: int) -> float:
        """Return the deadline of a transfer that has `grace` seconds, and then must keep up `rate` bytes a second.

        Time that was saved by being quicker is not granted later: whoever stops has `grace` seconds from then.
        """
        now = self.clock.monotonic()
        if self.moved and self.moved >= rate * (now - self.since):
            self.since, self.moved = now, 0
        return self.since + grace + (self.moved / rate if rate else 0.0)
