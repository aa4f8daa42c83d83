"""`Caretaker`: everything that is done for one set of names, from looking what is stored to raising the alarm."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from secureserve.acme import renewal
from secureserve.acme.attempts import Obtained, Paused
from secureserve.errors import CredentialError, IssuanceError, SecureServeError, StorageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from secureserve.acme.announcer import Announcer
    from secureserve.acme.attempts import Attempts
    from secureserve.acme.charge import Charge
    from secureserve.acme.renewal import RenewalInformation
    from secureserve.acme.source import ACMESource
    from secureserve.acme.stored import StoredCertificate
    from secureserve.clock import Clock

__all__ = ["Caretaker"]

_LOGGER: Final = logging.getLogger("secureserve.error")

_OTHERS_TIME: Final = 2.0
"""Seconds between looks what came of the attempt of another process, which holds the lock meanwhile."""


class Caretaker:
    """Does what is due for a charge.

    Args:
        source: Where the certificates are.
        attempts: Asks the authorities.
        announcer: Says what happens.
        lock: Held whenever a charge changes.
        reload: Has what is stored be served.
        let_go: Called with names that nobody wants any more.
        clock: What tells the time.
        fraction_of: Makes a number from 0 to 1 of a text.

    Threads: any; one at a time for each charge.
    """

    def __init__(
        self,
        source: ACMESource,
        attempts: Attempts,
        announcer: Announcer,
        *,
        lock: threading.Condition,
        reload: Callable[[], None],
        let_go: Callable[[Sequence[str]], None],
        clock: Clock,
        fraction_of: Callable[[str], float],
    ) -> None:
        self._source = source
        self._certificates = source.certificates
        self._attempts = attempts
        self._announce = announcer
        self._lock = lock
        self._have_reloaded = reload
        self._let_go = let_go
        self._clock = clock
        self._fraction_of = fraction_of

    def look_after(self, charge: Charge) -> None:
        """Do what is due."""
        self._read(charge)
        if charge.save_in(monotonic=self._clock.monotonic()) <= 0:
            self._save(charge)
        if charge.poll_in(now=self._clock.now(), monotonic=self._clock.monotonic()) <= 0:
            self._poll(charge)
        if charge.attempt_in(now=self._clock.now(), monotonic=self._clock.monotonic()) <= 0:
            self._attempt(charge)
        self._raise_alarm(charge)

    def _read(self, charge: Charge) -> None:
        """See what is stored: this process may have been started just now, and another one may have renewed."""
        try:
            stored = self._certificates.best(charge.names)
        except CredentialError as error:
            stored = None
            if charge.complaint != str(error):
                charge.complaint = str(error)
                _LOGGER.warning("another certificate for %s will be obtained: %s", _list(charge.names), error)
        before = charge.stored
        if stored != before:
            self._take(charge, stored)
            if stored is not None and before is not None:
                with self._lock:
                    charge.follow(monotonic=self._clock.monotonic())
        if stored is None:
            return
        if not self._source.has_given(charge.names, stored.credential):
            has_begun = stored.credential.not_before <= self._clock.now()
            if has_begun or charge.has_begun:
                self._have_reloaded()
            charge.has_begun = has_begun

    def _take(self, charge: Charge, stored: StoredCertificate | None) -> None:
        is_foreign = stored is not None and stored.authority not in self._attempts.authorities
        fraction = 0.0 if stored is None else self._fraction_of(stored.credential.fingerprint)
        with self._lock:
            charge.take(stored, is_foreign=is_foreign, fraction=fraction)

    def _save(self, charge: Charge) -> None:
        """Store what could not be stored when it was obtained."""
        try:
            self._certificates.save(charge.names)
        except StorageError as error:
            self._put_off_saving(charge, error)
            return
        _LOGGER.info("the certificate for %s is stored at last", _list(charge.names))
        stored = self._certificates.best(charge.names)
        with self._lock:
            charge.stored = stored
            charge.clear_failures()
        if stored is not None:
            self._attempts.tidy(charge, stored.authority)

    def _put_off_saving(self, charge: Charge, error: StorageError) -> None:
        authority = self._attempts.authorities[0] if charge.stored is None else charge.stored.authority
        self.fail(charge, f"The certificate was obtained, but is in memory only. {error}", authority)

    def _poll(self, charge: Charge) -> None:
        """Ask the authority when it would like the certificate to be renewed (RFC 9773)."""
        before = charge.information
        stored = charge.stored
        issuer = None if stored is None else self._attempts.issuer_of(stored.authority)
        try:
            information = None if issuer is None or stored is None else issuer.renewal_information(stored.credential)
        except IssuanceError as error:
            _LOGGER.info("when to renew the certificate for %s cannot be asked: %s", _list(charge.names), error)
            information, interval = before, renewal.poll_interval(None)
        else:
            interval = renewal.poll_interval(information)
        with self._lock:
            charge.information = information
            charge.poll_at = self._clock.monotonic() + interval
        if information is not None and _window(information) != _window(before):
            self._announce.suggested(charge, information)

    def _attempt(self, charge: Charge) -> None:
        is_first = charge.stored is None and not charge.failures
        if charge.is_wanted is not None and not is_first and not charge.is_wanted():
            _LOGGER.info("a certificate for %s is not wanted any more", _list(charge.names))
            self._let_go(charge.names)
            return
        try:
            with self._certificates.storage.lock(charge.names) as is_held:
                if not is_held:
                    with self._lock:
                        charge.not_before = self._clock.monotonic() + _OTHERS_TIME
                    return
                self._read(charge)
                if charge.attempt_in(now=self._clock.now(), monotonic=self._clock.monotonic()) <= 0:
                    self._ask(charge)
        except SecureServeError as error:
            # Without a place for the result, no authority is asked: it issues so many a week and no more.
            self.fail(charge, str(error), self._attempts.authorities[0])

    def _ask(self, charge: Charge) -> None:
        """Ask the authorities, with the lock of the names held."""
        outcome = self._attempts.make(charge, progress=_teller(charge.names))
        if isinstance(outcome, Obtained):
            self._accept(charge, outcome)
        elif isinstance(outcome, Paused):
            with self._lock:
                charge.pause(
                    "The authorities want no request before their time.",
                    monotonic=self._clock.monotonic(),
                    seconds=outcome.seconds,
                )
            self._announce.paused(charge, outcome.seconds)
        elif not charge.cancelled.is_set():
            error, authority = outcome.error, outcome.authority
            message = str(error) if str(authority) in str(error) else f"{authority}: {error}"
            self.fail(charge, message, authority.directory_url, error.problem_type, at_least=outcome.pause)

    def _accept(self, charge: Charge, obtained: Obtained) -> None:
        credential, authority = obtained.credential, obtained.authority.directory_url
        before = charge.stored
        if before is not None and before.credential == credential:
            self.fail(charge, f"{obtained.authority} gave the same certificate again.", authority)
            self._attempts.tidy(charge, authority)
            return
        if not set(charge.names) <= set(credential.names):
            self.fail(charge, f"{obtained.authority} gave a certificate for {_list(credential.names)}.", authority)
            self._attempts.tidy(charge, authority)
            return
        failure: StorageError | None = None
        try:
            self._certificates.put(authority, charge.names, credential)
        except StorageError as error:
            failure = error
        self._take(charge, self._certificates.best(charge.names))
        with self._lock:
            charge.succeed(monotonic=self._clock.monotonic())
        self._have_reloaded()
        self._announce.obtained(charge, obtained, None if before is None else before.credential)
        if failure is not None:
            self._put_off_saving(charge, failure)
        else:
            self._attempts.tidy(charge, authority)

    def fail(
        self, charge: Charge, message: str, authority: str, problem_type: str | None = None, *, at_least: float = 0.0
    ) -> None:
        """Note and announce that an attempt failed.

        Args:
            charge: For whom.
            message: Why.
            authority: The URL of the directory of the authority that was asked last.
            problem_type: The type of its problem document.
            at_least: Seconds that the authorities want to be left alone for.
        """
        now, monotonic = self._clock.now(), self._clock.monotonic()
        fraction = self._fraction_of(f"{charge.failures_in_a_row} {charge.names}")
        with self._lock:
            charge.fail(message, now=now, monotonic=monotonic, fraction=fraction, at_least=at_least)
        self._announce.failed(charge, authority, problem_type)

    def _raise_alarm(self, charge: Charge) -> None:
        with self._lock:
            is_due = charge.alarm(self._clock.now())
        if is_due:
            self._announce.overdue(charge)


def _teller(names: Sequence[str]) -> Callable[[str], None]:
    listed = _list(names)
    return lambda step: _LOGGER.debug("obtaining a certificate for %s: %s", listed, step)


def _window(information: RenewalInformation | None) -> tuple[datetime, datetime] | None:
    return None if information is None else (information.start, information.end)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
