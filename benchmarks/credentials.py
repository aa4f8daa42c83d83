"""The certificates that the servers present."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Credential", "make_credential", "put_together"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path
    fingerprint: str


def make_credential(directory: Path, name: str) -> Credential:
    """Make a self-signed ECDSA P-256 certificate for localhost, good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    paths = directory / f"{name}.pem", directory / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(mode=0o600)
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Credential(*paths, hashlib.sha256(der).hexdigest())


def put_together(place: Path, certificate: Path, key: Path) -> None:
    """Write a certificate and its key into one file, which takes the place of what was there by a rename."""
    new = place.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(certificate.read_bytes() + key.read_bytes())
    new.replace(place)
