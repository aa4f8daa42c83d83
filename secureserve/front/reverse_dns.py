"""Clients' names, looked up beside the handshake and never waited for longer than allowed.

A name counts only if it is forward-confirmed: the address leads to the name (PTR) and the name leads back to the
address (A, AAAA). Even so it says who runs the client's part of the DNS and nothing more; it is for logs, never for
deciding who may do what.

The system's resolver blocks, so it is called on threads of its own. There are few of them and their queue is short:
while the resolver is dead, they hang in it, the queue is full, and every further look-up is a miss at once.
"""

from __future__ import annotations

import re
import socket
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, Protocol

from secureserve.clock import SYSTEM_CLOCK
from secureserve.front.addresses import canonical_address

if TYPE_CHECKING:
    from collections.abc import Collection

    from secureserve.clock import Clock

__all__ = ["Lookup", "Resolver", "ReverseDNS", "SystemResolver"]

_MAX_NAME_SIZE: Final = 253
"""The longest name in its text form (RFC 1035, 2.3.4)."""

_NAME: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE
)
"""Letters, digits and hyphens (RFC 1123, 2.1). The last label begins with a letter: ``127.0.0.1`` and ``0x7f.1`` as
names would resolve to themselves and confirm anything."""


class Resolver(Protocol):
    """What asks the DNS. Both calls may block for as long as they like."""

    def reverse(self, address: str) -> str:
        """Return the name of an address.

        Raises:
            OSError: It has none, or that could not be found out.
        """

    def forward(self, name: str) -> Collection[str]:
        """Return the addresses of a name.

        Raises:
            OSError: It has none, or that could not be found out.
        """


class SystemResolver:
    """Asks as the system is configured to: the hosts file, then the DNS.

    Threads: any.
    """

    __slots__ = ()

    def reverse(self, address: str) -> str:
        """Return the name of an address.

        Raises:
            OSError: It has none, or that could not be found out.
        """
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]

    def forward(self, name: str) -> Collection[str]:
        """Return the addresses of a name.

        Raises:
            OSError: It has none, or that could not be found out.
        """
        return {str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}


class _Query:
    """One question to the resolver, shared by every look-up of its address."""

    __slots__ = ("address", "answered", "deadline", "interested", "name")

    def __init__(self, address: str, deadline: float) -> None:
        self.address = address
        self.deadline = deadline
        self.interested = 0
        self.name: str | None = None
        self.answered = threading.Event()


class Lookup:
    """One client's name, on its way.

    Threads: any.
    """

    __slots__ = ("_clock", "_lock", "_query")

    def __init__(self, query: _Query, clock: Clock, lock: threading.Condition) -> None:
        self._query = query
        self._clock = clock
        self._lock = lock

    @property
    def done(self) -> bool:
        """Whether the answer is there."""
        return self._query.answered.is_set()

    def result(self, timeout: float | None = None) -> str | None:
        """Return the client's name, or None: it has none, or it is not known in time.

        Args:
            timeout: Seconds to wait; without it, what is left of ``reverse_dns_timeout`` since the look-up was
                started, or since the first of several look-ups of the address that wait for the same answer was.
        """
        if timeout is None:
            timeout = self._query.deadline - self._clock.monotonic()
        self._query.answered.wait(max(0.0, timeout))
        return self._query.name

    def cancel(self) -> None:
        """Lose interest: a question that nobody is interested in is not asked any more."""
        with self._lock:
            self._query.interested -= 1


