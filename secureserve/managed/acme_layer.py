"""`ACMELayer`: what obtains the certificates of one server, for who starts and stops it and for who asks it."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import CredentialError, IssuanceError, LifecycleError, StartFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from secureserve.acme.attempts import IssuerLike
    from secureserve.acme.authorities import Authority
    from secureserve.acme.charge import OrderStatus
    from secureserve.acme.renewal import RenewalInformation
    from secureserve.acme.steward import Steward
    from secureserve.acme.storage import Storage
    from secureserve.certificates.credential import Credential
    from secureserve.certificates.sources import CredentialSource

__all__ = ["ACMELayer", "Refusals", "RememberingIssuer"]

MAX_REFUSALS: Final = 1000
"""Sets of names whose last refusal is kept, the latest ones."""

_BETWEEN_LOOKS: Final = 0.25
"""Seconds between looks whether there is still something to wait for."""


@dataclass(frozen=True, slots=True)
class ACMELayer:
    """What obtains certificates for one server.

    Args:
        storage: Where they are kept.
        steward: Obtains and renews them.
        sources: What gives those that there are to whoever serves them.
        refusals: Why the last attempt for each set of names failed.
    """

    storage: Storage
    steward: Steward
    sources: tuple[CredentialSource, ...]
    refusals: Refusals

    def start(self) -> None:
        """Begin to obtain what is missing or due; returns at once.

        Raises:
            ConfigurationError: The storage cannot be used.
        """
        from secureserve.acme.storage import FileStorage

        if isinstance(self.storage, FileStorage):
            self.storage.prepare()
        self.steward.start()

    def stop(self) -> None:
        """Obtain nothing any more. Harmless when stopped."""
        self.steward.stop()

    def status(self) -> tuple[OrderStatus, ...]:
        """Return how it stands with each set of names."""
        return self.steward.status()

    def renew(self, names: Sequence[str] | None = None, *, force: bool = False) -> None:
        """Have what is missing or due obtained now, however long was to be waited after a failure; returns at once.

        Args:
            names: The names of one certificate; None for all.
            force: Renew what has time to spare as well.

        Raises:
            LifecycleError: No certificate for these names is looked after here.
        """
        if names is not None and not any(set(one.names) == set(names) for one in self.status()):
            known = "; ".join(",".join(one.names) for one in self.status())
            raise LifecycleError(f"This server has no certificate for just {','.join(names)}; it has: {known}.")
        self.steward.obtain_now(names, force=force)

    def describe(self) -> list[dict[str, Any]]:
        """Return `status` with what is stored, as what JSON can hold; times in ISO 8601."""
        return [self._describe(one) for one in self.status()]

    def _describe(self, status: OrderStatus) -> dict[str, Any]:
        try:
            stored = self.steward.source.certificates.best(status.names)
        except CredentialError:
            stored = None
        refusal = self.refusals.get(status.names) if status.failures else None
        return {
            **asdict(status),
            "names": list(status.names),
            "state": status.state.value,
            "not_after": None if status.not_after is None else status.not_after.isoformat(),
            "next_attempt": status.next_attempt.isoformat(),
            "fingerprint": None if stored is None else stored.credential.fingerprint,
            "key_type": None if stored is None else stored.credential.key_type,
            "place": None if stored is None else stored.credential.origin,
            "problem_type": None if refusal is None else refusal.problem_type,
            "detail": None if refusal is None else refusal.detail,
            "subproblems": [] if refusal is None else list(refusal.subproblems),
            "retry_after": None if refusal is None else refusal.retry_after,
            "is_passing": refusal is not None and refusal.is_passing,
            "settled": self.steward.is_settled(status.names),
        }

    def wait_until_covered(self, timeout: float, *, give_up: Callable[[], bool]) -> None:
        """Wait until there is a certificate for all names.

        Args:
            timeout: Seconds.
            give_up: Asked now and then whether to wait no longer.

        Raises:
            StartFailed: There was none within the time, or waiting was given up.
        """
        deadline = SYSTEM_CLOCK.monotonic() + timeout
        while not self.steward.wait_until_covered(_BETWEEN_LOOKS):
            if give_up():
                raise StartFailed("The engine was told to exit while a certificate was being obtained.")
            if SYSTEM_CLOCK.monotonic() >= deadline:
                missing = [one for one in self.steward.status() if not one.days_left or one.days_left < 0]
                reasons = " ".join(f"{', '.join(one.names)}: {one.last_error or 'not yet.'}" for one in missing)
                remedy = "Raise acme_wait, or leave it out to serve a placeholder meanwhile."
                raise StartFailed(f"There is no certificate after {timeout:g} s (acme_wait). {reasons} {remedy}")


class Refusals:
    """Why the last attempt for each set of names failed, for the latest ones.

    Threads: any.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: dict[tuple[str, ...], IssuanceError] = {}

    def note(self, names: Sequence[str], error: IssuanceError) -> None:
        """Keep why an attempt failed."""
        with self._lock:
            self._errors.pop(tuple(names), None)
            if len(self._errors) >= MAX_REFUSALS:
                del self._errors[next(iter(self._errors))]
            self._errors[tuple(names)] = error

    def forget(self, names: Sequence[str]) -> None:
        """Keep nothing of these names: one succeeded."""
        with self._lock:
            self._errors.pop(tuple(names), None)

    def get(self, names: Sequence[str]) -> IssuanceError | None:
        """Return why the last attempt for these names failed; None where none has."""
        with self._lock:
            return self._errors.get(tuple(names))


class RememberingIssuer:
    """An issuer that keeps why it did not issue, for whoever asks how it stands.

    Args:
        issuer: Who obtains.
        refusals: Where the last refusal for each set of names is kept, until there is a certificate.

    Threads: as the issuer.
    """

    def __init__(self, issuer: IssuerLike, refusals: Refusals) -> None:
        self._issuer = issuer
        self._refusals = refusals

    @property
    def authority(self) -> Authority:
        """From whom."""
        return self._issuer.authority

    def obtain(
        self,
        names: Sequence[str],
        *,
        replaces: Credential | None = None,
        progress: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Credential:
        """Obtain a certificate.

        Raises:
            IssuanceError: None was issued.
            StorageError: What has to be stored on the way could not be.
        """
        try:
            credential = self._issuer.obtain(names, replaces=replaces, progress=progress, cancelled=cancelled)
        except IssuanceError as error:
            self._refusals.note(names, error)
            raise
        self._refusals.forget(names)
        return credential

    def settle(self, names: Sequence[str]) -> None:
        """Forget the order for some names, whose certificate is stored now.

        Raises:
            StorageError: It cannot be.
        """
        self._issuer.settle(names)

    def staging(self) -> RememberingIssuer | None:
        """Return who asks the authority's staging twin; None where it has none."""
        staging = self._issuer.staging()
        return None if staging is None else RememberingIssuer(staging, self._refusals)

    def renewal_information(self, credential: Credential) -> RenewalInformation | None:
        """Return when the authority would like a certificate to be renewed; None where it does not say.

        Raises:
            IssuanceError: It could not be asked.
        """
        return self._issuer.renewal_information(credential)
