"""Loading and checking credentials."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from secureserve import errors
from secureserve.certificates.credential import Credential
from secureserve.testing import Template

if TYPE_CHECKING:
    from pathlib import Path

    from secureserve.testing import Authority, IssuedCredential


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def issued(tls_authority: Authority) -> IssuedCredential:
    """A good one with an intermediate."""
    return tls_authority.issue("example.test", "*.example.test", "192.0.2.7", chain_depth=2)


@pytest.fixture
def parts(issued: IssuedCredential) -> tuple[bytes, bytes]:
    """Its chain and key in PEM."""
    return issued.cert_chain_pem.bytes(), issued.private_key_pem.bytes()


def test_pair(issued: IssuedCredential) -> None:
    """A pair of files gives the whole chain and everything people ask about it."""
    credential = Credential.load(issued.certificate_path, issued.private_key_path)
    assert len(credential.chain) == 3
    assert credential.names == ("example.test", "*.example.test", "192.0.2.7")
    assert credential.fingerprint == issued.fingerprint
    assert credential.origin == str(issued.certificate_path)
    assert credential.key_origin == str(issued.private_key_path)
    assert credential.key_type == "ecdsa"
    assert credential.not_after == issued.leaf.not_valid_after_utc
    assert credential.covers("WWW.example.test.")
    assert credential.covers("192.0.2.7")
    assert not credential.covers("a.b.example.test")
    assert credential.problems() == ()
    credential.check()


def test_every_form_is_the_same_credential(issued: IssuedCredential, tmp_path: Path) -> None:
    """Separate files, one PEM, PKCS#12 and bytes give equal credentials."""
    pair = Credential.load(issued.certificate_path, issued.private_key_path)
    chain, key = issued.cert_chain_pem.bytes(), issued.private_key_pem.bytes()
    same = [
        Credential.load(issued.leaf_path, issued.private_key_path, chain=issued.chain_path),
        Credential.load(issued.leaf_path, issued.private_key_path, chain=issued.certificate_path),
        Credential.load(issued.pem_path),
        Credential.load(issued.pkcs12_path),
        Credential.from_pem(chain, key),
        Credential.from_pem(key + chain),
        Credential.from_pkcs12(issued.pkcs12),
    ]
    assert {pair, *same} == {pair}
    assert [len(one.chain) for one in same] == [3] * 7


@pytest.mark.parametrize(
    "change",
    [
        lambda pem: b"\xef\xbb\xbf" + pem,
        lambda pem: pem.replace(b"\n", b"\r\n"),
        lambda pem: b"subject=/CN=example\nissuer=somebody\n\n" + pem + b"\nBag Attributes\n",
        lambda pem: pem.decode().encode("utf-16"),
        lambda pem: b"\n\n" + pem.rstrip(b"\n"),
    ],
    ids=["byte order mark", "CRLF", "stray text", "UTF-16", "no final newline"],
)
def test_untidy_pem(parts: tuple[bytes, bytes], change: Any) -> None:
    """What editors and tools leave around PEM blocks does not matter."""
    chain, key = parts
    assert Credential.from_pem(change(chain), change(key)) == Credential.from_pem(chain, key)


def test_traditional_keys_with_parameters(issued: IssuedCredential) -> None:
    """A key as `openssl ecparam -genkey` writes it, its curve before it, is read."""
    traditional = issued.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert (
        Credential.from_pem(issued.cert_chain_pem.bytes(), parameters + traditional).fingerprint == issued.fingerprint
    )


@pytest.mark.parametrize("password", [b"s3cret", "s3cret", lambda: "s3cret", lambda: b"s3cret"])
def test_encrypted_key(tls_authority: Authority, password: Any) -> None:
    """A password comes as bytes, as text, or from a callable; for PKCS#12 as well."""
    issued = tls_authority.issue("example.test", password="s3cret")
    by_pair = Credential.load(issued.certificate_path, issued.private_key_path, password=password)
    assert by_pair.fingerprint == issued.fingerprint
    assert Credential.load(issued.pkcs12_path, password=password) == by_pair


def test_password_file(tls_authority: Authority, tmp_path: Path) -> None:
    """A password comes from a file, whose line end is not part of it; a password beside it is an error."""
    issued = tls_authority.issue("example.test", password="s3 cret ")
    file = _write(tmp_path / "password", b"s3 cret \r\n")
    loaded = Credential.load(issued.certificate_path, issued.private_key_path, password_file=file)
    assert loaded.fingerprint == issued.fingerprint
    with pytest.raises(errors.ConfigurationError, match="password_file"):
        Credential.load(issued.certificate_path, issued.private_key_path, password="x", password_file=file)


