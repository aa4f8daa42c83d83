"""`Rotator`: load, check, prepare, publish, announce. On any failure, what was stays.

It keeps, for each place of each source, the credential that is served from there and what was last refused. A refusal
is logged and announced once, and stays visible until something that may be served is found in that place.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from secureserve.certificates import names
from secureserve.certificates.sources import Entry, entries_of
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import (
    ChainBroken,
    CredentialError,
    Expired,
    NameNotCovered,
    NoCredential,
    NotYetValid,
    OlderThanServed,
)
from secureserve.events import CredentialRotated, RotationRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from secureserve.certificates.credential import Credential
    from secureserve.certificates.sources import CredentialSource
    from secureserve.certificates.store import CertificateStore
    from secureserve.clock import Clock

__all__ = ["Outcome", "Refusal", "Rotator", "Served", "is_older"]

EMERGENCY: Final = "emergency"
"""The place that a credential comes from which is served because nothing else can be."""

BACKDATED_AT_MOST: Final = timedelta(days=1)
"""Authorities let certificates begin before they are issued, one by an hour, another at midnight. Between issuers, an
earlier beginning by no more than this says nothing of which certificate is older."""

_LOGGER: Final = logging.getLogger("secureserve.error")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was found in a place and must not be served.

    Args:
        place: Where.
        error: What is wrong with it.
        since: When it was first refused, in UTC.
    """

    place: str
    error: Exception
    since: datetime

    def same_as(self, other: Refusal | None) -> bool:
        """Return whether this says nothing new."""
        return other is not None and type(self.error) is type(other.error) and str(self.error) == str(other.error)


@dataclass(frozen=True, slots=True)
class Served:
    """What is served from a place.

    Args:
        place: Where it comes from.
        credential: What it is.
        since: When it began to be served, in UTC.
        rotated: Whether it replaced another; otherwise it is what the start found.
    """

    place: str
    credential: Credential
    since: datetime
    rotated: bool


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
            look = _Look("start", self._clock.now(), self._served, self._refusals, initial=True)
            try:
                self._examine_all(look)
                if not any(look.served):
                    raise _nothing_to_serve(look)
                self.store.replace(look.credentials())
            except CredentialError as error:
                if emergency is None:
                    raise
                credential = emergency()
                look = _Look("start", look.now, self._served, self._refusals, initial=True)
                look.refuse(str(error.path or "start"), error)
                look.served[:] = [{EMERGENCY: Served(EMERGENCY, credential, look.now, rotated=False)}]
                look.served += [{} for _ in self.sources[1:]]
                self.store.replace([credential])
            self._settle(look)

    def reload(self, reason: str = "api", *, force: bool = False, tentative: bool = False) -> Outcome:
        """Look at the sources again, and serve what is new and good.

        Args:
            reason: What made us look, for logs and events.
            force: Serve it even if it covers fewer names than what it replaces, or was issued before it.
            tentative: Files are being changed just now: pass over what is incomplete instead of refusing it, and say
                that it is `Outcome.pending`.
        """
        with self._lock:
            look = _Look(reason, self._clock.now(), self._served, self._refusals, force=force, tentative=tentative)
            self._examine_all(look)
            if look.changed:
                try:
                    self.store.replace(look.credentials())
                except Exception as error:  # noqa: BLE001 - whatever an acceptor cannot build with, it must not be served
                    look.withdraw(error)
            self._settle(look)
            return Outcome(reason, tuple(look.rotated), tuple(look.refused), look.pending)

    def retry_at(self) -> datetime | None:
        """Return when something that was refused will have become valid; None when nothing will."""
        moments = [
            refusal.error.not_before
            for refusal in self._refusals.values()
            if isinstance(refusal.error, NotYetValid) and refusal.error.not_before is not None
        ]
        return min(moments, default=None)

    def _examine_all(self, look: _Look) -> None:
        for index, source in enumerate(self.sources):
            look.examine_source(index, source, alone=len(self.sources) == 1)
        look.judge_names()

    def _settle(self, look: _Look) -> None:
        """Make what a look found the state, and tell the world."""
        gone = {one.place for one in self.served()} - {one.place for one in _every(look.served)}
        self._served = tuple(look.served)
        for place in sorted(gone):
            _LOGGER.info("no longer serving %s, which is gone", place)
        before, self._refusals = self._refusals, look.refusals
        for event in look.rotated:
            _LOGGER.info(
                "now serving %s for %s until %s (sha256 %s)",
                event.place,
                ", ".join(event.names) or "no name",
                f"{event.not_after:%Y-%m-%d %H:%M} UTC",
                event.fingerprint,
            )
            self._publish_event(event)
        for refused in look.refused:
            refusal = self._refusals[refused.place]
            if look.reason == "watch" and refusal.same_as(before.get(refused.place)):
                continue
            kept = "; what was served before still is" if refused.kept_fingerprint else ""
            _LOGGER.error("refused the certificate of %s%s: %s", refused.place, kept, refused.message)
            self._publish_event(refused)
        for place in before:
            if place not in self._refusals:
                _LOGGER.info("what was wrong with the certificate of %s has been mended", place)


