"""Clients with certificates, and the authority that they come from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Client", "make_clients"]


@dataclass(frozen=True, slots=True)
class Client:
    """A client's certificate, its key, and the authority's certificate, in files."""

    certificate: Path
    key: Path
    authority: Path


def make_clients(directory: Path, count: int) -> list[Client]:
    """Make an authority, and clients of it with ECDSA P-256 certificates, all good for a day."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = _name("clients")
    root = _builder(root_name, root_name, root_key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    authority = directory / "clients.pem"
    authority.write_bytes(_pem(root.sign(root_key, hashes.SHA256())))
    clients = []
    for number in range(count):
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.RFC822Name(f"client{number}@example.test")
        certificate = (
            _builder(_name(f"client {number}"), root_name, key)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        client = Client(directory / f"client{number}.pem", directory / f"client{number}.key", authority)
        client.certificate.write_bytes(_pem(certificate))
        client.key.touch(mode=0o600)
        client.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        clients.append(client)
    return clients


def _name(common_name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Benchmark")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
