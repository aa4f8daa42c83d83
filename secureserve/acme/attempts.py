"""`Attempts`: one attempt to obtain a certificate, from the first authority that gives one.

An authority that asked to be left alone is passed over until its time has come. One that found fault with an order is
asked again only when its staging environment, whose limits are generous, no longer does.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from secureserve.acme import renewal
from secureserve.acme.pauses import Pause
from secureserve.acme.storage import Key
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import IssuanceError, StorageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from secureserve.acme.authorities import Authority
    from secureserve.acme.charge import Charge
    from secureserve.acme.renewal import RenewalInformation
    from secureserve.acme.storage import Storage
    from secureserve.certificates.credential import Credential
    from secureserve.clock import Clock

__all__ = ["Attempts", "IssuerLike", "Obtained", "Paused", "Refused"]

_LOGGER: Final = logging.getLogger("secureserve.error")

_NOT_OUR_FAULT: Final = frozenset({"rateLimited", "serverInternal", "badNonce"})
"""Problems (RFC 8555, 6.7) that say nothing about the order: trying it elsewhere first would not help."""


class IssuerLike(Protocol):
    """What obtains certificates from one authority.

    Threads: any; several orders may be under way at once.
    """

    @property
    def authority(self) -> Authority:
        """Which one."""

    def obtain(
        self,
        names: Sequence[str],
        *,
        replaces: Credential | None = None,
        progress: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Credential:
        """Obtain a certificate, which is the caller's to store; return soon when `cancelled` is set.

        Raises:
            IssuanceError: The authority did not issue.
            StorageError: What has to be stored on the way could not be.
        """

    def settle(self, names: Sequence[str]) -> None:
        """Forget the order for some names, whose certificate is stored now.

        Raises:
            StorageError: It cannot be.
        """

    def staging(self) -> IssuerLike | None:
        """Return who asks the authority's staging environment; None where it has none."""

    def renewal_information(self, credential: Credential) -> RenewalInformation | None:
        """Return when the authority would like a certificate to be renewed; None where it does not say.

        Raises:
            IssuanceError: It could not be asked.
        """


@dataclass(frozen=True, slots=True)
class Obtained:
    """An authority has issued.

    Args:
        authority: Which one.
        credential: The certificate with its key.
    """

    authority: Authority
    credential: Credential


