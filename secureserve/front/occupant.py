"""Who listens on a port already, for the message that says so. Linux tells in ``/proc``; elsewhere nobody is named."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

__all__ = ["find_occupant"]

_LISTENING: Final = "0A"
"""TCP_LISTEN as ``/proc/net/tcp`` writes it."""


def find_occupant(port: int, *, proc: Path = Path("/proc")) -> str:
    """Return who listens on a TCP port, such as ``nginx (process 812)``; empty where that cannot be told.

    Args:
        port: The port.
        proc: Where the proc file system is mounted.
    """
    sockets = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _inodes(proc / "net" / table, port)}
    if not sockets:
        return ""
    for process in proc.glob("[0-9]*"):
        # Processes end while they are being looked at, and those of other users do not show their descriptors.
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in sockets:
                        return _describe(process)
    return ""


def _inodes(table: Path, port: int) -> list[str]:
    try:
        lines = table.read_text(encoding="ascii", errors="replace").splitlines()[1:]
    except OSError:
        return []
    wanted = f":{port:04X}"
    columns = (line.split() for line in lines)
    return [row[9] for row in columns if len(row) > 9 and row[1].endswith(wanted) and row[3] == _LISTENING]  # noqa: PLR2004 - the columns of the table


def _describe(process: Path) -> str:
    if int(process.name) == os.getpid():
        return f"this process itself ({process.name})"
    # A process may call itself anything, so what it says must not be able to end the line of a log.
    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    return f"{''.join(c if c.isprintable() else '?' for c in name)} (process {process.name})"
