"""`Steward`: obtains and renews the certificates of a server, in the background, for as long as it runs.

Nothing waits for it. What it obtains it stores, and has the server look at its sources; what fails changes nothing
that is served, is said in log and events, and is tried again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from secureserve.acme import renewal
from secureserve.acme.announcer import Announcer
from secureserve.acme.attempts import Attempts
from secureserve.acme.caretaker import Caretaker
from secureserve.acme.charge import Charge, OrderState, OrderStatus
from secureserve.acme.storage import canonical_names
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from secureserve.acme.attempts import IssuerLike
    from secureserve.acme.source import ACMESource
    from secureserve.clock import Clock

__all__ = ["OrderState", "OrderStatus", "Steward"]

_LOGGER: Final = logging.getLogger("secureserve.error")

STOP_TIMEOUT: Final = 5.0
"""Seconds that an attempt in progress is waited for when the steward is stopped. Its thread is a daemon."""

_LONGEST_NAP: Final = 3600.0
"""Seconds after which dates are looked at again whatever was computed: wall clocks are set, and machines suspended."""


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
        self._reload = reload
        self._clock = clock
        self._thread_limit = threads
        self._wake = threading.Condition()
        self._caretaker = Caretaker(
            source,
            self.attempts,
            Announcer(clock, publish_event),
            lock=self._wake,
            reload=self._have_reloaded,
            let_go=self._let_go,
            clock=clock,
            fraction_of=fraction_of or renewal.fraction_of,
        )
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
                    charge.look_at = 0.0
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
            for charge in self._charges.values():
                charge.is_wanted = None
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
        """Return whether there is a valid certificate for a set of names. Waits for nothing: handshakes ask."""
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
                self._caretaker.look_after(charge)
            except Exception as error:
                # What a hook or a storage of the program's own raises must not end renewal.
                _LOGGER.exception("looking after the certificate of %s failed", ", ".join(charge.names))
                self._caretaker.fail(charge, f"{type(error).__name__}: {error}", self.attempts.authorities[-1])
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
                            charge.look_at = monotonic + _LONGEST_NAP
                            return charge
                        nap = min(nap, due_in)
                self._wake.wait(nap)
        return None

    def _have_reloaded(self) -> None:
        if self._reload is None:
            return
        try:
            self._reload()
        except Exception:
            _LOGGER.exception("what is stored could not be served")

    def _let_go(self, names: Sequence[str]) -> None:
        """Look after names no more that nobody wants, and keep nothing of them."""
        self.remove_order(names)
        try:
            self.source.certificates.delete_all(names)
        except StorageError as error:
            _LOGGER.warning("what was kept for %s is still there: %s", ", ".join(names), error)
