"""`Client`: certbot's ACME client, kept within bounds.

Each request has a deadline as a whole, each answer a size. Nothing goes anywhere but over https, nor is it sent on to
another place. A nonce that is refused is replaced by a new one, as RFC 8555 (6.5) has it. What is refused is an
`IssuanceError`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme import problems
from secureserve.acme.network import REQUEST_TIMEOUT, Network, Session
from secureserve.acme.protocol import (
    ES256,
    ES384,
    JWKEC,
    RS256,
    KeyChange,
    NewOrder,
    client,
    errors,
    jws,
    messages,
    requests,
)
from secureserve.certificates import names as server_names
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import IssuanceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from secureserve.acme.authorities import Authority, ExternalAccount
    from secureserve.acme.protocol import JWK, JWASignature
    from secureserve.clock import Clock

__all__ = ["Client"]

MAX_ALTERNATE_CHAINS: Final = 8


class Client:
    """Speaks to one authority with the key of one account.

    Args:
        authority: To whom.
        key: The account's key; None to ask only what needs no signature.
        account_url: The account's URL, by which it signs; None where it has yet to be made or found.
        clock: What dates in Retry-After are compared with.
        cancelled: Set when no further request is to be sent.
        request_timeout: Seconds for each request as a whole.

    Threads: one at a time.
    """

    def __init__(
        self,
        authority: Authority,
        key: JWK | None,
        *,
        account_url: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        cancelled: threading.Event | None = None,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self.authority = authority
        self._clock = clock
        self._session = Session(authority, clock, cancelled or threading.Event(), request_timeout)
        self._network = Network(self._session, key, _algorithm(key))
        if account_url is not None:
            self.account_url = account_url
        self._library: client.ClientV2 | None = None

    def __repr__(self) -> str:
        return f"<Client of {self.authority}>"

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    @property
    def key(self) -> JWK:
        """The account's key.

        Raises:
            IssuanceError: It was made without one.
        """
        key: JWK | None = self._network.key
        if key is None:
            raise IssuanceError(f"There is no account at {self.authority} yet.")
        return key

    @property
    def account_url(self) -> str | None:
        """The account's URL."""
        return None if self._network.account is None else str(self._network.account.uri)

    @account_url.setter
    def account_url(self, url: str) -> None:
        self._network.account = messages.RegistrationResource(uri=url, body=messages.Registration())

    # What the authority says about itself.

    @property
    def directory(self) -> messages.Directory:
        """Its directory, fetched when it is first needed.

        Raises:
            IssuanceError: It cannot be had.
        """
        with self._doing("fetching the directory"):
            return self._acme.directory

    @property
    def terms_of_service(self) -> str | None:
        """The URL of its terms of service."""
        url = self.directory.meta.terms_of_service
        return None if url is None else str(url)

    @property
    def profiles(self) -> dict[str, str]:
        """What it says about each of its certificate profiles, by their names."""
        found = self.directory.meta.profiles
        return {str(name): str(text) for name, text in found.items()} if isinstance(found, Mapping) else {}

    @property
    def requires_external_account(self) -> bool:
        """Whether accounts have to be bound to one at its web site."""
        return bool(self.directory.meta.external_account_required)

    @property
    def has_renewal_information(self) -> bool:
        """Whether it says when certificates should be renewed (RFC 9773), and so hears what they replace."""
        return hasattr(self.directory, "renewalInfo")

    # Accounts.

    def new_account(self, contact: Sequence[str], external: ExternalAccount | None, *, terms: bool) -> str:
        """Make the account of the key, or find it when there is one; return its URL.

        Args:
            contact: URLs to reach its owner.
            external: The external account to bind it to.
            terms: Whether the terms of service are agreed to.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("making an account"):
            binding = None
            if external is not None:
                binding = messages.ExternalAccountBinding.from_data(
                    self.key.public_key(), external.key_id, external.hmac_key, self._acme.directory
                )
            wishes = messages.NewRegistration.from_data(
                contact=tuple(contact), terms_of_service_agreed=terms or None, external_account_binding=binding
            )
            self._network.account = None
            try:
                url = self._acme.new_account(wishes).uri
            except errors.ConflictError as known:
                url = known.location
            self.account_url = url
            return str(url)

    def find_account(self) -> str:
        """Return the URL of the account that the key has.

        Raises:
            IssuanceError: It has none (``accountDoesNotExist``), or the authority refuses.
        """
        with self._doing("looking for the account of a key"):
            unknown = messages.RegistrationResource(uri="", body=messages.Registration())
            return str(self._acme.query_registration(unknown).uri)

    def account(self) -> messages.Registration:
        """Return what the authority has on the account.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("asking for the account"):
            body: messages.Registration = self._acme.query_registration(self._registration()).body
            return body

    def update_contact(self, contact: Sequence[str]) -> None:
        """Change how the account's owner is reached.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("changing the contact of the account"):
            self._acme.update_registration(self._registration(), messages.Registration(contact=tuple(contact)))

    def deactivate_account(self) -> None:
        """Give the account up for ever.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("deactivating the account"):
            self._acme.deactivate_registration(self._registration())

    def change_key(self, new_key: JWK) -> None:
        """Give the account another key (RFC 8555, 7.3.5).

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("changing the key of the account"):
            url = str(self._acme.directory["keyChange"])
            claim = KeyChange(account=self.account_url, old_key=self.key.public_key())
            inner = jws.JWS.sign(claim.json_dumps().encode(), new_key, _algorithm(new_key), None, url)
            self._post(url, inner)
            self._network.key = new_key
            self._network.alg = _algorithm(new_key)

    # Orders.

    def new_order(
        self, wanted: Sequence[str], *, profile: str | None = None, replaces: str | None = None
    ) -> tuple[str, messages.Order]:
        """Order a certificate; return the order's URL and the order.

        Args:
            wanted: Normalised host names and IP addresses.
            profile: The certificate profile.
            replaces: The `renewal_identifier` of the certificate that this one is to replace.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing(f"ordering a certificate for {', '.join(wanted)}"):
            order = NewOrder(identifiers=[_identifier(name) for name in wanted], profile=profile, replaces=replaces)
            response = self._post(self._acme.directory["newOrder"], order)
            return response.headers["Location"], messages.Order.from_json(response.json())

    def order(self, url: str) -> tuple[messages.Order, float | None]:
        """Return an order as it is now, and the seconds after which to look again where the authority says.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("asking for the order"):
            response = self._post(url, None)
            return messages.Order.from_json(response.json()), self._wait(response)

    def authorization(self, url: str) -> tuple[messages.AuthorizationResource, float | None]:
        """Return an authorization as it is now, and the seconds after which to look again where the authority says.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("asking for an authorization"):
            asked = messages.AuthorizationResource(uri=url, body=messages.Authorization())
            response = self._post(asked.uri, None)
            body = messages.Authorization.from_json(response.json())
            return asked.update(body=body), self._wait(response)

    def answer(self, challenge: messages.ChallengeBody, name: str) -> None:
        """Say that the answer to a challenge is in place.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing(f"answering {challenge.chall.typ} for {name}"):
            self._acme.answer_challenge(challenge, challenge.chall.response(self.key))

    def deactivate_authorization(self, authorization: messages.AuthorizationResource) -> None:
        """Give an authorization up.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("deactivating an authorization"):
            self._acme.deactivate_authorization(authorization)

    def finalize(self, url: str, order: messages.Order, request: bytes) -> messages.Order:
        """Ask for the certificate of an order; return the order as it is then.

        Args:
            url: The order's URL.
            order: The order, which is ready.
            request: The certificate signing request, as PEM.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("asking for the certificate"):
            resource = messages.OrderResource(uri=url, body=order, csr_pem=request, authorizations=[])
            finalized: messages.Order = self._acme.begin_finalization(resource).body
            return finalized

    def chains(self, url: str, *, alternates: bool) -> list[bytes]:
        """Return a certificate with its chain as PEM, the authority's first choice first.

        Args:
            url: Where it is.
            alternates: Whether the other chains that it has are wanted too.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("downloading the certificate"):
            first = self._post(url, None)
            if not alternates:
                return [first.content]
            links = requests.utils.parse_header_links(first.headers.get("Link", ""))
            others = [link["url"] for link in links if link.get("rel") == "alternate" and "url" in link]
            return [first.content, *(self._post(other, None).content for other in others[:MAX_ALTERNATE_CHAINS])]

    # Certificates.

    def revoke(self, certificate: Any, reason: int) -> None:
        """Revoke a certificate.

        Args:
            certificate: The leaf.
            reason: Why (RFC 5280, 5.3.1).

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("revoking the certificate"):
            self._acme.revoke(certificate, reason)

    def renewal_information(self, identifier: str) -> tuple[dict[str, Any], float | None] | None:
        """Return the renewal information on a certificate (RFC 9773, 4.2), and the seconds after which to ask again.

        Args:
            identifier: Its `renewal_identifier`.

        Returns:
            None where the authority has none at all.

        Raises:
            IssuanceError: The authority refuses.
        """
        with self._doing("asking for renewal information"):
            try:
                base = str(self._acme.directory["renewalInfo"])
            except KeyError:
                return None
            response = self._network.get(f"{base.rstrip('/')}/{identifier}")
            document: dict[str, Any] = dict(response.json())
            return document, self._wait(response)

    @property
    def _acme(self) -> client.ClientV2:
        if self._library is None:
            directory = client.ClientV2.get_directory(self.authority.directory_url, self._network)
            self._library = client.ClientV2(directory, self._network)
        return self._library

    def _registration(self) -> messages.RegistrationResource:
        if self._network.account is None:
            raise IssuanceError(f"There is no account at {self.authority} yet.")
        return self._network.account

    def _post(self, url: str, content: Any) -> requests.Response:
        return self._network.post(url, content, new_nonce_url=self._acme.directory["newNonce"])

    def _wait(self, response: requests.Response) -> float | None:
        return problems.retry_after_seconds(response.headers.get("Retry-After"), self._clock)

    @contextlib.contextmanager
    def _doing(self, doing: str) -> Iterator[None]:
        self._session.doing = doing
        with problems.translated(self.authority, doing, self._clock):
            yield


def _algorithm(key: JWK | None) -> JWASignature:
    """Return how an account's key signs."""
    if not isinstance(key, JWKEC):
        return RS256
    return ES384 if key.to_json()["crv"] == "P-384" else ES256


def _identifier(name: str) -> messages.Identifier:
    kind = messages.IDENTIFIER_FQDN if server_names.address(name) is None else messages.IDENTIFIER_IP
    return messages.Identifier(typ=kind, value=name)
