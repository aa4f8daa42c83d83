"""How strictly we speak TLS: versions, cipher suites, groups, ALPN and client authentication, as one immutable value.

Two named profiles follow Mozilla's recommendations: `TLSPolicy.INTERMEDIATE` is the default, `TLSPolicy.MODERN` is
TLS 1.3 only. A policy may be stricter than INTERMEDIATE and never weaker, but for `TLSPolicy.insecure`, whose name says
what it is.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from secureserve.certificates.names import normalise
from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    import os

__all__ = [
    "ACME_PROTOCOL",
    "DEFAULT_TICKET_LIFETIME",
    "GROUPS",
    "INTERMEDIATE_CIPHERS",
    "TLS13_CIPHERSUITES",
    "ClientVerify",
    "ExpiredCRL",
    "TLSPolicy",
    "TLSVersion",
]

INTERMEDIATE_CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""TLS 1.2 suites in order of preference: forward secret and authenticated, by OpenSSL's names (RFC 9325, 4.2).

Mozilla's intermediate list adds suites over finite-field Diffie-Hellman. They are left out: no weak group can be used.
"""

TLS13_CIPHERSUITES: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""TLS 1.3 suites in order of preference (RFC 8446, B.4)."""

GROUPS: Final = ("X25519MLKEM768", "X25519", "P-256", "P-384")
"""Key exchange groups in order of preference; the first is the post-quantum hybrid."""

ACME_PROTOCOL: Final = "acme-tls/1"
"""What an ACME authority offers, alone, when it validates by TLS (RFC 8737, 3)."""

DEFAULT_TICKET_LIFETIME: Final = 7200.0
"""Seconds for which a session can be resumed: OpenSSL's own default, which the builtin engine cannot change."""

MAX_TICKET_LIFETIME: Final = 604800.0
"""Seconds: seven days, the most that RFC 8446 (4.6.1) allows."""

_MAX_ALPN_NAME_SIZE: Final = 255

_Choice = TypeVar("_Choice", bound=enum.Enum)


class TLSVersion(enum.Enum):
    """A version of the protocol, by the name that is also written in logs and in ``SSL_PROTOCOL``."""

    TLSv1 = "TLSv1"
    TLSv1_1 = "TLSv1.1"
    TLSv1_2 = "TLSv1.2"
    TLSv1_3 = "TLSv1.3"

    @property
    def number(self) -> int:
        """The number that stands for it on the wire (RFC 8446, 4.2.1)."""
        return 0x0301 + list(TLSVersion).index(self)


class ClientVerify(enum.Enum):
    """Whether a client has to show who it is."""

    NONE = "none"
    """No certificate is asked for."""
    OPTIONAL = "optional"
    """One is asked for; a client without goes on unauthenticated, one with a bad certificate does not go on."""
    REQUIRED = "required"
    """No connection without a good certificate."""


class ExpiredCRL(enum.Enum):
    """What to do with client certificates while the issuer's revocation list is out of date."""

    REFUSE = "refuse"
    """Fail closed: nobody of that issuer gets in until a current list is there."""
    ACCEPT = "accept"
    """Go by the list that is there."""


