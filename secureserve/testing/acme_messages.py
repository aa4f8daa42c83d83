"""What an ACME client and a test's authority say to each other: signed requests, problem documents (RFC 8555, 6)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.errors import Error as JOSEError
from josepy.json_util import decode_b64jose, encode_b64jose
from josepy.jwk import JWK, JWKEC, JWKRSA
from josepy.jws import JWS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MINIMUM_RSA_SIZE",
    "Problem",
    "SignedRequest",
    "decode_base64url",
    "encode_base64url",
    "parse_key",
    "parse_signed",
    "public_key",
    "thumbprint",
]

ACCOUNT_ALGORITHMS: Final = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

MINIMUM_RSA_SIZE: Final = 2048
"""Bits, of an account's key and of a certificate's."""


class Problem(Exception):
    """A problem document (RFC 7807).

    Args:
        kind: What follows ``urn:ietf:params:acme:error:``.
        detail: What is wrong, as a sentence.
        status: The HTTP status.
        subproblems: Problems of single identifiers, as dictionaries.
        retry_after: Seconds for the Retry-After field; None sends none.
        extra: Further members of the document.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        status: int = 400,
        subproblems: tuple[Mapping[str, Any], ...] = (),
        retry_after: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.detail = detail
        self.status = status
        self.subproblems = subproblems
        self.retry_after = retry_after
        self.extra = dict(extra or {})
        super().__init__(f"{kind}: {detail}")

    def document(self) -> dict[str, Any]:
        """Return it as it is sent."""
        document: dict[str, Any] = {
            "type": f"urn:ietf:params:acme:error:{self.kind}",
            "detail": self.detail,
            "status": self.status,
            **self.extra,
        }
        if self.subproblems:
            document["subproblems"] = list(self.subproblems)
        return document


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request whose form is right and whose signature is still to be verified.

    Args:
        protected: Its protected header.
        payload: What was signed.
        jws: The signature.
    """

    protected: Mapping[str, Any]
    payload: bytes
    jws: JWS

    @property
    def key(self) -> JWK | None:
        """The key that it brings, if it brings one."""
        jwk = self.protected.get("jwk")
        return None if jwk is None else parse_key(jwk)

    def json(self) -> dict[str, Any]:
        """Return the payload as an object; nothing at all (POST-as-GET) as an empty one.

        Raises:
            Problem: It is no JSON object.
        """
        if not self.payload:
            return {}
        try:
            content = json.loads(self.payload)
        except ValueError as error:
            raise Problem("malformed", "The payload is not JSON.") from error
        if not isinstance(content, dict):
            raise Problem("malformed", "The payload is not a JSON object.")
        return content

    def verify(self, key: JWK, algorithms: tuple[str, ...] = ACCOUNT_ALGORITHMS) -> None:
        """Verify the signature.

        Raises:
            Problem: It is not by `key`, or by an algorithm that is not taken.
        """
        algorithm = self.protected.get("alg")
        if algorithm not in algorithms:
            raise Problem(
                "badSignatureAlgorithm",
                f"The algorithm {algorithm!r} is not taken.",
                extra={"algorithms": list(algorithms)},
            )
        try:
            verified = self.jws.verify(key)
        except (JOSEError, TypeError, ValueError) as error:
            raise Problem("malformed", f"The signature cannot be verified: {error}", status=403) from error
        if not verified:
            raise Problem("malformed", "The signature is not by that key.", status=403)


def parse_signed(body: bytes | Mapping[str, Any]) -> SignedRequest:
    """Return a request in the flattened JSON serialization (RFC 7515, 7.2.2).

    Raises:
        Problem: It is not in that form.
    """
    try:
        content = json.loads(body) if isinstance(body, bytes) else dict(body)
        protected = dict(json.loads(decode_base64url(content["protected"])))
        jws = JWS.from_json(content)
    except (JOSEError, KeyError, TypeError, ValueError) as error:
        raise Problem("malformed", "The request is no JWS in the flattened JSON serialization.") from error
    if "header" in content:
        raise Problem("malformed", "An unprotected header is not taken (RFC 8555, 6.2).")
    return SignedRequest(protected, jws.payload, jws)


def parse_key(jwk: Any) -> JWK:
    """Return the public key that a JSON object describes (RFC 7517).

    Raises:
        Problem: It describes none, or a weak one.
    """
    try:
        key = JWK.from_json(jwk)
    except (JOSEError, AttributeError, TypeError, ValueError) as error:
        raise Problem("badPublicKey", f"The key cannot be read: {error}") from error
    if not isinstance(key, JWKEC | JWKRSA):
        raise Problem("badPublicKey", "Only EC and RSA keys are taken.")
    public = public_key(key)
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < MINIMUM_RSA_SIZE:
        raise Problem("badPublicKey", f"An RSA key of {public.key_size} bits is too short.")
    return key


def public_key(key: JWK) -> Any:
    """Return a key as cryptography knows it."""
    # josepy hands keys out in a wrapper that makes them comparable.
    return getattr(key.key, "_wrapped", key.key)


def thumbprint(key: JWK) -> str:
    """Return the thumbprint of a key (RFC 7638)."""
    return encode_base64url(key.thumbprint())


def encode_base64url(data: bytes) -> str:
    """Encode without padding (RFC 7515, 2)."""
    return str(encode_b64jose(data))


def decode_base64url(text: str) -> bytes:
    """Decode what was encoded without padding.

    Raises:
        ValueError: It is not in that encoding.
    """
    try:
        return bytes(decode_b64jose(text))
    except (JOSEError, TypeError, AttributeError) as error:
        raise ValueError(f"not base64url: {error}") from error
