"""The catalogue of bad credentials, each proven bad by OpenSSL and by GnuTLS."""

from __future__ import annotations

import shutil
import ssl
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from secureserve.errors import CredentialError
from secureserve.testing import BAD_KINDS, BadCredential, RefusedBy, bad_kinds, issue_bad

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from secureserve.testing import Authority

PRESENTABLE = [name for name, kind in BAD_KINDS.items() if kind.refused_by is not RefusedBy.LOADING]
BY_HANDSHAKE = [name for name, kind in BAD_KINDS.items() if kind.refused_by is RefusedBy.HANDSHAKE]
UNLOADABLE = [name for name, kind in BAD_KINDS.items() if kind.refused_by is RefusedBy.LOADING]

# certtool checks no security level for keys, and matches a name against the common name as a last resort.
GNUTLS_SAYS = {
    "expired": "expired",
    "not_yet_valid": "not yet valid",
    "wrong_host": "name in the certificate does not match",
    "self_signed": "issuer is unknown",
    "untrusted_root": "issuer is unknown",
    "missing_intermediate": "issuer is unknown",
    "expired_intermediate": "expired",
    "weak_key": "insecure algorithm",
    "sha1_signature": "insecure algorithm",
    "no_san": "name in the certificate does not match",
    "wrong_usage": "purpose",
    "name_constraint": "constraints",
    "wildcard_misuse": "name in the certificate does not match",
    "issuer_not_authority": "not a CA",
    "path_too_long": "constraints",
    "bad_signature": "signature",
    "revoked": "revoked",
}

needs_certtool = pytest.mark.skipif(shutil.which("certtool") is None, reason="GnuTLS's certtool is not installed")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it said."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


def openssl_verify(authority: Authority, bad: BadCredential) -> subprocess.CompletedProcess[str]:
    """Ask OpenSSL, as strictly as it can be asked, about revocation where that is the fault."""
    revocation = ("-crl_check", "-CRLfile", authority.crl_path(bad)) if bad.name == "revoked" else ()
    return run(
        *("openssl", "verify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-trusted", authority.cert_path),
        *("-untrusted", bad.certificate_path, "-purpose", "sslserver", "-verify_hostname", "localhost"),
        *("-auth_level", "2", "-x509_strict", *revocation, bad.leaf_path),
    )


@pytest.mark.parametrize("name", [name for name in PRESENTABLE if name != "common_name_only"] + ["wrong_order"])
def test_openssl_refuses_it_for_that_reason(tls_authority: Authority, name: str) -> None:
    """``openssl verify`` refuses each, in the words that the catalogue gives."""
    bad = issue_bad(tls_authority, name)
    answer = openssl_verify(tls_authority, bad)
    assert answer.returncode != 0
    assert bad.kind.openssl in answer.stderr


@pytest.mark.parametrize("name", sorted(GNUTLS_SAYS))
@needs_certtool
def test_gnutls_refuses_it(tls_authority: Authority, name: str) -> None:
    """GnuTLS, which shares no code with OpenSSL, refuses each as well."""
    bad = issue_bad(tls_authority, name)
    answer = run(
        *("certtool", "--verify", "--load-ca-certificate", tls_authority.cert_path, "--infile", bad.certificate_path),
        *("--verify-hostname", "localhost", "--verify-purpose", "1.3.6.1.5.5.7.3.1", "--verify-profile", "medium"),
        *(("--load-crl", tls_authority.crl_path(bad)) if name == "revoked" else ()),
    )
    assert answer.returncode != 0
    assert GNUTLS_SAYS[name] in answer.stdout + answer.stderr


