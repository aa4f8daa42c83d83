"""Reading and writing key files."""

from __future__ import annotations

import stat
import threading
from typing import TYPE_CHECKING

import pytest

from secureserve.certificates import files

if TYPE_CHECKING:
    from pathlib import Path


def test_write_atomically(tmp_path: Path) -> None:
    """A file is replaced whole, with the mode asked for; a link stays a link, and its target is replaced."""
    target, link = tmp_path / "target.pem", tmp_path / "link.pem"
    target.write_bytes(b"old")
    link.symlink_to("target.pem")
    files.write_atomically(link, b"new", mode=0o640)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.pem", "target.pem"]


def test_write_fails_whole(tmp_path: Path) -> None:
    """When a file cannot be put in place nothing has changed, and nothing is left behind."""
    (tmp_path / "directory.pem").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.write_atomically(tmp_path / "directory.pem", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["directory.pem"]


def test_readers_see_old_or_new(tmp_path: Path) -> None:
    """While a file is replaced again and again, a reader gets one whole content or the other."""
    path = tmp_path / "file.pem"
    contents = (b"a" * 100_000, b"b" * 50_000)
    files.write_atomically(path, contents[0])
    seen: set[bytes] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(files.read(path))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        files.write_atomically(path, contents[number % 2])
    stop.set()
    reader.join()
    assert seen <= set(contents)


def test_private_directory(tmp_path: Path) -> None:
    """A directory for keys is the owner's alone, whoever made it first."""
    path = tmp_path / "a" / "b"
    files.make_private_directory(path)
    path.chmod(0o755)
    files.make_private_directory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_lock(tmp_path: Path) -> None:
    """A second holder waits until the first has left."""
    order: list[str] = []
    lock = tmp_path / "lock"

    def second() -> None:
        with files.Lock(lock):
            order.append("second")

    with files.Lock(lock):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
