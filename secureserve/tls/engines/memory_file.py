"""A file for libraries that take nothing else, which nobody else can open and which is gone at once."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["memory_file"]


@contextmanager
def memory_file(data: bytes) -> Iterator[str]:
    """Lend a path under which `data` can be read until the block is left.

    On Linux the file is anonymous memory and never reaches a disk. Elsewhere it has mode 0600 in a directory of mode
    0700, and both are removed at the end.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("secureserve")
        try:
            path = f"/proc/self/fd/{descriptor}"
            if Path(path).exists():
                with os.fdopen(descriptor, "wb", closefd=False) as file:
                    file.write(data)
                yield path
                return
        finally:
            os.close(descriptor)
    with tempfile.TemporaryDirectory(prefix="secureserve-") as directory:
        path = os.path.join(directory, "data")  # noqa: PTH118 - the libraries want text
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield path
