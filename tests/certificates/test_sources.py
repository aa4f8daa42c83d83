"""Where credentials come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secureserve import errors
from secureserve.certificates import files, layouts, sources
from secureserve.certificates.sources import CredentialSource, DirectorySource, FileSource, ListingSource, MemorySource
from secureserve.testing import CredentialDirectory, Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secureserve.certificates.credential import Credential
    from secureserve.testing import Authority


@pytest.mark.parametrize(
    ("names", "pairs", "singles"),
    [
        (
            ["README", "cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"],
            [("fullchain.pem", "privkey.pem")],
            ["cert.pem", "chain.pem"],
        ),
        (["ca.crt", "tls.crt", "tls.key"], [("tls.crt", "tls.key")], []),
        (
            ["_.a.test.crt", "_.a.test.issuer.crt", "_.a.test.json", "_.a.test.key", "b.test.crt", "b.test.key"],
            [("_.a.test.crt", "_.a.test.key"), ("b.test.crt", "b.test.key")],
            [],
        ),
        (
            ["a.test.cer", "a.test.conf", "a.test.csr", "a.test.key", "ca.cer", "fullchain.cer"],
            [("fullchain.cer", "a.test.key")],
            [],
        ),
        (["localhost+2-key.pem", "localhost+2.pem"], [("localhost+2.pem", "localhost+2-key.pem")], []),
        (["server.crt.pem", "server.key.pem"], [("server.crt.pem", "server.key.pem")], []),
        (["cert.pem", "key.pem"], [("cert.pem", "key.pem")], []),
        (["cert.pem", "chain.pem", "key.pem"], [("cert.pem", "key.pem")], []),
        (["web_cert.pem", "web_key.pem"], [("web_cert.pem", "web_key.pem")], []),
        (["a.p12", "b.pfx", "c.pem"], [], ["a.p12", "b.pfx", "c.pem"]),
        (["account.key", ".key", "tls.key", "-key.pem"], [], ["-key.pem"]),
        ([], [], []),
    ],
)
def test_pairs_by_name(names: list[str], pairs: list[tuple[str, str]], singles: list[str]) -> None:
    """File names tell which certificate belongs to which key, for each tool; the fullest chain is preferred."""
    found = layouts.find_pairs(names)
    assert [(pair.certificate, pair.private_key) for pair in found] == pairs
    assert list(layouts.single_files(names, found)) == singles


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: layout.value)
def test_directory_of_any_tool(tls_authority: Authority, tmp_path: Path, layout: Layout) -> None:
    """A directory source finds the credential in every tool's layout, with its chain, also after a rotation."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test", layout=layout, chain_depth=1)
    root = directory.directory / "live" if layout is Layout.CERTBOT else directory.directory
    source = DirectorySource(root)
    (first,) = source.load()
    assert first.fingerprint == directory.fingerprint
    assert len(first.chain) == 2
    directory.rotate()
    (second,) = source.load()
    assert second.fingerprint == directory.fingerprint != first.fingerprint


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: layout.value)
def test_files_of_any_tool(tls_authority: Authority, tmp_path: Path, layout: Layout) -> None:
    """A file source loads the files of every layout, and gives the same object while they hold the same bytes."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test", layout=layout, chain_depth=1)
    key = None if directory.private_key_path == directory.certificate_path else directory.private_key_path
    source = FileSource(directory.certificate_path, key, chain=directory.chain_path)
    (first,) = source.load()
    assert first.fingerprint == directory.fingerprint
    assert len(first.chain) == 2
    assert source.load()[0] is first
    directory.mend()
    assert source.load()[0] == first
    directory.rotate()
    assert source.load()[0].fingerprint == directory.fingerprint


def test_directory_of_many(tls_authority: Authority, tmp_path: Path) -> None:
    """Several tools side by side, a chosen default, strangers' files and hidden ones passed over."""
    for name, layout in [("b.test", "pair"), ("a.test", "kubernetes"), ("c.test", "combined")]:
        CredentialDirectory(tls_authority, tmp_path / name, name, layout=layout, name=name)
    (tmp_path / "chain.pem").write_bytes(tls_authority.cert_pem.bytes())
    (tmp_path / "notes.pem").write_text("no certificate at all")
    (tmp_path / ".hidden.pem").write_bytes((tmp_path / "c.test" / "c.test.pem").read_bytes())
    assert [one.names for one in DirectorySource(tmp_path).load()] == [("a.test",), ("b.test",), ("c.test",)]
    by_default = DirectorySource(tmp_path, default="B.test").load()
    assert [one.names for one in by_default] == [("b.test",), ("a.test",), ("c.test",)]
    assert DirectorySource(tmp_path, default="nobody.test").load()[0].names == ("a.test",)


