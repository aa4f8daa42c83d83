"""The development authority: made once, for the owner only, harmless outside."""

from __future__ import annotations

import stat
import subprocess
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from secureserve.certificates import development
from secureserve.certificates.credential import Credential
from secureserve.certificates.development import DevelopmentAuthority, self_signed_credential
from secureserve.errors import NameNotCovered
from secureserve.testing import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)


@pytest.fixture
def clock() -> ManualClock:
    """The time that the authority believes."""
    return ManualClock(NOW)


@pytest.fixture
def authority(tmp_path: Path, clock: ManualClock) -> DevelopmentAuthority:
    """An authority that has made nothing yet."""
    return DevelopmentAuthority(tmp_path / "state" / "development", clock=clock)


def test_made_once(authority: DevelopmentAuthority, tmp_path: Path) -> None:
    """The same names get the same certificate again, from another process's point of view too."""
    first = authority.credential()
    assert first.names == ("localhost", "127.0.0.1", "::1")
    assert first.key_type == "ecdsa"
    assert authority.credential(["LOCALHOST.", "127.0.0.1", "::1"]) == first
    again = DevelopmentAuthority(authority.directory, clock=ManualClock(NOW))
    assert again.credential() == first
    assert Credential.load(authority.credential_path()) == first
    assert first.problems(now=NOW) == ()


def test_for_the_owner_only(authority: DevelopmentAuthority) -> None:
    """The directory is 0700 and every file in it 0600, also when the directory was open before."""
    authority.directory.mkdir(parents=True, mode=0o755)
    authority.credential()
    assert stat.S_IMODE(authority.directory.stat().st_mode) == 0o700
    files = [path for path in authority.directory.iterdir() if path.is_file()]
    assert len(files) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_other_names(authority: DevelopmentAuthority) -> None:
    """Other names, lifetimes and keys get certificates of their own under the same authority."""
    usual, other = authority.credential(), authority.credential(["*.shop.test", "10.0.0.1"], key_type="rsa")
    assert other.names == ("*.shop.test", "10.0.0.1")
    assert other.key_type == "rsa"
    assert usual.chain[-1] == other.chain[-1] == authority.ca_certificate()
    brief = authority.credential(lifetime=timedelta(days=6))
    assert timedelta(days=5) < brief.not_after - NOW <= timedelta(days=6)


def test_renewed_before_the_end(authority: DevelopmentAuthority, clock: ManualClock) -> None:
    """A leaf lives for 90 days at most and is made anew when a third of that is left."""
    first = authority.credential()
    assert first.not_after - first.not_before <= timedelta(days=90, hours=1)
    clock.advance(timedelta(days=59))
    assert authority.credential() == first
    clock.advance(timedelta(days=2))
    second = authority.credential()
    assert second != first
    assert second.chain[-1] == first.chain[-1]


def test_authority_renewed_before_the_end(authority: DevelopmentAuthority, clock: ManualClock) -> None:
    """An authority that its leaves would outlive is made anew, and the leaves with it."""
    first = authority.credential()
    clock.advance(timedelta(days=3 * 365 - 50))
    second = authority.credential()
    assert second.chain[-1] != first.chain[-1]
    assert second.problems(now=clock.now()) == ()


def test_damage_is_mended(authority: DevelopmentAuthority) -> None:
    """Files that were damaged are made anew."""
    first = authority.credential()
    authority.credential_path().write_bytes(b"junk")
    second = authority.credential()
    assert second != first
    assert second.chain[-1] == first.chain[-1]
    authority.ca_key_path.unlink()
    third = authority.credential()
    assert third.chain[-1] != first.chain[-1]


def test_name_constraints(authority: DevelopmentAuthority) -> None:
    """It can vouch for no public name or address: it refuses to, and its certificate forbids it to whoever stole it."""
    for name in ("www.example.com", "8.8.8.8", "localhost.example.com", "2600::1"):
        with pytest.raises(NameNotCovered, match="limited to"):
            authority.credential([name])
    constraints = authority.ca_certificate().extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert x509.DNSName("localhost") in (constraints.value.permitted_subtrees or [])


@pytest.mark.parametrize("bad", [[], ["a b"], ["x" * 300]])
def test_bad_names(authority: DevelopmentAuthority, bad: list[str]) -> None:
    """No names, or malformed ones, are an error."""
    with pytest.raises(ValueError, match="name"):
        authority.credential(bad)


def test_bad_options(authority: DevelopmentAuthority) -> None:
    """A lifetime beyond 90 days or an unknown kind of key is an error."""
    with pytest.raises(ValueError, match="lifetime"):
        authority.credential(lifetime=timedelta(days=91))
    with pytest.raises(ValueError, match="key_type"):
        authority.credential(key_type="dsa")


@pytest.mark.parametrize("names", [["localhost", "127.0.0.1", "::1"], ["*.shop.test"], ["192.168.1.1"]])
def test_openssl_verifies_it(tmp_path: Path, names: list[str]) -> None:
    """OpenSSL accepts the leaf under the authority, name constraints included."""
    authority = DevelopmentAuthority(tmp_path / "development")
    authority.credential(names)
    leaf, ca = str(authority.credential_path(names)), str(authority.ca_certificate_path)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, leaf]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr


def test_many_at_once(authority: DevelopmentAuthority) -> None:
    """Servers that start together agree on one authority and one certificate."""
    found: list[Credential] = []

    def start() -> None:
        found.append(DevelopmentAuthority(authority.directory, clock=ManualClock(NOW)).credential())

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is in the user's state folder, where XDG_STATE_HOME says, if that is an absolute path."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert development.default_directory() == tmp_path / "secureserve" / "development"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert development.default_directory() == tmp_path / ".local" / "state" / "secureserve" / "development"


def test_self_signed() -> None:
    """A credential in memory, for emergencies, is for the names asked for and passes every check but trust."""
    credential = self_signed_credential(["localhost", "192.0.2.1"], now=NOW)
    assert credential.names == ("localhost", "192.0.2.1")
    assert credential.self_signed
    assert credential.problems(now=NOW) == ()
    assert credential.not_after - NOW <= timedelta(days=1)
