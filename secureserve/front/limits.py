"""How many connections there may be, altogether and of one client."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING

from secureserve.front.addresses import client_key

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Admission", "ConnectionLimits"]


class Admission(enum.Enum):
    """Whether a connection may stay."""

    ADMITTED = "admitted"
    TOO_MANY = "too_many"
    """As many connections as there may be altogether."""
    TOO_MANY_OF_CLIENT = "too_many_of_client"
    """As many as one client may have."""


class ConnectionLimits:
    """Counts connections and says when there are enough. Opens and closes nothing.

    A refused connection is not counted, so it must not be released.

    Args:
        max_connections: Connections altogether; 0 sets no limit.
        max_per_client: Connections of one client, which is an IPv4 address or the /64 of an IPv6 address; 0 sets no limit.

    Threads: any.
    """

    __slots__ = ("_by_client", "_lock", "_max_connections", "_max_per_client", "_total")

    def __init__(self, max_connections: int = 0, max_per_client: int = 0) -> None:
        self._max_connections = max_connections
        self._max_per_client = max_per_client
        self._total = 0
        self._by_client: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """How many connections are counted now."""
        return self._total

    def snapshot(self) -> Mapping[str, int]:
        """Return the connections of each client that has any."""
        with self._lock:
            return dict(self._by_client)

    def admit(self, address: str) -> Admission:
        """Count one more connection, if there may be one.

        Args:
            address: The client's address; empty for a unix socket, whose peers have no limit of their own.
        """
        client = client_key(address)
        with self._lock:
            if 0 < self._max_connections <= self._total:
                return Admission.TOO_MANY
            if address and not self._has_room(client):
                return Admission.TOO_MANY_OF_CLIENT
            self._total += 1
            self._by_client[client] = self._by_client.get(client, 0) + 1
            return Admission.ADMITTED

    def release(self, address: str) -> None:
        """Count one connection less: one that was admitted under this address has ended."""
        with self._lock:
            self._total -= 1
            self._forget(client_key(address))

    def move(self, address: str, proxied: str) -> Admission:
        """Count an admitted connection under the client that its proxy names, if that one may have one more.

        Where it may not, the connection stays counted under `address`, under which it is then to be released.

        Args:
            address: Under which it was admitted: the proxy's.
            proxied: The client's, from the PROXY protocol header.
        """
        before, after = client_key(address), client_key(proxied)
        with self._lock:
            if before == after:
                return Admission.ADMITTED
            if proxied and not self._has_room(after):
                return Admission.TOO_MANY_OF_CLIENT
            self._forget(before)
            self._by_client[after] = self._by_client.get(after, 0) + 1
            return Admission.ADMITTED

    def _has_room(self, client: str) -> bool:
        return self._max_per_client <= 0 or self._by_client.get(client, 0) < self._max_per_client

    def _forget(self, client: str) -> None:
        left = self._by_client[client] - 1
        if left:
            self._by_client[client] = left
        else:
            del self._by_client[client]
