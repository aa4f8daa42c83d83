"""`Announcer`: what happens to certificates, said in the log for people and as events for programs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from secureserve.acme import renewal
from secureserve.events import CertificateObtained, IssuanceFailed, RenewalOverdue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from secureserve.acme.attempts import Obtained
    from secureserve.acme.charge import Charge
    from secureserve.acme.renewal import RenewalInformation
    from secureserve.certificates.credential import Credential
    from secureserve.clock import Clock

__all__ = ["Announcer"]

_LOGGER: Final = logging.getLogger("secureserve.error")


class Announcer:
    """Says what happens.

    Args:
        clock: What tells the time.
        publish_event: Called with each event; None: nobody listens.

    Threads: any.
    """

    def __init__(self, clock: Clock, publish_event: Callable[[object], None] | None) -> None:
        self._clock = clock
        self._publish_event = publish_event

    def obtained(self, charge: Charge, obtained: Obtained, replaced: Credential | None) -> None:
        """Tell of a certificate, and of a wrong clock if it is out of date when it is new."""
        credential = obtained.credential
        _LOGGER.info(
            "obtained a certificate for %s from %s, valid until %s",
            _list(charge.names),
            obtained.authority,
            _moment(credential.not_after),
        )
        self._publish(
            CertificateObtained(
                names=charge.names,
                authority=obtained.authority.directory_url,
                fingerprint=credential.fingerprint,
                not_after=credential.not_after,
                replaced_fingerprint=None if replaced is None else replaced.fingerprint,
            )
        )
        now, renew_at = self._clock.now(), charge.renew_at
        if renew_at is not None and not credential.not_before <= now < renew_at:
            _LOGGER.error(
                "the certificate for %s that was issued just now is valid from %s to %s, and the clock of this machine "
                "says %s: set the clock",
                _list(charge.names),
                _moment(credential.not_before),
                _moment(credential.not_after),
                _moment(now),
            )

    def failed(self, charge: Charge, authority: str, problem_type: str | None) -> None:
        """Tell of a failed attempt: an error where nothing valid is served, else a warning."""
        now = self._clock.now()
        status = charge.status(now=now, monotonic=self._clock.monotonic())
        is_served = charge.stored is not None and charge.stored.credential.is_current(now)
        _LOGGER.log(
            logging.WARNING if is_served else logging.ERROR,
            "no new certificate for %s: %s (attempt %d failed, the next is at %s; what was served still is)",
            _list(charge.names),
            status.last_error,
            status.failures,
            f"{status.next_attempt:%Y-%m-%d %H:%M:%S} UTC",
        )
        self._publish(
            IssuanceFailed(
                names=charge.names,
                authority=authority,
                problem_type=problem_type,
                message=status.last_error or "",
                failures=status.failures,
                next_attempt=status.next_attempt,
            )
        )

    def overdue(self, charge: Charge) -> None:
        """Raise the alarm: a certificate nears its end, and renewing it fails."""
        if charge.stored is None:
            return
        credential = charge.stored.credential
        remaining = (credential.not_after - self._clock.now()).total_seconds()
        _LOGGER.error(
            "the certificate for %s %s and could not be renewed in %d attempts: %s",
            _list(charge.names),
            f"is valid for {_duration(remaining)} more" if remaining > 0 else "HAS EXPIRED",
            charge.failures,
            charge.last_error,
        )
        self._publish(
            RenewalOverdue(
                names=charge.names,
                fingerprint=credential.fingerprint,
                not_after=credential.not_after,
                remaining=remaining,
                failures=charge.failures,
                message=charge.last_error or "",
            )
        )

    def suggested(self, charge: Charge, information: RenewalInformation) -> None:
        """Tell what an authority suggests for the renewal."""
        if not information.is_valid:
            _LOGGER.warning(
                "the authority suggests to renew the certificate for %s in a time that ends before it begins; ignored",
                _list(charge.names),
            )
            return
        _LOGGER.info(
            "the authority suggests to renew the certificate for %s between %s and %s%s",
            _list(charge.names),
            _moment(information.start),
            _moment(information.end),
            f" ({information.explanation_url})" if information.explanation_url else "",
        )

    def paused(self, charge: Charge, seconds: float) -> None:
        """Tell that nobody was asked, because the authorities would have it so."""
        _LOGGER.info(
            "asking for a certificate for %s in %d s: the authority wants no request before",
            _list(charge.names),
            seconds,
        )

    def _publish(self, event: object) -> None:
        if self._publish_event is not None:
            self._publish_event(event)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    return f"{seconds / renewal.DAY:.1f} days" if seconds >= 2 * renewal.DAY else f"{seconds / renewal.HOUR:.1f} hours"
