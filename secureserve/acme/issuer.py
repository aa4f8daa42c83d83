"""`Issuer`: obtains certificates from one authority: account, order, proofs, finalisation, choice of the chain.

An order is stored before the first proof and stays stored until its certificate is, so that whatever ends this process,
the next one goes on with it: an authority limits how many new orders there may be.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme.account import Account
from secureserve.acme.client import Client
from secureserve.acme.fulfilment import Fulfilment
from secureserve.acme.orders import GOING_ON, PendingOrder
from secureserve.acme.problems import translated
from secureserve.acme.protocol import JWK, JOSEError, messages
from secureserve.acme.proving import ProofFailed
from secureserve.acme.renewal import RenewalInformation
from secureserve.acme.storage import Key, canonical_names
from secureserve.certificates.credential import Credential
from secureserve.certificates.issuance import (
    KEY_TYPES,
    new_key,
    private_key_pem,
    renewal_identifier,
)
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import ConfigurationError, CredentialError, IssuanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from secureserve.acme.authorities import Authority, ExternalAccount
    from secureserve.acme.solvers import Solver
    from secureserve.acme.storage import Storage
    from secureserve.clock import Clock

__all__ = ["Issuer"]

_GONE: Final = frozenset({"malformed", "unauthorized", "accountDoesNotExist", "orderNotReady"})
"""How authorities answer for an order that they do not know (any more)."""
_NOT_REPLACEABLE: Final = frozenset({"alreadyReplaced", "conflict", "malformed", "unauthorized"})
"""How they answer for a certificate that cannot be replaced: RFC 9773 (5), and what came before it."""


class Issuer:
    """Obtains certificates from one authority.

    Args:
        authority: From whom.
        storage: Where the account and orders under way are kept.
        solvers: What can answer challenges.
        contact: E-mail addresses to reach the owner of the account.
        accept_terms: Whether the owner agrees to the authority's terms of service.
        external_account: The account at the authority's web site to bind the account to.
        profile: The certificate profile to ask for; None for the authority's default.
        preferred_chain: The common name of the issuer that the chain should end with, where there are several chains.
        key_type: The kind of a certificate's key, one of `KEY_TYPES`.
        clock: What tells the time.
        publish_event: Told of a new account.

    Raises:
        ConfigurationError: There is no such kind of key, or a contact is no address.

    Threads: any, several orders at once. Whoever obtains holds the storage's lock on the names.
    """

    def __init__(
        self,
        authority: Authority,
        storage: Storage,
        solvers: Sequence[Solver],
        *,
        contact: Sequence[str] = (),
        accept_terms: bool = False,
        external_account: ExternalAccount | None = None,
        profile: str | None = None,
        preferred_chain: str | None = None,
        key_type: str = "ecdsa",
        clock: Clock = SYSTEM_CLOCK,
        publish_event: Callable[[object], None] | None = None,
    ) -> None:
        if key_type not in KEY_TYPES:
            raise ConfigurationError(
                "acme_key_type", key_type, "is no kind of key", f"Write one of {', '.join(KEY_TYPES)}."
            )
        self.authority = authority
        self.solvers = tuple(solvers)
        self.profile = profile
        self.preferred_chain = preferred_chain
        self.key_type = key_type
        self.account = Account(
            authority,
            storage,
            contact=contact,
            accept_terms=accept_terms,
            external_account=external_account,
            clock=clock,
            publish_event=publish_event,
        )
        self._storage = storage
        self._clock = clock
        self._publish = publish_event
        self._random = random.SystemRandom()
        self._worked: str | None = None

    def __repr__(self) -> str:
        return f"<Issuer of {self.authority}>"

    def staging(self) -> Issuer | None:
        """Return an issuer that is like this one, but for the authority's staging twin.

        Returns:
            None where it has none, or none that we could use: keys of external accounts are good for one of the two.
        """
        if self.authority.staging is None or self.account.external_account is not None:
            return None
        return Issuer(
            self.authority.staging,
            self._storage,
            self.solvers,
            contact=self.account.contact,
            accept_terms=self.account.accept_terms,
            profile=self.profile,
            key_type=self.key_type,
            clock=self._clock,
            publish_event=self._publish,
        )

    def obtain(
        self,
        names: Sequence[str],
        *,
        replaces: Credential | None = None,
        progress: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Credential:
        """Obtain a certificate. It is not stored: that is the caller's to do, and then to call `settle`.

        An order for the same names that was interrupted is gone on with.

        Args:
            names: What it is for: host names, wildcards, IP addresses.
            replaces: The certificate that it will replace, which the authority is told of (RFC 9773, 5).
            progress: Told, in a few words each time, what is going on.
            cancelled: Set when it is to end early. A request that is under way ends first, in bounded time.

        Raises:
            IssuanceError: None was issued.
            StorageError: The account or the order cannot be kept.
            ValueError: A name is malformed, or there is none.
        """
        wanted = canonical_names(names)
        if not wanted:
            raise ValueError("a certificate is for at least one name")
        calling_off = cancelled or threading.Event()
        client = self.account.connect(calling_off)
        try:
            return self._obtain(client, wanted, replaces, progress or (lambda _text: None), calling_off)
        except IssuanceError as error:
            if error.problem_name != "accountDoesNotExist":
                raise
        finally:
            client.close()
        client = self.account.make_anew(calling_off)
        try:
            return self._obtain(client, wanted, replaces, progress or (lambda _text: None), calling_off)
        finally:
            client.close()

    def settle(self, names: Sequence[str]) -> None:
        """Forget the order for some names, whose certificate is stored now.

        Raises:
            StorageError: The storage cannot be changed.
        """
        PendingOrder.forget(self.authority, self._storage, canonical_names(names))

    def renewal_information(self, credential: Credential) -> RenewalInformation | None:
        """Return when the authority would like a certificate to be renewed (RFC 9773).

        Args:
            credential: The certificate, which this authority has issued.

        Returns:
            None where the authority does not say such things, or not of this certificate.

        Raises:
            IssuanceError: It cannot be asked, or its answer makes no sense.
        """
        identifier = renewal_identifier(credential.leaf)
        if identifier is None:
            return None
        client = Client(self.authority, None, clock=self._clock)
        try:
            found = client.renewal_information(identifier)
        finally:
            client.close()
        if found is None:
            return None
        document, retry_after = found
        with translated(self.authority, "asking for renewal information", self._clock):
            window = messages.RenewalInfo.from_json(document).suggested_window
            start, end = window.start, window.end
            url = document.get("explanationURL")
            return RenewalInformation(start, end, str(url) if url else None, retry_after)

    def revoke(self, credential: Credential, reason: int = 0) -> None:
        """Revoke a certificate, as its owner or, where another account ordered it, with its own key.

        Args:
            credential: The certificate with its key.
            reason: Why (RFC 5280, 5.3.1): 0 unspecified, 1 key compromise, 3 affiliation changed, 4 superseded,
                5 cessation of operation.

        Raises:
            IssuanceError: The authority refuses.
            StorageError: The storage cannot be read or changed.
        """
        if self.account.url is None or not self._revoke_as_owner(credential, reason):
            self._revoke_with(Client(self.authority, _signing_key(credential), clock=self._clock), credential, reason)
        if credential.names:
            self.settle(credential.names)

    def _revoke_as_owner(self, credential: Credential, reason: int) -> bool:
        try:
            self._revoke_with(self.account.connect(), credential, reason)
        except IssuanceError as error:
            if error.problem_name in {"unauthorized", "accountDoesNotExist"}:
                return False
            raise
        return True

    def _revoke_with(self, client: Client, credential: Credential, reason: int) -> None:
        try:
            client.revoke(credential.leaf, reason)
        finally:
            client.close()

    def _obtain(
        self,
        client: Client,
        wanted: tuple[str, ...],
        replaces: Credential | None,
        progress: Callable[[str], None],
        cancelled: threading.Event,
    ) -> Credential:
        failed: frozenset[tuple[str, bool, str]] = frozenset()
        pending = resumed = self._resumable(client, wanted, replaces, progress)
        while True:
            pending = pending or self._order(client, wanted, replaces, progress)
            try:
                credential = self._fulfil(client, pending, failed, progress, cancelled)
                if pending is not resumed or not self._is_known(credential.fingerprint, wanted, replaces):
                    return credential
                self.settle(wanted)
                pending = None
            except ProofFailed as error:
                self.settle(wanted)
                # An order is lost with the first proof that fails, so another way to prove it takes another order.
                failed |= error.failed
                if not error.may_try_otherwise:
                    raise
                progress(f"{error} Trying another way.")
                pending = None

    def _fulfil(
        self,
        client: Client,
        pending: PendingOrder,
        failed: frozenset[tuple[str, bool, str]],
        progress: Callable[[str], None],
        cancelled: threading.Event,
    ) -> Credential:
        # By chance, so that a way that always fails does not cost every name an order; but first what worked last.
        solvers = self._random.sample(self.solvers, len(self.solvers))
        solvers.sort(key=lambda solver: solver.challenge_type != self._worked)
        fulfilment = Fulfilment(
            client,
            pending,
            self._storage,
            solvers,
            preferred_chain=self.preferred_chain,
            failed=failed,
            clock=self._clock,
            progress=progress,
            cancelled=cancelled,
        )
        credential = fulfilment.run()
        self._worked = fulfilment.worked or self._worked
        return credential

    def _resumable(
        self, client: Client, wanted: tuple[str, ...], replaces: Credential | None, progress: Callable[[str], None]
    ) -> PendingOrder | None:
        """Return the order that was interrupted, where it can be gone on with."""
        pending = PendingOrder.load(self.authority, self._storage, wanted)
        if pending is None:
            return None
        fits = (pending.account_url, pending.key_type, pending.profile) == (
            client.account_url,
            self.key_type,
            self.profile,
        )
        if not fits or self._is_known(pending.fingerprint, wanted, replaces):
            self.settle(wanted)
            return None
        try:
            order, _ = client.order(pending.url)
        except IssuanceError as error:
            if error.problem_name not in _GONE:
                raise
            self.settle(wanted)
            return None
        if order.status.name not in GOING_ON:
            self.settle(wanted)
            return None
        progress(f"going on with the order for {', '.join(wanted)}")
        return pending

    def _is_known(self, fingerprint: str | None, wanted: tuple[str, ...], replaces: Credential | None) -> bool:
        """Return whether a certificate has arrived where it belongs, so that another one is wanted."""
        if fingerprint is None:
            return False
        if replaces is not None and replaces.fingerprint == fingerprint:
            return True
        stored = self._storage.get(Key.certificate(self.authority.directory_url, wanted))
        if stored is None:
            return False
        try:
            return Credential.from_pem(stored).fingerprint == fingerprint
        except CredentialError:
            return False

    def _order(
        self, client: Client, wanted: tuple[str, ...], replaces: Credential | None, progress: Callable[[str], None]
    ) -> PendingOrder:
        if self.profile is not None and client.profiles and self.profile not in client.profiles:
            remedy = f"Set acme_profile to one of {', '.join(client.profiles)}, or leave it out."
            raise IssuanceError(
                f"{self.authority} has no certificate profile {self.profile!r}. {remedy}",
                problem_type="urn:ietf:params:acme:error:invalidProfile",
                remedy=remedy,
            )
        progress(f"ordering a certificate for {', '.join(wanted)} from {self.authority}")
        identifier = None
        if replaces is not None and client.has_renewal_information:
            identifier = renewal_identifier(replaces.leaf)
        try:
            url, _ = client.new_order(wanted, profile=self.profile, replaces=identifier)
        except IssuanceError as error:
            if identifier is None or error.problem_name not in _NOT_REPLACEABLE:
                raise
            url, _ = client.new_order(wanted, profile=self.profile)
        key = private_key_pem(new_key(self.key_type))
        pending = PendingOrder(url, client.account_url or "", wanted, key, self.key_type, self.profile)
        pending.store(self.authority, self._storage)
        return pending


def _signing_key(credential: Credential) -> Any:
    """Return a certificate's own key as one that signs a request to revoke it (RFC 8555, 7.6)."""
    try:
        return JWK.load(credential.private_key_pem())
    except (JOSEError, TypeError, ValueError):
        raise IssuanceError(
            f"A {credential.key_type} key cannot sign a request to revoke its certificate: "
            "revoke it with the account that ordered it."
        ) from None
