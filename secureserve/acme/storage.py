"""What has to outlive the process: accounts, orders under way, certificates. A protocol, and a directory of files.

A `Storage` keeps bytes under keys and knows nothing of what they mean, so another store is soon put behind it. In the
directory there is one folder for each authority, and in that one for each set of names. Everything is the owner's
alone: directories 0700, files 0600. A file is replaced as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from secureserve.acme import lock_file
from secureserve.acme.keys import Key, Kind, canonical_names
from secureserve.certificates import files
from secureserve.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

__all__ = ["FileStorage", "Key", "Kind", "Storage", "canonical_names", "default_directory"]

_LOGGER: Final = logging.getLogger("secureserve.error")

_OTHERS: Final = 0o077
"""What the group and everybody else may do."""

_OLD: Final = 3600.0
"""Seconds after which a file that was not put in place never will be."""

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Storage(Protocol):
    """Keeps what has to outlive the process.

    Threads: any. Processes may share what is behind it.
    """

    def get(self, key: Key) -> bytes | None:
        """Return what is kept under a key; None when there is nothing.

        Raises:
            StorageError: It cannot be read, or others may read it.
        """

    def put(self, key: Key, data: bytes) -> None:
        """Keep something, in place of what was there. When this returns, it survives a crash of the machine.

        Raises:
            StorageError: It could not be kept. What was there before still is.
        """

    def delete(self, key: Key) -> None:
        """Keep something no longer. Harmless when it was not there.

        Raises:
            StorageError: It could not be removed.
        """

    def keys(self, kind: Kind) -> Sequence[Key]:
        """Return the keys of everything of a kind.

        Raises:
            StorageError: That cannot be told.
        """

    def lock(self, names: Iterable[str], *, wait: bool = False) -> AbstractContextManager[bool]:
        """Hold a lock on a set of names inside a with statement, against other threads and other processes.

        The lock of a process that has died is free.

        Args:
            names: What to lock: the names of a certificate, or the URL of an authority for its account.
            wait: Wait until it is free; otherwise the value is False when somebody else holds it.

        Raises:
            StorageError: It cannot be told who holds it.
        """

    def place(self, key: Key) -> str:
        """Return what to call the place of a key in messages: a path, or a few words."""

    def paths(self) -> Sequence[Path]:
        """Return the files and directories whose change means that there is another certificate; may be none."""


def default_directory() -> Path:
    """Return where things are kept unless something else is said: ``secureserve/acme`` in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG base directory specification has relative paths ignored.
    base = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "secureserve" / "acme"


