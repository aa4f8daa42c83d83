"""Whatever happens to the files, in whatever order, what is served is a complete pair: the newest valid one."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureserve.certificates.rotation import Rotator
from secureserve.certificates.sources import FileSource
from secureserve.certificates.store import CertificateStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secureserve.testing import Authority, IssuedCredential

GENERATIONS = 5

actions = st.one_of(
    st.tuples(st.sampled_from(["write", "rename"]), st.sampled_from(["cert", "key"]), st.integers(0, GENERATIONS - 1)),
    st.tuples(st.just("swap"), st.just("both"), st.integers(0, GENERATIONS - 1)),
    st.tuples(st.sampled_from(["truncate", "remove", "garbage"]), st.sampled_from(["cert", "key"]), st.just(0)),
    st.tuples(st.just("leaf alone"), st.just("cert"), st.integers(0, GENERATIONS - 1)),
    st.tuples(st.just("remove all"), st.just("both"), st.just(0)),
)


@pytest.fixture(scope="module")
def generations(tls_authority: Authority) -> Sequence[IssuedCredential]:
    """Credentials of one name, each issued after the one before and with a key of its own."""
    start = datetime.now(timezone.utc) - timedelta(days=GENERATIONS + 1)
    return [
        tls_authority.issue("one.test", chain_depth=1, fresh_key=True, not_before=start + timedelta(days=number))
        for number in range(GENERATIONS)
    ]


class Disk:
    """Two files behind a link to a directory, and what is in them."""

    def __init__(self, path: Path, generations: Sequence[IssuedCredential]) -> None:
        self.path = path
        self.generations = generations
        self.versions = 0
        self.do(("swap", "both", 0))

    @property
    def live(self) -> Path:
        """The name by which the directory is known."""
        return self.path / "live"

    def file(self, part: str) -> Path:
        """The name of a file."""
        return self.live / f"{part}.pem"

    def content(self, part: str, number: int) -> bytes:
        """What a generation has in a file."""
        issued = self.generations[number]
        return issued.cert_chain_pem.bytes() if part == "cert" else issued.private_key_pem.bytes()

    def do(self, action: tuple[str, str, int]) -> None:
        """Do something to the files."""
        what, part, number = action
        if what == "swap":
            self._swap(number)
            return
        self.live.resolve().mkdir(exist_ok=True)
        if what == "write":
            self.file(part).write_bytes(self.content(part, number))
        elif what == "rename":
            temporary = self.live / "temporary"
            temporary.write_bytes(self.content(part, number))
            temporary.replace(self.file(part))
        elif what == "leaf alone":
            self.file(part).write_bytes(self.generations[number].cert_chain_pems[0].bytes())
        elif what == "truncate":
            content = self.file(part).read_bytes() if self.file(part).exists() else b""
            self.file(part).write_bytes(content[: len(content) * 2 // 3])
        elif what == "garbage":
            self.file(part).write_bytes(b"\x00\xff" * 500)
        elif what == "remove":
            self.file(part).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.live.resolve())

    def generation(self) -> int | None:
        """Return which generation's complete pair is in place, if one is."""
        for number in range(GENERATIONS):
            if all(
                self.file(part).exists() and self.file(part).read_bytes() == self.content(part, number)
                for part in ("cert", "key")
            ):
                return number
        return None

    def _swap(self, number: int) -> None:
        self.versions += 1
        version = self.path / f"version{self.versions}"
        version.mkdir()
        for part in ("cert", "key"):
            (version / f"{part}.pem").write_bytes(self.content(part, number))
        (self.path / "next").symlink_to(version.name)
        (self.path / "next").replace(self.live)


@settings(max_examples=150, deadline=None)
@given(sequence=st.lists(actions, max_size=12))
def test_any_sequence(generations: Sequence[IssuedCredential], sequence: list[tuple[str, str, int]]) -> None:
    """After each step the newest complete pair seen is served, and after a while nothing but what is really there."""
    fingerprints = [issued.fingerprint for issued in generations]
    with tempfile.TemporaryDirectory() as path:
        disk = Disk(Path(path), generations)
        store = CertificateStore()
        rotator = Rotator(store, [FileSource(disk.file("cert"), disk.file("key"))])
        rotator.load()
        expected = 0
        for action in sequence:
            disk.do(action)
            there = disk.generation()
            if there is not None and there > expected:
                expected = there
            outcome = rotator.reload("watch", tentative=True)
            served: Any = store.select("one.test")
            assert served.fingerprint == fingerprints[expected]
            assert len(served.chain) == 2
            assert outcome.pending == (there is None or there < expected)
        disk.do(("swap", "both", GENERATIONS - 1))
        assert rotator.reload("watch").ok
        served = store.select("one.test")
        assert served.fingerprint == fingerprints[-1]
        assert rotator.refusals() == ()
