"""Changes in directories, as the kernel tells them (inotify(7)).

A file that is written in place counts when its writer closes it, and not with every write. So a log beside a
certificate wakes nobody: libraries for this ask the kernel for every write, and pass over what they did not want
afterwards, which a busy log makes more work than the requests that it is about.
"""

from __future__ import annotations

import errno
import os
import select
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

__all__ = ["Alarm", "Notifications"]

# From <sys/inotify.h>.
_ATTRIBUTES: Final = 0x0004
_CLOSED_AFTER_WRITING: Final = 0x0008
_MOVED: Final = 0x0040 | 0x0080
_CREATED: Final = 0x0100
_DELETED: Final = 0x0200 | 0x0400
_MOVED_ITSELF: Final = 0x0800
_ONLY_DIRECTORIES: Final = 0x0100_0000

_CHANGES: Final = _ATTRIBUTES | _CLOSED_AFTER_WRITING | _MOVED | _CREATED | _DELETED | _MOVED_ITSELF

_EVENT: Final = struct.Struct("iIII")
"""Watch, mask, cookie, and the size of the name that follows."""

_BUFFER_SIZE: Final = 65536


class Alarm:
    """Something that happens once, and that ends a wait.

    Threads: any.
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        """Return the descriptor that is readable from then on."""
        return self._fd

    def ring(self) -> None:
        """Let it happen."""
        os.eventfd_write(self._fd, 1)

    def wait(self, timeout: float) -> bool:
        """Wait until it has happened, for so many seconds, and return whether it has."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


class Notifications:
    """What changes in some directories (not below them), from when this is made until it is closed.

    Args:
        directories: Absolute paths. Those that this process may not read are passed over.

    Raises:
        FileNotFoundError: There is no such directory.
        OSError: The kernel gives no more watches, or none at all.

    Threads: one.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        self._directories: dict[int, list[str]] = {}
        self._fd = _call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            for directory in directories:
                self._add(directory)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Watch no more."""
        os.close(self._fd)

    def wait(self, alarm: Alarm, timeout: float | None = None) -> list[str]:
        """Wait for changes, and return the paths that changed; none when the time is up, or the alarm rings.

        A directory itself is named when it was moved or removed, and all are when the kernel has lost count.

        Args:
            alarm: What ends the wait.
            timeout: Seconds; None for as long as it takes.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(alarm, select.POLLIN)
        ready = poll.poll(None if timeout is None else timeout * 1000)
        return self._read() if any(fd == self._fd for fd, _ in ready) else []

    def _add(self, directory: str) -> None:
        try:
            watch = _call("inotify_add_watch", self._fd, os.fsencode(directory), _CHANGES | _ONLY_DIRECTORIES)
        except PermissionError:
            return
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "No such directory", directory) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OSError(errno.ENOSPC, "the limit fs.inotify.max_user_watches is reached") from None
            raise
        # One directory may be mounted at several places.
        self._directories.setdefault(watch, []).append(directory)

    def _read(self) -> list[str]:
        data = os.read(self._fd, _BUFFER_SIZE)
        changed: list[str] = []
        at = 0
        while at < len(data):
            watch, _, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + size].rstrip(b"\0"))
            at += size
            directories = self._directories.get(watch)
            if directories is None:
                # The queue was full, and the kernel dropped what came then.
                directories = [each for mounted in self._directories.values() for each in mounted]
            changed += [os.path.join(directory, name) if name else directory for directory in directories]  # noqa: PTH118 - names are compared as they are
        return changed


def _call(function: str, *arguments: Any) -> int:
    import ctypes

    result: int = getattr(_libc(), function)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@lru_cache(maxsize=1)
def _libc() -> Any:
    # Only who watches pays for it.
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