def test_one_bad_pair_is_one_bad_pair(tls_authority: Authority, tmp_path: Path) -> None:
    """The entries of a directory load one by one, so that the broken one is known by its place."""
    CredentialDirectory(tls_authority, tmp_path / "good", "good.test")
    CredentialDirectory(tls_authority, tmp_path / "bad", "bad.test").break_("key_garbage")
    outcomes: dict[str, str] = {}
    for entry in DirectorySource(tmp_path).entries():
        try:
            outcomes[entry.place] = entry.load().names[0]
        except errors.CredentialError as error:
            outcomes[entry.place] = type(error).__name__
    assert outcomes == {
        str(tmp_path / "bad" / "key.pem"): "UnreadableKey",
        str(tmp_path / "good" / "key.pem"): "good.test",
    }


def test_directory_without_pairs(tmp_path: Path) -> None:
    """A directory that is missing or has no pair is an error that says what was looked for."""
    with pytest.raises(errors.NoCredential, match="does not exist"):
        DirectorySource(tmp_path / "nowhere").load()
    with pytest.raises(errors.NoCredential, match=r"fullchain\.pem with privkey\.pem"):
        DirectorySource(tmp_path).load()
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.NoCredential, match="not a directory"):
        DirectorySource(tmp_path / "file").load()


def test_links_in_circles(tls_authority: Authority, tmp_path: Path) -> None:
    """Links that lead back up do not send it round in circles."""
    CredentialDirectory(tls_authority, tmp_path / "a", "a.test")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = DirectorySource(tmp_path).load()
    assert {one.names for one in found} == {("a.test",)}


def test_encrypted(tls_authority: Authority, tmp_path: Path) -> None:
    """Passwords reach the keys, and a password file is read anew at each loading."""
    secret = tmp_path / "password"
    secret.write_text("one\n")
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "a.test", password="one")
    source = FileSource(directory.certificate_path, directory.private_key_path, password_file=secret)
    every = DirectorySource(tmp_path / "certs", password_file=secret)
    assert source.load() == every.load()
    directory.rotate(password="two")
    with pytest.raises(errors.UnreadableKey):
        source.load()
    secret.write_text("two\n")
    assert source.load()[0].fingerprint == every.load()[0].fingerprint == directory.fingerprint
    assert secret in source.paths()
    assert secret in every.paths()


def test_memory(tls_authority: Authority) -> None:
    """Credentials that the program hands over are what is loaded, and whoever subscribed is told."""
    first, second = (tls_authority.issue(name).credential for name in ("a.test", "b.test"))
    source = MemorySource(first)
    told: list[int] = []

    def listener() -> None:
        told.append(len(source.load()))

    source.subscribe(listener)
    assert list(source.load()) == [first]
    source.replace(first, second)
    source.unsubscribe(listener)
    source.unsubscribe(listener)
    source.replace(second)
    assert told == [2]
    assert list(source.load()) == [second]
    assert source.paths() == ()
    with pytest.raises(errors.NoCredential):
        source.replace()


def test_the_small_protocol_is_enough(tls_authority: Authority) -> None:
    """Anything with `load` and `paths` is a source; its credentials get places by their origin."""

    class Own:
        def load(self) -> Sequence[Credential]:
            return [tls_authority.issue("a.test").credential, tls_authority.issue("b.test").credential]

        def paths(self) -> Sequence[Path]:
            return []

    own = Own()
    assert isinstance(own, CredentialSource)
    assert not isinstance(own, ListingSource)
    entries = sources.entries_of(own)
    assert [entry.place for entry in entries] == ["secureserve.testing", "secureserve.testing (2)"]
    assert [entry.load().names for entry in entries] == [("a.test",), ("b.test",)]


def test_a_pair_is_read_as_one_state(tls_authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap between reading the certificate and reading the key leads to reading both again, not to half a pair."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "a.test", layout=Layout.KUBERNETES)
    source = FileSource(directory.certificate_path, directory.private_key_path)
    swaps = [1, 1, 1]
    read = files.read_as_is

    def read_and_swap(path: str | os.PathLike[str]) -> Any:
        content = read(path)
        if str(path).endswith("tls.crt") and swaps:
            swaps.pop()
            directory.rotate()
        return content

    monkeypatch.setattr(files, "read_as_is", read_and_swap)
    (credential,) = source.load()
    assert swaps == []
    assert credential.fingerprint == directory.fingerprint


def test_files_that_never_rest(tls_authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change with every reading are given up on with an error, not read for ever."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "a.test")
    read = files.read_as_is

    def read_and_touch(path: str | os.PathLike[str]) -> Any:
        content = read(path)
        state = Path(path).stat()
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
        return content

    monkeypatch.setattr(files, "read_as_is", read_and_touch)
    with pytest.raises(errors.UnreadableCertificate, match="keep changing"):
        FileSource(directory.certificate_path, directory.private_key_path).load()
