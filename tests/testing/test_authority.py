"""The authority: how every kind of client is told to trust it, and revocation."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import unittest
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import requests
import trustme
import urllib3
from cryptography import x509
from cryptography.x509 import ocsp
from OpenSSL import SSL

from secureserve.testing import Authority, temporary_authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from secureserve.testing import IssuedCredential

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def test_is_made_once_a_session(tls_authority: Authority, request: pytest.FixtureRequest) -> None:
    """Every fixture of a session speaks of the same root, and its files stay below the session's directory."""
    assert request.getfixturevalue("tls_authority") is tls_authority
    base = request.getfixturevalue("tmp_path_factory").getbasetemp()
    assert tls_authority.cert_path.is_relative_to(base)
    assert tls_authority.cert_path.read_bytes() == tls_authority.cert_pem.bytes()


def test_is_a_trustme_authority(tls_authority: Authority) -> None:
    """What wants a trustme CA gets one, and what that one issues is trusted with the rest."""
    leaf = tls_authority.trustme.issue_cert("trustme.example.test")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(server)
    assert isinstance(tls_authority.trustme, trustme.CA)
    assert tls_authority.trustme.cert_pem.bytes() == tls_authority.cert_pem.bytes()


def test_trusted_by_requests(tls_authority: Authority, https_url: str) -> None:
    """A requests session that was configured gets an answer, and one that was not refuses."""
    with requests.Session() as session:
        with pytest.raises(requests.exceptions.SSLError):
            session.get(https_url, timeout=30)
        tls_authority.configure_trust(session)
        assert session.get(https_url, timeout=30).text == "hello\n"


def test_trusted_by_urllib3(tls_authority: Authority, https_url: str) -> None:
    """A urllib3 pool manager that was configured gets an answer, and one that was not refuses."""
    with urllib3.PoolManager(retries=False) as pool:
        with pytest.raises(urllib3.exceptions.SSLError):
            pool.request("GET", https_url, timeout=30)
        tls_authority.configure_trust(pool)
        assert pool.request("GET", https_url, timeout=30).data == b"hello\n"


def test_trusted_by_httpx(tls_authority: Authority, https_url: str) -> None:
    """An httpx client that was made with the authority's context gets an answer, and another refuses."""
    with pytest.raises(httpx.ConnectError), httpx.Client(trust_env=False) as stranger:
        stranger.get(https_url)
    with httpx.Client(verify=tls_authority.client_context()) as client:
        assert client.get(https_url).text == "hello\n"


def test_trusted_by_aiohttp(tls_authority: Authority, https_url: str) -> None:
    """An aiohttp connector that was made with the authority's context gets an answer, and another refuses."""

    async def get(**options: Any) -> str:
        connector = aiohttp.TCPConnector(**options)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(https_url) as response:
            return await response.text()

    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        asyncio.run(get())
    assert asyncio.run(get(ssl=tls_authority.client_context())) == "hello\n"


@needs_curl
def test_trusted_by_curl(tls_authority: Authority, https_url: str) -> None:
    """Curl trusts it by path and by environment."""
    by_path = ["curl", "-sS", "--cacert", str(tls_authority.cert_path), https_url]
    assert subprocess.run(by_path, capture_output=True, check=True, timeout=30).stdout == b"hello\n"
    by_environment = ["curl", "-sS", https_url]
    answer = subprocess.run(
        by_environment, capture_output=True, check=True, timeout=30, env=dict(tls_authority.environment)
    )
    assert answer.stdout == b"hello\n"


