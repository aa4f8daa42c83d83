"""Revoking a certificate at the authority that issued it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secureserve.acme.storage import canonical_names
from secureserve.certificates.credential import Credential
from secureserve.cli.acme_orders import Orders
from secureserve.errors import ConfigurationError, CredentialError
from secureserve.managed.acme import issuers_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secureserve.acme.stored import StoredCertificate

__all__ = ["Revocation"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """A certificate that is to be revoked.

    Args:
        orders: The storage.
        values: Every setting.
        credential: The certificate.
        stored: The same in the storage; None where it is in a file of somebody's own.
    """

    orders: Orders
    values: Mapping[str, Any]
    credential: Credential
    stored: StoredCertificate | None

    @classmethod
    def of(cls, values: Mapping[str, Any], target: str, private_key: Path | None) -> Revocation:
        """Find what is to be revoked: in a file of that name, or under that name in the storage.

        Raises:
            ConfigurationError: There is neither.
            CredentialError: What there is cannot be read.
        """
        orders = Orders(values)
        path = Path(target)
        if path.is_file():
            return cls(orders, values, Credential.load(path, private_key), None)
        try:
            stored = orders.find(canonical_names(target.split(",")))
        except ValueError:
            stored = None
        if stored is None:
            remedy = f"`secureserve acme list` lists what is in {orders.storage}."
            raise ConfigurationError("NAME", target, "is neither a file nor the name of a stored certificate", remedy)
        return cls(orders, values, stored.credential, stored)

    @property
    def order(self) -> tuple[str, ...]:
        """The names that it was obtained for."""
        return self.credential.names if self.stored is None else self.stored.names

    def run(self, reason: int, *, is_replaced: bool) -> None:
        """Revoke it.

        Args:
            reason: Why (RFC 5280, 5.3.1).
            is_replaced: Whether the storage holds another one by now.

        Raises:
            IssuanceError: The authority refuses.
            StorageError: It is revoked, and cannot be removed from the storage.
        """
        issuer = self.orders.issuers[0]
        if self.stored is not None and self.stored.authority != issuer.authority.directory_url:
            (issuer,) = issuers_from({**self.values, "acme_directory": (self.stored.authority,)}, self.orders.storage)
        issuer.revoke(self.credential, reason)
        if self.stored is not None and not is_replaced and self._is_still_there(self.stored):
            self.orders.certificates.delete(self.stored.authority, self.stored.names)

    def as_dict(self) -> dict[str, Any]:
        """Return what was revoked, as what JSON can hold."""
        return {
            "ok": True,
            "names": list(self.credential.names),
            "fingerprint": self.credential.fingerprint,
            "serial_number": f"{self.credential.leaf.serial_number:x}",
        }

    def _is_still_there(self, stored: StoredCertificate) -> bool:
        try:
            now = self.orders.certificates.best(stored.names)
        except CredentialError:
            return False
        return now is not None and now.credential.fingerprint == self.credential.fingerprint
