"""Who gets in with which client certificate, and what is known about them then."""

from __future__ import annotations

import os
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from secureserve.certificates.store import CertificateStore
from secureserve.errors import ConfigurationError, HandshakeFailed
from secureserve.testing.authority import Authority
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.policy import ClientVerify, TLSPolicy
from tests.tls.clients import CASES, Case, expired_list
from tests.tls.lockstep import Pair, connected, limited
from tests.tls.serving import SmallServer

if TYPE_CHECKING:
    from pathlib import Path

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
            elif (visit, case.name, tls_version) == (curl, "expired", "TLSv1.2"):
                # curl has a sentence of its own for this one, which reads as if our certificate were meant.
                assert "SSL certificate verification failed" in told
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


def test_optional_lets_the_others_in(
    tls_authority: Authority, store: CertificateStore, policy: TLSPolicy, engine: str, tls_version: str
) -> None:
    """With optional a client without a certificate gets in unverified, one with a good one verified, a bad one not."""
    acceptor = TLSAcceptor(store, policy.replace(client_verify="optional"), engine=engine)
    for name, verified in (("missing", False), ("good", True), ("untrusted", None)):
        make = CASES[name].make
        issued = make(tls_authority) if make else None
        with connected(acceptor, client_with(tls_authority, issued, tls_version)) as pair:
            pair.shake_hands()
            info = pair.server.tls
            assert (None if info is None else info.verified) is verified
            if info is not None:
                assert info.environ()["SSL_CLIENT_VERIFY"] == ("SUCCESS" if verified else "NONE")


def test_our_own_chain_is_no_trust_anchor(
    tls_authority: Authority, engine: str, tls_version: str, tmp_path: Path
) -> None:
    """A client under the authority of the server's own certificate is refused where another is trusted."""
    server = tls_authority.issue("localhost", chain_depth=1)
    other = Authority(tmp_path / "other")
    policy = TLSPolicy(client_verify=ClientVerify.REQUIRED, client_ca=other.cert_path)
    acceptor = TLSAcceptor(CertificateStore([server.credential]), policy, engine=engine)
    issued = tls_authority.issue("client@example.test", usage="client", chain_depth=1)
    with connected(acceptor, client_with(tls_authority, issued, tls_version)) as pair:
        pair.shake_hands()
        assert isinstance(pair.server_error, HandshakeFailed)
        assert pair.server_error.alert == "unknown_ca"


def test_verified_sessions_are_not_resumed(
    tls_authority: Authority, store: CertificateStore, policy: TLSPolicy, engine: str, tls_version: str
) -> None:
    """A client with a certificate shows it on every connection: no ticket outlives its revocation."""
    acceptor = TLSAcceptor(store, policy, engine=engine)
    client = client_with(tls_authority, tls_authority.issue("c@example.test", usage="client"), tls_version)
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        pair.to_client(b"x")
        session = pair.client.tls.session
        # OpenSSL keeps no session of a connection that broke.
        pair.server.close_notify()
    with connected(acceptor, client, session=session) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        assert not pair.server.tls.resumed
        assert pair.server.tls.verified


