"""What can be said for and against a certificate chain by itself: its names, order, dates, usage and strength."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from secureserve.certificates import names
from secureserve.errors import (
    ChainBroken,
    CredentialError,
    Expired,
    NotYetValid,
    UnreadableCertificate,
    UsageNotAllowed,
    WeakKey,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = [
    "MINIMUM_CURVE_SIZE",
    "MINIMUM_RSA_SIZE",
    "chain_problems",
    "issued",
    "public_key",
    "require_order",
    "sorted_chain",
    "subject_names",
]

MINIMUM_RSA_SIZE: Final = 2048
"""Bits; what the CA/Browser Forum's baseline requirements (6.1.5) and every current client ask for."""

MINIMUM_CURVE_SIZE: Final = 256
"""Bits; P-256 is the smallest curve that TLS 1.3 has signature schemes for (RFC 8446, 4.2.3)."""

_WEAK_HASHES: Final = (hashes.MD5, hashes.SHA1)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def chain_problems(chain: Sequence[x509.Certificate], origin: str, now: datetime) -> tuple[CredentialError, ...]:
    """Return everything that speaks against presenting a chain, the gravest first; its order is taken for granted.

    Args:
        chain: The certificates, leaf first.
        origin: Where they came from, for people.
        now: The moment that they are judged at, aware.
    """
    return (
        *_date_problems(chain, origin, now),
        *_usage_problems(chain[0], origin),
        *_strength_problems(chain, origin),
    )


def require_order(chain: Sequence[x509.Certificate], origin: str) -> None:
    """Make sure that each certificate was signed by the next (RFC 8446, 4.4.2).

    Args:
        chain: The certificates, leaf first.
        origin: Where they came from, for people.

    Raises:
        ChainBroken: One was not.
    """
    for number, (certificate, issuer) in enumerate(pairwise(chain), 1):
        if not issued(issuer, certificate):
            message = (
                f"The chain in {origin} is broken: certificate {number} ({_title(certificate)}) was issued by "
                f"{certificate.issuer.rfc4514_string()!r}, but certificate {number + 1} ({_title(issuer)}) did not "
                "sign it. The server's own certificate comes first, then each certificate's issuer."
            )
            raise ChainBroken(message, path=origin)


def sorted_chain(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Put certificates that came in no order behind the leaf, each after the one that it issued."""
    chain, left = [leaf], list(others)
    while left:
        last = chain[-1]
        if last.issuer == last.subject:
            break
        found = next((other for other in left if issued(other, last)), None)
        if found is None:
            break
        left.remove(found)
        chain.append(found)
    return tuple(chain)


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Return whether one certificate was signed by another."""
    if isinstance(_signature_hash(certificate), _WEAK_HASHES):
        # The library verifies no signature as weak as that. `check` reports it; the names decide what follows what.
        return certificate.issuer == issuer.subject
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def subject_names(leaf: x509.Certificate, origin: str) -> tuple[str, ...]:
    """Return what a certificate is for: host names and IP addresses in normal form, malformed ones left out.

    Raises:
        UnreadableCertificate: Its extensions are malformed.
    """
    try:
        extension = _extension(leaf, x509.SubjectAlternativeName)
    except UnreadableCertificate as error:
        raise UnreadableCertificate(f"The certificate in {origin} is malformed: {error}", path=origin) from error
    if extension is None:
        return ()
    texts = [
        *extension.get_values_for_type(x509.DNSName),
        *(str(ip) for ip in extension.get_values_for_type(x509.IPAddress)),
    ]
    return tuple(dict.fromkeys(filter(None, map(_normal_or_empty, texts))))


def public_key(certificate: x509.Certificate, origin: str) -> object:
    """Return a certificate's public key.

    Raises:
        UnreadableCertificate: It is of a kind that is not known.
    """
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        message = f"The public key of {_title(certificate)} in {origin} is of a kind that TLS has no use for: {error}."
        raise UnreadableCertificate(message, path=origin) from error


def _date_problems(chain: Sequence[x509.Certificate], origin: str, now: datetime) -> list[CredentialError]:
    found: list[CredentialError] = []
    for number, certificate in enumerate(chain, 1):
        which = f"Certificate {number} ({_title(certificate)}) in {origin}"
        if now > certificate.not_valid_after_utc:
            moment = certificate.not_valid_after_utc
            message = f"{which} expired on {moment:%Y-%m-%d %H:%M:%S} UTC. Renew it."
            found.append(Expired(message, path=origin))
        if now < certificate.not_valid_before_utc:
            moment = certificate.not_valid_before_utc
            message = (
                f"{which} is not valid before {moment:%Y-%m-%d %H:%M:%S} UTC; "
                f"it is {now:%Y-%m-%d %H:%M:%S} UTC on this machine's clock."
            )
            found.append(NotYetValid(message, path=origin, not_before=moment))
    return found


def _usage_problems(leaf: x509.Certificate, origin: str) -> list[CredentialError]:
    """RFC 5280, 4.2.1.3 and 4.2.1.12: an absent extension allows everything, a present one only what it lists."""
    found: list[CredentialError] = []
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    allowed = {x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extended is not None and not allowed.intersection(extended):
        message = (
            f"The certificate in {origin} is not for TLS servers: its extended key usage lacks serverAuth. "
            "Is it a client certificate, or an intermediate?"
        )
        found.append(UsageNotAllowed(message, path=origin))
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        message = (
            f"The certificate in {origin} may not sign handshakes: its key usage lacks digitalSignature, "
            "which TLS 1.3 and every forward-secret suite of TLS 1.2 need."
        )
        found.append(UsageNotAllowed(message, path=origin))
    return found


def _strength_problems(chain: Sequence[x509.Certificate], origin: str) -> list[CredentialError]:
    found: list[CredentialError] = []
    for number, certificate in enumerate(chain, 1):
        which = f"Certificate {number} ({_title(certificate)}) in {origin}"
        weakness = _key_weakness(certificate, origin)
        if weakness:
            found.append(WeakKey(f"{which} {weakness}.", path=origin))
        root = number > 1 and certificate.issuer == certificate.subject
        if not root and isinstance(_signature_hash(certificate), _WEAK_HASHES):
            algorithm = certificate.signature_algorithm_oid.dotted_string
            message = f"{which} is signed with MD5 or SHA-1 ({algorithm}), which clients refuse. Have it reissued."
            found.append(WeakKey(message, path=origin))
    return found


def _normal_or_empty(name: str) -> str:
    try:
        return names.normalise(name)
    except ValueError:
        return ""


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UnreadableCertificate(f"its extensions cannot be read: {error}") from error


def _key_weakness(certificate: x509.Certificate, origin: str) -> str:
    key = public_key(certificate, origin)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MINIMUM_RSA_SIZE:
        return f"has an RSA key of {key.key_size} bits; at least {MINIMUM_RSA_SIZE} are needed"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < MINIMUM_CURVE_SIZE:
        return f"has a key on the curve {key.curve.name}; at least {MINIMUM_CURVE_SIZE} bits are needed"
    if isinstance(key, dsa.DSAPublicKey):
        return "has a DSA key, which no current version of TLS can use"
    return ""


def _signature_hash(certificate: x509.Certificate) -> hashes.HashAlgorithm | None:
    try:
        return certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None


def _title(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number:x}"
