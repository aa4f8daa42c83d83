"""The states of a connection: the table, and what may wait."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from secureserve.errors import PeerTimeout
from secureserve.front.connection import TRANSITIONS, Connection, State
from secureserve.front.settings import FrontSettings
from secureserve.managed.settings import SETTINGS
from secureserve.testing.clock import ManualClock
from secureserve.tls.engines.base import Want
from secureserve.tls.engines.plain import PlainTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITS_FOR_PEER = {
    State.NEW,
    State.PROXY,
    State.HANDSHAKE,
    State.HEAD,
    State.BODY,
    State.FLUSHING,
    State.IDLE,
    State.LINGERING,
}


def connection_on(sock: socket.socket, clock: ManualClock | None = None, **settings: float) -> Connection:
    """A connection over one end of a socket pair."""
    sock.setblocking(False)
    chosen = FrontSettings(**settings)  # type: ignore[arg-type]
    return Connection(PlainTransport(sock), ("127.0.0.1", 1), chosen, chosen.timeouts(10), clock or ManualClock())


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets: ours, and the peer's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_every_state_is_in_the_table() -> None:
    """The table says for each state where it may lead."""
    assert set(TRANSITIONS) == set(State)


def test_every_state_is_reached_from_a_new_connection() -> None:
    """No state stands in the table that nothing leads to."""
    reached, ahead = {State.NEW}, [State.NEW]
    while ahead:
        for state in TRANSITIONS[ahead.pop()] - reached:
            reached.add(state)
            ahead.append(state)
    assert reached == set(State)


@pytest.mark.parametrize("state", [state for state in State if state != State.CLOSED], ids=lambda state: state.value)
def test_every_state_may_end(state: State) -> None:
    """From every state there is a way to CLOSED, and out of CLOSED there is none."""
    assert State.CLOSED in TRANSITIONS[state]
    assert not TRANSITIONS[State.CLOSED]


def test_whatever_waits_for_the_peer_may_be_given_up() -> None:
    """A state that waits for the peer leads to its end by itself or through the last words."""
    for state in WAITS_FOR_PEER - {State.LINGERING, State.HANDSHAKE}:
        assert TRANSITIONS[state] & {State.FLUSHING, State.LINGERING}


def test_the_documentation_has_every_state_and_names_real_settings() -> None:
    """The table of states in the documentation is the one in the code, and each bound in it can be set."""
    page = Path(__file__).parents[2] / "docs" / "explanation" / "how-a-request-travels.md"
    rows = [row.split("|") for row in page.read_text().splitlines() if row.startswith("| `")]
    assert [row[1].strip(" `") for row in rows] == [state.value for state in State]
    bounds = {name for row in rows for name in re.findall("`([a-z_]+)`", row[3])}
    assert bounds <= {setting.name for setting in SETTINGS.values()}
    waits = {row[1].strip(" `") for row in rows if row[3].strip()}
    assert waits == {state.value for state in WAITS_FOR_PEER} | {State.QUEUED.value}


def test_a_way_that_is_not_in_the_table_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection that would skip a phase is a bug, and says so."""
    connection = connection_on(pair[0])
    with pytest.raises(RuntimeError, match="from new to active"):
        connection.move(State.ACTIVE)


def test_a_phase_is_counted_from_its_start(pair: tuple[socket.socket, socket.socket]) -> None:
    """Bytes that arrive during a phase do not give it more time."""
    clock = ManualClock()
    connection = connection_on(pair[0], clock)
    clock.advance(3)
    connection.begin(State.HANDSHAKE)
    began = clock.monotonic()
    clock.advance(2)
    pair[1].send(b"x")
    connection.receive()
    assert connection.since == began


def test_a_quiet_connection_has_no_request_under_way(pair: tuple[socket.socket, socket.socket]) -> None:
    """What may be closed without loss is a connection before its first request or between two."""
    connection = connection_on(pair[0])
    assert connection.is_quiet()
    connection.begin(State.HEAD)
    assert connection.is_quiet()
    connection.begin(State.BODY)
    assert not connection.is_quiet()


def test_a_small_response_never_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    """What the peer does not take at once is kept, and the worker thread goes on."""
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection = connection_on(ours, max_buffered_response_size=1 << 20)
    data = bytes(range(256)) * 2048
    connection.write(data)
    assert connection.has_output()
    received = b""
    theirs.settimeout(10)
    while len(received) < len(data):
        received += theirs.recv(65536)
        connection.flush(1 << 20)
    assert received == data
    assert not connection.has_output()