@dataclass(slots=True)
class _Look:
    """One look at all sources: what it found so far. Nothing of it counts before it is settled."""

    reason: str
    now: datetime
    before: tuple[Mapping[str, Served], ...]
    refusals_before: Mapping[str, Refusal]
    initial: bool = False
    force: bool = False
    tentative: bool = False
    served: list[dict[str, Served]] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    refused: list[RotationRefused] = field(default_factory=list)
    rotated: list[CredentialRotated] = field(default_factory=list)
    pending: bool = False

    def __post_init__(self) -> None:
        self.served = [{} for _ in self.before]

    @property
    def changed(self) -> bool:
        """Whether the store has to be told."""
        return [one.credential for one in _every(self.served)] != [one.credential for one in _every(self.before)]

    def credentials(self) -> list[Credential]:
        return [served.credential for served in _every(self.served)]

    def examine_source(self, index: int, source: CredentialSource, *, alone: bool) -> None:
        """Judge each place of a source; one that cannot be listed keeps what it had."""
        before = self.before[index]
        try:
            entries = entries_of(source)
        except CredentialError as error:
            if self.initial and alone:
                raise
            self.served[index] = dict(before)
            self.put_off_or_refuse(str(source), error)
            return
        for entry in entries:
            self._examine(index, entry, before.get(entry.place))
        if not self.served[index]:
            # Nothing of what is there can be served: what was served, if only for an emergency, still is.
            self.served[index] = dict(before)
        elif self.tentative and not before.keys() - {EMERGENCY} <= self.served[index].keys():
            # A directory that is being rewritten: what is missing is given the time to come back.
            self.pending = True
            for place, old in before.items():
                if place != EMERGENCY:
                    self.served[index].setdefault(place, old)

    def judge_names(self) -> None:
        """Put back what would leave a name uncovered that was covered (RFC 9525 matching, over everything together)."""
        # Putting one back takes away what its successor offered, which another may have counted on: until all is well.
        while not self.force and self._put_back_one():
            pass

    def _put_back_one(self) -> bool:
        changed = [
            (group, place, old)
            for group, before in zip(self.served, self.before, strict=True)
            for place, old in before.items()
            if place in group and group[place].credential != old.credential
        ]
        offered = {name for credential in self.credentials() for name in credential.names} if changed else set()
        for group, place, old in changed:
            lost = [name for name in old.credential.names if not {name, f"*.{names.parent(name)}"} & offered]
            if lost:
                group[place] = old
                self.rotated[:] = [event for event in self.rotated if event.place != place]
                message = (
                    f"The new certificate of {place} does not cover {', '.join(lost)}, which the one being served "
                    "does. Get one for all names, or reload by force if that is what you want."
                )
                self.put_off_or_refuse(place, NameNotCovered(message, path=place))
                return True
        return False

    def put_off_or_refuse(self, place: str, error: Exception) -> None:
        if self.tentative:
            self.pending = True
            known = self.refusals_before.get(place)
            if known is not None:
                self.refusals[place] = known
        else:
            self.refuse(place, error)

    def refuse(self, place: str, error: Exception) -> None:
        refusal = Refusal(place, error, self.now)
        known = self.refusals_before.get(place)
        self.refusals[place] = known if known is not None and refusal.same_as(known) else refusal
        kept = next((group[place].credential.fingerprint for group in self.served if place in group), None)
        self.refused.append(RotationRefused(place, type(error).__name__, str(error), kept, self.reason))

    def withdraw(self, error: Exception) -> None:
        """Go back to what was, because no contexts could be built with what was found."""
        places = [event.place for event in self.rotated] or ["the certificates"]
        self.served = [dict(group) for group in self.before]
        self.rotated.clear()
        self.pending = False
        for place in places:
            self.refuse(place, error)

    def _examine(self, index: int, entry: Entry, old: Served | None) -> None:
        try:
            credential = entry.load()
            if old is None or credential != old.credential:
                self._require_servable(credential, old)
        except CredentialError as error:
            if self.initial and entry.required:
                raise
            if old is not None:
                self.served[index][entry.place] = old
            self.put_off_or_refuse(entry.place, error)
        else:
            self._serve(index, entry.place, credential, old)

    def _serve(self, index: int, place: str, credential: Credential, old: Served | None) -> None:
        if old is not None and old.credential == credential:
            self.served[index][place] = old
            return
        self.served[index][place] = Served(place, credential, self.now, rotated=not self.initial)
        if not self.initial:
            replaced = old.credential if old is not None else None
            event = CredentialRotated(
                place=place,
                names=credential.names,
                fingerprint=credential.fingerprint,
                not_after=credential.not_after,
                old_fingerprint=replaced.fingerprint if replaced is not None else None,
                old_not_after=replaced.not_after if replaced is not None else None,
                reason=self.reason,
            )
            self.rotated.append(event)

    def _require_servable(self, credential: Credential, old: Served | None) -> None:
        for problem in credential.problems(now=self.now):
            if self.initial and isinstance(problem, Expired):
                _LOGGER.error("serving an expired certificate, for want of a better one: %s", problem)
            else:
                raise problem
        if old is None:
            return
        if not self.force and is_older(credential, old.credential):
            began, current = (f"{one.not_before:%Y-%m-%d %H:%M:%S}" for one in (credential, old.credential))
            message = (
                f"The certificate in {credential.origin} was issued before the one being served "
                f"({began} before {current} UTC). "
                "Reload by force if going back is what you want."
            )
            raise OlderThanServed(message, path=credential.origin)
        if self.tentative and len(credential.chain) < len(old.credential.chain) and not credential.self_signed:
            message = f"The chain in {credential.origin} is shorter than it was; it may not be complete yet."
            raise ChainBroken(message, path=credential.origin)


def is_older(credential: Credential, served: Credential) -> bool:
    """Return whether a credential was issued before the one that it is to replace."""
    allowance = timedelta(0) if credential.issuer == served.issuer else BACKDATED_AT_MOST
    return credential.not_before < served.not_before - allowance


def _every(groups: Sequence[Mapping[str, Served]]) -> Iterator[Served]:
    for group in groups:
        yield from group.values()


def _nothing_to_serve(look: _Look) -> CredentialError:
    first = next((refusal.error for refusal in look.refusals.values()), None)
    if isinstance(first, CredentialError):
        return first
    return NoCredential("There is no certificate to serve: no source has one. Set ssl_certificate.")


def _nobody_listens(_event: object) -> None:
    """Take an event that nobody wants."""
