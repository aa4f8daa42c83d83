"""`Rotator`: load, check, prepare, publish, announce. On any failure, what was stays.

It keeps, for each place of each source, the credential that is served from there and what was last refused. A refusal
is logged and announced once, and stays visible until something that may be served is found in that place.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from secureserve.certificates.inspection import Inspection
from secureserve.certificates.verdict import EMERGENCY, Refusal, Served
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import CredentialError, NoCredential, NotYetValid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from secureserve.certificates.credential import Credential
    from secureserve.certificates.sources import CredentialSource
    from secureserve.certificates.store import CertificateStore
    from secureserve.clock import Clock
    from secureserve.events import CredentialRotated, RotationRefused

__all__ = ["Outcome", "Rotator"]

_LOGGER: Final = logging.getLogger("secureserve.error")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look at the sources led to.

    Args:
        reason: What made us look.
        rotated: What is served now and was not before.
        refused: What was found and must not be served, whether that is news or not.
        pending: Whether something was incomplete and may complete itself; it is neither served nor refused yet.
    """

    reason: str
    rotated: tuple[CredentialRotated, ...] = ()
    refused: tuple[RotationRefused, ...] = ()
    pending: bool = False

    @property
    def ok(self) -> bool:
        """Whether everything that was found is being served."""
        return not self.refused and not self.pending


class Rotator:
    """Brings what the sources hold into the store.

    A new credential is served when it can be loaded, passes every check of `Credential.check`, covers the names of the
    one that it replaces (unless another new one does), was not issued before that one, and every acceptor could build
    its contexts with it. Each place is judged by itself: one bad certificate in a directory of a thousand does not hold
    up the others. A place that is gone from a directory which still has others is no longer served; a source that is
    gone altogether is an error, and what it had is still served.

    Args:
        store: Where to publish.
        sources: Where credentials come from; the first one's first is the default.
        clock: What tells the time that certificates are judged by.
        publish_event: What to call with each `CredentialRotated` and `RotationRefused`.

    Threads: any; concurrent calls take turns.
    """

    def __init__(
        self,
        store: CertificateStore,
        sources: Sequence[CredentialSource],
        *,
        clock: Clock = SYSTEM_CLOCK,
        publish_event: Callable[[object], None] | None = None,
    ) -> None:
        self.store = store
        self.sources = tuple(sources)
        self._clock = clock
        self._publish_event = publish_event or _nobody_listens
        self._lock = threading.RLock()
        self._served: tuple[Mapping[str, Served], ...] = tuple({} for _ in self.sources)
        self._refusals: Mapping[str, Refusal] = {}

    def served(self) -> tuple[Served, ...]:
        """Return what is served, the default first."""
        return tuple(served for group in self._served for served in group.values())

    def refusals(self) -> tuple[Refusal, ...]:
        """Return what was refused and is not resolved."""
        return tuple(self._refusals.values())

    def status(self) -> tuple[tuple[Served, ...], tuple[Refusal, ...]]:
        """Return `served` and `refusals` of one and the same moment."""
        with self._lock:
            return self.served(), self.refusals()

    def load(self, *, emergency: Callable[[], Credential] | None = None) -> None:
        """Load everything for the first time.

        An expired certificate is served for want of a better one, and that is logged as an error. One of several in a
        directory that cannot be served is announced as a refusal; anything else fails.

        Args:
            emergency: Makes a credential to serve when the sources fail, so that somebody can get in to mend them.

        Raises:
            CredentialError: What the sources hold cannot be served, and there is no `emergency`.
        """
        with self._lock:
            inspection = Inspection("start", self._clock.now(), self._served, self._refusals, initial=True)
            try:
                self._examine_all(inspection)
                if not any(inspection.served):
                    raise _nothing_to_serve(inspection)
                self.store.replace(inspection.credentials())
            except CredentialError as error:
                if emergency is None:
                    raise
                credential = emergency()
                inspection = Inspection("start", inspection.now, self._served, self._refusals, initial=True)
                inspection.refuse(str(error.path or "start"), error)
                inspection.served[:] = [{EMERGENCY: Served(EMERGENCY, credential, inspection.now, rotated=False)}]
                inspection.served += [{} for _ in self.sources[1:]]
                self.store.replace([credential])
            self._settle(inspection)

    def reload(self, reason: str = "api", *, force: bool = False, tentative: bool = False) -> Outcome:
        """Look at the sources again, and serve what is new and good.

        Args:
            reason: What made us look, for logs and events.
            force: Serve it even if it covers fewer names than what it replaces, or was issued before it.
            tentative: Files are being changed just now: pass over what is incomplete instead of refusing it, and say
                that it is `Outcome.pending`.
        """
        with self._lock:
            inspection = Inspection(
                reason, self._clock.now(), self._served, self._refusals, force=force, tentative=tentative
            )
            self._examine_all(inspection)
            if inspection.changed:
                try:
                    self.store.replace(inspection.credentials())
                except Exception as error:  # noqa: BLE001 - whatever an acceptor cannot build with, it must not be served
                    inspection.withdraw(error)
            self._settle(inspection)
            return Outcome(reason, tuple(inspection.rotated), tuple(inspection.refused), inspection.pending)

    def retry_at(self) -> datetime | None:
        """Return when something that was refused will have become valid; None when nothing will."""
        moments = [
            refusal.error.not_before
            for refusal in self._refusals.values()
            if isinstance(refusal.error, NotYetValid) and refusal.error.not_before is not None
        ]
        return min(moments, default=None)

    def _examine_all(self, inspection: Inspection) -> None:
        for index, source in enumerate(self.sources):
            inspection.examine_source(index, source, alone=len(self.sources) == 1)
        inspection.judge_names()

    def _settle(self, inspection: Inspection) -> None:
        """Make what an inspection found the state, and tell the world."""
        self._served = tuple(inspection.served)
        for place in sorted(inspection.gone):
            _LOGGER.info("no longer serving %s, which is gone", place)
        before, self._refusals = self._refusals, inspection.refusals
        for event in inspection.rotated:
            _LOGGER.info(
                "now serving %s for %s until %s (sha256 %s)",
                event.place,
                ", ".join(event.names) or "no name",
                f"{event.not_after:%Y-%m-%d %H:%M} UTC",
                event.fingerprint,
            )
            self._publish_event(event)
        for refused in inspection.refused:
            refusal = self._refusals[refused.place]
            if inspection.reason == "watch" and refusal.same_as(before.get(refused.place)):
                continue
            kept = "; what was served before still is" if refused.kept_fingerprint else ""
            _LOGGER.error("refused the certificate of %s%s: %s", refused.place, kept, refused.message)
            self._publish_event(refused)
        for place in before:
            if place not in self._refusals:
                _LOGGER.info("what was wrong with the certificate of %s has been mended", place)


def _nothing_to_serve(inspection: Inspection) -> CredentialError:
    first = next((refusal.error for refusal in inspection.refusals.values()), None)
    if isinstance(first, CredentialError):
        return first
    return NoCredential("There is no certificate to serve: no source has one. Set ssl_certificate.")


def _nobody_listens(_event: object) -> None:
    """Take an event that nobody wants."""
