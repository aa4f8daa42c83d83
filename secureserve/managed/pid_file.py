"""The pid file: which process serves, for people and for scripts that send it signals.

The file is locked for as long as the process lives. The lock, not the number, says whether somebody is running: a file
left by a process that was killed has a number but no lock, and is taken over with a word in the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError, StartFailed
from secureserve.managed.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterable

    from secureserve.managed.engine import Engine
    from secureserve.managed.subscriber import Subscription

__all__ = ["PIDFile"]

PRIORITY: Final = 70
"""Before servers start and privileges are dropped, as CherryPy has it."""

LAST: Final = 100

MODE: Final = 0o644


class PIDFile(Subscriber):
    """Keeps the process number in a file while the engine runs.

    Args:
        engine: The engine.
        path: The file. Its directory has to exist.

    Threads: the engine's.
    """

    def __init__(self, engine: Engine, path: str | os.PathLike[str]) -> None:
        super().__init__(engine)
        self.path = Path(path)
        self._descriptor = -1

    def start(self) -> None:
        """Lock the file and write the process number into it. Harmless when that is done.

        Raises:
            StartFailed: Another process holds it.
            ConfigurationError: It cannot be written there.
        """
        if self._descriptor >= 0:
            return
        try:
            former = self._lock_current()
            try:
                self._descriptor = self._put_in_place()
            finally:
                os.close(former)
        except StartFailed:
            raise
        except OSError as error:
            remedy = "Choose a directory that exists and that this user may write to."
            raise ConfigurationError(
                "pid_file", str(self.path), f"cannot be written ({error.strerror})", remedy
            ) from error

    def exit(self) -> None:
        """Remove the file, if it is still ours. Harmless when that is done."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if _is_at(descriptor, self.path):
                self._remove(descriptor)
        finally:
            os.close(descriptor)

    def _subscriptions(self) -> Iterable[Subscription]:
        return [("start", self.start, PRIORITY), ("exit", self.exit, LAST)]

    def _lock_current(self) -> int:
        """Open and lock the file that is there, or an empty new one: who has its lock may replace it."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
            try:
                self._lock(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if _is_at(descriptor, self.path):
                if (former := _number_in(descriptor)) and former != str(os.getpid()):
                    self.engine.log(
                        f"Pid file {self.path} was left by process {former}, which is gone", logging.WARNING
                    )
                return descriptor
            # Another process replaced it between the opening and the locking.
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _number_in(descriptor) or "another process"
            message = f"Pid file {self.path} is held by {holder}: it is running already, or choose another pid_file."
            raise StartFailed(message) from None

    def _put_in_place(self) -> int:
        """Write a new locked file beside it, and rename that over it, so that nobody reads half a number."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            os.fsync(descriptor)
            beside.replace(self.path)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        return descriptor

    def _remove(self, descriptor: int) -> None:
        try:
            self.path.unlink()
        except OSError as error:
            # After privileges were dropped the directory may be out of reach; an empty file names nobody.
            os.ftruncate(descriptor, 0)
            self.engine.log(
                f"Pid file {self.path} cannot be removed ({error.strerror}) and was emptied", logging.WARNING
            )


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _number_in(descriptor: int) -> str:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return text if text.isdecimal() else ""
