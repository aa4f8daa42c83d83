"""`Steward`: obtains and renews the certificates of a server, in the background, for as long as it runs.

Nothing waits for it. What it obtains it stores, and has the server look at its sources; what fails changes nothing
that is served, is said in log and events, and is tried again.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from typing import TYPE_CHECKING, Final

from secureserve.acme import renewal
from secureserve.acme.announcer import Announcer
from secureserve.acme.attempts import Attempts, Obtained, Paused
from secureserve.acme.charge import Charge, OrderState, OrderStatus
from secureserve.acme.storage import canonical_names
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import CredentialError, IssuanceError, SecureServeError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from secureserve.acme.attempts import IssuerLike
    from secureserve.acme.renewal import RenewalInformation
    from secureserve.acme.source import ACMESource
    from secureserve.acme.stored import StoredCertificate
    from secureserve.clock import Clock

__all__ = ["OrderState", "OrderStatus", "Steward"]

_LOGGER: Final = logging.getLogger("secureserve.error")

STOP_TIMEOUT: Final = 5.0
"""Seconds that an attempt in progress is waited for when the steward is stopped. Its thread is a daemon."""

_LONGEST_NAP: Final = 3600.0
"""Seconds after which dates are looked at again whatever was computed: wall clocks are set, and machines suspended."""

_OTHERS_TIME: Final = 60.0
"""Seconds that another process which holds the lock is given before it is asked again what came of it."""


class Steward:
    """Looks after the certificates of the sets of names of an `ACMESource`.

    Args:
        source: Where the certificates are, and which names they are for.
        issuers: Whom to ask; each further one only when those before it do not issue. At least one.
        reload: Called whenever the source has something new; should have it served.
        clock: What tells the time.
        publish_event: Told of each success and failure, and when a renewal is overdue.
        threads: How many sets of names are worked on at once, at most.
        fraction_of: Makes a number from 0 to 1 of a text: the chance that spreads renewals. The default gives the same
            for the same text, so that a restart does not draw anew.

    Raises:
        ValueError: There is no issuer.

    Threads: any. `start` makes daemon threads, and `stop` ends them.
    """

    def __init__(
        self,
        source: ACMESource,
        issuers: Sequence[IssuerLike],
        *,
        reload: Callable[[], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        publish_event: Callable[[object], None] | None = None,
        threads: int = 4,
        fraction_of: Callable[[str], float] | None = None,
    ) -> None:
        if not issuers:
            raise ValueError("a steward needs somebody to obtain certificates from")
        self.source = source
        self.attempts = Attempts(issuers, source.storage, clock=clock)
        self._certificates = source.certificates
        self._reload = reload
        self._clock = clock
        self._announce = Announcer(clock, publish_event)
        self._thread_limit = threads
        self._fraction_of = fraction_of or _fraction_of
        self._wake = threading.Condition()
        self._charges = {names: Charge(names) for names in source.orders}
        self._threads: list[threading.Thread] = []
        self._is_running = False

    def start(self) -> None:
        """Begin to look after the certificates; returns at once. Harmless when started."""
        with self._wake:
            if self._is_running:
                return
            self._is_running = True
            for charge in self._charges.values():
                charge.cancelled = threading.Event()
            self._staff()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End the threads. Harmless when stopped.

        An attempt in progress is broken off, and goes on from where it was after the next start.

        Args:
            timeout: Seconds that attempts in progress are waited for.
        """
        with self._wake:
            self._is_running = False
            for charge in self._charges.values():
                charge.cancelled.set()
            self._wake.notify_all()
            threads, self._threads = self._threads, []
        deadline = SYSTEM_CLOCK.monotonic() + timeout
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - SYSTEM_CLOCK.monotonic()))

    def status(self) -> tuple[OrderStatus, ...]:
        """Return how it stands with each set of names."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        with self._wake:
            return tuple(charge.status(now=now, monotonic=monotonic) for charge in self._charges.values())

    def obtain_now(self, names: Sequence[str] | None = None, *, force: bool = False) -> None:
        """Have an attempt made at once wherever one is due, however long we meant to wait after a failure.

        Only what an authority asked for, it still gets: its Retry-After is honoured. Returns at once.

        Args:
            names: One set of names; None: all.
            force: Make one even where the certificate has time to spare.
        """
        wanted = None if names is None else canonical_names(names)
        with self._wake:
            for charge in self._charges.values():
                if wanted is None or charge.names == wanted:
                    charge.not_before = 0.0
                    charge.is_forced = charge.is_forced or force
                    charge.is_new = True
            self._wake.notify_all()

    def wake(self) -> None:
        """Have the time looked at again, after the clock was set."""
        with self._wake:
            self._wake.notify_all()

    def set_orders(self, orders: Iterable[Sequence[str]]) -> None:
        """Look after these sets of names from now on, and no others. What is stored of others stays stored.

        Raises:
            ValueError: A set is empty, or one of its names is not one.
        """
        self.source.set_orders(orders)
        wanted = self.source.orders
        with self._wake:
            gone = [charge for names, charge in self._charges.items() if names not in wanted]
            self._charges = {names: self._charges.get(names) or Charge(names) for names in wanted}
            for charge in gone:
                charge.cancelled.set()
            self._staff()
        self._have_reloaded()

    def add_order(self, names: Sequence[str], *, is_wanted: Callable[[], bool] | None = None) -> None:
        """Look after a further set of names. Harmless when it is looked after.

        Args:
            names: The names.
            is_wanted: Asked before each renewal; when it says no, the names are let go.

        Raises:
            ValueError: There is none, or one of them is not a name.
        """
        wanted = canonical_names(names)
        self.source.add_order(wanted, placeholder=is_wanted is None)
        with self._wake:
            if wanted not in self._charges:
                self._charges = {**self._charges, wanted: Charge(wanted, is_wanted)}
                self._staff()

    def remove_order(self, names: Sequence[str]) -> None:
        """Look after a set of names no more. Harmless when it is not looked after."""
        unwanted = canonical_names(names)
        self.source.remove_order(unwanted)
        with self._wake:
            gone = self._charges.get(unwanted)
            self._charges = {names: charge for names, charge in self._charges.items() if names != unwanted}
            if gone is not None:
                gone.cancelled.set()
            self._wake.notify_all()
        self._have_reloaded()

    def is_settled(self, names: Sequence[str]) -> bool:
        """Return whether there is nothing to do for a set of names at this moment."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        with self._wake:
            charge = self._charges.get(canonical_names(names))
            return charge is None or (not charge.is_busy and charge.due_in(now=now, monotonic=monotonic) > 0)

    def is_covered(self, names: Sequence[str]) -> bool:
        """Return whether there is a valid certificate for a set of names."""
        with self._wake:
            charge = self._charges.get(canonical_names(names))
            return charge is not None and charge.is_covered(self._clock.now())

    def wait_until_settled(self, timeout: float, names: Sequence[str] | None = None) -> bool:
        """Wait until nothing is to be done at this moment, whether it succeeded or not; return whether that came.

        Args:
            timeout: Seconds, by the real clock.
            names: For one set of names; None: for all.
        """
        with self._wake:
            orders = [names] if names is not None else list(self._charges)
            return self._wake.wait_for(lambda: all(map(self.is_settled, orders)), timeout)

    def wait_until_covered(self, timeout: float) -> bool:
        """Wait until there is a valid certificate for every set of names; return whether there is.

        Args:
            timeout: Seconds, by the real clock.
        """
        with self._wake:
            return self._wake.wait_for(
                lambda: all(charge.is_covered(self._clock.now()) for charge in self._charges.values()), timeout
            )

    def _staff(self) -> None:
        """Have enough threads, with the lock held."""
        wanted = min(self._thread_limit, len(self._charges)) if self._is_running else 0
        while len(self._threads) < wanted:
            name = f"secureserve-acme-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._wake.notify_all()

    def _run(self) -> None:
        while (charge := self._next()) is not None:
            try:
                self._look_after(charge)
            except Exception as error:
                # What a hook or a storage of the program's own raises must not end renewal.
                _LOGGER.exception("looking after the certificate of %s failed", _list(charge.names))
                self._fail(charge, f"{type(error).__name__}: {error}", self.attempts.authorities[-1])
            finally:
                with self._wake:
                    charge.is_busy = False
                    self._wake.notify_all()

    def _next(self) -> Charge | None:
        """Wait until there is something to do, and return for what; None when the steward stops."""
        mine = threading.current_thread()
        with self._wake:
            while self._is_running and mine in self._threads:
                now, monotonic = self._clock.now(), self._clock.monotonic()
                nap = _LONGEST_NAP
                for charge in self._charges.values():
                    if not charge.is_busy:
                        due_in = charge.due_in(now=now, monotonic=monotonic)
                        if due_in <= 0:
                            charge.is_busy = True
                            charge.is_new = False
                            return charge
                        nap = min(nap, due_in)
                self._wake.wait(nap)
        return None

    def _look_after(self, charge: Charge) -> None:
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
                with self._wake:
                    charge.follow(monotonic=self._clock.monotonic())
        if stored is None:
            return
        if not self.source.has_given(charge.names, stored.credential):
            has_begun = stored.credential.not_before <= self._clock.now()
            if has_begun or charge.has_begun:
                self._have_reloaded()
            charge.has_begun = has_begun

    def _take(self, charge: Charge, stored: StoredCertificate | None) -> None:
        is_foreign = stored is not None and stored.authority not in self.attempts.authorities
        fraction = 0.0 if stored is None else self._fraction_of(stored.credential.fingerprint)
        with self._wake:
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
        with self._wake:
            charge.stored = stored
            charge.clear_failures()
        if stored is not None:
            self.attempts.tidy(charge, stored.authority)

    def _put_off_saving(self, charge: Charge, error: StorageError) -> None:
        authority = self.attempts.authorities[0] if charge.stored is None else charge.stored.authority
        self._fail(charge, f"The certificate was obtained, but is in memory only. {error}", authority)

    def _poll(self, charge: Charge) -> None:
        """Ask the authority when it would like the certificate to be renewed (RFC 9773)."""
        before = charge.information
        stored = charge.stored
        issuer = None if stored is None else self.attempts.issuer_of(stored.authority)
        try:
            information = None if issuer is None or stored is None else issuer.renewal_information(stored.credential)
        except IssuanceError as error:
            _LOGGER.info("when to renew the certificate for %s cannot be asked: %s", _list(charge.names), error)
            information, interval = before, renewal.poll_interval(None)
        else:
            interval = renewal.poll_interval(information)
        with self._wake:
            charge.information = information
            charge.poll_at = self._clock.monotonic() + interval
        if information is not None and _window(information) != _window(before):
            self._announce.suggested(charge, information)

    def _attempt(self, charge: Charge) -> None:
        is_first = charge.stored is None and not charge.failures
        if charge.is_wanted is not None and not is_first and not charge.is_wanted():
            _LOGGER.info("a certificate for %s is not wanted any more", _list(charge.names))
            self.remove_order(charge.names)
            return
        try:
            with self.source.storage.lock(charge.names) as is_held:
                if not is_held:
                    with self._wake:
                        charge.not_before = self._clock.monotonic() + _OTHERS_TIME
                    return
                self._read(charge)
                if charge.attempt_in(now=self._clock.now(), monotonic=self._clock.monotonic()) <= 0:
                    self._ask(charge)
        except SecureServeError as error:
            # Without a place for the result, no authority is asked: it issues so many a week and no more.
            self._fail(charge, str(error), self.attempts.authorities[0])

    def _ask(self, charge: Charge) -> None:
        """Ask the authorities, with the lock of the names held."""
        outcome = self.attempts.make(charge, progress=_teller(charge.names))
        if isinstance(outcome, Obtained):
            self._accept(charge, outcome)
        elif isinstance(outcome, Paused):
            with self._wake:
                charge.not_before = self._clock.monotonic() + outcome.seconds
                charge.is_forced = False
            self._announce.paused(charge, outcome.seconds)
        elif not charge.cancelled.is_set():
            error, authority = outcome.error, outcome.authority
            message = str(error) if str(authority) in str(error) else f"{authority}: {error}"
            self._fail(charge, message, authority.directory_url, error.problem_type, at_least=outcome.pause)

    def _accept(self, charge: Charge, obtained: Obtained) -> None:
        credential, authority = obtained.credential, obtained.authority.directory_url
        before = charge.stored
        if before is not None and before.credential == credential:
            self._fail(charge, f"{obtained.authority} gave the same certificate again.", authority)
            self.attempts.tidy(charge, authority)
            return
        failure: StorageError | None = None
        try:
            self._certificates.put(authority, charge.names, credential)
        except StorageError as error:
            failure = error
        self._take(charge, self._certificates.best(charge.names))
        with self._wake:
            charge.succeed(monotonic=self._clock.monotonic())
        self._have_reloaded()
        self._announce.obtained(charge, obtained, None if before is None else before.credential)
        if failure is not None:
            self._put_off_saving(charge, failure)
        else:
            self.attempts.tidy(charge, authority)

    def _fail(
        self, charge: Charge, message: str, authority: str, problem_type: str | None = None, *, at_least: float = 0.0
    ) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        fraction = self._fraction_of(f"{charge.failures} {charge.names}")
        with self._wake:
            charge.fail(message, now=now, monotonic=monotonic, fraction=fraction, at_least=at_least)
        self._announce.failed(charge, authority, problem_type)

    def _raise_alarm(self, charge: Charge) -> None:
        with self._wake:
            is_due = charge.alarm(self._clock.now())
        if is_due:
            self._announce.overdue(charge)

    def _have_reloaded(self) -> None:
        if self._reload is None:
            return
        try:
            self._reload()
        except Exception:
            _LOGGER.exception("what is stored could not be served")


def _fraction_of(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _teller(names: Sequence[str]) -> Callable[[str], None]:
    listed = _list(names)
    return lambda step: _LOGGER.debug("obtaining a certificate for %s: %s", listed, step)


def _window(information: RenewalInformation | None) -> tuple[datetime, datetime] | None:
    return None if information is None else (information.start, information.end)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