@dataclass(frozen=True, kw_only=True)
class TLSPolicy:
    """How we speak TLS.

    Args:
        minimum_version: The oldest version that is spoken.
        maximum_version: The newest version that is spoken.
        ciphers: TLS 1.2 suites by OpenSSL's names, most preferred first.
        ciphersuites: TLS 1.3 suites, most preferred first.
        groups: Key exchange groups, most preferred first; those that an engine does not have are left out there.
        alpn_protocols: What is answered to a client that offers protocols (RFC 7301), most preferred first. A client
            that offers only others is refused with ``no_application_protocol``. Empty: offers are ignored.
        client_verify: Whether clients have to show a certificate.
        client_verify_names: The same for single server names (``admin.example.com``, ``*.internal.example``).
        client_ca: A file or directory of PEM certificates, the authorities that client certificates may come from.
        client_verify_depth: How many intermediate authorities may stand between a client's certificate and such an
            authority.
        client_crl: A file or directory of PEM revocation lists. With it every authority that signs client certificates
            needs a list, and a certificate on its list is refused.
        client_crl_expired: What happens when such a list is past its ``nextUpdate``.
        session_tickets: Whether sessions may be resumed. Where a client has to show a certificate none are given out:
            a resumed session would go on after its certificate was revoked.
        session_ticket_lifetime: Seconds for which a session can be resumed.
        ocsp_staple: A file with a DER response, ``"fetch"`` to ask the certificate's own responder, or None for none.
        keylog_file: A file to which the secrets of every connection are written, for debugging with a packet analyser.
            Whoever reads it can read the traffic.

    Raises:
        ConfigurationError: A value that cannot be honoured, or one weaker than `INTERMEDIATE`.
    """

    INTERMEDIATE: ClassVar[TLSPolicy]
    MODERN: ClassVar[TLSPolicy]

    minimum_version: TLSVersion = TLSVersion.TLSv1_2
    maximum_version: TLSVersion = TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = INTERMEDIATE_CIPHERS
    ciphersuites: tuple[str, ...] = TLS13_CIPHERSUITES
    groups: tuple[str, ...] = GROUPS
    alpn_protocols: tuple[str, ...] = ("http/1.1", "http/1.0")
    client_verify: ClientVerify = ClientVerify.NONE
    client_verify_names: Mapping[str, ClientVerify] = field(default_factory=dict, hash=False)
    client_ca: Path | None = None
    client_verify_depth: int = 3
    client_crl: Path | None = None
    client_crl_expired: ExpiredCRL = ExpiredCRL.REFUSE
    session_tickets: bool = True
    session_ticket_lifetime: float = DEFAULT_TICKET_LIFETIME
    ocsp_staple: Path | str | None = None
    keylog_file: Path | None = field(default=None, repr=False)
    is_insecure: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        """Bring every value into its one form, then refuse what cannot be honoured."""
        set_field = object.__setattr__
        for name in ("minimum_version", "maximum_version"):
            set_field(self, name, _member(TLSVersion, name, getattr(self, name)))
        set_field(self, "client_verify", _member(ClientVerify, "client_verify", self.client_verify))
        set_field(self, "client_crl_expired", _member(ExpiredCRL, "client_crl_expired", self.client_crl_expired))
        for name in ("ciphers", "ciphersuites", "groups", "alpn_protocols"):
            set_field(self, name, _names(name, getattr(self, name)))
        for name in ("client_ca", "client_crl", "keylog_file"):
            value: str | os.PathLike[str] | None = getattr(self, name)
            set_field(self, name, None if value is None else Path(value))
        if self.ocsp_staple is not None and self.ocsp_staple != "fetch":
            set_field(self, "ocsp_staple", Path(self.ocsp_staple))
        set_field(self, "client_verify_names", _verify_names(self.client_verify_names))
        _check_strength(self)
        _check_sessions_and_alpn(self)
        _check_client_authentication(self)

    @classmethod
    def insecure(cls, **values: Any) -> TLSPolicy:
        """Return a policy that may be weaker than `INTERMEDIATE`: for old devices in a closed network, and for tests.

        Args:
            values: As for the constructor; versions down to TLS 1.0 and any suite that the engine knows are taken.
        """
        return cls(**values, is_insecure=True)

    def replace(self, **changes: Any) -> TLSPolicy:
        """Return a copy with some values changed, checked like a new one.

        Raises:
            ConfigurationError: As for the constructor.
        """
        return replace(self, **changes)

    @property
    def verifies_clients(self) -> bool:
        """Whether a client may be asked for a certificate, under any server name."""
        return any(mode is not ClientVerify.NONE for mode in (self.client_verify, *self.client_verify_names.values()))

    @property
    def resumes_sessions(self) -> bool:
        """Whether tickets are given out: never where clients are verified."""
        return self.session_tickets and not self.verifies_clients

    @property
    def security_level(self) -> int:
        """OpenSSL's security level: 2 keeps keys and signatures under 112 bits of strength out, also of clients."""
        return 0 if self.is_insecure else 2


def _member(kind: type[_Choice], key: str, value: object) -> _Choice:
    """Return the member of `kind` that `value` is or names."""
    if isinstance(value, kind):
        return value
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(str(member.value) for member in kind)
        raise ConfigurationError(key, value, "is not one of the choices", f"Choose one of {choices}.") from None


