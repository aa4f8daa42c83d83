"""Private keys from elsewhere than beside their certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from secureserve.certificates.keys import CallableKey, FileKey, KeyedSource, PrivateKeySource, SystemdKey
from secureserve.certificates.sources import CredentialSource, ListingSource
from secureserve.certificates.store import CertificateStore
from secureserve.errors import ConfigurationError, KeyMismatch, UnreadableKey
from secureserve.tls.acceptor import TLSAcceptor
from tests.tls.lockstep import connected

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from secureserve.testing.authority import Authority


def serves(source: KeyedSource, client: ssl.SSLContext, engine: str) -> bool:
    """Whether what a source gives gets a client through."""
    with connected(TLSAcceptor(CertificateStore(source.load()), engine=engine), client) as pair:
        pair.shake_hands()
        return pair.server.tls is not None


def test_a_key_from_systemd(
    tls_authority: Authority, tls_client_context: ssl.SSLContext, engine: str, tmp_path: Path
) -> None:
    """A key among the service's credentials is served, also an encrypted one with its password among them."""
    issued = tls_authority.issue("localhost", password="correct horse")
    (tmp_path / "tls-key").write_bytes(issued.private_key_pem.bytes())
    (tmp_path / "tls-password").write_text("correct horse\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    key = SystemdKey("tls-key", environ, password_name="tls-password")
    source = KeyedSource(issued.certificate_path, key)
    assert isinstance(source, ListingSource)
    assert isinstance(source, CredentialSource)
    assert isinstance(key, PrivateKeySource)
    assert source.paths() == [issued.certificate_path, tmp_path / "tls-key", tmp_path / "tls-password"]
    assert serves(source, tls_client_context, engine)


def test_a_service_without_credentials(tmp_path: Path) -> None:
    """What is missing in the unit is said, and a path is not taken for a name."""
    with pytest.raises(ConfigurationError, match="Write LoadCredential=tls-key:"):
        SystemdKey("tls-key", {})
    for name in ("../key", "/etc/key", "..", ""):
        with pytest.raises(ConfigurationError, match="is not the name of a credential"):
            SystemdKey(name, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_key_from_the_program(tls_authority: Authority, tls_client_context: ssl.SSLContext, engine: str) -> None:
    """A callable hands over the key itself or PEM of it, anew at each loading."""
    issued = tls_authority.issue("localhost")
    calls: list[None] = []

    def pem() -> bytes:
        calls.append(None)
        return issued.private_key_pem.bytes()

    for key in (CallableKey(pem, place="the vault"), CallableKey(lambda: issued.private_key)):
        source = KeyedSource(issued.certificate_path, key)
        assert serves(source, tls_client_context, engine)
        assert source.paths() == [issued.certificate_path]
    assert len(calls) == 1
    (entry,) = KeyedSource(issued.certificate_path, CallableKey(pem)).entries()
    assert entry.load().names == ("localhost",)
    assert len(calls) == 2


def test_a_key_that_does_not_fit(tls_authority: Authority) -> None:
    """The error names the certificate's file and the key's place."""
    one, other = tls_authority.issue("localhost"), tls_authority.issue("localhost", fresh_key=True, key_type="rsa")
    with pytest.raises(KeyMismatch, match="its key: the vault"):
        KeyedSource(one.certificate_path, CallableKey(lambda: other.private_key, place="the vault")).load()
    with pytest.raises(UnreadableKey):
        KeyedSource(one.certificate_path, CallableKey(lambda: b"nonsense", place="the vault")).load()


def test_an_encrypted_file_with_a_password_file(tls_authority: Authority, tmp_path: Path) -> None:
    """The password comes from another file, which may rotate with the key."""
    issued = tls_authority.issue("localhost", password="correct horse")
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    source = KeyedSource(issued.certificate_path, FileKey(issued.private_key_path, password_file=password))
    assert source.load()[0].names == ("localhost",)
    assert str(source) == str(issued.certificate_path)
    password.write_text("wrong\n")
    with pytest.raises(UnreadableKey):
        source.load()
