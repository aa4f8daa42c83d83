"""Child processes: started, weighed and stopped, each with all its own children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Child", "cpu_seconds", "descriptors", "pss"]

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
STOP_SECONDS: Final = 8.0
"""What a child has to end in once asked."""


class Child:
    """A process in a session of its own, so that nothing of it is left when it is stopped.

    Args:
        command: Program and arguments.
        directory: Where it runs.
        log: Takes what it prints.
    """

    def __init__(self, command: Sequence[str], *, directory: Path, log: IO[bytes], piped: bool = False) -> None:
        pipe = subprocess.PIPE if piped else None
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or log,
            stderr=log,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The id of the process, and of its session."""
        return self.process.pid

    def has_ended(self) -> bool:
        """Return whether it ended by itself."""
        return self.process.poll() is not None

    def tree(self) -> list[int]:
        """Return the ids of the process and everything that it started."""
        return [self.pid, *_descendants(self.pid)]

    def stop(self) -> None:
        """Ask it to end, and end it and everything of its session if it does not."""
        with contextlib.suppress(ProcessLookupError):
            if self.process.poll() is None:
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(STOP_SECONDS)
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for word in listing.read_text().split():
                found += [int(word), *_descendants(int(word))]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that processes have used, user and system, with that of children that ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks * TICK


def pss(pids: Sequence[int]) -> int:
    """Return the memory of processes in bytes, what they share divided among those who share it."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def descriptors(pids: Sequence[int]) -> int:
    """Return how many descriptors processes have open."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids if Path(f"/proc/{pid}").exists())
