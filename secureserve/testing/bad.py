"""The catalogue of bad credentials: what is wrong with each, who must refuse it, and how OpenSSL says so.

Each has exactly one fault. Names, dates, keys and usages are right except for the one that is wrong, so a client that
accepts one of them lacks exactly the check in its description. No fault is staged: a past date is a past date, signed.
"""

from __future__ import annotations

import difflib
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from secureserve.testing import faults
from secureserve.testing.authority import LOOPBACK_IDENTITIES, Authority
from secureserve.testing.credentials import IssuedCredential

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    Maker: TypeAlias = "Callable[[Authority, tuple[str, ...]], IssuedCredential]"

__all__ = ["BAD_KINDS", "BadCredential", "BadKind", "RefusedBy", "bad_kinds", "issue_bad"]


class RefusedBy(enum.Enum):
    """Who has to refuse a bad credential."""

    HANDSHAKE = "handshake"
    """Every client that verifies at all, in the handshake."""
    REVOCATION = "revocation"
    """A client that was given a revocation list or a stapled OCSP response, and looks."""
    STRICT = "strict"
    """A client that keeps to RFC 9525; many still accept it."""
    LOADING = "loading"
    """Whoever loads the files: no server can present it."""


@dataclass(frozen=True, slots=True)
class BadKind:
    """One entry of the catalogue.

    Args:
        name: What it is called.
        fault: What is wrong with it, as a sentence.
        rule: Where it says so.
        refused_by: Who has to refuse it.
        openssl: What ``openssl verify`` says, or for what cannot be loaded, ``openssl pkcs12 -export``.
        make: Makes one, for these identities.
    """

    name: str
    fault: str
    rule: str
    refused_by: RefusedBy
    openssl: str
    make: Maker


class BadCredential(IssuedCredential):
    """A credential that has to be refused.

    Args:
        kind: Its entry in the catalogue.
        issued: What was made.
        intended_for: Whom it would be for if it were good.
        parent_directory: Below which a directory is made for its files.
    """

    def __init__(
        self, kind: BadKind, issued: IssuedCredential, intended_for: tuple[str, ...], parent_directory: Path
    ) -> None:
        super().__init__(issued.chain, issued.private_key, issuer=issued.issuer, parent_directory=parent_directory)
        self.kind = kind
        self._intended_for = intended_for

    def __repr__(self) -> str:
        """Say what is wrong with it."""
        return f"BadCredential({self.name!r}: {self.fault})"

    @property
    def intended_for(self) -> tuple[str, ...]:
        """Whom it would be for if it were good."""
        return self._intended_for

    @property
    def name(self) -> str:
        """What it is called in the catalogue."""
        return self.kind.name

    @property
    def fault(self) -> str:
        """What is wrong with it, as a sentence."""
        return self.kind.fault


def issue_bad(
    authority: Authority, name: str, *identities: str, directory: str | os.PathLike[str] | None = None
) -> BadCredential:
    """Issue a bad credential.

    Args:
        authority: The authority that the clients trust.
        name: What is wrong: a name in `BAD_KINDS`.
        identities: Whom it would be for if it were good; `LOOPBACK_IDENTITIES` when none is given.
        directory: Below which its files go, by default the authority's.

    Raises:
        ValueError: There is no such kind; the message names the closest.
    """
    kind = _kind(name)
    identities = identities or LOOPBACK_IDENTITIES
    parent_directory = authority.directory if directory is None else Path(directory)
    return BadCredential(kind, kind.make(authority, identities), identities, parent_directory)


def bad_kinds(
    *only: str, also: Iterable[str] = (), without: Iterable[str] = (), refused_by: RefusedBy = RefusedBy.HANDSHAKE
) -> tuple[BadKind, ...]:
    """Return the kinds that a client has to refuse.

    Args:
        only: Names; when any are given, these and no others.
        also: Names to add, such as ``revoked`` for a client that checks revocation.
        without: Names to leave out, such as ``sha1_signature`` for a client that has to speak to the past.
        refused_by: Which kinds are meant when no names are given.

    Raises:
        ValueError: A name is none of the catalogue's; the message names the closest.
    """
    chosen = [_kind(name) for name in only] or [kind for kind in BAD_KINDS.values() if kind.refused_by is refused_by]
    chosen += [_kind(name) for name in also if name not in {kind.name for kind in chosen}]
    left_out = {_kind(name).name for name in without}
    return tuple(kind for kind in chosen if kind.name not in left_out)


def _kind(name: str) -> BadKind:
    if name in BAD_KINDS:
        return BAD_KINDS[name]
    close = difflib.get_close_matches(str(name), BAD_KINDS, n=1)
    hint = f"did you mean {close[0]!r}? There are" if close else "write one of"
    raise ValueError(f"{name!r} is no bad credential; {hint} {', '.join(BAD_KINDS)}.")


_HANDSHAKE: Final = RefusedBy.HANDSHAKE

