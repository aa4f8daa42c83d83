"""Arrivals: from accepting a connection to the end of its handshake."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from secureserve.errors import HandshakeFailed, PlainHTTPOnTLSPort
from secureserve.front.addresses import TrustedNetworks
from secureserve.front.connection import Connection, State
from secureserve.front.deadlines import NEVER
from secureserve.front.limits import Admission
from secureserve.front.listener import AcceptStatus
from secureserve.front.proxy_protocol import ProxyHeaderParser, ProxyProgress
from secureserve.tls.engines.base import Want
from secureserve.tls.engines.plain import PlainTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.clock import Clock
    from secureserve.front.accounting import Accounting
    from secureserve.front.conversation import Conversation
    from secureserve.front.limits import ConnectionLimits
    from secureserve.front.listener import Listener
    from secureserve.front.registry import Registry
    from secureserve.front.reverse_dns import ReverseDNS
    from secureserve.front.settings import FrontSettings, Timeouts
    from secureserve.tls.engines.base import Transport

__all__ = ["Arrivals"]

ACCEPT_AT_ONCE: Final = 64
"""Connections accepted in one step, so that a flood of them delays nobody who is being served."""
ACCEPT_AGAIN_SECONDS: Final = 0.5
"""When to try accepting again after the descriptors ran out, if nothing was closed before."""


class Arrivals:
    """The listeners, and the steps of connections that have not been admitted.

    A step returns None when another step can follow at once, and False when the connection waits or is over.

    Args:
        registry: Where connections are entered.
        settings: What each peer is granted.
        timeouts: The deadlines.
        clock: Tells the time.
        accounting: Counts.
        limits: How many connections there may be.
        converse: Makes the HTTP side of a connection.
        secure: Puts TLS on an accepted socket; None for a server that speaks plain HTTP.
        reverse_dns: Looks up clients' names; None for no look-ups.

    Threads: steps by the thread that has the connection; `accept` by the one that a poll told of the listener.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        settings: FrontSettings,
        timeouts: Timeouts,
        clock: Clock,
        accounting: Accounting,
        limits: ConnectionLimits,
        converse: Callable[[Connection], Conversation],
        secure: Callable[[socket.socket], Transport] | None,
        reverse_dns: ReverseDNS | None,
    ) -> None:
        self.retry_at = NEVER
        """When listeners that rest are to be tried again."""
        self._registry = registry
        self._settings = settings
        self._timeouts = timeouts
        self._clock = clock
        self._accounting = accounting
        self._limits = limits
        self._converse = converse
        self._secure = secure
        self._reverse_dns = reverse_dns
        self._proxies = TrustedNetworks.parse(settings.proxy_allow_ips)
        self._listeners: dict[int, Listener] = {}
        self._resting: list[Listener] = []
        registry.on_room = self.accept_again
        self.steps: dict[State, Callable[[Connection], bool | None]] = {
            State.NEW: self._first_byte,
            State.PROXY: self._read_proxy_header,
            State.HANDSHAKE: self._shake,
        }

    def open(self, listener: Listener) -> None:
        """Start accepting from `listener`, which belongs here from now on."""
        self._listeners[listener.fileno()] = listener
        self._registry.poller.add(listener.fileno())
        self._listen(listener)

    def close(self) -> None:
        """Accept no more, and close the listeners."""
        for fd in list(self._listeners):
            self._listeners.pop(fd).close()

    def accept(self, fd: int) -> Connection | None:
        """Accept what waits at a listener that a poll told of.

        Returns:
            One that was accepted and may have said something already, which is the caller's; the others wait.
        """
        listener = self._listeners.get(fd)
        if listener is None:
            return None
        outcome = listener.accept_many(ACCEPT_AT_ONCE)
        if outcome.connections:
            self._accounting.accepted(len(outcome.connections))
        first = None
        for sock, address in outcome.connections:
            connection = self._enter(sock, address)
            if connection is None:
                continue
            if first is None:
                first = connection
            else:
                self._wait(connection)
        if outcome.status is AcceptStatus.EXHAUSTED:
            self._resting.append(listener)
            self.retry_at = self._clock.monotonic() + ACCEPT_AGAIN_SECONDS
            self._registry.on_earlier_deadline()
            self._registry.evict()
        elif outcome.status is not AcceptStatus.CLOSED:
            self._listen(listener)
        return first

    def accept_again(self) -> None:
        """Try listeners that rest for want of descriptors again."""
        while self._resting:
            listener = self._resting.pop()
            self.retry_at = NEVER
            self._listen(listener)

    def _listen(self, listener: Listener) -> None:
        """Wait for the listener again, unless it was closed, which may happen at this very moment."""
        try:
            self._registry.poller.arm_arrival(listener.fileno())
        except (OSError, ValueError):
            return

    def _enter(self, sock: socket.socket, address: tuple[str, int]) -> Connection | None:
        proxied = self._settings.proxy_protocol
        if proxied and not self._proxies.trusts(address[0]):
            self._accounting.refused("untrusted_proxy")
            sock.close()
            return None
        # A proxy's own address is under no limit; the client is counted once its header has named it.
        counted_as = "" if proxied else address[0]
        admission = self._limits.admit(counted_as)
        if admission is Admission.TOO_MANY and self._registry.evict():
            admission = self._limits.admit(counted_as)
        if admission is not Admission.ADMITTED:
            self._accounting.refused(admission.value)
            sock.close()
            return None
        connection = Connection(PlainTransport(sock), address, self._settings, self._timeouts, self._clock)
        connection.counted_as = counted_as
        if proxied:
            connection.begin(State.PROXY)
            connection.proxy_parser = ProxyHeaderParser()
        else:
            self._know_client(connection, address)
        self._registry.enter(connection)
        return connection

    def _wait(self, connection: Connection) -> None:
        """Wait for the peer to say something, until its time for the handshake has passed."""
        self._registry.wait(connection, Want.READ, connection.since + self._timeouts.handshake)

    def _know_client(self, connection: Connection, address: tuple[str, int]) -> None:
        connection.client = address
        if self._reverse_dns is not None and address[0]:
            connection.lookup = self._reverse_dns.lookup(address[0])

    def _read_proxy_header(self, connection: Connection) -> bool | None:
        parser = connection.proxy_parser
        if parser is None:
            return self._first_byte(connection)
        sock = connection.transport.sock
        try:
            ahead = sock.recv(parser.wants, socket.MSG_PEEK)
        except BlockingIOError:
            self._wait(connection)
            return False
        if not ahead:
            self._registry.end(connection, "left")
            return False
        header = parser.feed(ahead)
        # What belongs to the header is taken off the socket; what follows it is TLS, and not ours to read.
        sock.recv(len(ahead) if isinstance(header, ProxyProgress) else header.consumed)
        if isinstance(header, ProxyProgress):
            return None
        client = header.source or connection.address
        if self._limits.move("", client[0]) is not Admission.ADMITTED:
            self._accounting.refused(Admission.TOO_MANY_OF_CLIENT.value)
            self._registry.end(connection, "refused")
            return False
        connection.counted_as = client[0]
        connection.proxy, connection.proxy_parser = header, None
        self._know_client(connection, client)
        return self._first_byte(connection)

    def _first_byte(self, connection: Connection) -> bool | None:
        try:
            first = connection.transport.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._wait(connection)
            return False
        if not first:
            self._registry.end(connection, "left")
            return False
        if self._secure is None:
            self._admit(connection)
            return None
        if first.isalpha():
            connection.plain_on_tls = True
            self._admit(connection)
            if self._settings.plain_http == "reject":
                message = "This port speaks HTTPS, and the request came as plain HTTP."
                raise PlainHTTPOnTLSPort(message)
            return None
        connection.begin(State.HANDSHAKE)
        connection.transport = self._secure(connection.transport.sock)
        return None

    def _admit(self, connection: Connection) -> None:
        self._registry.admit(connection)
        connection.begin(State.HEAD)
        connection.conversation = self._converse(connection)

    def _shake(self, connection: Connection) -> bool | None:
        try:
            want = connection.transport.handshake()
        except HandshakeFailed as error:
            self._accounting.handshake(error.alert or error.reason, 0.0)
            raise
        if want is not None:
            self._registry.wait(connection, want, connection.since + self._timeouts.handshake)
            return False
        seconds = self._clock.monotonic() - connection.since
        tls = connection.transport.tls
        self._accounting.handshake("resumed" if tls is not None and tls.resumed else "completed", seconds)
        self._admit(connection)
        return None
