"""The secrets of connections in a file, for debugging with a packet analyser: whoever has it reads the traffic."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KeyLog"]

_LOGGER: Final = logging.getLogger("secureserve.error")


class KeyLog:
    """Appends lines in the format that NSS made common to a file of mode 0600.

    Args:
        path: The file, made when it is not there.

    Raises:
        ConfigurationError: It cannot be written, or others may read it.

    Threads: any thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise ConfigurationError(
                "keylog_file", str(path), f"cannot be written: {error.strerror}", "Name a file in a directory of yours."
            ) from None
        if os.fstat(self._descriptor).st_mode & 0o077:
            os.close(self._descriptor)
            raise ConfigurationError(
                "keylog_file", str(path), "can be read by others", "Remove it, or give it mode 0600."
            )
        _LOGGER.warning("the secrets of all connections are being written to %s: anyone with it can read them", path)

    def write(self, line: bytes) -> None:
        """Append one line; nothing once closed."""
        with self._lock:
            if self._descriptor >= 0:
                os.write(self._descriptor, line + b"\n")

    def close(self) -> None:
        """Stop writing. Harmless when closed."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
