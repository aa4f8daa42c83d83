"""What is shown of a certificate to people and scripts, wherever it was found: in a file, or presented by a server."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from secureserve.certificates import checks
from secureserve.certificates.names import matches
from secureserve.errors import CredentialError, NameNotCovered, UnreadableCertificate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["CertificateSummary", "summarise", "summarise_der"]

_SECONDS_PER_DAY = 86400.0
_KEY_TYPES = (
    (ec.EllipticCurvePublicKey, "ecdsa"),
    (rsa.RSAPublicKey, "rsa"),
    (ed25519.Ed25519PublicKey, "ed25519"),
    (ed448.Ed448PublicKey, "ed448"),
)


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """A certificate and what is wrong with it.

    Args:
        source: Where it was found.
        names: What it is for.
        issuer: Who issued it, as an RFC 4514 string.
        fingerprint: SHA-256 of the leaf, in hexadecimal digits.
        not_before: From when on it is valid.
        not_after: Until when it is valid.
        days_left: Days until then; negative once it has expired.
        key_type: ``ecdsa``, ``rsa``, ...
        chain_length: How many certificates came with it, itself included.
        problems: Everything that speaks against serving it.
    """

    source: str
    names: tuple[str, ...]
    issuer: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    days_left: float
    key_type: str
    chain_length: int
    problems: tuple[CredentialError, ...] = ()

    def lacks(self, name: str) -> CredentialError | None:
        """Return the problem that a name is not covered, or None when it is."""
        if any(matches(pattern, name) for pattern in self.names):
            return None
        has = ", ".join(self.names) or "no name at all"
        return NameNotCovered(f"The certificate of {self.source} is for {has}, not for {name}.", path=self.source)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as what JSON can hold; times in ISO 8601, problems as kind and message."""
        return {
            **asdict(self),
            "names": list(self.names),
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "problems": [{"kind": type(one).__name__, "message": str(one)} for one in self.problems],
        }


def summarise(chain: Sequence[x509.Certificate], source: str, now: datetime) -> CertificateSummary:
    """Return what is to be shown of a chain, with what speaks against it, its order included.

    Raises:
        UnreadableCertificate: The leaf is malformed.
    """
    leaf = chain[0]
    problems = list(checks.chain_problems(chain, source, now))
    try:
        checks.require_order(chain, source)
    except CredentialError as error:
        problems.insert(0, error)
    key = checks.public_key(leaf, source)
    return CertificateSummary(
        source=source,
        names=checks.subject_names(leaf, source),
        issuer=leaf.issuer.rfc4514_string(),
        fingerprint=hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER)).hexdigest(),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        days_left=round((leaf.not_valid_after_utc - now).total_seconds() / _SECONDS_PER_DAY, 5),
        key_type=next((name for kind, name in _KEY_TYPES if isinstance(key, kind)), type(key).__name__),
        chain_length=len(chain),
        problems=tuple(problems),
    )


def summarise_der(chain: Sequence[bytes], source: str, now: datetime) -> CertificateSummary:
    """Return what is to be shown of a chain in DER, as a server presents it.

    Raises:
        UnreadableCertificate: It is empty or malformed.
    """
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
    except ValueError as error:
        message = f"What {source} presents is not a certificate: {error}."
        raise UnreadableCertificate(message, path=source) from error
    if not certificates:
        raise UnreadableCertificate(f"{source} presents no certificate.", path=source)
    return summarise(certificates, source, now)
