"""What the records of a test's ACME authority look like to its clients, as what JSON can hold (RFC 8555, 7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from secureserve.testing.acme import ACMEAuthority
    from secureserve.testing.acme_records import Account, Authorization, Challenge, Issued, Order

__all__ = ["Documents"]


class Documents:
    """Describes what the authority has.

    Args:
        acme: The authority, whose `base_url` may be set later.

    Threads: any.
    """

    def __init__(self, acme: ACMEAuthority) -> None:
        self._acme = acme

    def directory(self) -> dict[str, Any]:
        """Return where everything begins (RFC 8555, 7.1.1)."""
        base = self._acme.base_url
        names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo")
        meta: dict[str, Any] = {"termsOfService": f"{base}/terms", "website": base}
        if self._acme.external_accounts:
            meta["externalAccountRequired"] = True
        if self._acme.profiles:
            meta["profiles"] = {name: f"Certificates that last {life}." for name, life in self._acme.profiles.items()}
        return {**{name: f"{base}/{name}" for name in names}, "meta": meta}

    def url(self, resource: str, number: int) -> str:
        """Return where something is found, by its number."""
        return f"{self._acme.base_url}/{resource}/{number}"

    def account(self, account: Account) -> dict[str, Any]:
        """Return an account as its owner sees it (RFC 8555, 7.1.2)."""
        return {
            "status": account.status,
            "contact": account.contact,
            "termsOfServiceAgreed": True,
            "orders": self.url("orders", account.number),
        }

    def order(self, order: Order) -> dict[str, Any]:
        """Return an order (RFC 8555, 7.1.3)."""
        description: dict[str, Any] = {
            "status": order.status,
            "expires": _time(order.expires),
            "identifiers": order.identifiers,
            "authorizations": [self.url("authz", one.number) for one in order.authorizations],
            "finalize": self.url("finalize", order.number),
        }
        if order.error is not None:
            description["error"] = order.error.document()
        if order.certificate is not None and order.status == "valid":
            description["certificate"] = self.url("cert", order.certificate.number)
        if order.profile is not None:
            description["profile"] = order.profile
        if order.replaces is not None:
            description["replaces"] = order.replaces
        return description

    def authorization(self, authorization: Authorization) -> dict[str, Any]:
        """Return an authorization (RFC 8555, 7.1.4)."""
        description: dict[str, Any] = {
            "status": authorization.status,
            "expires": _time(authorization.expires),
            "identifier": {"type": authorization.type, "value": authorization.value},
            "challenges": [self.challenge(one) for one in authorization.challenges],
        }
        if authorization.wildcard:
            description["wildcard"] = True
        return description

    def challenge(self, challenge: Challenge) -> dict[str, Any]:
        """Return a challenge (RFC 8555, 7.1.5)."""
        description: dict[str, Any] = {
            "type": challenge.type,
            "url": self.url("challenge", challenge.number),
            "token": challenge.token,
            "status": challenge.status,
        }
        if challenge.validated is not None:
            description["validated"] = _time(challenge.validated)
        if challenge.error is not None:
            description["error"] = challenge.error.document()
        return description

    def renewal_information(self, issued: Issued) -> dict[str, Any]:
        """Return when a certificate should be renewed (RFC 9773, 4.2)."""
        start, end = self._acme.renewal_window(issued.certificate)
        information: dict[str, Any] = {"suggestedWindow": {"start": _time(start), "end": _time(end)}}
        if self._acme.renewal_explanation is not None:
            information["explanationURL"] = self._acme.renewal_explanation
        return information


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
