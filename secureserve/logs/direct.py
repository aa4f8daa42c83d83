"""`DirectWriter`: lines straight to the file behind a stream, so that no thread waits for another one's write."""

from __future__ import annotations

import io
import os
import select
import stat
import threading
from typing import Any, Final

__all__ = ["DirectWriter"]

_STANDARD: Final = (1, 2)
"""The descriptors of standard output and standard error, which are open as long as the process runs."""


class DirectWriter:
    """Writes lines of ASCII to the file behind a text stream, each with one call.

    The kernel keeps such a write whole: to a file, to a terminal, and up to PIPE_BUF bytes to a pipe. So there is
    nothing that a lock would be needed for, and a lock that is held during a system call is one that threads queue at.

    The descriptor is a copy that belongs to this object for good. When another stream takes the place of the first, as
    when a log is opened anew, the copy is pointed at the new file: whoever is about to write cannot meet a descriptor
    that has been closed, or that stands for something else by now.

    Threads: any.
    """

    __slots__ = ("_fd", "_is_direct", "_lock", "_stream")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = -1
        self._stream: Any = None
        self._is_direct = False

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def write(self, stream: Any, line: str) -> bool:
        """Write a line, with its end, after what the program has written to the stream itself.

        Returns:
            False where nothing was written, and it has to go through the stream: the stream is no plain file, its file
            could not be written just now, or the line is too long for a pipe to keep it whole.
        """
        try:
            if stream is not self._stream:
                self._follow(stream)
            if not self._is_direct or len(line) > select.PIPE_BUF:
                return False
            stream.flush()
            written = os.write(self._fd, line.encode("ascii"))
        except (OSError, ValueError):
            return False
        if written < len(line):
            stream.write(line[written:])
            stream.flush()
        return True

    def _follow(self, stream: Any) -> None:
        with self._lock:
            self._is_direct = _is_plain_file(stream)
            if self._is_direct and self._fd < 0:
                self._fd = os.dup(stream.fileno())
            elif self._is_direct:
                os.dup2(stream.fileno(), self._fd, inheritable=False)
            self._stream = stream


def _is_plain_file(stream: Any) -> bool:
    """Return whether ASCII that is written to a stream comes to its file as it is, neither compressed nor recoded.

    A pipe has to be standard output or error: whoever reads another one may wait for it to be closed.
    """
    if type(stream) is not io.TextIOWrapper or "\n".encode(stream.encoding) != b"\n":
        return False
    buffer = stream.buffer
    if type(buffer) is not io.FileIO and not (type(buffer) is io.BufferedWriter and type(buffer.raw) is io.FileIO):
        return False
    fd = stream.fileno()
    mode = os.fstat(fd).st_mode
    return fd in _STANDARD or stat.S_ISREG(mode) or stat.S_ISCHR(mode)