def _names(key: str, value: object) -> tuple[str, ...]:
    """Return names as a tuple, from an iterable or from one string with colons, as OpenSSL writes lists."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(":") if name.strip()]
    if not isinstance(value, Iterable):
        raise ConfigurationError(key, value, "is not a list of names")
    names = tuple(value)
    if not all(isinstance(name, str) for name in names):
        raise ConfigurationError(key, value, "is not a list of names")
    return names


def _verify_names(modes: Mapping[str, ClientVerify]) -> dict[str, ClientVerify]:
    """Return the modes by normalised server name."""
    return {_verify_name(name): _member(ClientVerify, "client_verify_names", mode) for name, mode in modes.items()}


def _verify_name(name: str) -> str:
    try:
        return normalise(name)
    except ValueError as error:
        raise ConfigurationError("client_verify_names", name, f"is not a server name: {error}") from None


def _check_strength(policy: TLSPolicy) -> None:
    """Refuse versions, suites and groups that are unknown, empty or weaker than INTERMEDIATE."""
    if policy.minimum_version.number > policy.maximum_version.number:
        raise ConfigurationError(
            "minimum_version",
            policy.minimum_version.value,
            f"is newer than maximum_version ({policy.maximum_version.value})",
            "Exchange the two, or leave one out.",
        )
    remedy = "Use at least TLSv1.2, or TLSPolicy.insecure(...) if you must."
    if policy.minimum_version.number < TLSVersion.TLSv1_2.number and not policy.is_insecure:
        raise ConfigurationError("minimum_version", policy.minimum_version.value, "is weaker than INTERMEDIATE", remedy)
    for key, chosen, known in (
        ("ciphers", policy.ciphers, () if policy.is_insecure else INTERMEDIATE_CIPHERS),
        ("ciphersuites", policy.ciphersuites, TLS13_CIPHERSUITES),
        ("groups", policy.groups, () if policy.is_insecure else GROUPS),
    ):
        if not chosen:
            raise ConfigurationError(key, "", "selects nothing", "Leave it out to get the profile's own.")
        for name in chosen:
            if known and name not in known:
                raise ConfigurationError(
                    key,
                    name,
                    "is unknown, or weaker than INTERMEDIATE",
                    f"Choose from {', '.join(known)}; TLSPolicy.insecure(...) takes weaker ones.",
                )


def _check_sessions_and_alpn(policy: TLSPolicy) -> None:
    """Refuse ticket lifetimes and protocol names that the protocol does not allow."""
    if not 1 <= policy.session_ticket_lifetime <= MAX_TICKET_LIFETIME:
        raise ConfigurationError(
            "session_ticket_lifetime",
            policy.session_ticket_lifetime,
            "is not between one second and seven days",
            "Use session_tickets=False to turn resumption off.",
        )
    for name in policy.alpn_protocols:
        if not 1 <= len(name.encode()) <= _MAX_ALPN_NAME_SIZE:
            raise ConfigurationError("alpn_protocols", name, "is not a protocol name (RFC 7301, 3.1)")


def _check_client_authentication(policy: TLSPolicy) -> None:
    """Refuse verification without authorities, which would verify nothing, and authorities without verification."""
    if policy.verifies_clients and policy.client_ca is None:
        raise ConfigurationError(
            "client_verify",
            policy.client_verify.value,
            "needs the authorities that client certificates may come from",
            "Set client_ca to a PEM file or a directory of them.",
        )
    if policy.client_ca is not None and not policy.verifies_clients:
        raise ConfigurationError(
            "client_ca",
            str(policy.client_ca),
            "has no effect while client_verify is none",
            "Set client_verify to required or optional.",
        )
    if policy.client_crl is not None and not policy.verifies_clients:
        raise ConfigurationError(
            "client_crl",
            str(policy.client_crl),
            "has no effect while client_verify is none",
            "Set client_verify to required or optional.",
        )
    if policy.client_verify_depth < 0:
        raise ConfigurationError("client_verify_depth", policy.client_verify_depth, "is negative")


TLSPolicy.INTERMEDIATE = TLSPolicy()
TLSPolicy.MODERN = TLSPolicy(minimum_version=TLSVersion.TLSv1_3)
