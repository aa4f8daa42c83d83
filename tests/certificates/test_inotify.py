"""What the kernel tells of changes in directories."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from secureserve.certificates.inotify import Alarm, Notifications

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 20.0


@pytest.fixture
def notifications(tmp_path: Path) -> Iterator[Notifications]:
    """Offer the notifications of the test's directory."""
    with Notifications([str(tmp_path)]) as notifications:
        yield notifications


def changed(notifications: Notifications, timeout: float = PATIENCE) -> set[str]:
    """Return what changed, waiting for it."""
    return set(notifications.wait(Alarm(), timeout))


def test_writing_tells_nobody_until_it_ends(tmp_path: Path, notifications: Notifications) -> None:
    """A log that grows wakes nobody; a file is told of when it appears, and when its writer closes it."""
    log = tmp_path / "access.log"
    with log.open("w") as file:
        assert changed(notifications) == {str(log)}
        for _ in range(100):
            file.write("a line\n")
            file.flush()
        assert changed(notifications, 0) == set()
    assert changed(notifications) == {str(log)}


def test_names_are_told_as_they_are(tmp_path: Path, notifications: Notifications) -> None:
    """A rename tells both names, whatever bytes they have."""
    strange = os.fsdecode(b"\xff x\n")
    (tmp_path / strange).symlink_to("nowhere")
    (tmp_path / strange).rename(tmp_path / "b")
    assert changed(notifications) == {str(tmp_path / strange), str(tmp_path / "b")}


def test_a_directory_that_goes_away_is_told(tmp_path: Path) -> None:
    """A watched directory that is moved or removed is named itself."""
    for gone in ("moved", "removed"):
        directory = tmp_path / gone
        directory.mkdir()
        with Notifications([str(directory)]) as notifications:
            if gone == "moved":
                directory.rename(tmp_path / "elsewhere")
            else:
                directory.rmdir()
            assert changed(notifications) == {str(directory)}


def test_an_overflow_names_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel has dropped notifications, everything counts as changed."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with Notifications([str(one), str(two)]) as notifications:
        (one / "file").touch()
        overflow = (-1).to_bytes(4, "little", signed=True) + (0x4000).to_bytes(4, "little") + bytes(8)
        monkeypatch.setattr(os, "read", lambda _fd, _size: overflow)
        assert changed(notifications) == {str(one), str(two)}


def test_an_alarm_ends_the_wait(notifications: Notifications) -> None:
    """Whoever waits without end is called back by the alarm, also when it rang before."""
    alarm = Alarm()
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(notifications.wait(alarm)))
    thread.start()
    alarm.ring()
    thread.join(PATIENCE)
    assert found == [[]]
    assert notifications.wait(alarm) == []
    assert alarm.wait(PATIENCE)


def test_what_is_no_directory_is_missing(tmp_path: Path) -> None:
    """A directory that is not there, or that is a file by now, is said to be missing, by name."""
    file = tmp_path / "file"
    file.touch()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone are wanted
    for path in (tmp_path / "missing", file):
        with pytest.raises(FileNotFoundError, match=path.name):
            Notifications([str(path)])
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above