class FileStorage:
    """A directory of files.

    Args:
        directory: Where; None for `default_directory`. It is made when something is first kept.

    Threads: any. Processes may share the directory.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self.directory = default_directory() if directory is None else Path(directory)

    def __repr__(self) -> str:
        return f"FileStorage({str(self.directory)!r})"

    def __str__(self) -> str:
        return str(self.directory)

    def prepare(self) -> None:
        """Make the directory, make sure that we can use it and nobody else can, and clear away what a crash has left.

        Raises:
            ConfigurationError: It cannot be used, or something in it is open to others.
        """
        try:
            if self.directory.is_dir() and any(self.directory.iterdir()):
                self._require_private()
            with _probe(self._private(self.directory)) as now:
                self._clear_away(now - _OLD)
        except StorageError as error:
            raise ConfigurationError("acme_storage", str(self.directory), "cannot be used", str(error)) from error
        except OSError as error:
            raise ConfigurationError(
                "acme_storage", str(self.directory), f"cannot be used: {_reason(error)}", _remedy(error)
            ) from error

    def get(self, key: Key) -> bytes | None:
        """Return what is kept under a key; None when there is nothing.

        Raises:
            StorageError: It cannot be read, or others may read it.
        """
        path = self.path_of(key)
        try:
            _require_own(path, is_read=True)
            return files.read(path)
        except FileNotFoundError:
            return None
        except StorageError:
            raise
        except OSError as error:
            raise _error("read", path, error) from error

    def put(self, key: Key, data: bytes) -> None:
        """Keep something, in place of what was there: a temporary file, fsync, rename, fsync of the directory.

        Raises:
            StorageError: It could not be kept. What was there before still is.
        """
        path = self.path_of(key)
        try:
            folder = self._private(self._authority_folder(key.authority))
            _describe(folder / _AUTHORITY_FILE, key.authority)
            if key.names:
                _describe(self._private(path.parent) / _NAMES_FILE, "\n".join(key.names))
            files.write_atomically(path, data)
        except OSError as error:
            raise _error("write", path, error) from error

    def delete(self, key: Key) -> None:
        """Keep something no longer, and no empty folder for it. Harmless when it was not there.

        Raises:
            StorageError: It could not be removed.
        """
        path = self.path_of(key)
        try:
            path.unlink(missing_ok=True)
            if key.names and {entry.name for entry in path.parent.iterdir()} == {_NAMES_FILE}:
                (path.parent / _NAMES_FILE).unlink()
                path.parent.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _error("remove", path, error) from error

    def keys(self, kind: Kind) -> Sequence[Key]:
        """Return the keys of everything of a kind, in alphabetical order of their files.

        A folder that does not say what it is for is passed over, and that is logged.

        Raises:
            StorageError: The directory cannot be read.
        """
        found: list[Key] = []
        try:
            for folder in self._authority_folders():
                authority = _described(folder / _AUTHORITY_FILE)
                if authority is None:
                    continue
                if kind is Kind.ACCOUNT:
                    found += [Key.account(authority)] if (folder / kind.value).exists() else []
                    continue
                for place in _folders(folder):
                    names = _described(place / _NAMES_FILE)
                    if names is not None and (place / kind.value).exists():
                        found.append(Key(kind, authority, tuple(names.split("\n"))))
        except OSError as error:
            raise _error("read", self.directory, error) from error
        return found

    @contextlib.contextmanager
    def lock(self, names: Iterable[str], *, wait: bool = False) -> Iterator[bool]:
        """Hold a lock file inside a with statement; the system lets go of it when a process dies, however it does.

        Holding it also shows that there is room on the disk and that we may write, before an authority is asked.

        Args:
            names: What to lock.
            wait: Wait until it is free; otherwise the value is False when somebody else holds it.

        Raises:
            StorageError: The file cannot be made or written.
        """
        path = self.directory / _LOCKS_FOLDER / f"{_slug(_locked(names))}.lock"
        try:
            self._private(path.parent)
            descriptor = lock_file.acquire(path, wait=wait)
        except OSError as error:
            raise _error("lock", path, error) from error
        if descriptor is None:
            yield False
            return
        try:
            yield True
        finally:
            lock_file.release(path, descriptor)

    def paths(self) -> Sequence[Path]:
        """Return where certificates are and where others would appear."""
        found = [self.directory]
        folders: list[Path] = []
        with contextlib.suppress(OSError):
            folders = _folders(self.directory)
        # Also those that do not say yet what they are for: it may be written at this moment.
        for folder in folders:
            found.append(folder)
            with contextlib.suppress(OSError):
                found += [place / Kind.CERTIFICATE.value for place in _folders(folder)]
        return found

    def place(self, key: Key) -> str:
        """Return the path of a key's file."""
        return str(self.path_of(key))

    def path_of(self, key: Key) -> Path:
        """Return the file of a key, whether there is one or not."""
        folder = self._authority_folder(key.authority)
        return (folder / _slug(key.names) if key.names else folder) / key.kind.value

    def _authority_folder(self, authority: str) -> Path:
        return self.directory / _slug([authority])

    def _authority_folders(self) -> list[Path]:
        """Return the folders that say which authority they are for; whatever else is there is not ours."""
        return [folder for folder in _folders(self.directory) if os.path.exists(folder / _AUTHORITY_FILE)]  # noqa: PTH110 - Path.exists raises where we may not look

    def _private(self, directory: Path) -> Path:
        # What is missing above a directory would be made open to others.
        files.make_private_directory(self.directory)
        files.make_private_directory(directory)
        return directory

    def _clear_away(self, before: float) -> None:
        for folder in self._authority_folders():
            for place in (folder, *_folders(folder)):
                for path in place.iterdir():
                    if _is_leftover(path, before):
                        path.unlink()

    def _require_private(self) -> None:
        _require_own(self.directory)
        for folder in self._authority_folders():
            for path in (folder, *folder.iterdir()):
                _require_own(path)
                if path != folder and path.is_dir():
                    for file in path.iterdir():
                        _require_own(file)


