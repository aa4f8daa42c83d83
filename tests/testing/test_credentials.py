"""Good credentials: what they say, their files, and that others accept them."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtensionOID

from secureserve.testing import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from secureserve.testing import Authority, IssuedCredential


def verify(authority: Authority, credential: IssuedCredential, *options: str) -> subprocess.CompletedProcess[str]:
    """Ask ``openssl verify`` about a credential, trusting the authority's root alone."""
    command = ["openssl", "verify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-trusted", str(authority.cert_path)]
    if len(credential.chain) > 1:
        command += ["-untrusted", str(credential.chain_path)]
    return subprocess.run(
        [*command, *options, str(credential.leaf_path)], capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("key_type", ["ecdsa", "ecdsa-p384", "ecdsa-p521", "rsa", "rsa-3072", "ed25519", "ed448"])
@pytest.mark.parametrize("chain_depth", [0, 1, 3])
def test_openssl_accepts_each_kind(
    tls_authority: Authority, tls_credential: Callable[..., IssuedCredential], key_type: str, chain_depth: int
) -> None:
    """OpenSSL, at its strictest, accepts every key type below any number of intermediates."""
    credential = tls_credential("localhost", "127.0.0.1", key_type=key_type, chain_depth=chain_depth)
    options = ("-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost", "-auth_level", "2")
    answer = verify(tls_authority, credential, *options)
    assert answer.returncode == 0, answer.stderr
    assert len(credential.chain) == chain_depth + 1


def test_identities_of_every_kind(tls_credential: Callable[..., IssuedCredential]) -> None:
    """Names, wildcards, international names, addresses, e-mail and URIs become the fitting kind of name."""
    written = ("a.example.test", "*.b.example.test", "bücher.example.test", "*.bücher.example.test", "127.0.0.1", "::1")
    credential = tls_credential(*written, "alice@example.test", "spiffe://example.test/web")
    names = credential.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "a.example.test",
        "*.b.example.test",
        "xn--bcher-kva.example.test",
        "*.xn--bcher-kva.example.test",
    ]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert names.get_values_for_type(x509.RFC822Name) == ["alice@example.test"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.test/web"]
    assert credential.identities[0] == "a.example.test"


def test_default_identities_are_loopback(tls_credential: Callable[..., IssuedCredential]) -> None:
    """Without names, a credential is for this machine as it reaches itself."""
    assert tls_credential().identities == ("localhost", "127.0.0.1", "::1")


@pytest.mark.parametrize("lifetime", [timedelta(minutes=5), timedelta(days=6), timedelta(days=3650)])
def test_lifetime(tls_credential: Callable[..., IssuedCredential], lifetime: timedelta) -> None:
    """The lifetime asked for counts from now, and the start lies a little back."""
    leaf = tls_credential(lifetime=lifetime).leaf
    now = datetime.now(timezone.utc)
    assert timedelta(seconds=-90) < leaf.not_valid_after_utc - now - lifetime <= timedelta()
    assert leaf.not_valid_before_utc < now


def test_explicit_dates(tls_credential: Callable[..., IssuedCredential]) -> None:
    """Dates given are the dates in the certificate, past ones too."""
    start, end = datetime(2020, 1, 1, tzinfo=timezone.utc), datetime(2020, 4, 1, tzinfo=timezone.utc)
    leaf = tls_credential(not_before=start, not_after=end).leaf
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (start, end)


@pytest.mark.parametrize(
    ("usage", "as_server", "as_client"),
    [("server", True, False), ("client", False, True), ("both", True, True), ("none", True, True)],
)
def test_usage(
    tls_authority: Authority,
    tls_credential: Callable[..., IssuedCredential],
    usage: str,
    as_server: bool,
    as_client: bool,
) -> None:
    """A credential is good for exactly the roles that its usage names, as OpenSSL sees it."""
    credential = tls_credential(usage=usage)
    assert (verify(tls_authority, credential, "-purpose", "sslserver").returncode == 0) == as_server
    assert (verify(tls_authority, credential, "-purpose", "sslclient").returncode == 0) == as_client


def test_where_to_ask_about_revocation(tls_credential: Callable[..., IssuedCredential]) -> None:
    """The addresses of list and responder, and the demand for a staple, are in the certificate when asked for."""
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-text"],
        input=tls_credential(crl_url="http://crl.example.test/1", ocsp_url="http://ocsp.example.test", must_staple=True)
        .cert_chain_pems[0]
        .bytes(),
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout.decode()
    assert "URI:http://crl.example.test/1" in text
    assert "OCSP - URI:http://ocsp.example.test" in text
    assert "status_request" in text
    plain = tls_credential().leaf.extensions
    assert not [one for one in plain if one.oid in {ExtensionOID.CRL_DISTRIBUTION_POINTS, ExtensionOID.TLS_FEATURE}]


@pytest.mark.parametrize("key_type", ["ecdsa", "rsa", "ed25519"])
def test_encrypted_key_opens_with_its_password_alone(
    tls_credential: Callable[..., IssuedCredential], key_type: str
) -> None:
    """With a password, key file, PEM and PKCS#12 are encrypted, and OpenSSL opens them with it."""
    credential = tls_credential(key_type=key_type, password="correct horse")
    assert b"ENCRYPTED" in credential.private_key_path.read_bytes()
    for password, opens in (("correct horse", True), ("wrong", False)):
        key = ["openssl", "pkey", "-in", str(credential.private_key_path), "-noout", "-passin", f"pass:{password}"]
        bag = ["openssl", "pkcs12", "-in", str(credential.pkcs12_path), "-noout", "-passin", f"pass:{password}"]
        for command in (key, bag):
            assert (subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0) == opens


def test_files_are_private_and_below_tmp_path(tls_credential: Callable[..., IssuedCredential], tmp_path: Path) -> None:
    """Every file that a credential writes is mode 0600, in a directory of mode 0700 below tmp_path."""
    credential = tls_credential(chain_depth=1)
    paths = [credential.certificate_path, credential.private_key_path, credential.leaf_path]
    paths += [credential.chain_path, credential.pem_path, credential.pkcs12_path]
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.is_relative_to(tmp_path)


def test_the_key_is_never_shown(tls_credential: Callable[..., IssuedCredential]) -> None:
    """No repr of a credential or of its issuer shows a key or password."""
    credential = tls_credential(password="correct horse")
    assert "correct horse" not in repr(credential)
    assert "PrivateKey" not in repr(credential) + repr(credential.issuer)


def test_rsa_keys_are_reused_and_others_are_not(tls_credential: Callable[..., IssuedCredential]) -> None:
    """One RSA key serves a session unless a fresh one is asked for; elliptic-curve keys are never shared."""
    assert tls_credential(key_type="rsa").private_key is tls_credential(key_type="rsa").private_key
    assert tls_credential(key_type="rsa").private_key is not tls_credential(key_type="rsa", fresh_key=True).private_key
    assert tls_credential().private_key is not tls_credential().private_key


@pytest.mark.parametrize("layout", [layout for layout in Layout if layout is not Layout.PKCS12])
def test_each_layout_holds_a_matching_pair_and_is_replaced(
    tls_credential: Callable[..., IssuedCredential], tmp_path: Path, layout: Layout
) -> None:
    """Written twice, a layout holds the second credential: certificate, chain and key that the ssl module takes."""
    for expected in (tls_credential(chain_depth=1), tls_credential(chain_depth=1)):
        files = expected.write(tmp_path / "there", layout, name="example.test")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate_path, files.private_key_path)
        content = files.certificate_path.read_bytes()
        if files.chain_path is not None:
            content += files.chain_path.read_bytes()
        certificates = x509.load_pem_x509_certificates(content)
        assert certificates == list(expected.chain)
    keys = [path for path in (tmp_path / "there").rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert keys
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_pkcs12_layout(tls_credential: Callable[..., IssuedCredential], tmp_path: Path) -> None:
    """The PKCS#12 file holds the key, the leaf and the chain."""
    credential = tls_credential(chain_depth=2)
    files = credential.write(tmp_path, "pkcs12", name="web")
    key, leaf, chain = pkcs12.load_key_and_certificates(files.private_key_path.read_bytes(), None)
    assert files.private_key_path.name == "web.p12"
    assert key is not None
    assert (leaf, *chain) == credential.chain


def test_kubernetes_layout_switches_in_one_step(
    tls_credential: Callable[..., IssuedCredential], tmp_path: Path
) -> None:
    """Both files lead through ..data, which is the only link that a new version changes."""
    first = tls_credential().write(tmp_path, Layout.KUBERNETES)
    link_before = first.certificate_path.readlink(), (tmp_path / "..data").readlink()
    tls_credential().write(tmp_path, Layout.KUBERNETES)
    assert first.certificate_path.readlink() == link_before[0]
    assert (tmp_path / "..data").readlink() != link_before[1]
    assert sorted(path.name for path in tmp_path.glob("..version*")) == [str((tmp_path / "..data").readlink())]


def test_certbot_layout_keeps_its_archive(tls_credential: Callable[..., IssuedCredential], tmp_path: Path) -> None:
    """A renewal adds a version to the archive and moves the links in live/ to it."""
    tls_credential().write(tmp_path, Layout.CERTBOT, name="example.test")
    tls_credential().write(tmp_path, Layout.CERTBOT, name="example.test")
    archive = sorted(path.name for path in (tmp_path / "archive" / "example.test").glob("privkey*"))
    assert archive == ["privkey1.pem", "privkey2.pem"]
    live = tmp_path / "live" / "example.test"
    assert {path.readlink().name for path in live.iterdir()} == {
        "cert2.pem",
        "chain2.pem",
        "fullchain2.pem",
        "privkey2.pem",
    }


def test_caddy_and_lego_write_their_metadata(tls_credential: Callable[..., IssuedCredential], tmp_path: Path) -> None:
    """The JSON beside the certificate names it, so that whoever reads such a directory finds it complete."""
    credential = tls_credential("example.test")
    caddy = credential.write(tmp_path / "caddy", "caddy")
    lego = credential.write(tmp_path / "lego", "lego")
    assert json.loads(caddy.certificate_path.with_suffix(".json").read_text())["sans"] == ["example.test"]
    assert json.loads(lego.certificate_path.with_suffix(".json").read_text())["domain"] == "example.test"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key_type": "dsa"}, r"write one of ecdsa, .*ed25519"),
        ({"usage": "web"}, r"write one of server, client"),
        ({"chain_depth": 99}, r"from 0 to 8"),
    ],
)
def test_wrong_choices_name_the_right_ones(
    tls_credential: Callable[..., IssuedCredential], options: dict[str, object], message: str
) -> None:
    """An unknown choice is an error that lists what may be written."""
    with pytest.raises(ValueError, match=message):
        tls_credential(**options)


