"""A logger that a peer cannot make drown the rest: token buckets, one for each kind of message."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secureserve.clock import SYSTEM_CLOCK
from secureserve.logs import escape

if TYPE_CHECKING:
    import logging

    from secureserve.clock import Clock

__all__ = ["RateLimitedLogger"]


class RateLimitedLogger:
    """A logger that says each kind of thing at most so often, and how often it kept quiet.

    Each kind has a token bucket of its own. Kinds beyond `max_kinds` share one, so a peer that invents kinds fills no
    memory. Text among the arguments is escaped.

    Threads: any.

    Args:
        logger: Where to.
        rate: Lines a second, of one kind, in the long run.
        burst: Lines of one kind at once.
        max_kinds: How many kinds have a bucket of their own.
        clock: What tells the time.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        rate: float = 1.0,
        burst: int = 10,
        max_kinds: int = 64,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.logger = logger
        self._rate = rate
        self._burst = burst
        self._max_kinds = max_kinds
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def log(self, level: int, kind: str, message: str, *args: object, exc_info: BaseException | None = None) -> bool:
        """Log `message` unless its kind has been said too often lately.

        Args:
            level: The level of `logging`.
            kind: What is counted together, such as ``handshake_failed``.
            message: A format string of our own making.
            *args: Its arguments; text among them is escaped.
            exc_info: An exception whose traceback is to follow.

        Returns:
            Whether it was said.
        """
        if not self.logger.isEnabledFor(level):
            return False
        suppressed = self._take(kind)
        if suppressed is None:
            return False
        if suppressed:
            message += " (%d more of this kind were not logged)"
            args = (*args, suppressed)
        safe = tuple(escape(value) if isinstance(value, str) else value for value in args)
        self.logger.log(level, message, *safe, exc_info=exc_info, stacklevel=2)
        return True

    def flush(self) -> None:
        """Say how many lines of each kind were kept back and not told of yet; for when a server stops."""
        with self._lock:
            kept = [(kind, bucket.suppressed) for kind, bucket in self._buckets.items() if bucket.suppressed]
            for bucket in self._buckets.values():
                bucket.suppressed = 0
        for kind, count in kept:
            self.logger.info("%d more of the kind %s were not logged", count, escape(kind))

    def _take(self, kind: str) -> int | None:
        """Take a token; return how many lines were suppressed before this one, or None to suppress it as well."""
        now = self._clock.monotonic()
        with self._lock:
            if kind not in self._buckets and len(self._buckets) >= self._max_kinds:
                kind = "other"
            bucket = self._buckets.setdefault(kind, _Bucket(self._burst, now))
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.updated) * self._rate)
            bucket.updated = now
            if bucket.tokens < 1:
                bucket.suppressed += 1
                return None
            bucket.tokens -= 1
            suppressed, bucket.suppressed = bucket.suppressed, 0
            return suppressed


@dataclass(slots=True)
class _Bucket:
    """The tokens of one kind of message."""

    tokens: float
    updated: float
    suppressed: int = 0
