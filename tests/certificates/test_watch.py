"""Changes to files are noticed, however they are made."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from secureserve.certificates.watch import FileWatcher, content_digest, directories_of_interest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 20.0


class Watched:
    """A file that is watched, with a count of how often its content was seen to change."""

    def __init__(self, path: Path, polling_interval: float) -> None:
        self.path = path
        self.calls = 0
        self._seen: list[bytes] = []
        self._news = threading.Condition()
        self.watcher = FileWatcher(lambda: [path], self._look, polling_interval=polling_interval)

    def _look(self) -> None:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            content = type(error).__name__.encode()
        with self._news:
            self.calls += 1
            self._seen.append(content)
            self._news.notify_all()

    def wait_until_seen(self, content: bytes) -> None:
        """Wait until a look at the file gave this."""
        with self._news:
            assert self._news.wait_for(lambda: content in self._seen, PATIENCE), (content, self._seen)

    def wait_until_called(self, times: int) -> None:
        """Wait until there were so many calls."""
        with self._news:
            assert self._news.wait_for(lambda: self.calls >= times, PATIENCE)


@contextlib.contextmanager
def watching(path: Path) -> Iterator[Watched]:
    """Watch a file, which says ``first``, by notification; it has been looked at when the block begins."""
    path.write_text("first")
    watched = Watched(path, 0.0)
    watched.watcher.start()
    try:
        watched.wait_until_seen(b"first")
        yield watched
    finally:
        watched.watcher.stop()


def _write(path: Path, content: str) -> None:
    path.write_text(content)


def _rename(path: Path, content: str) -> None:
    temporary = path.with_name("temporary")
    temporary.write_text(content)
    temporary.replace(path)


def _remake_directory(path: Path, content: str) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_text(content)


def _swap_directory(path: Path, content: str) -> None:
    fresh = path.parent.with_name("fresh")
    fresh.mkdir()
    (fresh / path.name).write_text(content)
    path.parent.rename(path.parent.with_name("old"))
    fresh.rename(path.parent)


def _link_to_elsewhere(path: Path, content: str) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "target").write_text(content)
    temporary = path.with_name("temporary")
    temporary.symlink_to("../elsewhere/target")
    temporary.replace(path)


@pytest.fixture(params=[0.0, 0.05], ids=["notified", "polling"])
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    """A file in a directory of its own, watched by notifications or by polling."""
    path = tmp_path / "certs" / "file"
    path.parent.mkdir()
    path.write_text("first")
    watched = Watched(path, request.param)
    watched.watcher.start()
    watched.wait_until_seen(b"first")
    yield watched
    watched.watcher.stop()


@pytest.mark.parametrize("change", [_write, _rename, _remake_directory, _swap_directory, _link_to_elsewhere])
def test_noticed(watched: Watched, change: Callable[[Path, str], None]) -> None:
    """In-place writes, renames, links, and directories swapped or made again are noticed, and what follows them too."""
    change(watched.path, "second")
    watched.wait_until_seen(b"second")
    _write(watched.path, "third")
    watched.wait_until_seen(b"third")
    _rename(watched.path, "fourth")
    watched.wait_until_seen(b"fourth")


def test_removed_and_back(watched: Watched) -> None:
    """A directory that is removed, and made again after that has been noticed, is watched again."""
    shutil.rmtree(watched.path.parent)
    watched.wait_until_seen(b"FileNotFoundError")
    watched.path.parent.mkdir()
    _write(watched.path, "second")
    watched.wait_until_seen(b"second")


def test_kubernetes_swap(tmp_path: Path) -> None:
    """The one rename of ``..data`` is noticed, though no file that was named has changed, and again the next time."""
    for version in ("1", "2", "3"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "tls.crt").write_text(version)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    watched = Watched(tmp_path / "tls.crt", 0.0)
    watched.watcher.start()
    try:
        watched.wait_until_seen(b"1")
        for version in ("2", "3"):
            (tmp_path / "..new").symlink_to(f"..{version}")
            (tmp_path / "..new").replace(tmp_path / "..data")
            watched.wait_until_seen(version.encode())
            shutil.rmtree(tmp_path / f"..{int(version) - 1}")
    finally:
        watched.watcher.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only who may read anything can tell that a mode alone has changed")
def test_permissions(watched: Watched) -> None:
    """A change of mode alone is noticed by notification: it may be what makes a key readable."""
    if watched.watcher._polling_interval:
        return
    calls = watched.calls
    watched.path.chmod(0o600)
    watched.wait_until_called(calls + 1)


def test_no_circles(tmp_path: Path) -> None:
    """Looking causes no change, so a change is reported and confirmed and no more; neighbours do not matter."""
    path = tmp_path / "file"
    with watching(path) as watched:
        path.write_text("second")
        watched.wait_until_seen(b"second")
        watched.wait_until_called(3)
        settled = watched.calls
        for number in range(50):
            (tmp_path / f"neighbour{number}").write_text("")
        # A marker that does matter, so that we know that what came before it has been dealt with.
        path.write_text("third")
        watched.wait_until_seen(b"third")
        assert watched.calls <= settled + 2


def test_changes_of_neighbours_are_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A program that logs at INFO hears nothing of what changes in the directories that are watched."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "file"
    with watching(path) as watched:
        path.write_text("second")
        watched.wait_until_seen(b"second")
    assert caplog.text == ""


def test_what_is_watched(tmp_path: Path) -> None:
    """Each directory on the way to a file is of interest, link by link, with just the names that lie on the way."""
    archive, live = tmp_path / "archive", tmp_path / "live"
    archive.mkdir()
    live.mkdir()
    (archive / "key2.pem").write_text("")
    (live / "key.pem").symlink_to("../archive/key2.pem")
    (tmp_path / "current").symlink_to(live)
    interests = directories_of_interest([tmp_path / "current" / "key.pem", tmp_path / "missing" / "file"])
    assert interests[str(tmp_path)] == frozenset({"current", "live", "archive", "missing"})
    assert interests[str(live)] == frozenset({"key.pem"})
    assert interests[str(archive)] == frozenset({"key2.pem"})
    assert str(tmp_path / "missing") not in interests
    assert directories_of_interest([archive])[str(archive)] is None
    (tmp_path / "loop").symlink_to("loop")
    assert "loop" in (directories_of_interest([tmp_path / "loop" / "x"])[str(tmp_path)] or ())


def test_stop(tmp_path: Path) -> None:
    """Stopping ends the thread, more than once does no harm, and it can be started again."""
    path = tmp_path / "file"
    path.write_text("first")
    for polling_interval in (0.0, 60.0):
        watched = Watched(path, polling_interval)
        watched.watcher.stop()
        for _ in range(2):
            watched.watcher.start()
            watched.watcher.start()
            watched.wait_until_called(1)
            watched.watcher.stop()
            watched.watcher.stop()
        names = {thread.name for thread in threading.enumerate()}
        assert "secureserve-watch" not in names


def _make_pipe(path: Path) -> None:
    os.mkfifo(path)


def _make_huge(path: Path) -> None:
    path.write_bytes(b"x" * (2 * 1024 * 1024))


def _make_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [_make_pipe, _make_huge, _make_dangling])
def test_polling_beside_what_cannot_be_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A file that cannot be read, or is too large for a certificate, hides no change to those that come after it."""
    make(tmp_path / "a")
    (tmp_path / "b").write_text("first")
    before = content_digest([tmp_path])
    assert content_digest([tmp_path]) == before
    (tmp_path / "b").write_text("second")
    assert content_digest([tmp_path]) != before