def test_a_generator_of_a_response_waits_for_its_reader_within_bounds(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """More than what may be kept makes the worker thread wait, and a peer that reads nothing is given up."""
    ours, _ = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    class Impatient(ManualClock):
        """A clock on which every look is a second later, so that no real time has to pass."""

        def monotonic(self) -> float:
            self.advance(1)
            return super().monotonic()

    connection = connection_on(ours, Impatient(), max_buffered_response_size=1024, write_timeout=0.5, min_write_rate=10)
    connection.write(bytes(200_000))
    with pytest.raises(PeerTimeout, match="read the response"):
        connection.write(b"more")


@pytest.fixture
def network() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection, ours and the peer's; our kernel takes far more than the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        theirs.settimeout(20)
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            yield ours, theirs


def flushing(ours: socket.socket, clock: ManualClock, **settings: float) -> Connection:
    """A connection whose kernel has just taken all that it takes of a response that is larger, for a time."""
    connection = connection_on(ours, clock, write_timeout=10, **settings)
    connection.begin(State.FLUSHING)
    connection.begin_sending()
    connection.queue(bytes(20_000_000))
    assert connection.flush(20_000_000) is Want.WRITE
    assert connection.sent_size > 100_000
    return connection


def test_what_the_kernel_takes_is_not_what_the_peer_takes(network: tuple[socket.socket, socket.socket]) -> None:
    """A peer that reads nothing has write_timeout and no more, however much the kernel has taken for it."""
    clock = ManualClock()
    connection = flushing(network[0], clock)
    assert connection.sending_until() <= clock.monotonic() + 10
    clock.advance(30)
    connection.flush(20_000_000)
    assert connection.sending_until() <= clock.monotonic()


@pytest.mark.parametrize("rate", [0, 500])
def test_a_peer_that_keeps_reading_is_granted_time(network: tuple[socket.socket, socket.socket], rate: int) -> None:
    """What it reads counts before there is room for more, and time that it saved is not granted after it stopped."""
    clock = ManualClock()
    connection = flushing(network[0], clock, min_write_rate=rate)
    for _ in range(5):
        clock.advance(10)
        for _ in range(10):
            assert len(network[1].recv(4096, socket.MSG_WAITALL)) == 4096
        due = time.monotonic() + 20
        while connection.sending_until() <= clock.monotonic():
            assert time.monotonic() < due
        assert connection.sending_until() <= clock.monotonic() + 10
    clock.advance(10)
    assert connection.sending_until() <= clock.monotonic()


class Reticent(PlainTransport):
    """Sends as TLS does: what a call sends in part it tells nothing of, until all of that is sent."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.sent = 0

    def send(self, data: bytes | memoryview) -> int | Want:
        """Send, and tell of nothing less than all."""
        taken = super().send(data[self.sent :])
        if isinstance(taken, Want):
            return taken
        self.sent += taken
        if self.sent < len(data):
            return Want.WRITE
        self.sent = 0
        return len(data)


def test_reading_counts_before_a_send_tells_of_it(network: tuple[socket.socket, socket.socket]) -> None:
    """A peer that reads slowly is granted time while what it takes is part of one long send."""
    ours, theirs = network
    ours.setblocking(False)
    clock = ManualClock()
    connection = connection_on(ours, clock, write_timeout=10)
    connection.transport = transport = Reticent(ours)
    connection.begin(State.FLUSHING)
    connection.begin_sending()
    connection.queue(bytes(20_000_000))
    assert connection.flush(20_000_000) is Want.WRITE
    connection.sending_until()
    clock.advance(10)
    deadline = time.monotonic() + 20
    before = transport.sent
    while transport.sent == before:
        # Room is made, and filled again at once: the kernel holds no less for the peer than before.
        assert time.monotonic() < deadline
        assert theirs.recv(65536)
        connection.flush(20_000_000)
    assert connection.sending_until() > clock.monotonic()


def test_a_peer_that_reads_too_slowly_is_not_granted_time(network: tuple[socket.socket, socket.socket]) -> None:
    """After write_timeout less than min_write_rate is too little, though it is more than nothing."""
    clock = ManualClock()
    connection = flushing(network[0], clock, min_write_rate=1_000_000)
    connection.sending_until()
    clock.advance(9)
    for _ in range(10):
        assert len(network[1].recv(4096, socket.MSG_WAITALL)) == 4096
    clock.advance(1.5)
    assert connection.sending_until() <= clock.monotonic()


def test_a_body_that_stops_has_no_time_from_when_it_came_quickly(pair: tuple[socket.socket, socket.socket]) -> None:
    """However much has arrived, and however quickly, it has read_body_timeout from when it stopped."""
    clock = ManualClock()
    connection = connection_on(pair[0], clock, read_body_timeout=10)
    connection.begin(State.HEAD)
    connection.begin(State.BODY)
    for _ in range(5):
        clock.advance(9)
        pair[1].sendall(bytes(16_000))
        assert connection.receive() == bytes(16_000)
        assert connection.receiving_until() == clock.monotonic() + 10
    clock.advance(10)
    assert connection.receiving_until() == clock.monotonic()


def test_a_body_has_no_time_from_what_was_written_meanwhile(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that reads again after it has written waits for the body no longer than ever."""
    clock = ManualClock()
    waited = []

    def wait_in_vain(_sock: socket.socket, _want: Want, timeout: float) -> bool:
        waited.append(timeout)
        clock.advance(timeout)
        return False

    monkeypatch.setattr("secureserve.front.connection.wait_for", wait_in_vain)
    connection = connection_on(pair[0], clock, read_body_timeout=10)
    connection.begin_body()
    clock.advance(1000)
    connection.begin_sending()
    with pytest.raises(PeerTimeout, match="send its request body"):
        connection.read()
    assert waited == [10]


def test_blocks_are_drawn_as_the_peer_takes_them(pair: tuple[socket.socket, socket.socket]) -> None:
    """A source is asked for its next block when the last is gone, and closed when the connection is over."""
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    drawn = []
    closed = []

    def blocks() -> Iterator[bytes]:
        try:
            for number in range(100):
                drawn.append(number)
                yield bytes([number]) * 10_000
        finally:
            closed.append(True)

    connection = connection_on(ours)
    connection.supply = blocks()  # type: ignore[assignment]
    connection.flush(1 << 30)
    assert 0 < len(drawn) < 100
    connection.release()
    assert closed == [True]
    assert theirs.recv(1) == b"\0"