@pytest.mark.parametrize("identity", ["https:/x", "localhost:443", "a b", ""])
def test_no_identity(tls_credential: Callable[..., IssuedCredential], identity: str) -> None:
    """What can be no name in a certificate is refused with what can."""
    with pytest.raises(ValueError, match=r"write a DNS name"):
        tls_credential(identity)


def test_unknown_layout_names_the_known_ones(tls_credential: Callable[..., IssuedCredential], tmp_path: Path) -> None:
    """A layout that nobody uses is an error with the list of those that tools do use."""
    with pytest.raises(ValueError, match=r"write one of pair, .*kubernetes"):
        tls_credential().write(tmp_path, "nginx")


def test_the_factory_is_not_a_credential(tls_credential: Callable[..., IssuedCredential]) -> None:
    """Taking the factory for a credential gives an error that says what to write."""
    with pytest.raises(AttributeError, match=r'write tls_credential\("localhost"\)\.certificate_path'):
        tls_credential.certificate_path  # type: ignore[attr-defined] # noqa: B018 - the mistake under test


def test_becomes_a_credential_of_the_package(tls_credential: Callable[..., IssuedCredential]) -> None:
    """It converts to the Credential that a CertificateStore serves, with the same fingerprint and names."""
    issued = tls_credential("a.example.test", "127.0.0.1", chain_depth=1)
    credential = issued.credential
    assert credential.fingerprint == issued.fingerprint
    assert set(credential.names) == {"a.example.test", "127.0.0.1"}
    assert not credential.problems()
