"""Rules about which verified clients may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from secureserve.errors import ConfigurationError
from secureserve.tls.authorisation import ClientAuthorisation, remote_user
from secureserve.tls.info import TLSInfo

if TYPE_CHECKING:
    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential

IDENTITIES = (
    "worker.example.com",
    "ann@Example.com",
    "spiffe://example.com/ns/prod/sa/web",
    "192.0.2.7",
    "2001:db8::7",
)


def info_of(authority: Authority, issued: IssuedCredential | None) -> TLSInfo:
    """Return what a connection of a client would say."""
    chain = () if issued is None else (*issued.chain, authority.certificate)
    return TLSInfo(
        version="TLSv1.3",
        cipher="TLS_AES_128_GCM_SHA256",
        cipher_bits=128,
        group=None,
        alpn_protocol=None,
        server_name=None,
        resumed=False,
        credential=authority.issue("localhost").credential,
        peer_chain_der=tuple(certificate.public_bytes(Encoding.DER) for certificate in chain),
    )


@pytest.fixture(scope="module")
def issued(tls_authority: Authority) -> IssuedCredential:
    """A client's credential with names of every kind."""
    return tls_authority.issue(*IDENTITIES, usage="client", common_name="ann", chain_depth=1)


@pytest.fixture(scope="module")
def ann(tls_authority: Authority, issued: IssuedCredential) -> TLSInfo:
    """A connection of that client."""
    return info_of(tls_authority, issued)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("dns:worker.example.com", True),
        ("dns:WORKER.example.com", True),
        ("dns:*.example.com", True),
        ("dns:*.com", False),
        ("dns:other.example.com", False),
        ("email:ann@example.com", True),
        ("email:Ann@example.com", False),
        ("email:*@EXAMPLE.com", True),
        ("email:*@other.com", False),
        ("uri:spiffe://example.com/ns/prod/sa/web", True),
        ("uri:spiffe://example.com/ns/prod/*", True),
        ("uri:spiffe://example.com/ns/pro/*", False),
        ("uri:spiffe://example.com/ns/prod/sa/we", False),
        ("ip:192.0.2.7", True),
        ("ip:192.0.2.0/24", True),
        ("ip:198.51.100.0/24", False),
        ("ip:2001:db8::/32", True),
        ("ip:2001:db9::/32", False),
    ],
)
def test_rules_about_names(ann: TLSInfo, rule: str, expected: bool) -> None:
    """A rule matches the names it means and no others."""
    assert ClientAuthorisation([rule]).allows(ann) is expected


def test_rules_about_fingerprints(ann: TLSInfo, tls_authority: Authority, issued: IssuedCredential) -> None:
    """An authority above the client is found by its fingerprint, however written; the client's own is another rule."""
    own = issued.fingerprint
    above = issued.issuer.certificate
    root = info_of(tls_authority, issued).peer_chain[-1]
    for authority in (above, root):
        digits = ClientAuthorisation([f"issuer: {fingerprint(authority).upper()}"])
        assert digits.allows(ann)
    colons = ":".join(own[n : n + 2] for n in range(0, 64, 2))
    assert ClientAuthorisation([f"certificate:{colons}"]).allows(ann)
    assert not ClientAuthorisation([f"issuer:{own}"]).allows(ann)
    assert not ClientAuthorisation([f"certificate:{fingerprint(above)}"]).allows(ann)


def fingerprint(certificate: object) -> str:
    """Return the SHA-256 of a certificate."""
    from cryptography.hazmat.primitives import hashes

    return certificate.fingerprint(hashes.SHA256()).hex()  # type: ignore[attr-defined,no-any-return]


def test_one_rule_is_enough_and_none_lets_nobody_in(ann: TLSInfo) -> None:
    """Any rule that matches lets a client in; an empty list lets in nobody; a callable is a rule."""
    assert ClientAuthorisation(["dns:nobody.test", "email:ann@example.com"]).allows(ann)
    assert not ClientAuthorisation([]).allows(ann)
    assert ClientAuthorisation([lambda info: info.version == "TLSv1.3"]).allows(ann)
    assert not ClientAuthorisation([lambda info: info.version == "TLSv1.2"]).allows(ann)


def test_without_a_certificate_nothing_matches(tls_authority: Authority) -> None:
    """A client that showed none, or that does not speak TLS, is let in by no rule, not even a callable."""
    rules = ClientAuthorisation([lambda _info: True])
    assert not rules.allows(info_of(tls_authority, None))
    assert not rules.allows(None)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", True),
        ("/public", True),
        ("/administrator", True),
        ("/admin", False),
        ("/admin/", False),
        ("/admin/x", False),
        ("/admin/ann", True),
        ("/admin/ann/x", True),
        ("//admin/x", False),
        ("/public/../admin", False),
        ("/./admin", False),
        ("/admin/ann/../x", False),
        ("/admin/../public", False),
    ],
)
def test_rules_by_path(ann: TLSInfo, path: str, expected: bool) -> None:
    """The longest prefix decides, at whole segments, and no way of writing a path leads around it."""
    rules = ClientAuthorisation({"/admin": ["dns:root.example.com"], "/admin/ann/": ["email:ann@example.com"]})
    assert rules.allows(ann, path) is expected


@pytest.mark.parametrize(
    "rule",
    ["", "dns:", "worker.example.com", "dns:a..b", "ip:300.1.1.1", "email:ann", "uri:*", "issuer:abcd", "cn:ann"],
)
def test_what_is_no_rule_is_refused(rule: str) -> None:
    """A rule that can match nothing, or not what was meant, is an error when it is written."""
    with pytest.raises(ConfigurationError, match="is not a rule"):
        ClientAuthorisation([rule])
    with pytest.raises(ConfigurationError, match="is not a path"):
        ClientAuthorisation({"admin": []})


def test_the_remote_user_comes_from_a_chosen_field(ann: TLSInfo, tls_authority: Authority) -> None:
    """REMOTE_USER can be any of the client's variables, and is nobody without a certificate."""
    assert remote_user(ann, "SSL_CLIENT_S_DN_CN") == "ann"
    assert remote_user(ann, "SSL_CLIENT_SAN_Email_0") == "ann@Example.com"
    assert remote_user(ann, "SSL_CLIENT_SAN_Email_9") is None
    assert remote_user(info_of(tls_authority, None), "SSL_SERVER_S_DN_CN") is None
    assert remote_user(None, "SSL_CLIENT_S_DN_CN") is None
