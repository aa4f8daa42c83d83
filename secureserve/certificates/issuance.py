"""What it takes to ask an authority for a certificate: keys, requests, and the certificate that answers tls-alpn-01."""

from __future__ import annotations

import hashlib
import ipaddress
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from secureserve.certificates import names
from secureserve.certificates.credential import Credential
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    KeyPair: TypeAlias = "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey"

__all__ = [
    "KEY_TYPES",
    "certificate_request",
    "challenge_credential",
    "issuer_names",
    "new_key",
    "private_key_pem",
    "renewal_identifier",
]

KEY_TYPES: Final = ("ecdsa", "ecdsa-p384", "rsa", "rsa-3072", "rsa-4096")
"""The kinds of keys that public authorities certify: NIST curves, and RSA of at least 2048 bits."""

ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""id-pe-acmeIdentifier (RFC 8737, 6.1)."""

CHALLENGE_LIFETIME: Final = timedelta(days=7)

_OCTET_STRING_OF_32: Final = b"\x04\x20"
"""The DER header of a SHA-256 digest."""


def new_key(key_type: str = "ecdsa") -> KeyPair:
    """Make a private key.

    Args:
        key_type: One of `KEY_TYPES`; ``ecdsa`` is on P-256, ``rsa`` has 2048 bits.

    Raises:
        ConfigurationError: It is none of them.
    """
    if key_type == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "ecdsa-p384":
        return ec.generate_private_key(ec.SECP384R1())
    if key_type in KEY_TYPES:
        size = int(key_type.partition("-")[2] or 2048)
        return rsa.generate_private_key(public_exponent=65537, key_size=size)
    raise ConfigurationError("acme_key_type", key_type, "is no kind of key", f"Write one of {', '.join(KEY_TYPES)}.")


def private_key_pem(key: KeyPair) -> bytes:
    """Return a private key as unencrypted PKCS#8 PEM. Keep it in memory, or in a file of the owner's alone."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_request(wanted: Sequence[str], private_key: bytes) -> bytes:
    """Return a certificate signing request (RFC 2986) as PEM, with the names in the extension alone.

    A common name adds nothing to the alternative names, has no room for long ones, and authorities stop reading it.

    Args:
        wanted: Normalised host names and IP addresses.
        private_key: The key that the certificate will be for, as PEM.
    """
    key = serialization.load_pem_private_key(private_key, None)
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise TypeError(f"a certificate is requested with an EC or RSA key, not {type(key).__name__}")
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(_general_name(name) for name in wanted), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def challenge_credential(name: str, key_authorization: str, *, now: datetime | None = None) -> Credential:
    """Make the self-signed credential that answers a tls-alpn-01 challenge (RFC 8737, 3).

    Args:
        name: The host name or IP address to prove, and its only one.
        key_authorization: What it holds the digest of (RFC 8555, 8.1).
        now: The moment that it is made at, aware; None for the present.
    """
    moment = SYSTEM_CLOCK.now() if now is None else now
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    digest = hashlib.sha256(key_authorization.encode()).digest()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + CHALLENGE_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, _OCTET_STRING_OF_32 + digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Credential((certificate,), key, "acme challenge")


def renewal_identifier(certificate: x509.Certificate) -> str | None:
    """Return what renewal information knows a certificate by (RFC 9773, 4.1); None where it lacks what that takes."""
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        return None
    if not issuer:
        return None
    serial = certificate.serial_number
    # As in its DER: with a zero octet in front where the first bit would otherwise make it negative.
    encoded = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return f"{_base64url(issuer)}.{_base64url(encoded)}"


def issuer_names(credential: Credential) -> tuple[str, ...]:
    """Return the common names of the issuers in a chain, from the leaf's to that of the last certificate.

    An issuer without a common name is given by its whole name.
    """
    found: list[str] = []
    for certificate in credential.chain:
        common = certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        found.append(str(common[0].value) if common else certificate.issuer.rfc4514_string())
    return tuple(found)


def _general_name(name: str) -> x509.GeneralName:
    if names.address(name) is not None:
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
