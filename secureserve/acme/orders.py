"""`PendingOrder`: an order as it is kept, so that a restart goes on with it instead of ordering once more."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from secureserve.acme.storage import Key

if TYPE_CHECKING:
    from secureserve.acme.authorities import Authority
    from secureserve.acme.storage import Storage

__all__ = ["GOING_ON", "PendingOrder"]

GOING_ON: Final = frozenset({"pending", "ready", "processing", "valid"})
"""The states of an order that may yet lead to a certificate (RFC 8555, 7.1.6)."""


@dataclass(frozen=True, slots=True)
class PendingOrder:
    """An order under way, or one whose certificate was downloaded and may not have been stored yet.

    Args:
        url: What the authority calls it.
        account_url: Whose it is.
        names: What the certificate is for.
        private_key: The key of the certificate to be, as PEM.
        key_type: Its kind.
        profile: The profile that was asked for.
        fingerprint: SHA-256 of the leaf that was downloaded; None before.
    """

    url: str
    account_url: str
    names: tuple[str, ...]
    private_key: bytes = field(repr=False)
    key_type: str
    profile: str | None = None
    fingerprint: str | None = None

    def store(self, authority: Authority, storage: Storage) -> None:
        """Keep it.

        Raises:
            StorageError: It could not be kept.
        """
        document = {
            "url": self.url,
            "account_url": self.account_url,
            "names": list(self.names),
            "private_key": self.private_key.decode(),
            "key_type": self.key_type,
            "profile": self.profile,
            "fingerprint": self.fingerprint,
        }
        storage.put(Key.order(authority.directory_url, self.names), json.dumps(document, indent=1).encode())

    @classmethod
    def load(cls, authority: Authority, storage: Storage, names: tuple[str, ...]) -> PendingOrder | None:
        """Return the order for some names; None where there is none, or what is kept cannot be used.

        Raises:
            StorageError: The storage cannot be read.
        """
        data = storage.get(Key.order(authority.directory_url, names))
        if data is None:
            return None
        try:
            document = json.loads(data)
            return cls(
                url=str(document["url"]),
                account_url=str(document["account_url"]),
                names=tuple(map(str, document["names"])),
                private_key=str(document["private_key"]).encode(),
                key_type=str(document["key_type"]),
                profile=document["profile"],
                fingerprint=document["fingerprint"],
            )
        except (KeyError, TypeError, ValueError):
            return None

    @staticmethod
    def forget(authority: Authority, storage: Storage, names: tuple[str, ...]) -> None:
        """Keep no order for some names.

        Raises:
            StorageError: It could not be removed.
        """
        storage.delete(Key.order(authority.directory_url, names))
