"""Key and certificate files: read whole and bounded, written atomically and for the owner only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

__all__ = [
    "MAX_FILE_SIZE",
    "Lock",
    "explain",
    "make_private_directory",
    "read",
    "read_as_is",
    "state_of",
    "write_atomically",
]

MAX_FILE_SIZE: Final = 1024 * 1024
"""Bytes. A chain with its key is a few kilobytes; whatever is larger than this is some other file."""


def read(path: str | os.PathLike[str]) -> bytes:
    """Return a regular file's content.

    Raises:
        OSError: It cannot be read, is not a regular file (one that is a pipe could block for ever), or is too large.
    """
    return read_as_is(path)[0]


def read_as_is(path: str | os.PathLike[str]) -> tuple[bytes, tuple[int, ...]]:
    """Return a regular file's content, and the `state_of` the file that it was read from.

    Raises:
        OSError: As `read`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", os.fspath(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
        data = file.read(MAX_FILE_SIZE + 1)
    if len(data) > MAX_FILE_SIZE:
        raise OSError(errno.EFBIG, f"is larger than {MAX_FILE_SIZE} bytes", os.fspath(path))
    return data, state_of(status)


def state_of(status: os.stat_result) -> tuple[int, ...]:
    """Return which file a status is of, and what changes whenever that file does."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def write_atomically(
    path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Put a file in place so that a reader sees the old content or the new one, and a crash leaves one of the two.

    Where the path is a symbolic link, the file that it leads to is replaced, and the link stays.

    Args:
        path: Where.
        data: All of its content.
        mode: Its permissions; the file never has wider ones, not even for a moment.
        owner: Its user and group id; None for ours.

    Raises:
        OSError: It could not be written. Nothing has changed then.
    """
    target = Path(os.path.realpath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    _sync_directory(target.parent)


def make_private_directory(path: Path) -> None:
    """Make a directory, and what is missing above it, for the owner only (0700).

    Raises:
        OSError: It could not be made, or what is there belongs to somebody else.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = path.stat()
    if state.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"belongs to user {state.st_uid}, not to us", str(path))
    if stat.S_IMODE(state.st_mode) & 0o077:
        path.chmod(0o700)


class Lock:
    """A lock file, held exclusively inside a ``with`` block; entering waits for other processes and threads to leave.

    Args:
        path: The file, which is made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


def explain(error: OSError) -> str:
    """Return why a file could not be used, as a clause for people (``does not exist``)."""
    if isinstance(error, FileNotFoundError):
        return "does not exist: check the path"
    if isinstance(error, PermissionError) and error.errno == errno.EACCES:
        return f"may not be read by user {os.geteuid()}: change its owner or its mode"
    return (error.strerror or str(error)).lower()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some file systems have no such notion; the rename itself was atomic.
        return
    finally:
        os.close(descriptor)