class ReverseDNS:
    """Looks up clients' names.

    Args:
        timeout: Seconds from the start of a look-up in which its name is waited for.
        cache_size: Answers kept, the least recently used dropped first.
        ttl: Seconds for which a name is kept.
        negative_ttl: Seconds for which it is kept that there is none.
        threads: Threads that ask; each is started when it is first needed.
        queue_size: Questions that may wait for a thread; a look-up beyond them is a miss.
        clock: Tells the time.
        resolver: Asks the DNS.

    Threads: any. `lookup` never blocks.
    """

    def __init__(
        self,
        timeout: float,
        *,
        cache_size: int = 4096,
        ttl: float = 300.0,
        negative_ttl: float = 60.0,
        threads: int = 4,
        queue_size: int = 256,
        clock: Clock = SYSTEM_CLOCK,
        resolver: Resolver | None = None,
    ) -> None:
        self._timeout = timeout
        self._cache_size = cache_size
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._max_threads = threads
        self._queue_size = queue_size
        self._clock = clock
        self._resolver: Resolver = SystemResolver() if resolver is None else resolver
        self._cache: OrderedDict[str, tuple[float, _Query]] = OrderedDict()
        self._under_way: dict[str, _Query] = {}
        self._queue: deque[_Query] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._stopped = False
        self._changed = threading.Condition()

    def lookup(self, address: str) -> Lookup:
        """Start to look up a client's name, unless it is known or being asked for.

        Args:
            address: The client's IP address. Anything else is a miss.
        """
        now = self._clock.monotonic()
        try:
            address = canonical_address(address)
        except ValueError:
            return Lookup(_answered(address), self._clock, self._changed)
        with self._changed:
            query = self._known(address, now) or self._under_way.get(address) or self._ask(address, now)
            query.interested += 1
        return Lookup(query, self._clock, self._changed)

    def stop(self, timeout: float = 0.0) -> bool:
        """Ask nothing more, and answer every look-up that is under way with a miss.

        Args:
            timeout: Seconds to wait for the threads. One that hangs in the system's resolver cannot be ended; it is a
                daemon and holds up nothing.

        Returns:
            Whether all threads have ended.
        """
        with self._changed:
            self._stopped = True
            self._queue.clear()
            waiting = list(self._under_way.values())
            self._under_way.clear()
            self._changed.notify_all()
        for query in waiting:
            query.answered.set()
        deadline = self._clock.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _known(self, address: str, now: float) -> _Query | None:
        expiry, query = self._cache.get(address, (now, None))
        if query is None:
            return None
        if expiry <= now:
            del self._cache[address]
            return None
        self._cache.move_to_end(address)
        return query

    def _ask(self, address: str, now: float) -> _Query:
        if self._stopped or len(self._queue) >= self._queue_size:
            return _answered(address)
        query = self._under_way[address] = _Query(address, now + self._timeout)
        self._queue.append(query)
        if self._idle >= len(self._queue):
            self._changed.notify()
        elif len(self._threads) < self._max_threads:
            name = f"secureserve reverse DNS {len(self._threads) + 1}"
            thread = threading.Thread(target=self._answer_questions, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return query

    def _answer_questions(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._queue and not self._stopped:
                    self._changed.wait()
                self._idle -= 1
                if self._stopped:
                    return
                query = self._queue.popleft()
                in_time = query.interested > 0 and query.deadline > self._clock.monotonic()
            if in_time:
                query.name = self._find(query.address)
            with self._changed:
                self._under_way.pop(query.address, None)
                if in_time and not self._stopped:
                    self._keep(query)
            query.answered.set()

    def _keep(self, query: _Query) -> None:
        lifetime = self._negative_ttl if query.name is None else self._ttl
        self._cache[query.address] = (self._clock.monotonic() + lifetime, query)
        self._cache.move_to_end(query.address)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def _find(self, address: str) -> str | None:
        try:
            name = _checked(self._resolver.reverse(address))
            if name is None or address not in {canonical_address(found) for found in self._resolver.forward(name)}:
                return None
        except (OSError, ValueError):
            return None
        return name


def _answered(address: str) -> _Query:
    query = _Query(address, 0.0)
    query.answered.set()
    return query


def _checked(name: str) -> str | None:
    """Return a name from the DNS in lower case, or None where no host may have it: anybody can write what he likes."""
    name = name.removesuffix(".")
    return name.lower() if len(name) <= _MAX_NAME_SIZE and _NAME.fullmatch(name) else None
