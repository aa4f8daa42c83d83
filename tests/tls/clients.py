"""Client certificates good and bad, and what each must come to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from secureserve.testing.credentials import IssuedCredential
from secureserve.testing.template import USAGES, Issuer, Template

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.testing.authority import Authority

_CLIENT = Template(identities=("client@example.test",), common_name="client", extended_key_usage=USAGES["client"])
_BELOW = Template(common_name="An authority below", is_authority=True, extended_key_usage=())


@dataclass(frozen=True)
class Case:
    """A client's certificate and its outcome.

    Args:
        name: What it is called.
        make: Makes it; None when the client shows none.
        alert: What we refuse it with; None when it is let in.
        words: What the log says about why.
        alert_tls12: The same in TLS 1.2 where that differs.
        needs_crl: Whether it takes a revocation list to see it.
    """

    name: str
    make: Callable[[Authority], IssuedCredential] | None
    alert: str | None
    words: str = ""
    alert_tls12: str | None = None
    needs_crl: bool = False

    def alert_in(self, version: str) -> str | None:
        """Return the alert in a version."""
        return self.alert_tls12 if version == "TLSv1.2" and self.alert_tls12 else self.alert


def _moment(days: float) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)


def _issue(authority: Authority, template: Template, issuer: Issuer | None = None) -> IssuedCredential:
    return authority.issue_from(template, authority.keys.take(), issuer)


def _revoked(authority: Authority) -> IssuedCredential:
    issued = _issue(authority, _CLIENT)
    authority.revoke(issued)
    return issued


def _untrusted(authority: Authority) -> IssuedCredential:
    root = Issuer.self_signed(_BELOW.replace(common_name="A root of strangers"), authority.keys.take())
    return _issue(authority, _CLIENT, root)


def _self_signed(authority: Authority) -> IssuedCredential:
    return authority.issue_self_signed(_CLIENT, authority.keys.take())


def _constrained(authority: Authority) -> IssuedCredential:
    below = authority.root.issue_authority(
        _BELOW.replace(permitted_names=("permitted.example.test",)), authority.keys.take()
    )
    return _issue(authority, _CLIENT.replace(identities=("elsewhere.example.test",)), below)


def _path_too_long(authority: Authority) -> IssuedCredential:
    last = authority.root.issue_authority(_BELOW.replace(path_length=0), authority.keys.take())
    one_more = last.issue_authority(_BELOW.replace(common_name="One too many"), authority.keys.take())
    return _issue(authority, _CLIENT, one_more)


def _signed_with_sha1(authority: Authority) -> IssuedCredential:
    below = authority.root.issue_authority(_BELOW, authority.keys.take("rsa"))
    return _issue(authority, _CLIENT.replace(signed_with_sha1=True), below)


def _forged(authority: Authority) -> IssuedCredential:
    issued = _issue(authority, _CLIENT)
    impostor = Issuer(authority.certificate, authority.keys.take())
    forged = impostor.sign(_CLIENT, issued.private_key.public_key())
    return IssuedCredential((forged,), issued.private_key, issuer=impostor, parent_directory=authority.directory)


def expired_list(authority: Authority, *revoked: IssuedCredential) -> bytes:
    """Return a revocation list of the root, in PEM, that should have been replaced yesterday."""
    for issued in revoked:
        authority.revoke(issued)
    return authority.crl(lifetime=timedelta(days=-1))


CASES = {
    case.name: case
    for case in (
        Case("good", lambda authority: _issue(authority, _CLIENT), None),
        Case("good_chain", lambda authority: _issue(authority, _CLIENT, authority.intermediate(2)), None),
        Case("good_usage_unsaid", lambda authority: _issue(authority, _CLIENT.replace(extended_key_usage=())), None),
        Case("missing", None, "certificate_required", "did not return a certificate", "handshake_failure"),
        Case(
            "expired",
            lambda authority: _issue(authority, _CLIENT.replace(not_after=_moment(-1))),
            "certificate_expired",
            "certificate has expired",
        ),
        Case(
            "not_yet_valid",
            lambda authority: _issue(authority, _CLIENT.replace(not_before=_moment(1))),
            "bad_certificate",
            "certificate is not yet valid",
        ),
        Case("revoked", _revoked, "certificate_revoked", "certificate revoked", needs_crl=True),
        Case("untrusted", _untrusted, "unknown_ca", "unable to get local issuer certificate"),
        Case(
            "wrong_usage",
            lambda authority: _issue(authority, _CLIENT.replace(extended_key_usage=USAGES["server"])),
            "unsupported_certificate",
            "purpose",
        ),
        Case("self_signed", _self_signed, "unknown_ca", "self-signed certificate"),
        Case(
            "weak_key",
            lambda authority: authority.issue_from(_CLIENT, authority.keys.take("rsa-1024")),
            "bad_certificate",
            "EE certificate key too weak",
        ),
        Case(
            "weak_signature",
            _signed_with_sha1,
            "bad_certificate",
            "signature digest algorithm too weak",
        ),
        Case("name_constraint", _constrained, "certificate_unknown", "permitted subtree violation"),
        Case("path_too_long", _path_too_long, "unknown_ca", "path length constraint exceeded"),
        Case(
            "chain_too_deep",
            lambda authority: _issue(authority, _CLIENT, authority.intermediate(4)),
            "unknown_ca",
            "certificate chain too long",
        ),
        Case("forged", _forged, "decrypt_error", "certificate signature failure"),
    )
}
