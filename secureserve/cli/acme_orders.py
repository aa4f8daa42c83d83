"""Obtaining certificates in a process of one's own, while no server of ours listens at the ports."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme.attempts import Attempts, Obtained, Paused
from secureserve.acme.charge import Charge
from secureserve.acme.renewal import fraction_of
from secureserve.acme.storage import FileStorage, canonical_names
from secureserve.acme.stored import StoredCertificates
from secureserve.cli.acme_outcomes import Outcome, Result
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import CredentialError, IssuanceError, SecureServeError
from secureserve.managed.acme import issuers_from, storage_from
from secureserve.managed.standing_in import standing_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from secureserve.acme.stored import StoredCertificate

__all__ = ["Orders"]

PATIENCE: Final = 60.0
"""Seconds that a person is kept waiting because an authority was asked a moment ago; for more, they come again."""


class Orders:
    """Certificates in a storage, and those that should be there.

    Args:
        values: Every setting of a server.

    Raises:
        ConfigurationError: The storage cannot be used, or an authority is none.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.storage = storage_from(values)
        self.issuers = issuers_from(values, self.storage)
        authorities = [issuer.authority.directory_url for issuer in self.issuers]
        self.certificates = StoredCertificates(self.storage, authorities)

    def renew(
        self, wanted: Sequence[Sequence[str]], *, force: bool, say: Callable[[tuple[str, ...], str], None]
    ) -> list[Outcome]:
        """Obtain what is missing and renew what is due; nobody listens at any port unless there is something to do.

        Args:
            wanted: The names of each certificate.
            force: Renew what has time to spare as well.
            say: Called with names and what is being done for them.

        Raises:
            ConfigurationError: The storage cannot be used.
            StartFailed: No port can be had to answer challenges at.
        """
        if isinstance(self.storage, FileStorage):
            self.storage.prepare()
        charges = {names: self._charge(names) for names in map(canonical_names, wanted)}
        outcomes = {
            names: Outcome.having(charge.stored, Result.KEPT, self._spare(charge))
            for names, charge in charges.items()
            if charge.stored is not None and not force and not self._is_due(charge)
        }
        due = [charge for names, charge in charges.items() if names not in outcomes]
        if due:
            with standing_in(self._values) as solvers:
                attempts = Attempts(issuers_from(self._values, self.storage, solvers), self.storage)
                for charge in due:
                    outcomes[charge.names] = self._attempt(attempts, charge, say)
        return [outcomes[names] for names in charges]

    def find(self, names: Sequence[str]) -> StoredCertificate | None:
        """Return the certificate that is stored for some names; for a single name also one that has others beside it.

        Raises:
            CredentialError: What is stored for them is no certificate.
        """
        exact = self.certificates.best(names)
        if exact is not None or len(names) != 1:
            return exact
        (name,) = canonical_names(names)
        found = [one for one in self.certificates if name in one.names]
        return max(found, key=lambda one: one.credential.not_before, default=None)

    def _charge(self, names: tuple[str, ...]) -> Charge:
        charge = Charge(names)
        try:
            stored = self.certificates.best(names)
        except CredentialError:
            stored = None
        if stored is not None:
            is_foreign = stored.authority not in self.certificates.authorities
            # What a running server goes by as well.
            fraction = fraction_of(stored.credential.fingerprint)
            charge.take(stored, is_foreign=is_foreign, fraction=fraction)
        return charge

    def _is_due(self, charge: Charge) -> bool:
        if charge.stored is None or charge.is_foreign:
            return True
        for issuer in self.issuers:
            if issuer.authority.directory_url == charge.stored.authority:
                try:
                    charge.information = issuer.renewal_information(charge.stored.credential)
                except IssuanceError:
                    # It is due by its age then, and who would renew it says what is wrong.
                    break
        renew_at = charge.renew_at
        return renew_at is None or renew_at <= SYSTEM_CLOCK.now()

    def _spare(self, charge: Charge) -> str:
        return "" if charge.renew_at is None else f"not due before {charge.renew_at:%Y-%m-%d %H:%M} UTC"

    def _attempt(self, attempts: Attempts, charge: Charge, say: Callable[[tuple[str, ...], str], None]) -> Outcome:
        try:
            with self.storage.lock(charge.names) as is_held:
                if not is_held:
                    message = "Another process is obtaining this certificate at this moment."
                    return Outcome(charge.names, Result.LATER, message)
                outcome = attempts.make(charge, progress=lambda text: say(charge.names, text))
                if isinstance(outcome, Paused) and outcome.seconds <= PATIENCE:
                    say(charge.names, f"waiting {outcome.seconds:.0f} s, since it failed a moment ago")
                    threading.Event().wait(outcome.seconds)
                    outcome = attempts.make(charge, progress=lambda text: say(charge.names, text))
                if isinstance(outcome, Paused):
                    message = f"The authorities are to be left alone for {outcome.seconds:.0f} s more."
                    return Outcome(charge.names, Result.LATER, message, retry_after=outcome.seconds)
                if not isinstance(outcome, Obtained):
                    return Outcome.failing(charge.names, outcome.error)
                authority = outcome.authority.directory_url
                self.certificates.put(authority, charge.names, outcome.credential)
                attempts.tidy(charge, authority)
        except SecureServeError as error:
            return Outcome.failing(charge.names, error)
        result = Result.OBTAINED if charge.stored is None else Result.RENEWED
        stored = self.certificates.best(charge.names)
        if stored is None:
            message = "It was obtained, and somebody has removed it from the storage since."
            return Outcome(charge.names, Result.FAILED, message)
        return Outcome.having(stored, result, f"from {outcome.authority}")
