"""A small real ACME authority on loopback, for tests of ACME clients.

It keeps accounts, orders, authorizations and challenges as RFC 8555 describes them, verifies every signature and nonce,
validates challenges for real, and issues from the test's authority: what the test's clients trust. It knows renewal
information (RFC 9773), profiles, external account binding and alternate chains. Its state is in memory.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import serialization

from secureserve.testing.acme_messages import Problem, encode_base64url, thumbprint
from secureserve.testing.acme_records import Account, Authorization, Challenge, Issued, Order, now
from secureserve.testing.acme_validation import CHALLENGE_TYPES, Validation
from secureserve.testing.template import DEFAULT_LIFETIME, Issuer, Template

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from datetime import datetime, timedelta

    from cryptography import x509
    from josepy.jwk import JWK

    from secureserve.testing.authority import Authority

__all__ = ["ACMEAuthority", "acme_authority"]

VALIDATION_PATIENCE: Final = 5.0
"""Seconds that the answer to a challenge waits for its outcome, so that a client sees it at its first look."""

_INTERMEDIATE: Final = Template(
    common_name="secureserve testing ACME intermediate", is_authority=True, path_length=0, extended_key_usage=()
)


class ACMEAuthority:
    """An ACME authority, whose behaviour a test can change at any time through its attributes.

    Args:
        authority: From which it issues.
        lifetime: How long its certificates last.
        profiles: Lifetimes by the name of a certificate profile.
        external_accounts: MAC keys by key identifier; when there are any, new accounts have to be bound to one.
        reject_every: Answer every so many-th good nonce with ``badNonce``; 0 never.
        validation_patience: Seconds that the answer to a challenge waits for its outcome; 0 makes clients poll.

    Attributes:
        validation: Where challenges are looked for: set ``http_port`` and ``tls_port``, fill ``zone``.
        refused: Problems by identifier, with which an order for it is answered.
        more_challenge_types: Further types of challenges that are offered; nothing proves them.
        issuance_problem: What goes wrong after the proofs, so that the order becomes invalid; None for nothing.
        looks_before_issuing: How often a client looks at its order until the certificate is there.
        issued: What was issued, in order.
        accounts: The accounts, by number.
        renewal_window: Returns when a certificate should be renewed; by default the last third of its life.
        renewal_explanation: The URL of a page that says why; None for none.
        directory_url: Where clients begin.

    Threads: any.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        lifetime: timedelta = DEFAULT_LIFETIME,
        profiles: Mapping[str, timedelta] | None = None,
        external_accounts: Mapping[str, bytes] | None = None,
        reject_every: int = 0,
        validation_patience: float = VALIDATION_PATIENCE,
    ) -> None:
        self.authority = authority
        self.lifetime = lifetime
        self.profiles = dict(profiles or {})
        self.external_accounts = dict(external_accounts or {})
        self.reject_every = reject_every
        self.validation_patience = validation_patience
        self.validation = Validation()
        self.refused: dict[str, Problem] = {}
        self.accounts: dict[int, Account] = {}
        self.orders: dict[int, Order] = {}
        self.authorizations: dict[int, Authorization] = {}
        self.challenges: dict[int, Challenge] = {}
        self.more_challenge_types: tuple[str, ...] = ()
        self.issuance_problem: Problem | None = None
        self.looks_before_issuing = 0
        self.issued: list[Issued] = []
        self.renewal_window: Callable[[x509.Certificate], tuple[datetime, datetime]] = last_third
        self.renewal_explanation: str | None = None
        self.base_url = ""
        self.is_down = False
        self.lock = threading.RLock()
        key = authority.keys.take()
        self.issuer = authority.root.issue_authority(_INTERMEDIATE, key)
        self.alternate_root = Issuer.self_signed(
            _INTERMEDIATE.replace(common_name="secureserve testing ACME alternate root", path_length=None),
            authority.keys.take(),
        )
        self.alternate_issuer = self.alternate_root.issue_authority(_INTERMEDIATE, key)
        self._numbers = itertools.count(1)
        self._nonces: set[str] = set()
        self._nonces_used = 0
        self._problems: list[tuple[str, Problem]] = []
        self._validators = ThreadPoolExecutor(2, thread_name_prefix="acme validation")

    @property
    def directory_url(self) -> str:
        """Where clients begin."""
        return f"{self.base_url}/directory"

    def fail_next(self, resource: str, problem: Problem) -> None:
        """Answer the next request for a resource with a problem; several wait in order.

        Args:
            resource: ``newAccount``, ``newOrder``, ``challenge``, ``finalize``, ``cert``, ...; ``*`` is any of them.
            problem: The answer, such as ``Problem("rateLimited", "Too many.", status=429, retry_after=3600)``.
        """
        with self.lock:
            self._problems.append((resource, problem))

    @contextmanager
    def outage(self) -> Generator[None]:
        """Answer everything with 503 for the length of a with statement."""
        self.is_down = True
        try:
            yield
        finally:
            self.is_down = False

    def close(self) -> None:
        """Wait for validations that are under way, and begin no more."""
        self._validators.shutdown(cancel_futures=True)

    # What the HTTP side asks of the state.

    def new_nonce(self) -> str:
        """Return a nonce that one request may use."""
        nonce = secrets.token_urlsafe(16)
        with self.lock:
            self._nonces.add(nonce)
        return nonce

    def use_nonce(self, nonce: object) -> None:
        """Take a nonce out of use.

        Raises:
            Problem: It was not given out, was used before, or is the one in so many that is refused on purpose.
        """
        with self.lock:
            known = nonce in self._nonces
            self._nonces.discard(str(nonce))
            self._nonces_used += known
            if not known or (self.reject_every and self._nonces_used % self.reject_every == 0):
                raise Problem("badNonce", "That nonce is not good.")

    def take_problem(self, resource: str) -> None:
        """Raise what `fail_next` put there for `resource`.

        Raises:
            Problem: There is one.
        """
        with self.lock:
            for place, (wanted, problem) in enumerate(self._problems):
                if wanted in {"*", resource}:
                    del self._problems[place]
                    raise problem

    def account_of_key(self, key: JWK) -> Account | None:
        """Return the account that has `key`."""
        wanted = thumbprint(key)
        return next((one for one in self.accounts.values() if thumbprint(one.key) == wanted), None)

    def new_account(self, key: JWK, contact: list[str], external: str | None) -> Account:
        """Make an account."""
        with self.lock:
            account = Account(next(self._numbers), key, contact, external=external)
            self.accounts[account.number] = account
            return account

    def new_order(
        self, account: Account, identifiers: list[dict[str, str]], profile: str | None, replaces: str | None
    ) -> Order:
        """Make an order, with an authorization for each identifier.

        Raises:
            Problem: The order is refused.
        """
        refused = [(one, self.refused[one["value"]]) for one in identifiers if one["value"] in self.refused]
        if refused:
            subproblems = tuple({**problem.document(), "identifier": one} for one, problem in refused)
            first = refused[0][1]
            raise Problem(first.kind, first.detail, status=first.status, subproblems=subproblems)
        if profile is not None and profile not in self.profiles:
            raise Problem("invalidProfile", f"There is no profile {profile!r}.")
        with self.lock:
            if replaces is not None:
                self._replace(replaces)
            authorizations = [self._authorization(account, one) for one in identifiers]
            order = Order(next(self._numbers), account, identifiers, authorizations, profile, replaces)
            self.orders[order.number] = order
            account.orders.append(order.number)
            return order

    def answer_challenge(self, challenge: Challenge) -> None:
        """Validate a challenge, and wait a little for the outcome."""
        with self.lock:
            if challenge.status != "pending" or challenge.authorization.status != "pending":
                return
            challenge.status = "processing"
        wait([self._validators.submit(self._validate, challenge)], self.validation_patience)

    def issue(self, order: Order, public_key: Any) -> Issued | None:
        """Issue what was ordered; None where `issuance_problem` is in the way."""
        with self.lock:
            if self.issuance_problem is not None:
                order.error = self.issuance_problem
                return None
            lifetime = self.lifetime if order.profile is None else self.profiles[order.profile]
            names = tuple(one["value"] for one in order.identifiers)
            certificate = self.issuer.sign(Template(identities=names, lifetime=lifetime), public_key)
            issued = Issued(next(self._numbers), order.account, certificate, order.profile)
            self.issued.append(issued)
            order.certificate = issued
            order.looks = self.looks_before_issuing
            return issued

    def chain_pem(self, issued: Issued, *, alternate: bool = False) -> bytes:
        """Return a certificate with its chain, the usual one or the one to the alternate root."""
        issuer = self.alternate_issuer if alternate else self.issuer
        chain = (issued.certificate, *issuer.chain)
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)

    def find_issued(self, identifier: str) -> Issued | None:
        """Return the certificate of a renewal information identifier (RFC 9773, 4.1)."""
        return next((one for one in self.issued if certificate_identifier(one.certificate) == identifier), None)

    def _replace(self, identifier: str) -> None:
        issued = self.find_issued(identifier)
        if issued is None:
            raise Problem("malformed", "The certificate to replace was not issued here.")
        if issued.replaced:
            raise Problem("alreadyReplaced", "That certificate has been replaced already.", status=409)
        issued.replaced = True

    def _authorization(self, account: Account, identifier: dict[str, str]) -> Authorization:
        value, wildcard = identifier["value"].removeprefix("*."), identifier["value"].startswith("*.")
        for known in self.authorizations.values():
            same = (known.account is account, known.type == identifier["type"], known.value == value)
            if all(same) and known.wildcard == wildcard and known.status == "valid" and known.expires > now():
                return known
        made = Authorization(next(self._numbers), account, identifier["type"], value, wildcard)
        types = ("dns-01",) if wildcard else CHALLENGE_TYPES[:2] if made.type == "ip" else CHALLENGE_TYPES
        for challenge_type in (*self.more_challenge_types, *types):
            challenge = Challenge(next(self._numbers), challenge_type, secrets.token_urlsafe(32), made)
            made.challenges.append(challenge)
            self.challenges[challenge.number] = challenge
        self.authorizations[made.number] = made
        return made

    def _validate(self, challenge: Challenge) -> None:
        authorization = challenge.authorization
        key_authorization = f"{challenge.token}.{thumbprint(authorization.account.key)}"
        problem: Problem | None = None
        try:
            self.validation.validate(challenge.type, authorization.value, challenge.token, key_authorization)
        except Problem as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - whatever a test's own look-up raises is the outcome
            problem = Problem("serverInternal", repr(error), status=500)
        with self.lock:
            challenge.error = problem
            challenge.status = authorization.status = "valid" if problem is None else "invalid"
            challenge.validated = now() if problem is None else None


@contextmanager
def acme_authority(authority: Authority, **options: Any) -> Generator[ACMEAuthority]:
    """Run an ACME authority on a free port of loopback for the length of a with statement.

    Args:
        authority: From which it issues, and whose root its own clients have to trust.
        options: Arguments of `ACMEAuthority`.
    """
    from secureserve.testing.acme_application import ACMEApplication
    from secureserve.testing.server import https_server

    acme = ACMEAuthority(authority, **options)
    with https_server(ACMEApplication(acme), credential=authority.issue()) as server:
        acme.base_url = server.url
        try:
            yield acme
        finally:
            acme.close()


def certificate_identifier(certificate: x509.Certificate) -> str:
    """Return what renewal information names a certificate by (RFC 9773, 4.1)."""
    from cryptography import x509

    key_id = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
    serial = certificate.serial_number
    serial_bytes = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return f"{encode_base64url(key_id)}.{encode_base64url(serial_bytes)}"


def last_third(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """Return the last third of a certificate's life, without its end."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return start + (end - start) * 2 / 3, end - (end - start) / 6
