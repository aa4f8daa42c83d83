"""The HTTP side of a test's ACME authority, as a WSGI application (RFC 8555, 7)."""

from __future__ import annotations

import http
import ipaddress
import json
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.jwk import JWK, JWKOct

from secureserve.testing.acme_documents import Documents
from secureserve.testing.acme_messages import (
    MINIMUM_RSA_SIZE,
    Problem,
    SignedRequest,
    decode_base64url,
    parse_key,
    parse_signed,
    public_key,
    thumbprint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from secureserve.testing.acme import ACMEAuthority
    from secureserve.testing.acme_records import Account, Authorization, Issued, Order

    Headers: TypeAlias = "dict[str, str]"
    Answer: TypeAlias = "tuple[int, Any, Headers]"

__all__ = ["ACMEApplication"]

MAX_BODY_SIZE: Final = 256 * 1024

MAX_IDENTIFIERS: Final = 100


class ACMEApplication:
    """Answers ACME clients.

    Args:
        acme: The state.

    Threads: any.
    """

    def __init__(self, acme: ACMEAuthority) -> None:
        self._acme = acme
        self._documents = Documents(acme)
        self._resources: Mapping[str, Callable[[SignedRequest, Account, str], Answer]] = {
            "account": self._account,
            "orders": self._orders,
            "newOrder": self._new_order,
            "order": self._order,
            "authz": self._authorization,
            "challenge": self._challenge,
            "finalize": self._finalize,
            "cert": self._certificate,
            "keyChange": self._key_change,
        }

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a request (PEP 3333)."""
        headers: Headers = {}
        try:
            status, content, headers = self._answer(environ)
            kind = "application/json"
        except Problem as problem:
            status, content, kind = problem.status, problem.document(), "application/problem+json"
            if problem.retry_after is not None:
                headers["Retry-After"] = str(problem.retry_after)
            if problem.kind == "userActionRequired":
                headers["Link"] = f'<{self._acme.base_url}/terms>;rel="terms-of-service"'
        if isinstance(content, bytes):
            body, kind = content, "application/pem-certificate-chain"
        else:
            body = b"" if content is None else json.dumps(content, indent=1).encode()
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store", **headers}
        if not self._acme.is_down:
            headers["Replay-Nonce"] = self._acme.new_nonce()
            headers.setdefault("Link", f'<{self._acme.directory_url}>;rel="index"')
        start_response(f"{status} {http.HTTPStatus(status).phrase}", list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        body = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), MAX_BODY_SIZE))
        if self._acme.is_down:
            raise Problem("serverInternal", "Down for maintenance.", status=503, retry_after=1)
        resource, _, rest = path.lstrip("/").partition("/")
        self._acme.take_problem(resource)
        if resource == "directory" and method == "GET":
            return 200, self._documents.directory(), {}
        if resource == "newNonce" and method in {"HEAD", "GET"}:
            return (200 if method == "HEAD" else 204), None, {}
        if resource == "renewalInfo" and method == "GET":
            return self._renewal_info(rest)
        if resource not in {*self._resources, "newAccount", "revokeCert"}:
            raise Problem("malformed", f"There is nothing at {path}.", status=404)
        if method != "POST":
            raise Problem("malformed", "Everything but the directory is asked for by POST.", status=405)
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip() != "application/jose+json":
            raise Problem("malformed", "The content type has to be application/jose+json.", status=415)
        return self._answer_signed(resource, rest, parse_signed(body), f"{self._acme.base_url}{path}")

    def _answer_signed(self, resource: str, rest: str, request: SignedRequest, url: str) -> Answer:
        protected = request.protected
        if ("jwk" in protected) == ("kid" in protected):
            raise Problem("malformed", "A request carries either a jwk or a kid.")
        if protected.get("url") != url:
            raise Problem(
                "unauthorized", f"The request was signed for {protected.get('url')!r}, not {url!r}.", status=403
            )
        key = request.key
        if key is not None:
            if resource not in {"newAccount", "revokeCert"}:
                raise Problem("malformed", "This is asked for with a kid.")
            request.verify(key)
            self._acme.use_nonce(protected.get("nonce"))
            return (self._new_account if resource == "newAccount" else self._revoke)(request, key)
        account = self._signing_account(protected["kid"])
        request.verify(account.key)
        self._acme.use_nonce(protected.get("nonce"))
        if account.status != "valid":
            raise Problem("unauthorized", f"The account is {account.status}.", status=403)
        if resource == "newAccount":
            raise Problem("malformed", "A new account is asked for with a jwk.")
        if resource == "revokeCert":
            return self._revoke(request, account)
        return self._resources[resource](request, account, rest)

    # Accounts.

    def _signing_account(self, kid: object) -> Account:
        prefix = f"{self._acme.base_url}/account/"
        number = str(kid).removeprefix(prefix) if str(kid).startswith(prefix) else ""
        account = self._acme.accounts.get(int(number)) if number.isdecimal() else None
        if account is None:
            raise Problem("accountDoesNotExist", f"There is no account {kid!r}.")
        return account

    def _new_account(self, request: SignedRequest, key: JWK) -> Answer:
        wishes = request.json()
        known = self._acme.account_of_key(key)
        if known is not None:
            if known.status != "valid":
                raise Problem("unauthorized", f"The account is {known.status}.", status=403)
            return 200, self._documents.account(known), {"Location": self._documents.url("account", known.number)}
        if wishes.get("onlyReturnExisting"):
            raise Problem("accountDoesNotExist", "No account has that key.")
        if wishes.get("termsOfServiceAgreed") is not True:
            raise Problem("userActionRequired", "The terms of service have to be agreed to.", status=403)
        external = self._external_account(wishes.get("externalAccountBinding"), key)
        account = self._acme.new_account(key, _contact(wishes), external)
        return 201, self._documents.account(account), {"Location": self._documents.url("account", account.number)}

    def _external_account(self, binding: Any, key: JWK) -> str | None:
        if not self._acme.external_accounts:
            return None
        if not isinstance(binding, dict):
            raise Problem("externalAccountRequired", "Accounts have to be bound to an external account.", status=403)
        inner = parse_signed(binding)
        kid = str(inner.protected.get("kid"))
        mac_key = self._acme.external_accounts.get(kid)
        if mac_key is None or inner.protected.get("url") != f"{self._acme.base_url}/newAccount":
            raise Problem("unauthorized", f"There is no external account {kid!r}.", status=403)
        inner.verify(JWKOct(key=mac_key), ("HS256", "HS384", "HS512"))
        if thumbprint(parse_key(inner.json())) != thumbprint(key):
            raise Problem("unauthorized", "The binding is for another account key.", status=403)
        return kid

    def _account(self, request: SignedRequest, account: Account, rest: str) -> Answer:
        if rest != str(account.number):
            raise Problem("unauthorized", "That is somebody else's account.", status=403)
        wishes = request.json()
        if wishes.get("status") == "deactivated":
            account.status = "deactivated"
        elif "contact" in wishes:
            account.contact = _contact(wishes)
        return 200, self._documents.account(account), {}

    def _orders(self, _request: SignedRequest, account: Account, rest: str) -> Answer:
        if rest != str(account.number):
            raise Problem("unauthorized", "Those are somebody else's orders.", status=403)
        return 200, {"orders": [self._documents.url("order", number) for number in account.orders]}, {}

    def _key_change(self, request: SignedRequest, account: Account, _rest: str) -> Answer:
        inner = parse_signed(request.json())
        new_key = inner.key
        if new_key is None or inner.protected.get("url") != request.protected["url"]:
            raise Problem("malformed", "The inner request has to carry the new key and the same url.")
        inner.verify(new_key)
        claim = inner.json()
        if claim.get("account") != self._documents.url("account", account.number):
            raise Problem("malformed", "The inner request names another account.")
        if thumbprint(parse_key(claim.get("oldKey"))) != thumbprint(account.key):
            raise Problem("malformed", "The inner request names another old key.")
        other = self._acme.account_of_key(new_key)
        if other is not None:
            raise Problem("conflict", "Another account has that key.", status=409)
        account.key = new_key
        return 200, self._documents.account(account), {}

    # Orders.

    def _new_order(self, request: SignedRequest, account: Account, _rest: str) -> Answer:
        wishes = request.json()
        identifiers = _identifiers(wishes.get("identifiers"))
        order = self._acme.new_order(account, identifiers, wishes.get("profile"), wishes.get("replaces"))
        return 201, self._documents.order(order), {"Location": self._documents.url("order", order.number)}

    def _order(self, _request: SignedRequest, account: Account, rest: str) -> Answer:
        order: Order = _owned(self._acme.orders, rest, account)
        description = self._documents.order(order)
        if order.status != "processing":
            return 200, description, {}
        order.looks -= 1
        return 200, description, {"Retry-After": "0"}

    def _authorization(self, request: SignedRequest, account: Account, rest: str) -> Answer:
        authorization: Authorization = _owned(self._acme.authorizations, rest, account)
        if request.json().get("status") == "deactivated":
            authorization.status = "deactivated"
        return 200, self._documents.authorization(authorization), {}

    def _challenge(self, request: SignedRequest, account: Account, rest: str) -> Answer:
        challenge = self._acme.challenges.get(int(rest)) if rest.isdecimal() else None
        if challenge is None or challenge.authorization.account is not account:
            raise Problem("malformed", "There is no such challenge.", status=404)
        # An empty payload only asks; an empty object says that the answer is in place (RFC 8555, 7.5.1).
        if request.payload:
            request.json()
            self._acme.answer_challenge(challenge)
        up = f'<{self._documents.url("authz", challenge.authorization.number)}>;rel="up"'
        return 200, self._documents.challenge(challenge), {"Link": up}

    def _finalize(self, request: SignedRequest, account: Account, rest: str) -> Answer:
        order: Order = _owned(self._acme.orders, rest, account)
        if order.status != "ready":
            raise Problem("orderNotReady", f"The order is {order.status}.", status=403)
        self._acme.issue(order, _public_key_of_request(request.json().get("csr"), order))
        return 200, self._documents.order(order), {"Location": self._documents.url("order", order.number)}

    def _certificate(self, _request: SignedRequest, account: Account, rest: str) -> Answer:
        number, _, which = rest.partition("/")
        issued = next((one for one in self._acme.issued if str(one.number) == number), None)
        if issued is None or issued.account is not account or which not in {"", "alternate"}:
            raise Problem("malformed", "There is no such certificate.", status=404)
        other = self._documents.url("cert", issued.number) + ("" if which else "/alternate")
        chain = self._acme.chain_pem(issued, alternate=bool(which))
        return 200, chain, {"Link": f'<{other}>;rel="alternate"'}

    def _revoke(self, request: SignedRequest, by: Account | JWK) -> Answer:
        wishes = request.json()
        try:
            certificate = x509.load_der_x509_certificate(decode_base64url(wishes.get("certificate", "")))
        except ValueError as error:
            raise Problem("malformed", "The certificate cannot be read.") from error
        issued = next((one for one in self._acme.issued if one.certificate == certificate), None)
        if issued is None:
            raise Problem("malformed", "The certificate was not issued here.", status=404)
        if by is not issued.account and not _is_key_of(by, issued):
            raise Problem("unauthorized", "Only its owner revokes a certificate.", status=403)
        if issued.revoked:
            raise Problem("alreadyRevoked", "The certificate has been revoked already.")
        reason = _REASONS.get(wishes.get("reason", 0))
        if reason is None:
            raise Problem("badRevocationReason", f"{wishes.get('reason')!r} is no reason to revoke.")
        issued.revoked = True
        self._acme.authority.revocations.revoke(certificate, reason)
        return 200, None, {}

    def _renewal_info(self, identifier: str) -> Answer:
        issued = self._acme.find_issued(identifier)
        if issued is None:
            raise Problem("malformed", "The certificate was not issued here.", status=404)
        return 200, self._documents.renewal_information(issued), {"Retry-After": "21600"}


_REASONS: Final[Mapping[object, x509.ReasonFlags]] = {
    0: x509.ReasonFlags.unspecified,
    1: x509.ReasonFlags.key_compromise,
    3: x509.ReasonFlags.affiliation_changed,
    4: x509.ReasonFlags.superseded,
    5: x509.ReasonFlags.cessation_of_operation,
}
"""Why a subscriber may revoke (RFC 5280, 5.3.1)."""


def _owned(things: Mapping[int, Any], number: str, account: Account) -> Any:
    thing = things.get(int(number)) if number.isdecimal() else None
    if thing is None or thing.account is not account:
        raise Problem("malformed", "There is nothing of yours there.", status=404)
    return thing


def _contact(wishes: Mapping[str, Any]) -> list[str]:
    contact = wishes.get("contact", [])
    if not isinstance(contact, list) or not all(isinstance(one, str) for one in contact):
        raise Problem("invalidContact", "The contact has to be a list of URLs.")
    for one in contact:
        if not one.startswith("mailto:"):
            raise Problem("unsupportedContact", f"{one!r} is not a mailto: URL.")
    return list(contact)


def _identifiers(wanted: Any) -> list[dict[str, str]]:
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= MAX_IDENTIFIERS:
        raise Problem("malformed", f"An order has 1 to {MAX_IDENTIFIERS} identifiers.")
    found: list[dict[str, str]] = []
    for one in wanted:
        kind, value = one.get("type"), one.get("value")
        if kind == "ip":
            try:
                value = str(ipaddress.ip_address(value))
            except ValueError as error:
                raise Problem("malformed", f"{value!r} is no IP address.") from error
        elif kind != "dns":
            raise Problem("unsupportedIdentifier", f"Identifiers of type {kind!r} are not known.")
        elif not isinstance(value, str) or value != value.lower() or "." not in value or value.count("*") > 1:
            raise Problem("rejectedIdentifier", f"{value!r} is no name that this authority issues for.")
        identifier = {"type": str(kind), "value": str(value)}
        if identifier not in found:
            found.append(identifier)
    return found


def _public_key_of_request(encoded: Any, order: Order) -> Any:
    try:
        request = x509.load_der_x509_csr(decode_base64url(encoded))
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (TypeError, ValueError, x509.ExtensionNotFound) as error:
        raise Problem("badCSR", f"The certificate request cannot be used: {error}") from error
    if not request.is_signature_valid:
        raise Problem("badCSR", "The certificate request is not signed with its key.")
    if {str(one.value) for one in names} != {one["value"] for one in order.identifiers}:
        raise Problem("badCSR", "The certificate request is for other names than the order.")
    key = request.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MINIMUM_RSA_SIZE:
        raise Problem("badCSR", f"An RSA key of {key.key_size} bits is too short.")
    if _spki(key) == _spki(public_key(order.account.key)):
        raise Problem("badCSR", "The key of a certificate must not be the account's.")
    return key


def _is_key_of(by: Account | JWK, issued: Issued) -> bool:
    return isinstance(by, JWK) and _spki(public_key(by)) == _spki(issued.certificate.public_key())


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded
