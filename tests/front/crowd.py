"""A crowd of hostile clients, up to thousands, driven by one thread.

What each kind does is a generator that yields whenever it has to wait, so a crowd takes its process one thread, and a
slow client is slow by the clock and not by the machine. A member is *in place* once it does what its kind is hostile
by, and *ended* once the server has ended its connection.
"""

from __future__ import annotations

import contextlib
import enum
import heapq
import itertools
import select
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from typing_extensions import Self

    Steps = Generator[tuple[int, float | None], None, None]

PATIENCE: Final = 40.0
"""Seconds in which whatever is waited for happens, on the slowest machine."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_GONE: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

_HEAD: Final = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n"
_BODY_SIZE: Final = 100_000
_POST: Final = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % _BODY_SIZE


class Kind(enum.Enum):
    """What the members of a crowd do."""

    SILENT = "silent"
    """Connect and say nothing."""
    HALF_HANDSHAKE = "half a handshake"
    """Send half a ClientHello and stop."""
    DRIBBLED_HANDSHAKE = "a byte of a handshake a second"
    SHAKEN_THEN_SILENT = "shaken hands, then silent"
    DRIBBLED_HEAD = "a byte of a head a second"
    SLOW_BODY = "a byte of a body a second"
    SLOW_READER = "reads nothing of a large answer"
    IDLE = "an answered request, then silent"
    RESET_ON_CONNECT = "reset right away"
    RESET_IN_HANDSHAKE = "reset in the handshake"
    RESET_IN_HEAD = "reset in a head"
    RESET_IN_BODY = "reset in a body"
    RESET_IN_ANSWER = "reset while the answer comes"


RESETS: Final = tuple(kind for kind in Kind if kind.name.startswith("RESET"))
STAYING: Final = tuple(kind for kind in Kind if kind not in RESETS)

_READ: Final = select.EPOLLIN | _GONE
_WRITE: Final = select.EPOLLOUT | _GONE


class Crowd:
    """Members of one kind, against one server.

    Args:
        address: The server.
        kind: What they do.
        count: How many there are.
        tls: Whether the server speaks TLS.
        pause: Seconds between two bytes of the slow kinds.
        page: What those ask for that send a request.

    Threads: the test's own makes it, waits and leaves; one of its own drives it.
    """

    def __init__(
        self,
        address: tuple[str, int],
        kind: Kind,
        count: int,
        *,
        tls: bool = True,
        pause: float = 1.0,
        page: str = "large",
    ) -> None:
        self.kind = kind
        self.count = count
        self._address = address
        self._tls = tls
        self._pause = pause
        self._page = page.encode()
        self._in_place = 0
        self._ended = 0
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._leave, self._left = socket.socketpair()
        self._epoll = select.epoll()
        self._thread = threading.Thread(target=self._drive, name=f"{count} times {kind.value}", daemon=True)

    def __enter__(self) -> Self:
        """Start, and wait until every member is in place."""
        self._thread.start()
        self._await(lambda: self._in_place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._leave.close()
        self._thread.join(PATIENCE)
        self._left.close()
        self._epoll.close()
        if self._failure is not None and kind is None:
            raise self._failure

    def wait_ended(self) -> None:
        """Wait until the server has ended every connection.

        Raises:
            AssertionError: It has not in `PATIENCE` seconds.
        """
        self._await(lambda: self._ended)

    def _await(self, number: Callable[[], int]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or number() >= self.count, PATIENCE)
            if self._failure is not None:
                raise self._failure
            assert number() >= self.count, f"{number()} of {self.count} ({self.kind.value}) after {PATIENCE} s"

    # The rest runs in the crowd's own thread.

    def _drive(self) -> None:
        members: dict[int, _Member] = {}
        try:
            self._run(members)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test is to see it
            with self._changed:
                self._failure = error
                self._changed.notify_all()
        finally:
            for member in members.values():
                member.sock.close()

    def _run(self, members: dict[int, _Member]) -> None:
        self._epoll.register(self._left, select.EPOLLIN)
        timers: list[tuple[float, int, int]] = []
        order = itertools.count()
        context = _trusting_context()
        hello = _client_hello(context)
        # Connecting by and by keeps within the listener's backlog; a SYN beyond it is lost, and repeated a second on.
        to_come = self.count
        while True:
            for _ in range(min(64, to_come)):
                to_come -= 1
                member = _Member(self, context, hello)
                members[member.sock.fileno()] = member
                self._epoll.register(member.sock, 0)
                self._step(member, members, timers, next(order))
            timeout = 0 if to_come else max(0.0, timers[0][0] - time.monotonic()) if timers else None
            for descriptor, _ in self._epoll.poll(timeout):
                if descriptor == self._left.fileno():
                    return
                if descriptor in members:
                    self._step(members[descriptor], members, timers, next(order))
            while timers and timers[0][0] <= time.monotonic():
                _, turn, descriptor = heapq.heappop(timers)
                if descriptor in members and members[descriptor].turn == turn:
                    self._step(members[descriptor], members, timers, next(order))

    def _step(
        self, member: _Member, members: dict[int, _Member], timers: list[tuple[float, int, int]], turn: int
    ) -> None:
        descriptor = member.sock.fileno()
        member.turn = turn
        try:
            events, pause = next(member.steps)
        except StopIteration:
            del members[descriptor]
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)
            member.sock.close()
            self._count(in_place=not member.in_place, ended=True)
            return
        if events != member.events:
            member.events = events
            self._epoll.modify(descriptor, events)
        if pause is not None:
            heapq.heappush(timers, (time.monotonic() + pause, turn, descriptor))

    def _count(self, *, in_place: bool = False, ended: bool = False) -> None:
        with self._changed:
            self._in_place += in_place
            self._ended += ended
            self._changed.notify_all()


class _Member:
    """One client of a crowd."""

    def __init__(self, crowd: Crowd, context: ssl.SSLContext, hello: bytes) -> None:
        self._crowd = crowd
        self._hello = hello
        self._context = context
        self.events = 0
        self.turn = -1
        self.in_place = False
        self.sock = socket.socket()
        if crowd.kind is Kind.SLOW_READER:
            # Only before connecting does it bound the window that is announced.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.setblocking(False)
        self.steps = self._behave()

    def _behave(self) -> Steps:
        """Do what the kind does, yielding what it waits for: events of the socket, and a time to go on without them.

        The end of the steps is the end of the connection.
        """
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(self._crowd._address)
        yield _WRITE, None
        try:
            yield from self._misbehave()
        except OSError:
            # However the server ended it, it is over; but not before its time.
            if not self.in_place:
                raise

    def _misbehave(self) -> Steps:
        kind, page = self._crowd.kind, self._crowd._page
        if kind is Kind.SILENT:
            yield from self._settle()
        elif kind is Kind.HALF_HANDSHAKE:
            self.sock.send(self._hello[: len(self._hello) // 2])
            yield from self._settle()
        elif kind is Kind.DRIBBLED_HANDSHAKE:
            yield from self._dribble(self._hello)
        elif kind is Kind.RESET_ON_CONNECT:
            self._reset()
        elif kind is Kind.RESET_IN_HANDSHAKE:
            self.sock.send(self._hello)
            self._reset()
        else:
            yield from self._shake_hands()
            yield from self._misbehave_in_http(kind, page)

    def _misbehave_in_http(self, kind: Kind, page: bytes) -> Steps:
        if kind is Kind.SHAKEN_THEN_SILENT:
            yield from self._settle()
        elif kind is Kind.DRIBBLED_HEAD:
            yield from self._dribble(_HEAD % page + b"X: " + b"x" * 1000)
        elif kind is Kind.SLOW_BODY:
            self.sock.send(_POST + b"x" * 1000)
            yield from self._dribble(b"x" * 1000)
        elif kind is Kind.SLOW_READER:
            self.sock.send(_HEAD % page + b"\r\n")
            self._be_in_place()
            yield _GONE, None
        elif kind is Kind.IDLE:
            self.sock.send(_HEAD % b"" + b"\r\n")
            yield from self._receive()
            yield from self._settle()
        elif kind is Kind.RESET_IN_HEAD:
            self.sock.send(_HEAD % page)
            self._reset()
        elif kind is Kind.RESET_IN_BODY:
            self.sock.send(_POST + b"x" * 1000)
            self._reset()
        elif kind is Kind.RESET_IN_ANSWER:
            self.sock.send(_HEAD % page + b"\r\n")
            yield from self._receive()
            self._reset()

    def _shake_hands(self) -> Steps:
        if not self._crowd._tls:
            return
        descriptor = self.sock.fileno()
        tls = self._context.wrap_socket(self.sock, server_hostname="localhost", do_handshake_on_connect=False)
        assert tls.fileno() == descriptor
        self.sock = tls
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                yield _READ, None
            except ssl.SSLWantWriteError:
                yield _WRITE, None
            else:
                return

    def _dribble(self, data: bytes) -> Steps:
        """Send a byte at a time, as long as the server lets it."""
        for at in range(len(data)):
            # Before the byte: on a busy machine the server's patience may be over by now.
            self._be_in_place()
            self.sock.send(data[at : at + 1])
            due = time.monotonic() + self._crowd._pause
            while (left := due - time.monotonic()) > 0:
                yield _READ, left
                if self._is_over():
                    return

    def _settle(self) -> Steps:
        """Say nothing more until the server ends it."""
        self._be_in_place()
        while not self._is_over():
            yield _READ, None

    def _receive(self) -> Steps:
        """Wait for the first bytes of an answer."""
        while True:
            try:
                assert self.sock.recv(1024)
            except (BlockingIOError, ssl.SSLWantReadError):
                yield _READ, None
            else:
                return

    def _is_over(self) -> bool:
        try:
            while self.sock.recv(65536):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        return True

    def _be_in_place(self) -> None:
        if not self.in_place:
            self.in_place = True
            self._crowd._count(in_place=True)

    def _reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _trusting_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()