def test_polling_what_is_too_large(tmp_path: Path) -> None:
    """A revocation list may be larger than any certificate, and is seen to change nevertheless."""
    path = tmp_path / "list.crl"
    path.write_bytes(b"x" * (2 * 1024 * 1024))
    before = content_digest([path])
    assert content_digest([path]) == before
    path.write_bytes(b"y" * (2 * 1024 * 1024 + 1))
    assert content_digest([path]) != before


def test_directory_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a directory may be passed through and not read, its files are seen to change all the same."""
    path = tmp_path / "private" / "file"
    path.parent.mkdir(mode=0o311)
    access = os.access

    def refuse(asked: str, mode: int) -> bool:
        return str(asked) != str(path.parent) and access(asked, mode)

    # Root may read whatever the mode says.
    monkeypatch.setattr("os.access", refuse)
    with watching(path) as watched:
        path.write_text("second")
        watched.wait_until_seen(b"second")
        _rename(path, "third")
        watched.wait_until_seen(b"third")


def test_no_watches_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When the system gives no more watches, the content is looked at instead, and that is logged."""

    def refuse(*_paths: object, **_options: object) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", refuse)
    path = tmp_path / "file"
    with watching(path) as watched:
        path.write_text("second")
        watched.wait_until_seen(b"second")
        assert "OS file watch limit reached" in caplog.text