@needs_certtool
def test_gnutls_accepts_the_good_one(tls_authority: Authority) -> None:
    """The question that GnuTLS answers with no for the bad ones it answers with yes for a good one."""
    good = tls_authority.issue(chain_depth=1)
    answer = run(
        *("certtool", "--verify", "--load-ca-certificate", tls_authority.cert_path, "--infile", good.certificate_path),
        *("--verify-hostname", "localhost", "--verify-purpose", "1.3.6.1.5.5.7.3.1", "--verify-profile", "medium"),
        *("--load-crl", tls_authority.crl_path(good)),
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("name", UNLOADABLE)
def test_openssl_cannot_pair_certificate_and_key(tls_authority: Authority, name: str) -> None:
    """No server can load what is wrong as files: OpenSSL's own store and the ssl module refuse the pair."""
    bad = issue_bad(tls_authority, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(ssl.SSLError, match=r"KEY_VALUES_MISMATCH"):
        context.load_cert_chain(bad.certificate_path, bad.private_key_path)
    command = ("openssl", "x509", "-noout", "-pubkey", "-in", bad.certificate_path)
    assert run(*command).stdout != run("openssl", "pkey", "-pubout", "-in", bad.private_key_path).stdout


def test_openssl_says_that_the_key_is_anothers(tls_authority: Authority, tmp_path: Path) -> None:
    """OpenSSL finds no certificate for the key, in the words that the catalogue gives."""
    bad = issue_bad(tls_authority, "key_mismatch")
    answer = run(
        *("openssl", "pkcs12", "-export", "-passout", "pass:", "-out", tmp_path / "out.p12"),
        *("-in", bad.certificate_path, "-inkey", bad.private_key_path),
    )
    assert answer.returncode != 0
    assert bad.kind.openssl.lower() in answer.stderr.lower()


@pytest.mark.parametrize("name", UNLOADABLE)
def test_the_package_cannot_load_it(tls_authority: Authority, name: str) -> None:
    """`Credential` refuses what is wrong as files, with an error of its own."""
    with pytest.raises(CredentialError):
        _ = issue_bad(tls_authority, name).credential


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("expired", "Expired"),
        ("not_yet_valid", "NotYetValid"),
        ("expired_intermediate", "Expired"),
        ("weak_key", "WeakKey"),
        ("sha1_signature", "WeakKey"),
        ("wrong_usage", "UsageNotAllowed"),
        ("ca_as_leaf", "UsageNotAllowed"),
    ],
)
def test_the_package_would_not_serve_it(tls_authority: Authority, name: str, problem: str) -> None:
    """`Credential.problems` names the fault of each that its owner could have noticed alone."""
    assert {type(one).__name__ for one in issue_bad(tls_authority, name).credential.problems()} == {problem}


@pytest.mark.parametrize("name", PRESENTABLE)
@pytest.mark.parametrize("strict_names", [True, False])
def test_refused_in_a_handshake(tls_authority: Authority, name: str, strict_names: bool) -> None:
    """The standard library refuses in the handshake exactly what the catalogue says a plain client must refuse."""
    bad = issue_bad(tls_authority, name)
    client = tls_authority.client_context()
    client.hostname_checks_common_name = not strict_names
    must_refuse = bad.kind.refused_by is RefusedBy.HANDSHAKE or (
        strict_names and bad.kind.refused_by is RefusedBy.STRICT
    )
    assert (handshake_error(bad.server_context(), client) is not None) == must_refuse


def test_revoked_is_refused_with_its_list(tls_authority: Authority) -> None:
    """A client that was given the list refuses the revoked credential and still accepts a good one."""
    revoked = issue_bad(tls_authority, "revoked")
    client = tls_authority.client_context()
    client.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    client.load_verify_locations(tls_authority.crl_path(revoked))
    assert "revoked" in str(handshake_error(revoked.server_context(), client))
    assert handshake_error(tls_authority.issue().server_context(), client) is None


@pytest.mark.parametrize(("revoke", "status"), [(True, "revoked"), (False, "good")])
def test_ocsp_response_says_whether_it_is_revoked(
    tls_authority: Authority, tmp_path: Path, revoke: bool, status: str
) -> None:
    """OpenSSL verifies the OCSP response's signature and reads the status from it."""
    credential = issue_bad(tls_authority, "revoked") if revoke else tls_authority.issue(chain_depth=1)
    issuer, response = tmp_path / "issuer.pem", tmp_path / "response.der"
    issuer.write_bytes(credential.issuer.certificate_pem)
    response.write_bytes(tls_authority.ocsp_response(credential))
    answer = run(
        *("openssl", "ocsp", "-respin", response, "-issuer", issuer, "-cert", credential.leaf_path, "-no_nonce"),
        *("-CAfile", tls_authority.cert_path, "-verify_other", issuer),
    )
    assert answer.returncode == 0
    assert "Response verify OK" in answer.stderr
    assert f"{credential.leaf_path}: {status}" in answer.stdout