@pytest.mark.parametrize(
    ("password", "message"),
    [
        (None, "is encrypted and no password was given"),
        ("wrong", "password does not open"),
        (lambda: 1 / 0, "could not be fetched"),
        (lambda: 17, "is to be text or bytes"),
    ],
)
def test_wrong_password(tls_authority: Authority, password: Any, message: str) -> None:
    """A missing or wrong password is an error which names the file, and nothing secret; no terminal is asked."""
    issued = tls_authority.issue("example.test", password="s3cret")
    with pytest.raises(errors.UnreadableKey, match=message) as caught:
        Credential.load(issued.certificate_path, issued.private_key_path, password=password)
    assert str(issued.private_key_path) in str(caught.value)
    assert "s3cret" not in str(caught.value)
    if not callable(password):
        with pytest.raises(errors.UnreadableKey, match="password"):
            Credential.load(issued.pkcs12_path, password=password)


def _damaged(issued: IssuedCredential, tls_authority: Authority) -> dict[str, tuple[bytes, bytes, type, str]]:
    chain, key = issued.cert_chain_pem.bytes(), issued.private_key_pem.bytes()
    first, second, third = (blob.bytes() for blob in issued.cert_chain_pems)
    other = tls_authority.issue("example.test", fresh_key=True)
    der = issued.leaf.public_bytes(serialization.Encoding.DER)
    der_key = issued.private_key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    unreadable, no_key = errors.UnreadableCertificate, errors.UnreadableKey
    return {
        "empty": (b"", key, unreadable, "it is empty"),
        "cut off": (chain[:200], key, unreadable, "cut off"),
        "cut off in the chain": (chain[:-200], key, unreadable, "cut off"),
        "cut off where the chain begins": (chain[: chain.rindex(b"BEGIN") + 8], key, unreadable, "cut off"),
        "garbage": (b"\x00\x01", key, unreadable, "not PEM"),
        "der": (der, key, unreadable, "openssl x509 -inform DER"),
        "only a key": (key, key, unreadable, "only private key"),
        "malformed": (chain.replace(b"MII", b"MIJ", 1), key, unreadable, "Certificate 1 of 3 .* malformed"),
        "too many": (first * 65, key, unreadable, "trust store"),
        "empty key": (chain, b"", no_key, "it is empty"),
        "der key": (chain, der_key, no_key, "openssl pkey -inform DER"),
        "certificate for key": (chain, chain, no_key, "only certificate"),
        "two keys": (chain, key + other.private_key_pem.bytes(), no_key, "2 private keys"),
        "damaged key": (chain, key.replace(b"MI", b"XX", 1), no_key, "malformed"),
        "other's key": (chain, other.private_key_pem.bytes(), errors.KeyMismatch, "does not belong"),
        "leaf last": (second + third + first, key, errors.KeyMismatch, "put the server's own certificate first"),
        "gap": (first + third, key, errors.ChainBroken, "certificate 2 .* did not sign"),
        "stranger": (first + other.cert_chain_pem.bytes(), key, errors.ChainBroken, "certificate 2"),
        "twice": (first + first + second, key, errors.ChainBroken, "certificate 2"),
    }


def test_damaged_files(issued: IssuedCredential, tls_authority: Authority, tmp_path: Path) -> None:
    """Whatever is wrong with a pair of files has an error of its own which names the file."""
    for what, (chain, key, kind, message) in _damaged(issued, tls_authority).items():
        certificate = _write(tmp_path / "cert.pem", chain)
        private_key = _write(tmp_path / "key.pem", key)
        with pytest.raises(kind, match=message) as caught:
            Credential.load(certificate, private_key)
        named = private_key if kind is errors.UnreadableKey else certificate
        assert str(named) in str(caught.value), what
        assert getattr(caught.value, "path", None) is not None


