"""`DevelopmentAuthority`: a certificate authority on one's own machine, and certificates of it.

It is made once, in the user's state folder, and stays the same, so that trusting it is done once as well. Name
constraints (RFC 5280, 4.2.1.10) keep it harmless where it is trusted: should its key leak, it still cannot vouch for
any name on the public internet.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secureserve.certificates import files
from secureserve.certificates import names as server_names
from secureserve.certificates.credential import Credential
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import CredentialError, NameNotCovered, UnreadableCertificate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

    from secureserve.clock import Clock

__all__ = [
    "DEFAULT_LIFETIME",
    "DEFAULT_NAMES",
    "DevelopmentAuthority",
    "default_directory",
    "self_signed_credential",
]

DEFAULT_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""What a development certificate is for where nothing else is said."""

DEFAULT_LIFETIME: Final = timedelta(days=90)
"""Of a leaf; the longest there is."""

PERMITTED_DOMAINS: Final = ("localhost", "test", "internal", "local", "home.arpa", "lan", "example")
"""The names that are never public: RFC 6761, RFC 6762, RFC 8375, and ICANN's reservation of ``internal``."""

PERMITTED_NETWORKS: Final = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
)
"""Loopback, private and link-local addresses."""

_AUTHORITY_LIFETIME: Final = timedelta(days=3 * 365)
_BACKDATED: Final = timedelta(hours=1)
"""How much earlier than now a certificate starts, for clocks that are a little behind (as public authorities do)."""
_ORGANISATION: Final = "secureserve development"


def default_directory() -> Path:
    """Return where the user's development authority is kept: ``secureserve/development`` in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG base directory specification has relative paths ignored.
    base = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "secureserve" / "development"


class DevelopmentAuthority:
    """A development certificate authority in a directory, made when it is first needed.

    The directory is the owner's alone (0700), and so is every file in it (0600). Processes may share it.

    Args:
        directory: Where; None for `default_directory`.
        clock: What tells when something is about to expire.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.directory = default_directory() if directory is None else Path(directory)
        self._clock = clock

    @property
    def ca_certificate_path(self) -> Path:
        """The authority's certificate, for whoever is to trust it."""
        return self.directory / "ca.pem"

    @property
    def ca_key_path(self) -> Path:
        """The authority's private key."""
        return self.directory / "ca-key.pem"

    def ca_certificate(self) -> x509.Certificate:
        """Return the authority's certificate, making the authority where there is none yet.

        Raises:
            OSError: The directory cannot be made or written.
        """
        with self._held():
            return self._authority()[0]

    def credential(
        self,
        names: Sequence[str] = DEFAULT_NAMES,
        *,
        lifetime: timedelta = DEFAULT_LIFETIME,
        key_type: str = "ecdsa",
    ) -> Credential:
        """Return a credential for these names: the one made before, or a new one when that is about to expire.

        Args:
            names: Host names and IP addresses, of which `PERMITTED_DOMAINS`, `PERMITTED_NETWORKS` and this machine's
                host name are allowed.
            lifetime: How long it is valid, at most 90 days. It is made anew when a third of that is left.
            key_type: ``ecdsa`` (P-256) or ``rsa`` (2048 bits).

        Raises:
            NameNotCovered: The authority may not vouch for one of the names.
            ValueError: A name is malformed, there is none, or lifetime or key type is not one of those.
            OSError: The directory cannot be made or written.
        """
        wanted = _normal_names(names)
        if not timedelta() < lifetime <= DEFAULT_LIFETIME:
            raise ValueError(f"lifetime is more than 0 and at most {DEFAULT_LIFETIME.days} days, not {lifetime}")
        with self._held():
            ca, ca_key = self._authority()
            path = self._leaf_path(wanted, lifetime, key_type)
            existing = self._usable(path, ca, lifetime)
            if existing is not None:
                return existing
            _require_permitted(wanted, ca)
            key = _new_key(key_type)
            leaf = _sign_leaf(wanted, key, ca=ca, ca_key=ca_key, now=self._clock.now(), lifetime=lifetime)
            made = Credential((leaf, ca), key, str(path))
            files.write_atomically(path, made.private_key_pem() + made.chain_pem())
            return made

    def credential_path(
        self,
        names: Sequence[str] = DEFAULT_NAMES,
        *,
        lifetime: timedelta = DEFAULT_LIFETIME,
        key_type: str = "ecdsa",
    ) -> Path:
        """Return the file that holds `credential` of the same arguments: key and chain in one PEM."""
        return self._leaf_path(_normal_names(names), lifetime, key_type)

    def _held(self) -> files.Lock:
        files.make_private_directory(self.directory)
        return files.Lock(self.directory / "lock")

    def _leaf_path(self, names: tuple[str, ...], lifetime: timedelta, key_type: str) -> Path:
        asked = "\n".join((*sorted(names), key_type, str(lifetime.total_seconds())))
        digest = hashlib.sha256(asked.encode()).hexdigest()[:12]
        return self.directory / f"{names[0].replace('*', 'any').replace(':', '_')}-{digest}.pem"

    def _usable(self, path: Path, ca: x509.Certificate, lifetime: timedelta) -> Credential | None:
        try:
            credential = Credential.load(path)
        except CredentialError:
            return None
        now = self._clock.now()
        fresh = credential.not_before <= now and credential.not_after - now > lifetime / 3
        return credential if fresh and credential.chain[-1] == ca else None

    def _authority(self) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
        try:
            kept = Credential.load(self.ca_certificate_path, self.ca_key_path)
        except CredentialError:
            kept = None
        now = self._clock.now()
        # An authority that a new leaf would outlive is of no more use.
        if kept is not None and kept.not_before <= now and kept.not_after - now > DEFAULT_LIFETIME:
            return kept.leaf, _issuer_key(kept)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign_authority(key, now)
        made = Credential((certificate,), key, str(self.ca_certificate_path))
        files.write_atomically(self.ca_key_path, made.private_key_pem())
        files.write_atomically(self.ca_certificate_path, made.chain_pem())
        return certificate, key


