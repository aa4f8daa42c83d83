"""`FileWatcher`: notices that files changed, however they were changed.

Theory of operation. A name is followed link by link. Every directory on the way in which something could be renamed to
make the name lead elsewhere is watched (not the files: a rename over a file would take the watched file away), and so
is what is on the way: Kubernetes' ``..data``, certbot's ``live/`` and ``archive/``, a directory that is itself a link,
and the nearest directory above one that does not exist. A batch of changes is reported; then everything is looked up
and armed anew, and reported once more when that is done, so nothing that happened in between is missed. Reading files
causes no change, and changes to neighbours that lie on nobody's way are passed over: nothing can go round in circles.

A directory that we may pass through and not read (such as Debian's ``/etc/ssl/private``) cannot be watched: the status
of the names that matter in it is looked at twice a second instead.

Where notifications do not arrive (network file systems), `polling_interval` has the content looked at instead. The same
is done, and said in the log, when the system's limit of watches has been reached.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import watchfiles

from secureserve.certificates import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["FileWatcher", "content_digest", "directories_of_interest"]

_LOGGER: Final = logging.getLogger("secureserve.error")

_THREAD_NAME: Final = "secureserve-watch"

_QUIET_TIME: Final = 50
"""Milliseconds without a change that end a batch; also how long `FileWatcher.stop` may have to wait."""

_LONGEST_BATCH: Final = 500
"""Milliseconds after which a batch is reported though changes go on."""

_ARMED_AFTER: Final = 500
"""Milliseconds without a change after which we know that watching has begun."""

_FALLBACK_INTERVAL: Final = 1.0
"""Seconds between looks at the content where watching is not possible."""

_MAX_LINKS: Final = 40
"""In one path, as in the kernel."""

Interest: TypeAlias = "frozenset[str] | None"
"""The names that matter in a directory; None: all of them."""


class FileWatcher:
    """Calls a function, on a thread of its own, whenever one of some files may have changed.

    Args:
        paths: What to watch; asked again after each change. Everything in a directory counts.
        on_change: What to call: once after the start, then after each batch of changes. It should not raise.
        polling_interval: Seconds between looks at the content instead of notifications; 0: notifications.

    Threads: `start` and `stop` from any. `paths` and `on_change` are called on the watcher's thread, a daemon.
    """

    def __init__(
        self,
        paths: Callable[[], Iterable[Path]],
        on_change: Callable[[], None],
        *,
        polling_interval: float = 0.0,
    ) -> None:
        self._paths = paths
        self._on_change = on_change
        self._polling_interval = polling_interval
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start watching. Harmless when started."""
        if self._thread is None:
            logging.getLogger("watchfiles.main").addFilter(_is_of_others)
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching; when this returns, the thread has ended. Harmless when stopped."""
        thread, self._thread = self._thread, None
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._polling_interval > 0:
                self._poll(self._polling_interval, rounds=None)
                return
            try:
                self._follow()
            except FileNotFoundError:
                # A directory vanished while it was being armed: look again, after a breath.
                self._stopping.wait(_QUIET_TIME / 1000)
            except OSError as error:
                _LOGGER.warning(
                    "cannot be notified of changes to certificates (%s); looking every %g s", error, _FALLBACK_INTERVAL
                )
                self._poll(_FALLBACK_INTERVAL, rounds=60)

    def _follow(self) -> None:
        """Arm, wait, report, and again."""
        interests = directories_of_interest(self._paths())
        unwatched = _unwatched_state(interests)
        batches = watchfiles.watch(
            *(directory for directory in interests if os.access(directory, os.R_OK)),
            watch_filter=None,
            debounce=_LONGEST_BATCH,
            step=_QUIET_TIME,
            rust_timeout=_ARMED_AFTER,
            yield_on_timeout=True,
            stop_event=self._stopping,
            raise_interrupt=False,
            recursive=False,
            ignore_permission_denied=True,
        )
        settled = False
        with contextlib.closing(batches):
            for changes in batches:
                if any(_matters(path, interests) for _kind, path in changes):
                    self._on_change()
                    return
                if unwatched and _unwatched_state(interests) != unwatched:
                    self._on_change()
                    return
                if not settled:
                    # What changed between looking things up and being armed told nobody.
                    settled = True
                    self._on_change()
                    if directories_of_interest(self._paths()) != interests:
                        return

    def _poll(self, interval: float, *, rounds: int | None) -> None:
        """Look at the content, again and again, for so many times (None: until stopped)."""
        seen = None
        while not self._stopping.is_set() and (rounds is None or rounds > 0):
            content = content_digest(self._paths())
            if content != seen:
                seen = content
                self._on_change()
            self._stopping.wait(interval)
            rounds = None if rounds is None else rounds - 1


def directories_of_interest(paths: Iterable[Path]) -> Mapping[str, Interest]:
    """Return the directories to watch so that no change to these paths is missed, and the names that matter in each.

    All directories exist, and are named without links.
    """
    found: dict[str, Interest] = {}
    for path in paths:
        _follow_path(path.absolute(), found)
    return found


def _follow_path(path: Path, found: dict[str, Interest]) -> None:
    root = Path(path.anchor)
    real, left, links = root, list(path.parts[1:]), 0
    while left:
        name = left.pop(0)
        if name == "..":
            real = real.parent
            continue
        _add(found, str(real), name)
        here = real / name
        try:
            mode = here.lstat().st_mode
        except OSError:
            # What is missing would appear here.
            return
        if not stat.S_ISLNK(mode):
            real = here
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        target = here.readlink()
        if target.is_absolute():
            real = root
        left[:0] = target.parts[1:] if target.is_absolute() else target.parts
    if real.is_dir():
        found[str(real)] = None


def _add(found: dict[str, Interest], directory: str, name: str) -> None:
    known = found.get(directory, frozenset())
    if known is not None:
        found[directory] = known | {name}


def _matters(path: str, interests: Mapping[str, Interest]) -> bool:
    if path in interests:
        return True
    directory, name = os.path.split(path)
    names = interests.get(directory, frozenset())
    return names is None or name in names


def _unwatched_state(interests: Mapping[str, Interest]) -> dict[str, tuple[int, ...]]:
    """Return the status of each name that matters in a directory that cannot be watched."""
    found: dict[str, tuple[int, ...]] = {}
    for directory, interest in interests.items():
        if not os.access(directory, os.R_OK):
            for name in interest or ():
                path = os.path.join(directory, name)  # noqa: PTH118 - one of thousands, twice a second
                found[path] = _state_of_name(path)
    return found


def _state_of_name(path: str) -> tuple[int, ...]:
    try:
        status = os.lstat(path)
    except OSError as error:
        return (error.errno or 0,)
    # What happens inside a directory is seen there: here it matters which one it is.
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else files.state_of(status)


def _is_of_others(record: logging.LogRecord) -> bool:
    """Pass over what watchfiles logs, at INFO, of every change in every directory on the way, such as /tmp."""
    return record.threadName != _THREAD_NAME


def content_digest(paths: Iterable[Path]) -> bytes:
    """Return a digest of where each path leads and what is there.

    What cannot be read, or is larger than a certificate can be, hides nothing that comes after it; it counts as changed
    when its status is another.
    """
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        digest.update(os.fsencode(os.path.realpath(path)))
        try:
            entries = sorted(path.iterdir()) if path.is_dir() else None
        except OSError as error:
            digest.update(str(error.errno).encode())
            continue
        if entries is None:
            digest.update(_file_digest(path))
            continue
        for entry in entries:
            if not entry.name.startswith("."):
                digest.update(os.fsencode(os.path.realpath(entry)))
                digest.update(_file_digest(entry))
    return digest.digest()


def _file_digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(files.read(path)).digest()
    except IsADirectoryError:
        return b""
    except OSError as error:
        with contextlib.suppress(OSError):
            return repr((error.errno, files.state_of(path.stat()))).encode()
        return str(error.errno).encode()
