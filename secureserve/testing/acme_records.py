"""What a test's ACME authority keeps in memory: accounts, orders, and what comes of them (RFC 8555, 7.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509
    from josepy.jwk import JWK

    from secureserve.testing.acme_messages import Problem

__all__ = ["Account", "Authorization", "Challenge", "Issued", "Order", "now"]

ORDER_LIFETIME: Final = timedelta(hours=8)


def now() -> datetime:
    """Return the time as an authority tells it: in whole seconds."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass(slots=True)
class Account:
    """An account.

    Attributes:
        number: Its number.
        key: Its public key.
        contact: How to reach its owner.
        status: ``valid``, ``deactivated`` or ``revoked``.
        external: The key identifier of the external account that it is bound to.
        orders: Its orders' numbers.
    """

    number: int
    key: JWK
    contact: list[str] = field(default_factory=list)
    status: str = "valid"
    external: str | None = None
    orders: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Challenge:
    """A challenge of an authorization."""

    number: int
    type: str
    token: str
    authorization: Authorization = field(repr=False)
    status: str = "pending"
    validated: datetime | None = None
    error: Problem | None = None


@dataclass(slots=True)
class Authorization:
    """An account's right to an identifier, proven or still to be."""

    number: int
    account: Account
    type: str
    value: str
    wildcard: bool
    status: str = "pending"
    challenges: list[Challenge] = field(default_factory=list)
    expires: datetime = field(default_factory=lambda: now() + ORDER_LIFETIME)


@dataclass(slots=True)
class Order:
    """An order."""

    number: int
    account: Account
    identifiers: list[dict[str, str]]
    authorizations: list[Authorization]
    profile: str | None = None
    replaces: str | None = None
    looks: int = 0
    certificate: Issued | None = None
    error: Problem | None = None
    expires: datetime = field(default_factory=lambda: now() + ORDER_LIFETIME)

    @property
    def status(self) -> str:
        """Where it stands (RFC 8555, 7.1.6)."""
        if self.error is not None or any(one.status not in {"pending", "valid"} for one in self.authorizations):
            return "invalid"
        if self.certificate is not None:
            return "valid" if self.looks <= 0 else "processing"
        return "ready" if all(one.status == "valid" for one in self.authorizations) else "pending"


@dataclass(slots=True)
class Issued:
    """A certificate that was issued."""

    number: int
    account: Account
    certificate: x509.Certificate
    profile: str | None
    revoked: bool = False
    replaced: bool = False
