"""`TrustKeeper`: client authorities and revocation lists rotate as certificates do; on failure, what was stays."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Protocol

from secureserve.certificates.verdict import Refusal
from secureserve.certificates.watch import content_digest
from secureserve.errors import ConfigurationError, SecureServeError
from secureserve.events import RotationRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from secureserve.clock import Clock

__all__ = ["Acceptor", "TrustKeeper"]

_LOGGER: Final = logging.getLogger("secureserve.error")


class Acceptor(Protocol):
    """What a TLS acceptor does for whoever looks after its certificates."""

    def forget_sessions(self, reason: str) -> None:
        """Let no session from before be resumed."""

    def reload_client_trust(self) -> None:
        """Read the authorities and revocation lists of client certificates again, or fail and change nothing."""


class TrustKeeper:
    """Has acceptors read the files of client authorities again, and remembers what was refused.

    Args:
        clock: What tells the time of a refusal.
        publish_event: What to call with each `RotationRefused`.

    Threads: any; concurrent calls take turns.
    """

    def __init__(self, clock: Clock, publish_event: Callable[[object], None] | None = None) -> None:
        self._clock = clock
        self._publish_event = publish_event
        self._lock = threading.RLock()
        self._acceptors: list[tuple[Acceptor, tuple[Path, ...]]] = []
        self._seen: dict[Acceptor, bytes] = {}
        self._refusals: dict[Acceptor, Refusal] = {}

    @property
    def acceptors(self) -> tuple[Acceptor, ...]:
        """Whose files these are."""
        return tuple(acceptor for acceptor, _paths in tuple(self._acceptors))

    def add(self, acceptor: Acceptor, paths: Sequence[Path]) -> None:
        """Look after the files of an acceptor, which has read them just now."""
        with self._lock:
            self._acceptors.append((acceptor, tuple(paths)))
            self._seen[acceptor] = content_digest(paths)

    def paths(self) -> list[Path]:
        """Return the files."""
        return [path for _acceptor, paths in tuple(self._acceptors) for path in paths]

    def refusals(self) -> tuple[Refusal, ...]:
        """Return what was refused and is not resolved."""
        return tuple(self._refusals.copy().values())

    def reload(self, reason: str) -> tuple[RotationRefused, ...]:
        """Have everybody read their files, and return what was refused, whether that is news or not.

        Args:
            reason: What made us look, for events.
        """
        events = []
        with self._lock:
            for acceptor, paths in self._acceptors:
                self._seen[acceptor] = content_digest(paths)
                events.append(self._reload(acceptor, paths, reason))
        return tuple(event for event in events if event is not None)

    def reload_changed(self, *, tentative: bool = False) -> bool:
        """Have those read their files whose content has changed: it rebuilds every context, so not for nothing.

        Args:
            tentative: The files are being changed just now: pass over what is no good instead of refusing it.

        Returns:
            Whether something was passed over.
        """
        pending = False
        with self._lock:
            for acceptor, paths in self._acceptors:
                content = content_digest(paths)
                if self._seen.get(acceptor) == content:
                    continue
                if tentative and self._attempt(acceptor) is not None:
                    pending = True
                    continue
                self._seen[acceptor] = content
                if tentative:
                    self._mended(acceptor)
                else:
                    self._reload(acceptor, paths, "watch")
        return pending

    def _reload(self, acceptor: Acceptor, paths: tuple[Path, ...], reason: str) -> RotationRefused | None:
        error = self._attempt(acceptor)
        if error is None:
            self._mended(acceptor)
            return None
        place = str(error.value if isinstance(error, ConfigurationError) and error.value else paths[0])
        refusal, known = Refusal(place, error, self._clock.now()), self._refusals.get(acceptor)
        event = RotationRefused(place, type(error).__name__, str(error), None, reason)
        if reason == "watch" and refusal.same_as(known):
            return event
        self._refusals[acceptor] = known if known is not None and refusal.same_as(known) else refusal
        _LOGGER.error("refused new client authorities; those in force stay: %s", error)
        if self._publish_event is not None:
            self._publish_event(event)
        return event

    def _mended(self, acceptor: Acceptor) -> None:
        refusal = self._refusals.pop(acceptor, None)
        if refusal is not None:
            _LOGGER.info("what was wrong with the client authorities of %s has been mended", refusal.place)

    @staticmethod
    def _attempt(acceptor: Acceptor) -> SecureServeError | None:
        try:
            acceptor.reload_client_trust()
        except SecureServeError as error:
            return error
        return None
