"""Lock files that the system lets go of when their holder dies, and that are removed when nobody holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["acquire", "release"]


def acquire(path: Path, *, wait: bool) -> int | None:
    """Return the descriptor of a lock file that is ours; None when it is somebody else's.

    Whoever lets go removes the file, so the one that was locked may be another than the one that is there now.

    Args:
        path: The file, in a directory that there is. The holder's process number is written to it.
        wait: Wait until it is free.

    Raises:
        OSError: The file cannot be made or written.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                os.fsync(descriptor)
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def release(path: Path, descriptor: int) -> None:
    """Remove a lock file, and let go of it."""
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