@pytest.mark.parametrize("name", [*BY_HANDSHAKE, "revoked"])
def test_has_one_fault_alone(tls_authority: Authority, name: str) -> None:
    """OpenSSL names one error and no second for what is presented, so that a client is tested for one check."""
    lines = openssl_verify(tls_authority, issue_bad(tls_authority, name)).stderr.splitlines()
    named = {line.split(":", 1)[1].strip() for line in lines if line.startswith("error ") and " lookup: " in line}
    # An issuer that cannot be found leaves the leaf unverified; one that is no authority lacks all that makes one.
    consequences = {"unable to verify the first certificate"}
    if name == "issuer_not_authority":
        consequences |= {"unsuitable certificate purpose", "key usage does not include certificate signing"}
    assert len(named - consequences) == 1, lines


@pytest.mark.parametrize("name", BY_HANDSHAKE)
@pytest.mark.parametrize("identity", ["api.example.test", "127.0.0.1", "localhost"])
def test_any_identity(tls_authority: Authority, name: str, identity: str) -> None:
    """A bad credential can be asked for whatever name or address the test's client uses, and is refused there."""
    bad = issue_bad(tls_authority, name, identity)
    error = handshake_error(bad.server_context(), tls_authority.client_context(), identity)
    assert error is not None
    good = tls_authority.issue(identity)
    assert handshake_error(good.server_context(), tls_authority.client_context(), identity) is None


def test_every_test_that_takes_bad_credentials_runs_for_each(bad_credentials: BadCredential) -> None:
    """The fixture gives credentials of the kinds that every client must refuse in the handshake."""
    assert bad_credentials.name in BY_HANDSHAKE
    assert bad_credentials.fault in repr(bad_credentials)


@pytest.mark.bad_credentials("expired", also=["revoked"])
def test_the_marker_chooses(bad_credentials: BadCredential) -> None:
    """The marker narrows the kinds down to those named, and adds others."""
    assert bad_credentials.name in {"expired", "revoked"}


def test_files_are_private_and_below_tmp_path(bad_credential: Callable[..., BadCredential], tmp_path: Path) -> None:
    """Bad credentials write their files where good ones do, as privately."""
    path = bad_credential("expired").private_key_path
    assert path.is_relative_to(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_kinds_can_be_chosen() -> None:
    """Names are chosen, added and left out, in the catalogue's order or the one given."""
    assert [kind.name for kind in bad_kinds()] == BY_HANDSHAKE
    assert [kind.name for kind in bad_kinds("weak_key", "expired")] == ["weak_key", "expired"]
    assert "revoked" in {kind.name for kind in bad_kinds(also=["revoked"])}
    assert "weak_key" not in {kind.name for kind in bad_kinds(without=["weak_key"])}
    assert {kind.name for kind in bad_kinds(refused_by=RefusedBy.LOADING)} == set(UNLOADABLE)


@pytest.mark.parametrize(("name", "hint"), [("expird", "did you mean 'expired'"), ("zzz", "write one of expired")])
def test_a_wrong_name_is_answered_with_the_right_one(tls_authority: Authority, name: str, hint: str) -> None:
    """A name that the catalogue does not have is an error with the closest, or all."""
    with pytest.raises(ValueError, match=hint):
        issue_bad(tls_authority, name)


def handshake_error(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> ssl.SSLError | None:
    """Shake hands in memory and return what the client said, or None if it was content."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname=name)
    done = False
    while not done:
        done = True
        try:
            client_side.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        except ssl.SSLError as error:
            return error
        try:
            server_side.do_handshake()
        except ssl.SSLWantReadError:
            done = False
    return None