_AUTHORITY_FILE: Final = "authority"
_NAMES_FILE: Final = "names"
_LOCKS_FOLDER: Final = "locks"


def _is_leftover(path: Path, before: float) -> bool:
    """Return whether a file was being written by a process that has long ended: it may hold a key."""
    return path.name.startswith(".") and path.suffix == ".new" and path.stat().st_mtime < before


def _locked(names: Iterable[str]) -> Sequence[str]:
    """Return what a lock is named after: the canonical names, or something that has no names, such as a URL."""
    given = sorted(names)
    try:
        return canonical_names(given)
    except ValueError:
        return given


def _slug(parts: Sequence[str]) -> str:
    """Return a file name that says what it is about to people, and is different for whatever is different."""
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    words = re.sub(r"[^a-z0-9.]+", "-", parts[0].removeprefix("https://").replace("*", "any").lower()).strip("-.")
    return f"{words[:80]}-{digest}"


def _folders(directory: Path) -> list[Path]:
    try:
        entries = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    return [path for path in entries if path.is_dir() and not path.name.startswith(".") and path.name != _LOCKS_FOLDER]


def _describe(path: Path, text: str) -> None:
    """Have a folder say what it is for."""
    if _described(path) != text:
        files.write_atomically(path, text.encode())


def _described(path: Path) -> str | None:
    try:
        return files.read(path).decode() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        _LOGGER.warning("passing over %s, whose %s cannot be read: %s", path.parent, path.name, error)
        return None


def _require_own(path: Path, *, is_read: bool = False) -> None:
    """See that a file or folder is ours and closed to everybody else."""
    state = path.stat()
    # Who starts as root reads what belongs to the user that it is about to become.
    if state.st_uid != os.geteuid() and not (is_read and os.geteuid() == 0):
        raise StorageError(
            f"{path} belongs to user {state.st_uid}, not to user {os.geteuid()} who runs the server. "
            f"Run: chown -R {os.geteuid()} on the storage.",
            path=path,
        )
    if stat.S_IMODE(state.st_mode) & _OTHERS:
        mode = "700" if stat.S_ISDIR(state.st_mode) else "600"
        raise StorageError(
            f"{path} is open to others (mode {stat.S_IMODE(state.st_mode):04o}), and there are private keys in the "
            f"storage. Run: chmod {mode} {path}",
            path=path,
        )


@contextlib.contextmanager
def _probe(directory: Path) -> Iterator[float]:
    """Write a file and remove it again; the value is what time it is by the disk."""
    path = directory / f".probe-{os.getpid()}"
    try:
        files.write_atomically(path, b"\n")
        yield path.stat().st_mtime
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _error(action: str, path: Path, error: OSError) -> StorageError:
    message = f"Cannot {action} {path}: {_reason(error)}. {_remedy(error)} Nothing that was stored is lost."
    return StorageError(message, path=path)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _remedy(error: OSError) -> str:
    if error.errno in _NO_SPACE:
        return "Free some space, or put acme_storage on another disk."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Let user {os.geteuid()}, who runs the server, write there, or choose another acme_storage."
    return "Look at the disk, or choose another acme_storage."