def self_signed_credential(
    names: Sequence[str] = DEFAULT_NAMES, *, lifetime: timedelta = timedelta(days=1), now: datetime | None = None
) -> Credential:
    """Make a credential in memory that nobody vouches for: a way in, when the real one cannot be loaded.

    Args:
        names: Host names and IP addresses.
        lifetime: How long it is valid.
        now: The moment that it is made at, aware; None for the present.

    Raises:
        ValueError: A name is malformed, or there is none.
    """
    wanted = _normal_names(names)
    moment = SYSTEM_CLOCK.now() if now is None else now
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("self-signed, for emergencies")
    certificate = _leaf_builder(wanted, key, subject, moment, moment + lifetime).sign(key, hashes.SHA256())
    return Credential((certificate,), key, "self-signed")


def _normal_names(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        names = (names,)
    normal = tuple(dict.fromkeys(server_names.normalise(name) for name in names))
    if not normal:
        raise ValueError("a certificate is for at least one name")
    return normal


def _require_permitted(names: Sequence[str], ca: x509.Certificate) -> None:
    permitted = ca.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    domains = tuple(tree.value for tree in permitted if isinstance(tree, x509.DNSName))
    networks = tuple(ipaddress.ip_network(str(tree.value)) for tree in permitted if isinstance(tree, x509.IPAddress))
    for name in names:
        if server_names.address(name) is not None:
            allowed = any(ipaddress.ip_address(name) in network for network in networks)
        else:
            allowed = any(name == domain or name.endswith("." + domain) for domain in domains)
        if not allowed:
            raise NameNotCovered(
                f"The development authority may not vouch for {name!r}: it is limited to names under "
                f"{', '.join(domains)}, and to loopback, private and link-local addresses. "
                "For other names get a certificate from a real authority."
            )


def _issuer_key(credential: Credential) -> CertificateIssuerPrivateKeyTypes:
    key = credential.private_key
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise UnreadableCertificate(f"{credential.origin} is not the certificate of a development authority.")
    return key


def _new_key(key_type: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    if key_type == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    raise ValueError(f"key_type is 'ecdsa' or 'rsa', not {key_type!r}")


def _sign_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    subject = _name(f"authority of {_host_name() or 'this machine'}")
    domains = tuple(dict.fromkeys((*PERMITTED_DOMAINS, *filter(None, (_host_name(),)))))
    permitted: list[x509.GeneralName] = [
        *(x509.DNSName(domain) for domain in domains),
        *(x509.IPAddress(ipaddress.ip_network(network)) for network in PERMITTED_NETWORKS),
    ]
    return (
        _builder(key, subject, subject, now, now + _AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _sign_leaf(
    names: tuple[str, ...],
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    *,
    ca: x509.Certificate,
    ca_key: CertificateIssuerPrivateKeyTypes,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    builder = _leaf_builder(names, key, ca.subject, now, min(now + lifetime, ca.not_valid_after_utc))
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    return builder.add_extension(authority, critical=False).sign(ca_key, hashes.SHA256())


def _leaf_builder(
    names: tuple[str, ...],
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    issuer: x509.Name,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    # A common name with a space in it is no host name, so no client applies name rules to it.
    own = issuer if issuer == _name("self-signed, for emergencies") else _name("server certificate")
    alternatives = x509.SubjectAlternativeName(_general_name(name) for name in names)
    return (
        _builder(key, own, issuer, now, until)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )


def _builder(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    subject: x509.Name,
    issuer: x509.Name,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until - timedelta(seconds=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    if server_names.address(name) is not None:
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _host_name() -> str:
    """Return this machine's name where a certificate can be for it, else the empty string."""
    try:
        name = server_names.normalise(socket.gethostname())
    except (OSError, ValueError):
        return ""
    return "" if server_names.address(name) is not None else name