def test_trusted_by_pyopenssl(tls_authority: Authority, tls_credential: Callable[..., IssuedCredential]) -> None:
    """A pyOpenSSL context that was configured verifies a chain, which its server end presents by configure_cert."""
    server_context, client_context = SSL.Context(SSL.TLS_METHOD), SSL.Context(SSL.TLS_METHOD)
    tls_credential(chain_depth=2).configure_cert(server_context)
    client_context.set_verify(SSL.VERIFY_PEER)
    assert "certificate verify failed" in pyopenssl_handshake(server_context, client_context)
    trusting = SSL.Context(SSL.TLS_METHOD)
    trusting.set_verify(SSL.VERIFY_PEER)
    tls_authority.configure_trust(trusting)
    assert pyopenssl_handshake(server_context, trusting) == ""


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (httpx.Client, r"httpx\.Client\(verify=tls_authority\.client_context\(\)\)"),
        (httpx.AsyncClient, r"httpx\.AsyncClient\(verify="),
        (object, r"tls_authority\.cert_path where it takes a file"),
    ],
)
def test_clients_that_are_told_when_made(tls_authority: Authority, make: Callable[[], Any], remedy: str) -> None:
    """For a client that cannot be told later, the error says what to write."""
    with pytest.raises(TypeError, match=remedy):
        tls_authority.configure_trust(make())


def test_other_contexts_are_refused(tls_credential: Callable[..., IssuedCredential]) -> None:
    """A credential configures TLS contexts alone; for the rest the error names the files."""
    with pytest.raises(TypeError, match=r"\.certificate_path"):
        tls_credential().configure_cert(requests.Session())


def test_crl_lists_the_revoked_alone(tls_authority: Authority, tmp_path: Path) -> None:
    """The list of each issuer names what it revoked, and OpenSSL reads it."""
    good, revoked = tls_authority.issue(chain_depth=1), tls_authority.issue(chain_depth=1)
    tls_authority.revoke(revoked)
    path = tmp_path / "crl.pem"
    path.write_bytes(tls_authority.crl(revoked))
    text = subprocess.run(
        ["openssl", "crl", "-in", str(path), "-noout", "-text"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert f"{revoked.leaf.serial_number:X}" in text
    assert f"{good.leaf.serial_number:X}" not in text
    path.write_bytes(tls_authority.crl())
    text = subprocess.run(
        ["openssl", "crl", "-in", str(path), "-noout", "-text"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert f"{revoked.leaf.serial_number:X}" not in text


def test_crl_out_of_date(tls_authority: Authority) -> None:
    """A negative lifetime gives a list whose successor is that long overdue, and it still names the revoked."""
    revoked = tls_authority.issue(chain_depth=1)
    tls_authority.revoke(revoked)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    listed = x509.load_pem_x509_crl(tls_authority.crl(revoked, lifetime=timedelta(days=-3)))
    assert listed.next_update_utc is not None
    assert timedelta(0) <= listed.next_update_utc - (before - timedelta(days=3)) < timedelta(minutes=5)
    assert listed.last_update_utc < listed.next_update_utc
    entry = listed.get_revoked_certificate_by_serial_number(revoked.leaf.serial_number)
    assert entry is not None
    assert entry.revocation_date_utc <= listed.last_update_utc


@pytest.mark.parametrize("revoked", [False, True])
def test_ocsp_response_out_of_date(tls_authority: Authority, *, revoked: bool) -> None:
    """A negative lifetime gives a response whose successor is that long overdue, with the status that it would have."""
    credential = tls_authority.issue(chain_depth=1)
    if revoked:
        tls_authority.revoke(credential)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    response = ocsp.load_der_ocsp_response(tls_authority.ocsp_response(credential, lifetime=timedelta(days=-3)))
    assert response.next_update_utc is not None
    assert timedelta(0) <= response.next_update_utc - (before - timedelta(days=3)) < timedelta(minutes=5)
    assert response.this_update_utc < response.next_update_utc
    assert response.certificate_status is (ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD)


class WithoutPytest(unittest.TestCase):
    """The context manager for suites without pytest's fixtures."""

    def test_temporary_authority_leaves_nothing(self) -> None:
        """Everything it wrote is gone at the end."""
        with temporary_authority() as authority:
            path = authority.issue().private_key_path
            assert path.exists()
        assert not authority.directory.exists()


def pyopenssl_handshake(server_context: SSL.Context, client_context: SSL.Context) -> str:
    """Shake hands in memory and return what the client had against it."""
    server, client = SSL.Connection(server_context), SSL.Connection(client_context)
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(10):
        for near, far in ((client, server), (server, client)):
            try:
                near.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                return str(error)
            with contextlib.suppress(SSL.WantReadError):
                far.bio_write(near.bio_read(65536))
    return ""
