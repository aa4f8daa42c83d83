"""What is kept in a storage, and under what."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secureserve.certificates import names as server_names

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Key", "Kind", "canonical_names"]


class Kind(str, enum.Enum):
    """What is kept, by the name of its file."""

    ACCOUNT = "account.json"
    """An account with its key; one for each authority."""
    ORDER = "order.json"
    """An order under way, with the key of the certificate to be."""
    CERTIFICATE = "certificate.pem"
    """A certificate with its chain and its private key."""
    PAUSE = "pause.json"
    """Until when an authority is not to be asked again, and after how many failures."""


@dataclass(frozen=True, slots=True)
class Key:
    """What something is kept under.

    Args:
        kind: What it is.
        authority: The URL of the authority's directory.
        names: The names that it is for, in the order of `canonical_names`; none for an account.
    """

    kind: Kind
    authority: str
    names: tuple[str, ...] = ()

    @classmethod
    def account(cls, authority: str) -> Key:
        """Return the key of the account at an authority."""
        return cls(Kind.ACCOUNT, authority)

    @classmethod
    def order(cls, authority: str, names: Iterable[str]) -> Key:
        """Return the key of the order for some names that is under way at an authority."""
        return cls(Kind.ORDER, authority, canonical_names(names))

    @classmethod
    def certificate(cls, authority: str, names: Iterable[str]) -> Key:
        """Return the key of the certificate for some names from an authority."""
        return cls(Kind.CERTIFICATE, authority, canonical_names(names))

    @classmethod
    def pause(cls, authority: str, names: Iterable[str]) -> Key:
        """Return the key of the pause for some names at an authority."""
        return cls(Kind.PAUSE, authority, canonical_names(names))


def canonical_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return a set of names in the one order that makes equal sets equal: normalised, sorted, each once.

    Raises:
        ValueError: One is not a name that a certificate can be for.
    """
    return tuple(sorted({server_names.normalise(name) for name in names}))