BAD_KINDS: Final[Mapping[str, BadKind]] = {
    kind.name: kind
    for kind in (
        BadKind(
            "expired",
            "It expired yesterday.",
            "RFC 5280, 4.1.2.5",
            _HANDSHAKE,
            "certificate has expired",
            faults.expired,
        ),
        BadKind(
            "not_yet_valid",
            "It is valid from tomorrow.",
            "RFC 5280, 4.1.2.5",
            _HANDSHAKE,
            "certificate is not yet valid",
            faults.not_yet_valid,
        ),
        BadKind(
            "wrong_host",
            "It is for wrong-host.example.test.",
            "RFC 9525, 6",
            _HANDSHAKE,
            "hostname mismatch",
            faults.wrong_host,
        ),
        BadKind(
            "self_signed",
            "It signed itself.",
            "RFC 5280, 6.1",
            _HANDSHAKE,
            "self-signed certificate",
            faults.self_signed,
        ),
        BadKind(
            "untrusted_root",
            "Its issuer is a root that nobody trusts.",
            "RFC 5280, 6.1",
            _HANDSHAKE,
            "unable to get local issuer certificate",
            faults.untrusted_root,
        ),
        BadKind(
            "missing_intermediate",
            "The intermediate between it and the trusted root is not sent.",
            "RFC 8446, 4.4.2",
            _HANDSHAKE,
            "unable to get local issuer certificate",
            faults.missing_intermediate,
        ),
        BadKind(
            "expired_intermediate",
            "The intermediate that signed it expired yesterday.",
            "RFC 5280, 6.1.3",
            _HANDSHAKE,
            "certificate has expired",
            faults.expired_intermediate,
        ),
        BadKind(
            "weak_key",
            "Its key is RSA of 1024 bits.",
            "NIST SP 800-131A",
            _HANDSHAKE,
            "EE certificate key too weak",
            faults.weak_key,
        ),
        BadKind(
            "sha1_signature",
            "It was signed with SHA-1.",
            "RFC 9155",
            _HANDSHAKE,
            "CA signature digest algorithm too weak",
            faults.sha1_signature,
        ),
        BadKind(
            "no_san",
            "It names no server: there is no subject alternative name.",
            "RFC 9525, 2",
            _HANDSHAKE,
            "hostname mismatch",
            faults.no_san,
        ),
        BadKind(
            "ca_as_leaf",
            "It is an authority's certificate, which may sign others but serve nobody.",
            "RFC 5280, 4.2.1.3",
            _HANDSHAKE,
            "unsuitable certificate purpose",
            faults.ca_as_leaf,
        ),
        BadKind(
            "wrong_usage",
            "Its extended key usage is for clients.",
            "RFC 5280, 4.2.1.12",
            _HANDSHAKE,
            "unsuitable certificate purpose",
            faults.wrong_usage,
        ),
        BadKind(
            "name_constraint",
            "Its issuer may only issue for permitted.example.test.",
            "RFC 5280, 4.2.1.10",
            _HANDSHAKE,
            "permitted subtree violation",
            faults.name_constraint,
        ),
        BadKind(
            "wildcard_misuse",
            "Its wildcards stand where they match nothing.",
            "RFC 9525, 6.3",
            _HANDSHAKE,
            "hostname mismatch",
            faults.wildcard_misuse,
        ),
        BadKind(
            "issuer_not_authority",
            "It was signed with the key of another server, which is no authority.",
            "RFC 5280, 4.2.1.9",
            _HANDSHAKE,
            "invalid CA certificate",
            faults.issuer_not_authority,
        ),
        BadKind(
            "path_too_long",
            "Its issuer stands below an authority that allows none below it.",
            "RFC 5280, 4.2.1.9",
            _HANDSHAKE,
            "path length constraint exceeded",
            faults.path_too_long,
        ),
        BadKind(
            "bad_signature",
            "It names the trusted root as its issuer, but another key signed it.",
            "RFC 5280, 6.1.3",
            _HANDSHAKE,
            "certificate signature failure",
            faults.bad_signature,
        ),
        BadKind(
            "revoked",
            "Its issuer revoked it, by revocation list and by OCSP.",
            "RFC 5280, 6.3; RFC 6960",
            RefusedBy.REVOCATION,
            "certificate revoked",
            faults.revoked,
        ),
        BadKind(
            "common_name_only",
            "It names the server in its common name alone.",
            "RFC 9525, 2",
            RefusedBy.STRICT,
            "hostname mismatch",
            faults.common_name_only,
        ),
        BadKind(
            "wrong_order",
            "The intermediate stands before the leaf.",
            "RFC 8446, 4.4.2",
            RefusedBy.LOADING,
            "hostname mismatch",
            faults.wrong_order,
        ),
        BadKind(
            "key_mismatch",
            "The private key belongs to another certificate.",
            "RFC 8446, 4.4.3",
            RefusedBy.LOADING,
            "No cert in -in file",
            faults.key_mismatch,
        ),
    )
}
"""Every kind of bad credential, by name."""
