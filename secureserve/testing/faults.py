"""How each bad credential of the catalogue is made: as a good one is, but for the one fault.

A function is called what its fault is called in the catalogue, and makes one for these identities.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

from secureserve.testing.credentials import IssuedCredential
from secureserve.testing.template import USAGES, Issuer, Template

if TYPE_CHECKING:
    from cryptography import x509

    from secureserve.testing.authority import Authority
    from secureserve.testing.keys import PrivateKey

__all__ = [
    "bad_signature",
    "ca_as_leaf",
    "common_name_only",
    "expired",
    "expired_intermediate",
    "issuer_not_authority",
    "key_mismatch",
    "missing_intermediate",
    "name_constraint",
    "no_san",
    "not_yet_valid",
    "path_too_long",
    "revoked",
    "self_signed",
    "sha1_signature",
    "untrusted_root",
    "weak_key",
    "wildcard_misuse",
    "wrong_host",
    "wrong_order",
    "wrong_usage",
]

_INTERMEDIATE: Final = Template(
    common_name="secureserve testing intermediate", is_authority=True, path_length=0, extended_key_usage=()
)


def expired(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that expired yesterday."""
    return _issue(authority, _plain(identities).replace(not_after=_days(-1)))


def not_yet_valid(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that is valid from tomorrow."""
    return _issue(authority, _plain(identities).replace(not_before=_days(1)))


def wrong_host(authority: Authority, _identities: tuple[str, ...]) -> IssuedCredential:
    """Make one for another host."""
    return _issue(authority, _plain(("wrong-host.example.test",)))


def self_signed(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that signed itself."""
    return authority.issue_self_signed(_plain(identities), authority.keys.take())


def untrusted_root(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one below a root that nobody trusts."""
    root = _INTERMEDIATE.replace(common_name="secureserve testing untrusted root", path_length=None)
    return _issue(authority, _plain(identities), Issuer.self_signed(root, authority.keys.take()))


def missing_intermediate(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one whose chain lacks the intermediate."""
    issued = _issue(authority, _plain(identities), authority.intermediate(1))
    return _with_chain(issued, issued.leaf)


def expired_intermediate(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one below an intermediate that expired yesterday."""
    outdated = _INTERMEDIATE.replace(not_after=_days(-1))
    return _issue(authority, _plain(identities), _authority_below(authority, outdated))


def weak_key(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one with an RSA key of 1024 bits."""
    return authority.issue_from(_plain(identities), authority.keys.take("rsa-1024"))


def sha1_signature(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that was signed with SHA-1."""
    issuer = _authority_below(authority, _INTERMEDIATE, key=authority.keys.take("rsa"))
    return _issue(authority, _plain(identities).replace(signed_with_sha1=True), issuer)


def no_san(authority: Authority, _identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that names no server."""
    return _issue(authority, Template(common_name="A server without a subject alternative name"))


def common_name_only(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that names the server in its common name alone."""
    return _issue(authority, Template(common_name=identities[0]))


def ca_as_leaf(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that is an authority's."""
    usages = ("key_cert_sign", "crl_sign")
    return _issue(authority, _plain(identities).replace(is_authority=True, path_length=0, key_usage=usages))


def wrong_usage(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that is for clients."""
    return _issue(authority, _plain(identities).replace(extended_key_usage=USAGES["client"]))


def name_constraint(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one below an authority that may not issue for these names."""
    constrained = _INTERMEDIATE.replace(permitted_names=("permitted.example.test",))
    # A constraint on DNS names says nothing about addresses, so a name has to be among the identities.
    names = identities if any(not _is_address(one) for one in identities) else (*identities, "localhost")
    return _issue(authority, _plain(names), _authority_below(authority, constrained))


def wildcard_misuse(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one whose wildcards match nothing."""
    patterns: list[str] = []
    for identity in identities:
        first, _, rest = identity.partition(".")
        patterns += ["*", f"*.{identity}"] if not rest else [f"*.{identity}", f"*.*.{rest}", f"{first}.*"]
    valid = [pattern for pattern in dict.fromkeys(patterns) if ":" not in pattern]
    return _issue(authority, Template(identities=tuple(valid), common_name="Wildcards"))


def issuer_not_authority(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that was signed with the key of another server."""
    bystander = Template(identities=("bystander.example.test",), common_name="bystander.example.test")
    key = authority.keys.take()
    return _issue(authority, _plain(identities), authority.root.issue_authority(bystander, key))


def path_too_long(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one below an authority that stands too low."""
    last = _authority_below(authority, _INTERMEDIATE)
    one_more = _INTERMEDIATE.replace(common_name="secureserve testing intermediate too many")
    return _issue(authority, _plain(identities), last.issue_authority(one_more, authority.keys.take()))


def bad_signature(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one that another key signed than it says."""
    issued = _issue(authority, _plain(identities))
    other_root = Issuer(authority.certificate, authority.keys.take())
    forged = other_root.sign(_plain(identities), issued.private_key.public_key())
    return _with_chain(issued, forged)


def revoked(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one, and revoke it."""
    # Below an intermediate: a client finds who signed a stapled response among the certificates it was sent.
    issued = _issue(authority, _plain(identities), authority.intermediate(1))
    authority.revoke(issued)
    return issued


def wrong_order(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one whose chain begins with the intermediate."""
    issued = _issue(authority, _plain(identities), authority.intermediate(1))
    return _with_chain(issued, *reversed(issued.chain))


def key_mismatch(authority: Authority, identities: tuple[str, ...]) -> IssuedCredential:
    """Make one with the private key of another."""
    issued = _issue(authority, _plain(identities))
    other = authority.keys.take()
    return IssuedCredential(issued.chain, other, issuer=issued.issuer, parent_directory=authority.directory)


def _plain(identities: tuple[str, ...]) -> Template:
    return Template(identities=identities, common_name=identities[0])


def _issue(authority: Authority, template: Template, issuer: Issuer | None = None) -> IssuedCredential:
    return authority.issue_from(template, authority.keys.take(), issuer)


def _with_chain(issued: IssuedCredential, *chain: x509.Certificate) -> IssuedCredential:
    return IssuedCredential(chain, issued.private_key, issuer=issued.issuer, parent_directory=issued.parent_directory)


def _days(days: float) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)


def _authority_below(authority: Authority, template: Template, *, key: PrivateKey | None = None) -> Issuer:
    return authority.root.issue_authority(template, key or authority.keys.take())


def _is_address(identity: str) -> bool:
    try:
        ipaddress.ip_address(identity)
    except ValueError:
        return False
    return True
