"""`Charge`: one set of names in the steward's care, and when there is something to do for it. No input or output."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from secureserve.acme import renewal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from secureserve.acme.renewal import RenewalInformation
    from secureserve.acme.stored import StoredCertificate

__all__ = ["Charge", "OrderState", "OrderStatus"]

_NEVER: Final = float("inf")

_CLOCK_CHECK: Final = 60.0
"""Seconds between looks at a clock that has yet to be set: a certificate begins to be valid by it."""


class OrderState(str, enum.Enum):
    """How it stands with a set of names."""

    WAITING = "waiting"
    """No certificate yet, and the next attempt is to come."""
    OBTAINING = "obtaining"
    """An attempt is being made."""
    VALID = "valid"
    """There is a certificate, and nothing is wrong."""
    FAILING = "failing"
    """The last attempt failed."""


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """How it stands with a set of names, for people and programs.

    Args:
        names: The names, in canonical order.
        state: How it stands.
        authority: The URL of the directory of the authority that issued the certificate; None where there is none.
        not_after: Until when the certificate is valid; None where there is none.
        days_left: Days until then; negative once it has expired.
        next_attempt: When the next attempt to obtain or renew is due.
        failures: How many attempts in a row have failed.
        last_error: Why the last one did, or why none is made; None when it succeeded.
    """

    names: tuple[str, ...]
    state: OrderState
    authority: str | None
    not_after: datetime | None
    days_left: float | None
    next_attempt: datetime
    failures: int
    last_error: str | None


@dataclass(slots=True, eq=False)
class Charge:
    """One set of names.

    Dates of certificates are compared with the wall clock, waits are measured by the monotonic one, so that a clock
    which is set shortens or lengthens no wait.

    Args:
        names: The names, in canonical order.
        is_wanted: Asked before each renewal; when it says no, the names are let go. None: always wanted.

    Threads: one at a time; `cancelled` from any.
    """

    names: tuple[str, ...]
    is_wanted: Callable[[], bool] | None = None
    stored: StoredCertificate | None = None
    is_foreign: bool = False
    """Whether the certificate is from an authority that is not in use any more."""
    fraction: float = 0.0
    """Where chance puts the renewal of this certificate."""
    information: RenewalInformation | None = None
    poll_at: float = 0.0
    """When to ask for renewal information, in monotonic seconds."""
    not_before: float = 0.0
    """Before when no attempt is made, in monotonic seconds."""
    obtained_at: float | None = None
    """When the certificate was obtained, in monotonic seconds; None where another process did."""
    hasty: int = 0
    """How many certificates in a row were hardly used before they were to be renewed."""
    has_begun: bool = True
    """Whether the certificate was valid when it was last looked at, by a clock that may have been set since."""
    is_forced: bool = False
    """Whether somebody asked for an attempt, due or not."""
    look_at: float = 0.0
    """When to look what is stored, whatever else there is to do, in monotonic seconds: others may change it."""
    is_busy: bool = False
    failures: int = 0
    failures_before: int = 0
    """How many attempts in a row had failed when this process began, as far as that was written down."""
    last_error: str | None = None
    alarms: int = 0
    """How many thresholds have been announced."""
    paused: dict[str, float] = field(default_factory=dict)
    """Until when each authority must not be asked, in monotonic seconds."""
    to_rehearse: set[str] = field(default_factory=set)
    """The authorities that refused, and that are asked again only when their staging has issued."""
    complaint: str = ""
    """What was last said about the storage."""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def take(self, stored: StoredCertificate | None, *, is_foreign: bool, fraction: float) -> None:
        """Look after another certificate from now on; None: after none."""
        self.has_begun = True
        self.stored = stored
        self.is_foreign = is_foreign
        self.fraction = fraction
        self.information = None
        self.poll_at = 0.0
        self.alarms = 0

    def succeed(self, *, monotonic: float) -> None:
        """Note that the certificate has just been obtained, and leave the names alone for a while."""
        assert self.stored is not None  # noqa: S101 - it is taken first
        lifetime = self.stored.credential.not_after - self.stored.credential.not_before
        used = _NEVER if self.obtained_at is None else monotonic - self.obtained_at
        self.hasty = self.hasty + 1 if used < renewal.shortest_use(lifetime) and not self.is_forced else 0
        self.obtained_at = monotonic
        self.not_before = monotonic + renewal.success_pause(lifetime, self.hasty)
        self.to_rehearse.clear()
        self.is_forced = False
        self.clear_failures()

    def follow(self, *, monotonic: float) -> None:
        """Note that another process has obtained the certificate, and leave the names alone for a while."""
        assert self.stored is not None  # noqa: S101 - it is taken first
        self.obtained_at = None
        credential = self.stored.credential
        self.not_before = monotonic + renewal.success_pause(credential.not_after - credential.not_before, 0)
        self.clear_failures()

    def clear_failures(self) -> None:
        """Forget what went wrong."""
        self.failures = self.failures_before = 0
        self.last_error = None

    def pause(self, message: str, *, monotonic: float, seconds: float) -> None:
        """Note that no attempt could be made, because the authorities are to be left alone."""
        self.is_forced = False
        self.last_error = self.last_error or message
        self.not_before = monotonic + seconds

    def fail(self, message: str, *, now: datetime, monotonic: float, fraction: float, at_least: float = 0.0) -> None:
        """Note that an attempt failed, and when the next one is to be made.

        Args:
            message: Why.
            now: The moment, by the wall clock.
            monotonic: The moment, by the monotonic clock.
            fraction: Where chance puts the next attempt, from 0 to 1.
            at_least: Seconds that the authorities want to be left alone for.
        """
        self.failures = self.failures_in_a_row + 1
        self.last_error = message
        self.is_forced = False
        remaining = None if self.stored is None else self.stored.credential.not_after - now
        delay = renewal.retry_delay(self.failures, fraction=fraction, remaining=remaining)
        self.not_before = monotonic + max(delay, at_least)

    @property
    def failures_in_a_row(self) -> int:
        """How many attempts in a row have failed, those before this process began included."""
        return max(self.failures, self.failures_before)

    @property
    def renew_at(self) -> datetime | None:
        """When the certificate is to be renewed; None where there is none."""
        if self.stored is None:
            return None
        credential = self.stored.credential
        return renewal.renewal_moment(
            credential.not_before, credential.not_after, fraction=self.fraction, information=self.information
        )

    def attempt_in(self, *, now: datetime, monotonic: float) -> float:
        """Return in how many seconds an attempt is due; 0 or less when it is."""
        renew_at = self.renew_at
        due = 0.0
        if renew_at is not None and not self.is_foreign and not self.is_forced:
            due = (renew_at - now).total_seconds()
        return max(due, self.not_before - monotonic)

    def poll_in(self, *, now: datetime, monotonic: float) -> float:
        """Return in how many seconds to ask for renewal information; expired certificates are not asked about."""
        if self.stored is None or self.is_foreign or now > self.stored.credential.not_after:
            return _NEVER
        return self.poll_at - monotonic

    def save_in(self, *, monotonic: float) -> float:
        """Return in how many seconds to try again to store what could not be stored."""
        if self.stored is None or self.stored.saved:
            return _NEVER
        return self.not_before - monotonic

    def due_in(self, *, now: datetime, monotonic: float) -> float:
        """Return in how many seconds there is something to do; 0 or less when there is."""
        return min(
            self.look_at - monotonic,
            self.attempt_in(now=now, monotonic=monotonic),
            self.poll_in(now=now, monotonic=monotonic),
            self.save_in(monotonic=monotonic),
            self._alarm_in(now),
            self._begin_in(now),
        )

    def alarm(self, now: datetime) -> bool:
        """Return whether a threshold has been passed that has not been announced, and count it as announced."""
        if self.stored is None or self.last_error is None:
            return False
        credential = self.stored.credential
        passed = renewal.alarms_passed(credential.not_before, credential.not_after, now=now)
        if passed <= self.alarms:
            return False
        self.alarms = passed
        return True

    def is_covered(self, now: datetime) -> bool:
        """Return whether there is a certificate that is valid. From any thread, without the lock."""
        stored = self.stored
        return stored is not None and stored.credential.is_current(now)

    def status(self, *, now: datetime, monotonic: float) -> OrderStatus:
        """Return how it stands."""
        stored = self.stored
        if self.is_busy and not self.is_covered(now):
            state = OrderState.OBTAINING
        elif self.last_error is not None:
            state = OrderState.FAILING
        else:
            state = OrderState.VALID if self.is_covered(now) else OrderState.WAITING
        wait = timedelta(seconds=max(0.0, self.attempt_in(now=now, monotonic=monotonic)))
        not_after = None if stored is None else stored.credential.not_after
        return OrderStatus(
            names=self.names,
            state=state,
            authority=None if stored is None else stored.authority,
            not_after=not_after,
            days_left=None if not_after is None else round((not_after - now).total_seconds() / renewal.DAY, 2),
            next_attempt=now + wait,
            failures=self.failures,
            last_error=self.last_error,
        )

    def _alarm_in(self, now: datetime) -> float:
        if self.stored is None or self.last_error is None:
            return _NEVER
        credential = self.stored.credential
        if renewal.alarms_passed(credential.not_before, credential.not_after, now=now) > self.alarms:
            return 0.0
        moment = renewal.next_alarm(credential.not_before, credential.not_after, now=now)
        return _NEVER if moment is None else (moment - now).total_seconds()

    def _begin_in(self, now: datetime) -> float:
        """Return when the certificate will have begun to be valid, or the clock may have been set, where it has not."""
        if self.stored is None or self.has_begun:
            return _NEVER
        return min((self.stored.credential.not_before - now).total_seconds(), _CLOCK_CHECK)
