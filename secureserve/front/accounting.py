"""What the Front counts: how connections and handshakes ended, and what waited."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Accounting", "Totals"]


@dataclass(frozen=True, slots=True)
class Totals:
    """A moment's reading of the accounts.

    Attributes:
        accepted: Connections accepted.
        closed: Connections closed, by how they ended.
        handshakes: Handshakes, by outcome: ``completed``, ``resumed``, or the reason of the failure.
        handshake_seconds: Seconds from the first byte to the end of the handshake, over all that were completed.
        requests: Requests that ran.
        queued: Requests that waited for a worker thread.
        queue_seconds: How long those waited, altogether.
        refused: Requests and connections refused, by reason.
    """

    accepted: int
    closed: Mapping[str, int]
    handshakes: Mapping[str, int]
    handshake_seconds: float
    requests: int
    queued: int
    queue_seconds: float
    refused: Mapping[str, int]


class Accounting:
    """Counters that several threads add to.

    What happens once a connection takes a lock. Requests that no one waited for take none: each worker thread counts
    its own, and `Totals` gets their sum from whoever knows the threads.

    Threads: any.
    """

    __slots__ = (
        "_accepted",
        "_closed",
        "_handshake_seconds",
        "_handshakes",
        "_lock",
        "_queue_seconds",
        "_queued",
        "_refused",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accepted = 0
        self._closed: Counter[str] = Counter()
        self._handshakes: Counter[str] = Counter()
        self._handshake_seconds = 0.0
        self._queued = 0
        self._queue_seconds = 0.0
        self._refused: Counter[str] = Counter()

    def accepted(self, count: int) -> None:
        """Count accepted connections."""
        with self._lock:
            self._accepted += count

    def closed(self, reason: str) -> None:
        """Count the end of a connection."""
        with self._lock:
            self._closed[reason] += 1

    def handshake(self, outcome: str, seconds: float) -> None:
        """Count a handshake."""
        with self._lock:
            self._handshakes[outcome] += 1
            self._handshake_seconds += seconds

    def queued(self, seconds: float) -> None:
        """Count a request that waited for a worker thread."""
        with self._lock:
            self._queued += 1
            self._queue_seconds += seconds

    def refused(self, reason: str) -> None:
        """Count something refused."""
        with self._lock:
            self._refused[reason] += 1

    def totals(self, *, requests: int = 0) -> Totals:
        """Return the counters as they are now."""
        with self._lock:
            return Totals(
                accepted=self._accepted,
                closed=dict(self._closed),
                handshakes=dict(self._handshakes),
                handshake_seconds=self._handshake_seconds,
                requests=requests,
                queued=self._queued,
                queue_seconds=self._queue_seconds,
                refused=dict(self._refused),
            )
