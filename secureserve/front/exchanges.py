"""Exchanges: requests read, run and answered, over connections that have been admitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from secureserve.errors import PeerTimeout
from secureserve.front.connection import Connection, State
from secureserve.front.conversation import Need
from secureserve.tls.engines.base import Want

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.errors import PeerError
    from secureserve.front.registry import Registry
    from secureserve.front.settings import FrontSettings, Timeouts

__all__ = ["Exchanges"]

FLUSH_AT_ONCE: Final = 256 * 1024
"""Bytes flushed in one step, so that a quick reader of a large response does not keep the thread."""
SERVED_IN_A_ROW_SECONDS: Final = 0.003
"""How long a peer that sends without an end (requests one behind the other, or empty lines) is served in a row, before
the others have their turn. It is looked at between two requests, and between two reads."""


class Exchanges:
    """The steps of connections that are being served.

    A step returns True when a request is ready to run, None when another step can follow at once, and False when the
    connection waits or is over.

    Args:
        registry: Where connections wait.
        settings: What each peer is granted.
        timeouts: The deadlines.

    Threads: the one that has the connection.
    """

    def __init__(self, registry: Registry, settings: FrontSettings, timeouts: Timeouts) -> None:
        self._registry = registry
        self._settings = settings
        self._timeouts = timeouts
        self.steps: dict[State, Callable[[Connection], bool | None]] = {
            State.HEAD: self._read_head,
            State.BODY: self._read_body,
            State.FLUSHING: self._flush,
            State.IDLE: self._awake,
            State.LINGERING: registry.discard,
        }

    def run(self, connection: Connection) -> bool | None:
        """Run the request that is ready, and what follows from it, up to the next request."""
        return self._finish(connection, keep_open=connection.conversation.run())

    def answer(self, connection: Connection, error: PeerError) -> bool | None:
        """Answer with what the error says, and part."""
        if connection.state is State.FLUSHING:
            self._registry.abort(connection, error.reason)
            return False
        connection.queue(connection.conversation.answer(error))
        connection.linger = True
        return self._finish(connection, keep_open=False)

    def too_late(self, connection: Connection, now: float) -> bool | None:
        """Deal with a connection whose deadline has passed.

        Raises:
            PeerTimeout: The peer is to be told so.
        """
        state = connection.state
        if state is State.IDLE:
            self._registry.part(connection, "idle")
        elif state is State.LINGERING:
            self._registry.end(connection, "finished")
        elif state is State.BODY:
            if (deadline := connection.receiving_until()) <= now:
                raise PeerTimeout("The request body did not arrive in time.")
            self._registry.wait(connection, Want.READ, deadline)
        elif state is State.FLUSHING:
            if (deadline := connection.sending_until()) <= now:
                raise PeerTimeout("The client did not read the response in time.")
            self._registry.wait(connection, Want.WRITE, deadline)
        elif connection.conversation.has_begun():
            raise PeerTimeout("The request head did not arrive in time.")
        else:
            self._registry.part(connection, "timeout")
        return False

    def _awake(self, connection: Connection) -> bool | None:
        data = connection.receive()
        if isinstance(data, Want):
            self._registry.wait_idle(connection, data, connection.since + self._timeouts.keep_alive)
            return False
        if not data:
            self._registry.part(connection, "left")
            return False
        connection.begin(State.HEAD)
        return self._proceed(connection, connection.conversation.received(data))

    def _read_head(self, connection: Connection) -> bool | None:
        if connection.conversation.has_rest():
            # It gave way to others with the next request in hand.
            return self._proceed(connection, connection.conversation.received(b""))
        data = connection.receive()
        if isinstance(data, Want):
            self._registry.wait(connection, data, connection.since + self._timeouts.read_header)
            return False
        if not data:
            self._registry.part(connection, "truncated" if connection.conversation.has_begun() else "left")
            return False
        return self._proceed(connection, connection.conversation.received(data))

    def _read_body(self, connection: Connection) -> bool | None:
        data = connection.receive()
        if isinstance(data, Want):
            self._registry.wait(connection, data, connection.receiving_until())
            return False
        if not data:
            self._registry.part(connection, "truncated")
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
        if _has_had_its_turn(connection):
            return self._give_way(connection)
        return None

    def _give_way(self, connection: Connection) -> bool | None:
        """Let others have their turn, and then go on reading, if there is still time for that."""
        reads_body = connection.state is State.BODY
        deadline = connection.receiving_until() if reads_body else connection.since + self._timeouts.read_header
        now = connection.clock.monotonic()
        if deadline <= now:
            # Whoever looks for those who are late would hardly ever find it waiting.
            return self.too_late(connection, now)
        # The poller does not know of what has been taken from the socket already; that there is room to send, it does.
        is_here = connection.conversation.has_rest() or connection.transport.pending()
        self._registry.wait(connection, Want.WRITE if is_here else Want.READ, deadline)
        return False

    def _finish(self, connection: Connection, *, keep_open: bool) -> bool | None:
        """Flush what is left of a response, then settle."""
        connection.keep_open = keep_open
        if connection.has_output():
            connection.move(State.FLUSHING)
            connection.begin_sending()
            return self._flush(connection)
        return self._settle(connection)

    def _flush(self, connection: Connection) -> bool | None:
        want = connection.flush(FLUSH_AT_ONCE)
        if want is None and connection.has_output():
            want = Want.WRITE
        if want is not None:
            self._registry.wait(connection, want, connection.sending_until())
            return False
        return self._settle(connection)

    def _settle(self, connection: Connection) -> bool | None:
        """Look for the next request, or part."""
        if not connection.keep_open or self._registry.draining:
            self._registry.part(connection, "finished")
            return False
        conversation = connection.conversation
        if conversation.has_rest():
            if _has_had_its_turn(connection):
                connection.begin(State.HEAD)
                return self._give_way(connection)
            need = conversation.received(b"")
            if need is Need.WORKER:
                return True
            if conversation.has_begun():
                connection.begin(State.HEAD)
                return self._proceed(connection, need)
        if connection.streamed:
            # All other reads take what a record has; one into an application's buffer may leave part of it inside.
            connection.streamed = False
            if connection.transport.pending():
                connection.begin(State.HEAD)
                return None
        connection.begin(State.IDLE)
        self._registry.wait_idle(connection, Want.READ, connection.since + self._timeouts.keep_alive)
        return False


def _has_had_its_turn(connection: Connection) -> bool:
    """Return whether a connection has been served for long without waiting; its first request is not counted."""
    now = connection.clock.monotonic()
    if connection.turn_began is None:
        connection.turn_began = now
        return False
    return now - connection.turn_began >= SERVED_IN_A_ROW_SECONDS