def test_authorities_come_from_a_directory_and_are_read_again(
    tls_authority: Authority, store: CertificateStore, engine: str, tls_version: str, tmp_path: Path
) -> None:
    """Every PEM file of a directory counts; reload_client_trust() takes changes over, or raises and keeps what was."""
    other, directory = Authority(tmp_path / "other"), tmp_path / "ca"
    directory.mkdir()
    (directory / "one.pem").write_bytes(tls_authority.cert_pem.bytes())
    (directory / "README").write_text("Whose certificates these are.")
    policy = TLSPolicy(client_verify=ClientVerify.REQUIRED, client_ca=directory)
    acceptor = TLSAcceptor(store, policy, engine=engine)

    def gets_in(authority: Authority) -> bool:
        issued = authority.issue("client@example.test", usage="client")
        client = client_with(tls_authority, issued, tls_version)
        with connected(acceptor, client) as pair:
            pair.shake_hands()
            return pair.server.tls is not None

    assert gets_in(tls_authority)
    assert not gets_in(other)
    (directory / "two.pem").write_bytes(other.cert_pem.bytes())
    assert not gets_in(other)
    acceptor.reload_client_trust()
    assert gets_in(other)
    (directory / "one.pem").unlink()
    acceptor.reload_client_trust()
    assert not gets_in(tls_authority)
    (directory / "two.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError, match=r"client_ca .*two.pem"):
        acceptor.reload_client_trust()
    (directory / "two.pem").write_bytes(other.cert_pem.bytes() + tls_authority.cert_pem.bytes()[:-40])
    with pytest.raises(ConfigurationError, match=r"two.pem.* cut off"):
        acceptor.reload_client_trust()
    assert gets_in(other)


def test_revocation_lists_of_several_issuers(  # noqa: PLR0917 - fixtures
    tls_authority: Authority, store: CertificateStore, policy: TLSPolicy, engine: str, tls_version: str, tmp_path: Path
) -> None:
    """Every authority of a chain needs a list, DER or PEM; each list counts, and a reload takes new ones over."""
    authority = Authority(tmp_path / "authority")
    lists = tmp_path / "crls"
    lists.mkdir()
    direct = authority.issue("direct@example.test", usage="client")
    below = authority.issue("below@example.test", usage="client", chain_depth=1)
    (lists / "root.crl").write_bytes(authority.crl())
    policy = policy.replace(client_ca=authority.cert_path, client_crl=lists)
    acceptor = TLSAcceptor(store, policy, engine=engine)

    def outcome(issued: IssuedCredential) -> str | None:
        with connected(acceptor, client_with(tls_authority, issued, tls_version)) as pair:
            pair.shake_hands()
            error = pair.server_error
            return error.alert if isinstance(error, HandshakeFailed) else None

    assert outcome(direct) is None
    assert outcome(below) == "unknown_ca"
    der = ssl.PEM_cert_to_DER_cert(authority.crl(below).decode().replace("X509 CRL", "CERTIFICATE"))
    (lists / "intermediate.crl").write_bytes(der)
    acceptor.reload_client_trust()
    assert outcome(below) is None
    authority.revoke(below)
    (lists / "intermediate.crl").write_bytes(authority.crl(below))
    assert outcome(below) is None
    acceptor.reload_client_trust()
    assert outcome(below) == "certificate_revoked"
    assert outcome(direct) is None


def test_an_expired_list_fails_closed(  # noqa: PLR0917 - fixtures
    tls_authority: Authority,
    store: CertificateStore,
    policy: TLSPolicy,
    engine: str,
    tls_version: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A list that is out of date lets nobody in and is warned of; accepted by option, it still refuses who is on it."""
    authority = Authority(tmp_path / "authority")
    good, bad = (authority.issue(f"{name}@example.test", usage="client") for name in ("good", "bad"))
    crl = tmp_path / "old.crl"
    crl.write_bytes(expired_list(authority, bad))
    policy = policy.replace(client_ca=authority.cert_path, client_crl=crl)

    def outcome(acceptor: TLSAcceptor, issued: IssuedCredential) -> str | None:
        with connected(acceptor, client_with(tls_authority, issued, tls_version)) as pair:
            pair.shake_hands()
            error = pair.server_error
            return error.alert if isinstance(error, HandshakeFailed) else None

    strict = TLSAcceptor(store, policy, engine=engine)
    assert "should have been replaced by" in caplog.text
    assert outcome(strict, good) == "certificate_expired"
    lenient = policy.replace(client_crl_expired="accept")
    if engine == "builtin":
        with pytest.raises(ConfigurationError, match="client_crl_expired"):
            TLSAcceptor(store, lenient, engine=engine)
        return
    acceptor = TLSAcceptor(store, lenient, engine=engine)
    assert outcome(acceptor, good) is None
    assert outcome(acceptor, bad) == "certificate_revoked"


def test_only_some_names_ask(tls_authority: Authority, engine: str, tls_version: str) -> None:
    """Some server names alone can ask, and no session of another name gets around that; builtin says that it cannot."""
    names = ("public.test", "admin.test", "a.staff.test")
    store = CertificateStore([tls_authority.issue(*names).credential])
    policy = TLSPolicy(
        client_verify_names={"admin.test": "required", "*.staff.test": "optional"}, client_ca=tls_authority.cert_path
    )
    if engine == "builtin":
        with pytest.raises(ConfigurationError, match="client_verify_names"):
            TLSAcceptor(store, policy, engine=engine)
        return
    acceptor = TLSAcceptor(store, policy, engine=engine)
    issued = tls_authority.issue("client@example.test", usage="client")
    for name, with_certificate, verified in [
        ("public.test", True, False),
        ("public.test", False, False),
        ("admin.test", True, True),
        ("admin.test", False, None),
        ("a.staff.test", True, True),
        ("a.staff.test", False, False),
    ]:
        client = client_with(tls_authority, issued if with_certificate else None, tls_version)
        with connected(acceptor, client, server_name=name) as pair:
            pair.shake_hands()
            assert (None if pair.server.tls is None else pair.server.tls.verified) is verified
    client = client_with(tls_authority, None, tls_version)
    client.check_hostname = False
    with connected(acceptor, client, server_name="public.test") as pair:
        pair.shake_hands()
        pair.to_client(b"x")
        session = pair.client.tls.session
    with connected(acceptor, client, server_name="admin.test", session=session) as pair:
        pair.shake_hands()
        assert pair.server.tls is None


def test_clients_are_told_which_authorities_count(
    tls_authority: Authority, store: CertificateStore, policy: TLSPolicy
) -> None:
    """Under pyopenssl the request for a certificate names the authorities, so that browsers offer the right ones."""
    with SmallServer(TLSAcceptor(store, policy)) as server:
        told = s_client(server, tls_authority, None, "TLSv1.2")
    assert "Acceptable client certificate CA names" in told
    assert "secureserve testing" in told.partition("Acceptable client certificate CA names")[2].splitlines()[1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"client_verify": "required"}, "client_verify = 'required' needs the authorities"),
        ({"client_verify_names": {"a.test": "optional"}}, "needs the authorities"),
        ({"client_ca": "/nowhere"}, "client_ca = '/nowhere' has no effect"),
        ({"client_crl": "/nowhere"}, "client_crl = '/nowhere' has no effect"),
        ({"client_verify": "sometimes"}, "client_verify = 'sometimes' is not one of the choices"),
        ({"client_verify_names": {"a b": "required"}, "client_ca": "/x"}, "is not a server name"),
        ({"client_verify": "required", "client_ca": "/x", "client_verify_depth": -1}, "client_verify_depth"),
    ],
)
def test_contradictions_are_errors(changes: dict[str, Any], problem: str) -> None:
    """Verification without authorities, or authorities without verification, is refused when the policy is made."""
    with pytest.raises(ConfigurationError, match=problem):
        TLSPolicy(**changes)


def test_files_that_do_not_help_are_errors(tls_authority: Authority, store: CertificateStore, tmp_path: Path) -> None:
    """Missing files, empty directories and files without a certificate or list are named."""
    empty = tmp_path / "empty"
    empty.mkdir()
    required = {"client_verify": ClientVerify.REQUIRED}
    for path, problem in [(tmp_path / "no", "cannot be read"), (empty, "holds no certificate")]:
        with pytest.raises(ConfigurationError, match=problem):
            TLSAcceptor(store, TLSPolicy(client_ca=path, **required))
    for path, problem in [(tmp_path / "no", "cannot be read"), (tls_authority.cert_path, "holds no revocation list")]:
        with pytest.raises(ConfigurationError, match=problem):
            TLSAcceptor(store, TLSPolicy(client_ca=tls_authority.cert_path, client_crl=path, **required))
