"""How many connections there may be, altogether and of one client."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from secureserve.front.addresses import UNIX_KEY, client_key

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Admission"]

_NOT_KNOWN_YET: Final = "-"
"""The key of a connection whose proxy has not said yet for whom it is."""

_WITHOUT_LIMIT: Final = frozenset({UNIX_KEY, _NOT_KNOWN_YET})


class Admission:
    """Counts connections and says when there are enough. Opens and closes nothing.

    A client is an IPv4 address or the /64 of an IPv6 address. The peers of a unix socket count altogether only.

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

    def is_full(self) -> bool:
        """Tell whether there are as many connections as there may be altogether."""
        return 0 < self._max_connections <= self._total

    def snapshot(self) -> Mapping[str, int]:
        """Return how many connections each client has that has any."""
        with self._lock:
            return dict(self._by_client)

    def enter(self, address: str | None) -> str | None:
        """Count one more connection, if there may be one.

        Args:
            address: The client's address; empty for a unix socket; None where a proxy has yet to say it.

        Returns:
            The key to `leave` under, or None: refused, and not counted.
        """
        key = _NOT_KNOWN_YET if address is None else client_key(address)
        with self._lock:
            if self.is_full() or not self._has_room(key):
                return None
            self._total += 1
            self._count(key)
            return key

    def rename(self, key: str, address: str) -> str | None:
        """Count a connection under the client that its proxy names, if that one may have one more.

        Args:
            key: Under which it is counted.
            address: The client's address.

        Returns:
            The key to `leave` under from now on, or None: refused, and still counted under `key`.
        """
        before, after = client_key(key), client_key(address)
        with self._lock:
            if before != after:
                if not self._has_room(after):
                    return None
                self._forget(before)
                self._count(after)
            return after

    def leave(self, key: str) -> None:
        """Count one connection less.

        Args:
            key: Under which it is counted, or the address that has this key.
        """
        with self._lock:
            self._total -= 1
            self._forget(client_key(key))

    def _has_room(self, key: str) -> bool:
        unlimited = self._max_per_client <= 0 or key in _WITHOUT_LIMIT
        return unlimited or self._by_client.get(key, 0) < self._max_per_client

    def _count(self, key: str) -> None:
        self._by_client[key] = self._by_client.get(key, 0) + 1

    def _forget(self, key: str) -> None:
        left = self._by_client[key] - 1
        if left:
            self._by_client[key] = left
        else:
            del self._by_client[key]
