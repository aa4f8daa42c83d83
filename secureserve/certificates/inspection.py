"""`Inspection`: what is found in the sources, judged place by place, and beside what is served."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from secureserve.certificates import names
from secureserve.certificates.sources import Entry, entries_of
from secureserve.certificates.verdict import EMERGENCY, Refusal, Served
from secureserve.errors import ChainBroken, CredentialError, Expired, NameNotCovered, OlderThanServed
from secureserve.events import CredentialRotated, RotationRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from secureserve.certificates.credential import Credential
    from secureserve.certificates.sources import CredentialSource

__all__ = ["Inspection", "is_older"]

_LOGGER: Final = logging.getLogger("secureserve.error")

BACKDATED_AT_MOST: Final = timedelta(days=1)
"""Authorities let certificates begin before they are issued, one by an hour, another at midnight. Between issuers, an
earlier beginning by no more than this says nothing of which certificate is older."""


@dataclass(slots=True)
class Inspection:
    """One look at all sources: what it found so far. Nothing of it counts before a rotator has settled it.

    Args:
        reason: What made us look, for events.
        now: What certificates are judged by, in UTC.
        before: What is served, by place, for each source.
        refusals_before: What was refused and is not resolved, by place.
        initial: Whether it is the first, which serves an expired certificate for want of a better one.
        force: Whether to pass what covers fewer names than what it replaces, or was issued before it.
        tentative: Whether files are being changed just now: what is incomplete is put off instead of refused.

    Attributes:
        served: What is to be served, by place, for each source.
        refusals: What is refused by now, by place.
        refused: The same as events, whether they are news or not.
        rotated: What is to be served and was not before, as events.
        pending: Whether something was put off.

    Threads: the one that inspects.
    """

    reason: str
    now: datetime
    before: tuple[Mapping[str, Served], ...]
    refusals_before: Mapping[str, Refusal]
    initial: bool = False
    force: bool = False
    tentative: bool = False
    served: list[dict[str, Served]] = field(init=False)
    refusals: dict[str, Refusal] = field(default_factory=dict, init=False)
    refused: list[RotationRefused] = field(default_factory=list, init=False)
    rotated: list[CredentialRotated] = field(default_factory=list, init=False)
    pending: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.served = [{} for _ in self.before]

    @property
    def changed(self) -> bool:
        """Whether the store has to be told."""
        return [one.credential for one in _every(self.served)] != [one.credential for one in _every(self.before)]

    @property
    def gone(self) -> set[str]:
        """The places from which something was served and nothing is any more."""
        return {one.place for one in _every(self.before)} - {one.place for one in _every(self.served)}

    def credentials(self) -> list[Credential]:
        """Return what is to be served, the default first."""
        return [served.credential for served in _every(self.served)]

    def examine_source(self, index: int, source: CredentialSource, *, alone: bool) -> None:
        """Judge each place of a source; one that cannot be listed keeps what it had.

        Args:
            index: Which source it is.
            source: The source.
            alone: Whether there is no other.

        Raises:
            CredentialError: That the first inspection could not list the source, or found nothing fit where it must.
        """
        before = self.before[index]
        try:
            entries = entries_of(source)
        except CredentialError as error:
            if self.initial and alone:
                raise
            self.served[index] = dict(before)
            self._put_off_or_refuse(str(source), error)
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
                self._put_off_or_refuse(place, NameNotCovered(message, path=place))
                return True
        return False

    def _put_off_or_refuse(self, place: str, error: Exception) -> None:
        if self.tentative:
            self.pending = True
            known = self.refusals_before.get(place)
            if known is not None:
                self.refusals[place] = known
        else:
            self.refuse(place, error)

    def refuse(self, place: str, error: Exception) -> None:
        """Take note that what is in a place must not be served."""
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
            self._put_off_or_refuse(entry.place, error)
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