def test_missing_files(issued: IssuedCredential, tmp_path: Path) -> None:
    """A file that is not there, or is a directory, or a pipe that would block, is named."""
    with pytest.raises(errors.UnreadableCertificate, match=r"nothing\.pem does not exist"):
        Credential.load(tmp_path / "nothing.pem", issued.private_key_path)
    with pytest.raises(errors.UnreadableKey, match=r"nothing\.key does not exist"):
        Credential.load(issued.certificate_path, tmp_path / "nothing.key")
    with pytest.raises(errors.UnreadableCertificate, match="is a directory"):
        Credential.load(tmp_path, issued.private_key_path)
    with pytest.raises(errors.UnreadableCertificate, match="is not a regular file"):
        Credential.load("/dev/null", issued.private_key_path)
    with pytest.raises(errors.UnreadableCertificate, match="larger than"):
        Credential.load(_write(tmp_path / "huge.pem", b"x" * 1_100_000), issued.private_key_path)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"not_after": datetime(2020, 1, 1, tzinfo=timezone.utc)}, errors.Expired, "expired on 2020-01-01"),
        ({"not_before": datetime(2200, 1, 1, tzinfo=timezone.utc)}, errors.NotYetValid, "not valid before 2200-01-01"),
        ({"usage": "client"}, errors.UsageNotAllowed, "lacks serverAuth"),
    ],
)
def test_check(tls_authority: Authority, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    """Dates and usage are judged by `check`, not by loading; the error names the file."""
    if "not_after" in options:
        options = {**options, "not_before": options["not_after"] - timedelta(days=9)}
    issued = tls_authority.issue("example.test", **options)
    credential = Credential.load(issued.certificate_path, issued.private_key_path)
    with pytest.raises(kind, match=message) as caught:
        credential.check()
    assert str(issued.certificate_path) in str(caught.value)
    assert [type(problem) for problem in credential.problems()] == [kind]


def test_check_takes_a_moment(issued: IssuedCredential) -> None:
    """Dates are judged at the moment that is given; both ends of the validity are inside it."""
    credential = issued.credential
    credential.check(now=credential.not_before)
    credential.check(now=credential.not_after)
    with pytest.raises(errors.Expired):
        credential.check(now=credential.not_after + timedelta(seconds=1))
    with pytest.raises(errors.NotYetValid):
        credential.check(now=credential.not_before - timedelta(seconds=1))


def _self_made(authority: Authority, key: Any, *, key_usage: tuple[str, ...] = ()) -> Credential:
    template = Template(common_name="made here", key_usage=key_usage, extended_key_usage=())
    return authority.issue_self_signed(template, key).credential


def test_weak_keys(tls_authority: Authority) -> None:
    """Keys that no client should accept are refused, and the key's size is in the message."""
    small_rsa = _self_made(tls_authority, tls_authority.keys.take("rsa-1024"))
    assert [type(problem) for problem in small_rsa.problems()] == [errors.WeakKey]
    assert "1024 bits" in str(small_rsa.problems()[0])
    small_curve = _self_made(tls_authority, tls_authority.keys.take("ecdsa-p224"))
    assert "secp224r1" in str(small_curve.problems()[0])


def test_key_usage(tls_authority: Authority) -> None:
    """A key that may not sign handshakes is refused, one that may is not."""
    key = tls_authority.keys.take()
    assert [type(one) for one in _self_made(tls_authority, key, key_usage=("key_agreement",)).problems()] == [
        errors.UsageNotAllowed
    ]
    assert _self_made(tls_authority, key, key_usage=("digital_signature",)).problems() == ()
    assert _self_made(tls_authority, key).problems() == ()
    assert _self_made(tls_authority, key).names == ()


def test_old_signatures(tls_authority: Authority, tmp_path: Path) -> None:
    """A leaf signed with SHA-1 is refused, a root that signed itself so is not."""
    template = Template(common_name="old root", is_authority=True, extended_key_usage=(), signed_with_sha1=True)
    root = tls_authority.issue_self_signed(template, tls_authority.keys.take("rsa"))
    alone = Credential.load(root.certificate_path, root.private_key_path)
    assert [type(problem) for problem in alone.problems()] == [errors.WeakKey]
    assert "SHA-1" in str(alone.problems()[0])
    leaf = tls_authority.issue_from(Template(common_name="leaf"), tls_authority.keys.take(), root.issuer)
    above = _write(tmp_path / "root.pem", root.cert_chain_pem.bytes())
    assert len(leaf.chain) == 1
    assert Credential.load(leaf.leaf_path, leaf.private_key_path, chain=above).problems() == ()


def test_bare_instances_hold_their_promises(tls_authority: Authority, issued: IssuedCredential) -> None:
    """No way of making one leads around the checks of key and order, and what is made does not change."""
    other = tls_authority.issue("example.test", fresh_key=True)
    with pytest.raises(errors.KeyMismatch):
        Credential(issued.chain, other.private_key)
    with pytest.raises(errors.UnreadableCertificate):
        Credential((), other.private_key)
    with pytest.raises(AttributeError):
        issued.credential.private_key = other.private_key  # type: ignore[misc]


def test_nothing_secret_is_shown(issued: IssuedCredential) -> None:
    """The repr names what is public, nothing of the key gets out of it, and a pickle is refused."""
    credential = issued.credential
    shown = repr(credential) + str(credential)
    for public in ("example.test", credential.fingerprint, credential.issuer, str(credential.not_after.year)):
        assert public in shown
    assert isinstance(issued.private_key, ec.EllipticCurvePrivateKey)
    private = issued.private_key.private_numbers().private_value
    for secret in (str(private), f"{private:x}", "PRIVATE", repr(credential.private_key)):
        assert secret not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(credential)


def test_equality(tls_authority: Authority, issued: IssuedCredential) -> None:
    """Credentials are equal when they present the same chain, wherever they came from."""
    again = Credential(issued.chain, issued.private_key, "elsewhere")
    assert again == issued.credential
    assert hash(again) == hash(issued.credential)
    assert Credential(issued.chain[:1], issued.private_key) != issued.credential
    assert tls_authority.issue("example.test").credential != issued.credential
    assert issued.credential != "something else"


def test_round_trip(issued: IssuedCredential) -> None:
    """What is handed to an engine loads as the same credential."""
    credential = issued.credential
    assert Credential.from_pem(credential.chain_pem(), credential.private_key_pem()) == credential
