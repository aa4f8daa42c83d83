"""A connection's facts as mod_ssl's variables, which applications know; every value is a str, as PEP 3333 wants.

Distinguished names are RFC 4514 strings, so no character in an attribute can pose as another attribute. The names are
those of Apache's mod_ssl, but for ``SSL_*_SAN_URI_n`` and ``SSL_*_SAN_IP_n``, which it does not have, and
``SSL_GROUP``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, PublicKeyAlgorithmOID, SignatureAlgorithmOID

from secureserve.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.tls.info import TLSInfo

__all__ = ["certificate_environ", "distinguished_name", "environ_for"]

_INTERFACE: Final = "secureserve"

_PARTS: Final = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.TITLE: "T",
    NameOID.INITIALS: "I",
    NameOID.GIVEN_NAME: "G",
    NameOID.SURNAME: "S",
    NameOID.USER_ID: "UID",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.EMAIL_ADDRESS: "Email",
}

_EMAIL: Final = {NameOID.EMAIL_ADDRESS: "emailAddress"}

_ALGORITHMS: Final = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: "ecdsa-with-SHA256",
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: "ecdsa-with-SHA384",
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: "ecdsa-with-SHA512",
    SignatureAlgorithmOID.RSA_WITH_SHA256: "sha256WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA384: "sha384WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA512: "sha512WithRSAEncryption",
    SignatureAlgorithmOID.RSASSA_PSS: "rsassaPss",
    SignatureAlgorithmOID.ED25519: "ED25519",
    SignatureAlgorithmOID.ED448: "ED448",
    PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5: "rsaEncryption",
    PublicKeyAlgorithmOID.EC_PUBLIC_KEY: "id-ecPublicKey",
}
"""OpenSSL's long names, which mod_ssl shows; any other algorithm is shown by its number."""

_ONE_DAY: Final = timedelta(days=1)


def environ_for(info: TLSInfo, *, now: datetime | None = None) -> dict[str, str]:
    """Return the variables of a connection.

    Args:
        info: What was negotiated.
        now: The moment from which days that remain are counted; None for the present.
    """
    moment = SYSTEM_CLOCK.now() if now is None else now
    bits = str(info.cipher_bits)
    variables = {
        "HTTPS": "on",
        "SSL_PROTOCOL": info.version,
        "SSL_CIPHER": info.cipher,
        "SSL_CIPHER_EXPORT": "false",
        "SSL_CIPHER_USEKEYSIZE": bits,
        "SSL_CIPHER_ALGKEYSIZE": bits,
        "SSL_COMPRESS_METHOD": "NULL",
        "SSL_SECURE_RENEG": "true",
        "SSL_SESSION_RESUMED": "Resumed" if info.resumed else "Initial",
        "SSL_TLS_SNI": info.server_name or "",
        "SSL_VERSION_INTERFACE": _INTERFACE,
        "SSL_VERSION_LIBRARY": info.library,
        "SSL_CLIENT_VERIFY": "SUCCESS" if info.verified else "NONE",
    }
    if info.group is not None:
        variables["SSL_GROUP"] = info.group
    ours = _Known(info.credential.fingerprint, info.credential.leaf)
    _add_certificate(variables, "SSL_SERVER", ours, moment)
    if info.verified:
        theirs, *above = map(_Known, info.peer_chain_der, info.peer_chain)
        _add_certificate(variables, "SSL_CLIENT", theirs, moment)
        for number, known in enumerate(above):
            variables[f"SSL_CLIENT_CERT_CHAIN_{number}"] = _pem(known)
    return variables


def certificate_environ(prefix: str, certificate: x509.Certificate, *, now: datetime) -> dict[str, str]:
    """Return the variables of one certificate.

    Args:
        prefix: ``SSL_SERVER`` or ``SSL_CLIENT``.
        certificate: Which.
        now: The moment from which days that remain are counted.
    """
    variables: dict[str, str] = {}
    _add_certificate(variables, prefix, _Known(certificate.public_bytes(Encoding.DER), certificate), now)
    return variables


def distinguished_name(name: x509.Name) -> str:
    """Return a name as RFC 4514 text, the most specific part first, with everything escaped that could mislead."""
    return name.rfc4514_string(_EMAIL)


@dataclass(frozen=True, slots=True)
class _Known:
    """A certificate by something shorter to compare: hashing one costs more than everything else here."""

    key: bytes | str
    certificate: x509.Certificate = field(compare=False)


def _add_certificate(variables: dict[str, str], prefix: str, known: _Known, now: datetime) -> None:
    unchanging, until = _unchanging(prefix, known)
    variables.update(unchanging)
    variables[f"{prefix}_V_REMAIN"] = str(max(until - now, timedelta()) // _ONE_DAY)


@lru_cache(maxsize=256)
def _unchanging(prefix: str, known: _Known) -> tuple[dict[str, str], datetime]:
    """Return what is always the same about a certificate, and its end: our own, and those of clients that come back."""
    certificate = known.certificate
    variables = {
        f"{prefix}_M_VERSION": str(certificate.version.value + 1),
        f"{prefix}_M_SERIAL": f"{certificate.serial_number:X}",
        f"{prefix}_V_START": _asn1_time(certificate.not_valid_before_utc),
        f"{prefix}_V_END": _asn1_time(certificate.not_valid_after_utc),
        f"{prefix}_A_SIG": _algorithm(certificate.signature_algorithm_oid),
        f"{prefix}_A_KEY": _algorithm(certificate.public_key_algorithm_oid),
        f"{prefix}_CERT": _pem(known),
    }
    variables.update(_name_environ(f"{prefix}_S_DN", certificate.subject))
    variables.update(_name_environ(f"{prefix}_I_DN", certificate.issuer))
    variables.update(_alternative_names(f"{prefix}_SAN", certificate))
    return variables, certificate.not_valid_after_utc


def _name_environ(prefix: str, name: x509.Name) -> Iterator[tuple[str, str]]:
    """Give the whole name, and each part; of parts that occur more than once also each by its number, from 0."""
    yield prefix, distinguished_name(name)
    parts: dict[str, list[str]] = {}
    for attribute in name:
        part = _PARTS.get(attribute.oid)
        if part is not None and isinstance(attribute.value, str):
            parts.setdefault(part, []).append(attribute.value)
    for part, values in parts.items():
        yield f"{prefix}_{part}", values[0]
        if len(values) > 1:
            for number, value in enumerate(values):
                yield f"{prefix}_{part}_{number}", value


def _alternative_names(prefix: str, certificate: x509.Certificate) -> Iterator[tuple[str, str]]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return
    for kind, values in (
        ("DNS", extension.get_values_for_type(x509.DNSName)),
        ("Email", extension.get_values_for_type(x509.RFC822Name)),
        ("URI", extension.get_values_for_type(x509.UniformResourceIdentifier)),
        ("IP", extension.get_values_for_type(x509.IPAddress)),
    ):
        for number, value in enumerate(values):
            yield f"{prefix}_{kind}_{number}", str(value)


def _asn1_time(moment: datetime) -> str:
    """Return a moment as OpenSSL prints it, in any locale: ``Jan  5 09:08:07 2026 GMT``."""
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[moment.month - 1]
    return f"{month} {moment.day:2d} {moment:%H:%M:%S} {moment.year} GMT"


def _algorithm(identifier: x509.ObjectIdentifier) -> str:
    return _ALGORITHMS.get(identifier, identifier.dotted_string)


@lru_cache(maxsize=256)
def _pem(known: _Known) -> str:
    return known.certificate.public_bytes(Encoding.PEM).decode("ascii")
