"""Who gets in with which client certificate, and what is known about them then."""

from __future__ import annotations

import os
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
import urllib3

from secureserve.certificates.store import CertificateStore
from secureserve.errors import HandshakeFailed
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.policy import ClientVerify, TLSPolicy
from tests.tls.clients import CASES, Case
from tests.tls.lockstep import Pair, connected, limited
from tests.tls.serving import SmallServer

if TYPE_CHECKING:
    from pathlib import Path

    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential


ALL_CASES = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
SOME_CASES = pytest.mark.parametrize(
    "case",
    [
        CASES[name]
        for name in (
            "good",
            "expired",
            "not_yet_valid",
            "revoked",
            "untrusted",
            "wrong_usage",
            "self_signed",
            "weak_key",
            "missing",
        )
    ],
    ids=lambda case: case.name,
)
"""Those that are tried with clients of other makes as well."""


@pytest.fixture(scope="module")
def store(tls_authority: Authority) -> CertificateStore:
    """A store with a credential for localhost."""
    return CertificateStore([tls_authority.issue("localhost", "127.0.0.1").credential])


@pytest.fixture
def policy(tls_authority: Authority) -> TLSPolicy:
    """A policy that requires certificates of the authority's clients."""
    return TLSPolicy(client_verify=ClientVerify.REQUIRED, client_ca=tls_authority.cert_path)


def client_with(authority: Authority, issued: IssuedCredential | None, version: str) -> ssl.SSLContext:
    """Return a client that shows a certificate, however bad."""
    context = limited(authority.client_context(), version)
    if issued is not None:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(issued.certificate_path, issued.private_key_path)
    return context


def with_crl(policy: TLSPolicy, authority: Authority, path: Path) -> TLSPolicy:
    """Return a policy that also looks into the authority's revocation list."""
    path.write_bytes(authority.crl())
    return policy.replace(client_crl=path)


@ALL_CASES
def test_every_certificate_has_its_outcome(  # noqa: PLR0917 - fixtures
    tls_authority: Authority,
    store: CertificateStore,
    policy: TLSPolicy,
    engine: str,
    tls_version: str,
    case: Case,
    tmp_path: Path,
) -> None:
    """A good client gets in; any other is refused with the right alert, which it sees, and a reason, which is ours."""
    issued = case.make(tls_authority) if case.make else None
    if case.needs_crl:
        policy = with_crl(policy, tls_authority, tmp_path / "crl.pem")
    acceptor = TLSAcceptor(store, policy, engine=engine)
    alert = case.alert_in(tls_version)
    with connected(acceptor, client_with(tls_authority, issued, tls_version)) as pair:
        pair.shake_hands()
        if alert is None:
            assert pair.server.tls is not None
            assert issued is not None
            assert pair.server.tls.verified
            assert pair.server.tls.peer_chain == (*issued.chain, tls_authority.certificate)
            assert pair.to_server(b"hello") == b"hello"
            return
        error = pair.server_error
        assert isinstance(error, HandshakeFailed)
        assert case.words in str(error)
        if engine == "builtin" and case.name == "chain_too_deep":
            # ssl has no limit of depth; ours comes after the handshake, too late for an alert.
            return
        assert error.alert == alert
        assert not error.alert_sent_by_peer
        if engine == "pyopenssl" and issued is not None:
            assert "O=" in str(error)
        assert alert.replace("_", " ") in client_learns(pair, tls_version)


def client_learns(pair: Pair, version: str) -> str:
    """Return what a refused client is told, in small words: with TLS 1.3 it is through by then and reads it first."""
    error: BaseException | None = pair.client_error
    if version == "TLSv1.3":
        assert error is None
        with pytest.raises(ssl.SSLError) as caught:
            pair.client_receives()
        error = caught.value
    return str(error).lower().replace("_", " ")


@SOME_CASES
def test_clients_of_other_makes(  # noqa: PLR0917 - fixtures
    tls_authority: Authority,
    store: CertificateStore,
    policy: TLSPolicy,
    engine: str,
    tls_version: str,
    case: Case,
    tmp_path: Path,
) -> None:
    """curl, openssl s_client and urllib3 each get in with a good certificate, and else are told the alert."""
    issued = case.make(tls_authority) if case.make else None
    if case.needs_crl:
        policy = with_crl(policy, tls_authority, tmp_path / "crl.pem")
    alert = case.alert_in(tls_version)
    with SmallServer(TLSAcceptor(store, policy, engine=engine)) as server:
        for visit in (curl, s_client, with_urllib3):
            told = visit(server, tls_authority, issued, tls_version)
            if alert is None:
                assert "SUCCESS" in told
                assert "CN=client" in told
            else:
                assert alert.replace("_", " ") in told.lower().replace("_", " ")
            outcome = server.outcome()
            assert isinstance(outcome, HandshakeFailed) == (alert is not None)


def curl(server: SmallServer, authority: Authority, issued: IssuedCredential | None, version: str) -> str:
    """Return what curl prints."""
    number = version.removeprefix("TLSv")
    command = ["curl", "-sS", "--max-time", "60", "--cacert", str(authority.cert_path)]
    command += [f"--tlsv{number}", "--tls-max", number, server.url]
    if issued is not None:
        command += ["--cert", str(issued.certificate_path), "--key", str(issued.private_key_path)]
    lenient = authority.directory / "lenient.cnf"
    lenient.write_text(
        "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nCipherString=DEFAULT:@SECLEVEL=0\n"
    )
    environment = {**os.environ, "OPENSSL_CONF": str(lenient)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=environment)
    return done.stdout + done.stderr


def s_client(server: SmallServer, authority: Authority, issued: IssuedCredential | None, version: str) -> str:
    """Return what openssl s_client prints."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", "localhost", "-ign_eof"]
    command += ["-" + version.lower().replace("v", "").replace(".", "_"), "-CAfile", str(authority.cert_path)]
    if issued is not None:
        command += ["-cert", str(issued.leaf_path), "-cert_chain", str(issued.certificate_path)]
        command += ["-key", str(issued.private_key_path), "-cipher", "DEFAULT:@SECLEVEL=0"]
    request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False, timeout=90)
    return done.stdout + done.stderr


def with_urllib3(server: SmallServer, authority: Authority, issued: IssuedCredential | None, version: str) -> str:
    """Return what urllib3 gets, or its error."""
    with urllib3.PoolManager(ssl_context=client_with(authority, issued, version), retries=False, timeout=60) as http:
        try:
            return http.request("GET", server.url).data.decode()
        except (urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError) as error:
            return str(error)