@dataclass(frozen=True, slots=True)
class Paused:
    """Nobody was asked, because every authority is to be left alone for a while.

    Args:
        seconds: For how long the first of them is.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """No authority issued.

    Args:
        authority: The one that was asked last.
        error: What it said.
        pause: For how many seconds every authority is to be left alone.
    """

    authority: Authority
    error: IssuanceError
    pause: float = 0.0


class Attempts:
    """Asks authorities for certificates.

    Args:
        issuers: Whom to ask; each further one only when those before it do not issue.
        storage: Where it is written down which authority is to be left alone, and after how many failures, so that a
            restart does not forget it.
        clock: What measures pauses.

    Threads: any; one at a time for each charge.
    """

    def __init__(
        self,
        issuers: Sequence[IssuerLike],
        storage: Storage,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.issuers = tuple(issuers)
        self._storage = storage
        self._staging: dict[str, IssuerLike | None] = {}
        self._clock = clock

    @property
    def authorities(self) -> tuple[str, ...]:
        """The URLs of the directories of the authorities."""
        return tuple(issuer.authority.directory_url for issuer in self.issuers)

    def issuer_of(self, authority: str) -> IssuerLike | None:
        """Return who speaks to an authority, by the URL of its directory; None when nobody does."""
        return next((issuer for issuer in self.issuers if issuer.authority.directory_url == authority), None)

    def make(self, charge: Charge, *, progress: Callable[[str], None] | None = None) -> Obtained | Paused | Refused:
        """Make one attempt.

        Args:
            charge: What for.
            progress: Told what is being done.

        Raises:
            StorageError: What has to be stored on the way could not be.
        """
        self._recall(charge)
        refused: Refused | None = None
        for issuer in self.issuers:
            authority = issuer.authority
            if self._pause_of(charge, issuer) > 0:
                continue
            try:
                self._rehearse(charge, issuer, progress)
                credential = self._obtain(charge, issuer, progress)
            except _Rehearsed as rehearsal:
                refused = Refused(rehearsal.authority, rehearsal.error)
            except IssuanceError as error:
                if charge.cancelled.is_set():
                    return Refused(authority, error)
                self._note(charge, authority, error)
                refused = Refused(authority, error)
            else:
                return Obtained(authority, credential)
        pause = max(0.0, min(self._pause_of(charge, issuer) for issuer in self.issuers))
        return Paused(pause) if refused is None else replace(refused, pause=pause)

    def tidy(self, charge: Charge, authority: str) -> None:
        """Forget order and pause of a success, now that its certificate is stored."""
        issuer = self.issuer_of(authority)
        with contextlib.suppress(StorageError):
            if issuer is not None:
                issuer.settle(charge.names)
            self._storage.delete(Key.pause(authority, charge.names))
            for other in self._asked():
                # Others are still to be left alone, but their failures are not followed by further ones.
                pause = Pause.load(other, self._storage, charge.names)
                if pause is not None and pause.failures:
                    replace(pause, failures=0).store(other, self._storage, charge.names)

    def _obtain(self, charge: Charge, issuer: IssuerLike, progress: Callable[[str], None] | None) -> Credential:
        stored = charge.stored
        replaced = None
        if stored is not None and stored.authority == issuer.authority.directory_url:
            replaced = stored.credential
        return issuer.obtain(charge.names, replaces=replaced, progress=progress, cancelled=charge.cancelled)

    def _rehearse(self, charge: Charge, issuer: IssuerLike, progress: Callable[[str], None] | None) -> None:
        """See that staging issues, if the authority refused the last time; a staging that is not there does not count.

        Raises:
            _Rehearsed: It still does not issue.
        """
        authority = issuer.authority
        staging = self._staging_of(issuer)
        if staging is None or authority.directory_url not in charge.to_rehearse:
            return
        try:
            staging.obtain(charge.names, progress=progress, cancelled=charge.cancelled)
        except IssuanceError as error:
            if charge.cancelled.is_set():
                raise
            self._note(charge, staging.authority, error)
            if _is_about_order(error):
                raise _Rehearsed(staging.authority, error) from error
        else:
            with contextlib.suppress(StorageError):
                staging.settle(charge.names)
            _LOGGER.info("%s issues for %s now; asking %s", staging.authority, ", ".join(charge.names), authority)
        charge.to_rehearse.discard(authority.directory_url)

    def _note(self, charge: Charge, authority: Authority, error: IssuanceError) -> None:
        """Remember what an authority said, so that it is not asked too soon, nor with the same mistake."""
        url = authority.directory_url
        seconds = renewal.pause_after(error.retry_after, rate_limited=error.problem_name == "rateLimited")
        charge.paused[url] = self._clock.monotonic() + seconds
        if _is_about_order(error):
            charge.to_rehearse.add(url)
        # A process that is started again and again must not ask each time, either.
        until = self._clock.now() + timedelta(seconds=max(seconds, renewal.FIRST_RETRY))
        with contextlib.suppress(StorageError):
            Pause(until, str(error), charge.failures_in_a_row + 1).store(url, self._storage, charge.names)

    def _asked(self) -> Iterator[str]:
        """Give the authorities that may be asked, with those of staging, by the URLs of their directories."""
        for issuer in self.issuers:
            yield issuer.authority.directory_url
            staging = self._staging_of(issuer)
            if staging is not None:
                yield staging.authority.directory_url

    def _recall(self, charge: Charge) -> None:
        """See what was written down before this process began to ask."""
        for authority in self._asked():
            if authority in charge.paused:
                continue
            seconds = 0.0
            with contextlib.suppress(StorageError):
                pause = Pause.load(authority, self._storage, charge.names)
                if pause is not None:
                    seconds = renewal.remaining_pause(pause.until, now=self._clock.now())
                    charge.failures_before = max(charge.failures_before, pause.failures)
            charge.paused[authority] = self._clock.monotonic() + seconds

    def _staging_of(self, issuer: IssuerLike) -> IssuerLike | None:
        url = issuer.authority.directory_url
        if url not in self._staging:
            self._staging[url] = issuer.staging()
        return self._staging[url]

    def _pause_of(self, charge: Charge, issuer: IssuerLike) -> float:
        """Return for how many seconds an authority, or the staging that comes first, is still to be left alone."""
        url = issuer.authority.directory_url
        staging = self._staging_of(issuer) if url in charge.to_rehearse else None
        pause = self._pause(charge, url)
        return pause if staging is None else max(pause, self._pause(charge, staging.authority.directory_url))

    def _pause(self, charge: Charge, authority: str) -> float:
        return charge.paused[authority] - self._clock.monotonic()


class _Rehearsed(Exception):
    """Staging refused, so the real authority was not asked."""

    def __init__(self, authority: Authority, error: IssuanceError) -> None:
        self.authority = authority
        self.error = error
        super().__init__(str(error))


def _is_about_order(error: IssuanceError) -> bool:
    """Return whether the authority found fault with what was asked, rather than being unable to answer."""
    return bool(error.problem_type) and error.problem_name not in _NOT_OUR_FAULT
