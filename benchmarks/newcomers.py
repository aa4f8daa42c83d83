"""Clients that make a new connection for each request, with a full handshake every time.

wrk cannot be had for this: it resumes its sessions, which makes the server's work less where that is offered.

Run as a program, ``python -m benchmarks.newcomers PORT CLIENTS SECONDS``, it prints how many connections were made, how
many failed, and how long it took.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Final

from benchmarks import clients
from benchmarks.environment import ROOT

__all__ = ["Visits", "visit"]

PROCESSES: Final = 2
"""So that the interpreter lock of the clients is not the limit."""
GRACE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Visits:
    """What came of it."""

    connections: int
    failed: int
    rate: float


def visit(port: int, *, count: int, seconds: float) -> Visits:
    """Have clients connect again and again.

    Args:
        port: Of the server, on loopback.
        count: Clients, at the same time.
        seconds: How long.

    Raises:
        RuntimeError: Nobody was answered.
    """
    command = [sys.executable, "-m", "benchmarks.newcomers", str(port), str(count // PROCESSES), str(seconds)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    try:
        told = [process.communicate(timeout=seconds + GRACE_SECONDS)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    made = [(int(connections), int(failed), float(took)) for connections, failed, took in told]
    visits = Visits(sum(m[0] for m in made), sum(m[1] for m in made), sum(m[0] / m[2] for m in made))
    if not visits.connections:
        message = f"nobody was answered; {visits.failed} tried"
        raise RuntimeError(message)
    return visits


def main() -> None:
    """Be the clients of one process."""
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    made, failed = [0] * count, [0] * count
    began = time.monotonic()

    def come(place: int) -> None:
        while time.monotonic() < began + seconds:
            try:
                clients.fetch_once(port, timeout=clients.TIMEOUT)
            except (OSError, ValueError):
                failed[place] += 1
            else:
                made[place] += 1

    threads = [threading.Thread(target=come, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(made), sum(failed), time.monotonic() - began)


if __name__ == "__main__":
    main()
