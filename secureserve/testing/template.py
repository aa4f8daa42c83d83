"""What a certificate is to say, and the signing of it.

A template says everything that goes into a certificate, right or wrong: nothing here refuses a date in the past, a
missing name or a weak hash, because certificates with exactly those faults are what tests need.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

import idna
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from secureserve.testing.keys import PrivateKey

    PublicKey: TypeAlias = (
        "ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey"
    )

    from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["DEFAULT_LIFETIME", "USAGES", "Issuer", "Template", "general_name"]

DEFAULT_LIFETIME: Final = timedelta(days=90)

BACKDATED: Final = timedelta(hours=1)
"""How long before now a certificate starts, as public authorities do for clocks that are slow."""

USAGES: Final[Mapping[str, tuple[x509.ObjectIdentifier, ...]]] = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "both": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "code_signing": (ExtendedKeyUsageOID.CODE_SIGNING,),
    "none": (),
}
"""The extended key usages by the word that asks for them; ``none`` leaves the extension out."""

_KEY_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)

_AUTHORITY_USAGES: Final = ("digital_signature", "key_cert_sign", "crl_sign")

# The last arc of the signature algorithm under 1.2.840.113549.1.1 (RFC 8017, appendix C) is all that differs.
_SHA256_WITH_RSA: Final = bytes.fromhex("06092a864886f70d01010b")
_SHA1_WITH_RSA: Final = bytes.fromhex("06092a864886f70d010105")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Everything a certificate says, apart from its key and its issuer.

    Args:
        identities: What goes into the subject alternative name: DNS names, IP addresses, e-mail addresses, URIs. Empty
            leaves the extension out.
        common_name: The subject's common name; None gives a subject of an organization alone.
        subject: The whole subject, in place of the organization and the common name.
        serial_number: Its serial number; None is a random one.
        not_before: When it starts; None is an hour ago, or one lifetime before `not_after` where that is past.
        not_after: When it ends; None is one lifetime from now.
        lifetime: How long it lasts where the two dates do not say.
        is_authority: Whether it may sign certificates (basic constraints).
        path_length: How many authorities may come below it.
        key_usage: Names of key usages; None is what its role and key need, and none of them leaves the extension out.
        extended_key_usage: The usages, none of which leaves the extension out.
        permitted_names: DNS names to which the name constraints permit what is below.
        crl_url: Where its revocation list is said to be.
        ocsp_url: Where its OCSP responder is said to be.
        must_staple: Whether it demands a stapled OCSP response (RFC 7633).
        signed_with_sha1: Sign it with SHA-1, which needs an issuer (itself, of a root) with an RSA key.
    """

    identities: tuple[str, ...] = ()
    common_name: str | None = None
    subject: x509.Name | None = None
    serial_number: int | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    lifetime: timedelta = DEFAULT_LIFETIME
    is_authority: bool = False
    path_length: int | None = None
    key_usage: tuple[str, ...] | None = None
    extended_key_usage: tuple[x509.ObjectIdentifier, ...] = USAGES["server"]
    permitted_names: tuple[str, ...] = ()
    crl_url: str | None = None
    ocsp_url: str | None = None
    must_staple: bool = False
    signed_with_sha1: bool = False

    def replace(self, **changes: Any) -> Template:
        """Return a copy with some of it changed."""
        return dataclasses.replace(self, **changes)

    def validity(self) -> tuple[datetime, datetime]:
        """Return when it starts and ends."""
        now = datetime.now(timezone.utc).replace(microsecond=0)
        not_after = self.not_after or (self.not_before or now) + self.lifetime
        not_before = self.not_before or (now - BACKDATED if not_after > now else not_after - self.lifetime)
        return not_before, not_after


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that signs others, with its key.

    Args:
        certificate: Its own certificate.
        private_key: What it signs with.
        parent: Who signed it; None for a root.
    """

    certificate: x509.Certificate
    private_key: PrivateKey = dataclasses.field(repr=False)
    parent: Issuer | None = None

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Its certificate and those above it, without the root: what a server sends after its own."""
        return () if self.parent is None else (self.certificate, *self.parent.chain)

    @property
    def certificate_pem(self) -> bytes:
        """Its certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, template: Template, public_key: PublicKey) -> x509.Certificate:
        """Return a certificate for `public_key` that says what `template` says.

        Raises:
            ValueError: An identity is neither a DNS name, an IP address, an e-mail address nor a URI.
        """
        issuer_key_id = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = _builder(template, public_key).issuer_name(self.certificate.subject)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False
        )
        return _signed(builder, self.private_key, sha1=template.signed_with_sha1)

    def issue_authority(self, template: Template, private_key: PrivateKey) -> Issuer:
        """Return an issuer below this one, whose certificate says what `template` says."""
        return Issuer(self.sign(template, private_key.public_key()), private_key, self)

    @classmethod
    def self_signed(cls, template: Template, private_key: PrivateKey) -> Issuer:
        """Return an issuer whose certificate was signed by nobody but itself."""
        builder = _builder(template, private_key.public_key()).issuer_name(_subject(template))
        return cls(_signed(builder, private_key, sha1=template.signed_with_sha1), private_key)


def general_name(identity: str) -> x509.GeneralName:
    """Return the subject alternative name for what is written as a plain string.

    Args:
        identity: A DNS name (international ones too, and with a wildcard), an IP address, an e-mail address, or a URI.

    Raises:
        ValueError: It is none of these.
    """
    if "://" in identity:
        return x509.UniformResourceIdentifier(identity)
    if "@" in identity:
        return x509.RFC822Name(identity)
    try:
        return x509.IPAddress(ipaddress.ip_address(identity))
    except ValueError:
        pass
    if identity.isascii():
        if not identity or any(character.isspace() or character in "/:" for character in identity):
            raise ValueError(
                f"{identity!r} is no identity for a certificate; write a DNS name, an IP address, an e-mail address or "
                f"a URI, without a port."
            )
        return x509.DNSName(identity)
    prefix, _, rest = identity.rpartition("*.")
    return x509.DNSName(("*." if prefix or identity.startswith("*.") else "") + idna.encode(rest, uts46=True).decode())


def _subject(template: Template) -> x509.Name:
    if template.subject is not None:
        return template.subject
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "secureserve testing")
    if template.common_name is None:
        return x509.Name([organization])
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, template.common_name)])


def _builder(template: Template, public_key: PublicKey) -> x509.CertificateBuilder:
    not_before, not_after = template.validity()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(template))
        .public_key(public_key)
        .serial_number(x509.random_serial_number() if template.serial_number is None else template.serial_number)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(template.is_authority, template.path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    # An extension without a single usage is not allowed (RFC 5280, section 4.2.1.3).
    if template.key_usage is None or template.key_usage:
        builder = builder.add_extension(_key_usage(template, public_key), critical=True)
    if template.identities:
        names = x509.SubjectAlternativeName([general_name(identity) for identity in template.identities])
        builder = builder.add_extension(names, critical=False)
    if template.extended_key_usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(template.extended_key_usage), critical=False)
    if template.permitted_names:
        permitted = [x509.DNSName(name) for name in template.permitted_names]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    if template.crl_url is not None:
        where = x509.DistributionPoint([x509.UniformResourceIdentifier(template.crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([where]), critical=False)
    if template.ocsp_url is not None:
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(template.ocsp_url)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    if template.must_staple:
        builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
    return builder


def _key_usage(template: Template, public_key: PublicKey) -> x509.KeyUsage:
    wanted = template.key_usage
    if wanted is None and template.is_authority:
        wanted = _AUTHORITY_USAGES
    elif wanted is None:
        # Only an RSA key can encipher the secret of a TLS 1.2 key exchange (RFC 5480, section 3; RFC 8410, section 5).
        wanted = ("digital_signature", "key_encipherment") if _is_rsa(public_key) else ("digital_signature",)
    return x509.KeyUsage(**{usage: usage in wanted for usage in _KEY_USAGES})


def _is_rsa(key: PublicKey) -> bool:
    return isinstance(key, rsa.RSAPublicKey)


def _signed(builder: x509.CertificateBuilder, key: PrivateKey, *, sha1: bool) -> x509.Certificate:
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return builder.sign(key, None)
    certificate = builder.sign(key, hashes.SHA256())
    return _signed_again_with_sha1(certificate, key) if sha1 else certificate


def _signed_again_with_sha1(certificate: x509.Certificate, key: PrivateKey) -> x509.Certificate:
    # cryptography rightly signs no certificate with SHA-1. The two algorithms' names are of one length, so the same
    # bytes with the other name, signed again, are the certificate it declines to make.
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("Only an issuer with an RSA key signs with SHA-1 here.")
    to_be_signed = certificate.tbs_certificate_bytes.replace(_SHA256_WITH_RSA, _SHA1_WITH_RSA)
    signature = key.sign(to_be_signed, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - the fault asked for
    whole = certificate.public_bytes(serialization.Encoding.DER).replace(_SHA256_WITH_RSA, _SHA1_WITH_RSA)
    return x509.load_der_x509_certificate(whole[: -len(signature)] + signature)
