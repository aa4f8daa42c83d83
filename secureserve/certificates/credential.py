"""`Credential`: a certificate chain, leaf first, and the private key that belongs to it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from secureserve.certificates import checks, names, pem
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import ConfigurationError, CredentialError, KeyMismatch, UnreadableCertificate

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from secureserve.certificates.pem import Password

__all__ = ["Credential", "password_from"]

_KEY_TYPES: Final = (
    (ec.EllipticCurvePrivateKey, "ecdsa"),
    (rsa.RSAPrivateKey, "rsa"),
    (ed25519.Ed25519PrivateKey, "ed25519"),
    (ed448.Ed448PrivateKey, "ed448"),
    (dsa.DSAPrivateKey, "dsa"),
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Credential:
    """A certificate chain, leaf first, with the private key of the leaf: what a handshake presents.

    That the key belongs to the leaf, and that each certificate was signed by the next, holds for every instance. What
    changes with time, or is a matter of policy, is for `check`. Two credentials are equal when they present the same.

    Args:
        chain: The certificates, leaf first.
        private_key: The leaf's key.
        origin: Where it came from, for people: a path, or a word such as ``memory``.
        key_origin: Where the key came from, where that is another place.

    Raises:
        UnreadableCertificate: The chain is empty, or the leaf is malformed.
        KeyMismatch: The key is not the leaf's.
        ChainBroken: A certificate was not signed by the next.
    """

    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKeyTypes
    origin: str = "memory"
    key_origin: str = ""

    names: tuple[str, ...] = field(init=False)
    """What the leaf is for: host names (lower-case A-labels, wildcards kept) and IP addresses."""
    fingerprint: str = field(init=False)
    """SHA-256 of the leaf's DER, in lower-case hexadecimal digits."""
    not_before: datetime = field(init=False)
    """From when on the leaf is valid, in UTC."""
    not_after: datetime = field(init=False)
    """Until when the leaf is valid, in UTC, inclusive (RFC 5280, 4.1.2.5)."""
    identity: bytes = field(init=False)
    """A digest of the whole chain: what equality goes by."""

    def __post_init__(self) -> None:
        if not self.chain:
            raise UnreadableCertificate(f"{self.origin} holds no certificate.", path=self.origin)
        ders = [certificate.public_bytes(serialization.Encoding.DER) for certificate in self.chain]
        settle = object.__setattr__
        settle(self, "chain", tuple(self.chain))
        settle(self, "key_origin", self.key_origin or self.origin)
        settle(self, "names", checks.subject_names(self.leaf, self.origin))
        settle(self, "fingerprint", hashlib.sha256(ders[0]).hexdigest())
        settle(self, "not_before", self.leaf.not_valid_before_utc)
        settle(self, "not_after", self.leaf.not_valid_after_utc)
        settle(self, "identity", hashlib.sha256(b"".join(ders)).digest())
        self._require_key_of_leaf()
        checks.require_order(self.chain, self.origin)

    @classmethod
    def load(
        cls,
        certificate: str | os.PathLike[str],
        private_key: str | os.PathLike[str] | None = None,
        *,
        chain: str | os.PathLike[str] | None = None,
        password: Password = None,
        password_file: str | os.PathLike[str] | None = None,
    ) -> Credential:
        """Load a credential from files, in PEM or PKCS#12, whichever they turn out to hold.

        Args:
            certificate: The leaf's file, which may go on with its chain and hold the key as well, or a PKCS#12 store.
            private_key: The key's file; None when it is in `certificate`.
            chain: A file of further certificates, where `certificate` does not have them.
            password: Of an encrypted key or PKCS#12 store: text, bytes, or a callable that is asked when it is needed.
            password_file: A file to read it from instead; one line end at its end is not part of it.

        Raises:
            ConfigurationError: Both a password and a file of it were given.
            CredentialError: A subclass for each thing that is wrong, naming the file.
        """
        origin = os.fspath(certificate)
        if password_file is not None:
            password = password_from(password_file, password)
        data = pem.read_certificate_file(certificate)
        if pem.is_pkcs12(data):
            return cls.from_pkcs12(data, password=password, origin=origin)
        key_origin = origin if private_key is None else os.fspath(private_key)
        return cls.from_parts(
            data,
            data if private_key is None else pem.read_key_file(private_key),
            b"" if chain is None else pem.read_certificate_file(chain),
            password,
            origin=origin,
            key_origin=key_origin,
            chain_origin=origin if chain is None else os.fspath(chain),
        )

    @classmethod
    def from_pem(
        cls,
        certificate: bytes,
        private_key: bytes | None = None,
        *,
        chain: bytes | None = None,
        password: Password = None,
        origin: str = "memory",
    ) -> Credential:
        """Make a credential of PEM text.

        Args:
            certificate: The leaf, perhaps with its chain and its key.
            private_key: The key; None when it is in `certificate`.
            chain: Further certificates.
            password: Of an encrypted key.
            origin: Where it came from, for people.

        Raises:
            CredentialError: A subclass for each thing that is wrong.
        """
        key = certificate if private_key is None else private_key
        return cls.from_parts(
            certificate, key, chain or b"", password, origin=origin, key_origin=origin, chain_origin=origin
        )

    @classmethod
    def from_parts(
        cls,
        certificate: bytes,
        private_key: bytes,
        chain: bytes,
        password: Password,
        *,
        origin: str,
        key_origin: str,
        chain_origin: str,
    ) -> Credential:
        """Make a credential of PEM text whose pieces come from different places, each named in what goes wrong.

        Args:
            certificate: The leaf, perhaps with its chain.
            private_key: The key.
            chain: Further certificates; may be empty, or repeat some.
            password: Of an encrypted key.
            origin: Where the certificate came from.
            key_origin: Where the key came from.
            chain_origin: Where the further certificates came from.

        Raises:
            CredentialError: A subclass for each thing that is wrong.
        """
        own = pem.certificates(certificate, origin)
        more = pem.certificates(chain, chain_origin) if chain else ()
        key = pem.private_key(private_key, password, key_origin)
        # A "chain" file is often the full chain; what both files have is sent once.
        return cls(own + tuple(other for other in more if other not in own), key, origin, key_origin)

    @classmethod
    def from_pkcs12(cls, data: bytes, *, password: Password = None, origin: str = "memory") -> Credential:
        """Make a credential of a PKCS#12 store, whose certificates may stand in any order.

        Args:
            data: The store (RFC 7292).
            password: Of the store.
            origin: Where it came from, for people.

        Raises:
            CredentialError: A subclass for each thing that is wrong.
        """
        leaf, key, others = pem.pkcs12_contents(data, password, origin)
        return cls(checks.sorted_chain(leaf, others), key, origin)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that names this server."""
        return self.chain[0]

    @property
    def subject(self) -> str:
        """The leaf's subject as an RFC 4514 string; empty where names are only in the subject alternative name."""
        return self.leaf.subject.rfc4514_string()

    @property
    def issuer(self) -> str:
        """The leaf's issuer as an RFC 4514 string."""
        return self.leaf.issuer.rfc4514_string()

    @property
    def serial_number(self) -> int:
        """The leaf's serial number."""
        return self.leaf.serial_number

    @property
    def key_type(self) -> str:
        """``ecdsa``, ``rsa``, ``ed25519``, ``ed448``, or the library's name of a rarer kind in lower case."""
        for kind, name in _KEY_TYPES:
            if isinstance(self.private_key, kind):
                return name
        return type(self.private_key).__name__.removesuffix("PrivateKey").lower()

    @property
    def self_signed(self) -> bool:
        """Whether the leaf is its own issuer, so that only who was told of it will trust it."""
        return self.leaf.issuer == self.leaf.subject

    def covers(self, name: str) -> bool:
        """Return whether a client that wants `name` may accept this (RFC 9525, 6). Malformed ones never are."""
        return any(names.matches(pattern, name) for pattern in self.names)

    def is_current(self, now: datetime) -> bool:
        """Return whether the leaf is valid at a moment, an aware datetime."""
        return self.not_before <= now <= self.not_after

    def check(self, *, now: datetime | None = None) -> None:
        """Make sure that this may be served.

        Args:
            now: The moment that it is judged at, aware; None for the present.

        Raises:
            CredentialError: The first of `problems`.
        """
        for problem in self.problems(now=now):
            raise problem

    def problems(self, *, now: datetime | None = None) -> tuple[CredentialError, ...]:
        """Return everything that speaks against serving this, the gravest first.

        Args:
            now: The moment that it is judged at, aware; None for the present.
        """
        moment = SYSTEM_CLOCK.now() if now is None else now
        return checks.chain_problems(self.chain, self.origin, moment)

    def chain_pem(self) -> bytes:
        """Return the chain as PEM, leaf first."""
        return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in self.chain)

    def private_key_pem(self) -> bytes:
        """Return the private key as unencrypted PKCS#8 PEM. For TLS engines; keep it in memory, and briefly."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def __eq__(self, other: object) -> bool:
        """Equal credentials present the same chain, and so have the same key."""
        return self.identity == other.identity if isinstance(other, Credential) else NotImplemented

    def __hash__(self) -> int:
        """Hash by what equality goes by."""
        return hash(self.identity)

    def __repr__(self) -> str:
        """Show what is public, and nothing of the key but its kind."""
        return (
            f"<Credential {', '.join(self.names) or self.subject or '(no name)'} from {self.origin}, "
            f"{self.key_type}, issued by {self.issuer or '(nobody)'}, until {self.not_after:%Y-%m-%d %H:%M} UTC, "
            f"sha256 {self.fingerprint}>"
        )

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: that would write the key somewhere."""
        raise TypeError("a Credential holds a private key and is not pickled; keep what it was loaded from")

    def _require_key_of_leaf(self) -> None:
        public_key = getattr(self.private_key, "public_key", None)
        if public_key is None or public_key() != checks.public_key(self.leaf, self.origin):
            where = self.origin if self.key_origin == self.origin else f"{self.origin} (its key: {self.key_origin})"
            message = (
                f"The private key does not belong to the first certificate in {where}. "
                "Give the key that the certificate was requested with, and put the server's own certificate first."
            )
            raise KeyMismatch(message, path=self.key_origin)


def password_from(path: str | os.PathLike[str], password: Password = None) -> bytes:
    """Read a password from a file, without the line end at its end.

    Args:
        path: The file.
        password: What else was given as the password: it has to be None.

    Raises:
        ConfigurationError: Both were given.
        UnreadableKey: The file cannot be read.
    """
    if password is not None:
        raise ConfigurationError(
            "password_file", os.fspath(path), "was given beside a password", "Give one of the two."
        )
    return pem.read_key_file(path, what="password").removesuffix(b"\n").removesuffix(b"\r")
