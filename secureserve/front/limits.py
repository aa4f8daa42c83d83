"""How many connections there may be, altogether and of one client."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING

from secureserve.front.addresses import UNIX_KEY, client_key

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Admission", "ConnectionLimits"]


class Admission(enum.Enum):
    """Whether a connection may stay."""

    ADMITTED = "admitted"
    TOO_MANY = "too_many"
    """There are as many connections as there may be altogether."""
    TOO_MANY_OF_CLIENT = "too_many_of_client"
    """There are as many as one client may have."""


class ConnectionLimits:
    """Counts connections and says when there are enough. Opens and closes nothing.

    A client is an IPv4 address or the /64 of an IPv6 address. The peers of a unix socket, whose address is empty, count
    altogether only. A refused connection is not counted, so it is not to be released.

    Args:
        max_connections: Connections altogether; 0 sets no limit.
        max_per_client: Connections of one client; 0 sets no limit.

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
        """How many connections there are now."""
        return self._total

    def snapshot(self) -> Mapping[str, int]:
        """Return how many connections each client has that has any."""
        with self._lock:
            return dict(self._by_client)

    def admit(self, address: str) -> Admission:
        """Count one more connection, if there may be one.

        Args:
            address: The client's address; empty for a unix socket.
        """
        key = client_key(address)
        with self._lock:
            if 0 < self._max_connections <= self._total:
                return Admission.TOO_MANY
            if not self._has_room(key):
                return Admission.TOO_MANY_OF_CLIENT
            self._total += 1
            self._count(key)
            return Admission.ADMITTED

    def release(self, address: str) -> None:
        """Count one connection less.

        Args:
            address: Under which it is counted.
        """
        with self._lock:
            self._total -= 1
            self._forget(client_key(address))

    def move(self, address: str, client: str) -> Admission:
        """Count a connection under the client that its proxy names, if that one may have one more.

        Where it may not, it stays counted as it is, and is to be released under `address`.

        Args:
            address: Under which it is counted.
            client: The client's address.
        """
        before, after = client_key(address), client_key(client)
        with self._lock:
            if before != after:
                if not self._has_room(after):
                    return Admission.TOO_MANY_OF_CLIENT
                self._forget(before)
                self._count(after)
            return Admission.ADMITTED

    def _has_room(self, key: str) -> bool:
        unlimited = self._max_per_client <= 0 or key == UNIX_KEY
        return unlimited or self._by_client.get(key, 0) < self._max_per_client

    def _count(self, key: str) -> None:
        self._by_client[key] = self._by_client.get(key, 0) + 1

    def _forget(self, key: str) -> None:
        left = self._by_client[key] - 1
        if left:
            self._by_client[key] = left
        else:
            del self._by_client[key]
