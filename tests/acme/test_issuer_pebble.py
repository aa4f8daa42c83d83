"""Certificates from Pebble, which validates every challenge for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from secureserve.acme.issuer import Issuer
from secureserve.acme.solvers import DNS01Solver, HTTP01Solver, TLSALPN01Solver

if TYPE_CHECKING:
    from secureserve.acme.storage import FileStorage
    from tests.acme.pebble import Pebble

pytestmark = pytest.mark.timeout(120)


def common_name(pem: bytes) -> str:
    """Return the common name of a certificate."""
    subject = x509.load_pem_x509_certificate(pem).subject
    return str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def test_tls_alpn_01_is_answered_in_the_handshake(
    pebble: Pebble, storage: FileStorage, tls_solver: TLSALPN01Solver
) -> None:
    """Pebble looks at the TLS port, which a real server of ours serves, and issues for two names."""
    issuer = Issuer(pebble.authority, storage, [tls_solver], contact=["ops@example.org"], accept_terms=True)
    credential = issuer.obtain(["one.alpn.test", "two.alpn.test"])
    assert credential.names == ("one.alpn.test", "two.alpn.test")
    assert len(credential.chain) == 2
    assert credential.chain[1].issuer == x509.load_pem_x509_certificate(pebble.roots[0]).subject


def test_http_01_is_answered_on_the_plain_port(pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver) -> None:
    """Pebble looks at the plain port, which a real server of ours serves, and issues."""
    issuer = Issuer(pebble.authority, storage, [http_solver], accept_terms=True)
    assert issuer.obtain(["www.http.test"]).names == ("www.http.test",)


def test_a_name_and_its_wildcard_by_dns_01(pebble: Pebble, storage: FileStorage) -> None:
    """Two names and a wildcard are proved through a hook, with two values under one name at the same time."""
    issuer = Issuer(pebble.authority, storage, [DNS01Solver(pebble.dns_hook)], accept_terms=True)
    credential = issuer.obtain(["dns.test", "*.dns.test", "other.dns.test"])
    assert set(credential.names) == {"dns.test", "*.dns.test", "other.dns.test"}
