"""Clients that make a new connection for each request, with a full handshake every time.

wrk cannot be had for this: it resumes its sessions, which makes the server's work less where that is offered.

Run as a program, ``python -m benchmarks.newcomers PORT CLIENTS SECONDS [INTERVAL]``, it prints how many connections
were made, how many failed, and how long it took. Without an interval each client begins with the next as soon as it is
through with one; with it, all of them together begin with one every so many seconds, until standard input ends.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks import clients
from benchmarks.environment import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Visits", "visit", "visiting"]

PROCESSES: Final = 2
"""So that the interpreter lock of the clients is not the limit."""
GRACE_SECONDS: Final = 20.0


@dataclass(slots=True)
class Visits:
    """What came of it.

    Attributes:
        connections: How many were made, and answered.
        failed: How many were not.
        rate: Connections per second.
    """

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


@contextmanager
def visiting(port: int, *, every: float, count: int = 8) -> Iterator[Visits]:
    """Have clients connect at regular intervals for the length of a block, after which it can be seen what came of it.

    Args:
        port: Of the server, on loopback.
        every: Seconds from the beginning of one connection to that of the next.
        count: Connections that may be under way at the same time.
    """
    command = [sys.executable, "-m", "benchmarks.newcomers", str(port), str(count), "inf", str(every)]
    visits = Visits(0, 0, 0.0)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield visits
            told = process.communicate(timeout=GRACE_SECONDS)[0].split()
        finally:
            process.kill()
    visits.connections, visits.failed = int(told[0]), int(told[1])
    visits.rate = visits.connections / float(told[2])


def main() -> None:
    """Be the clients of one process."""
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    interval = float(sys.argv[4]) if sys.argv[4:] else 0.0
    made, failed = [0] * count, [0] * count
    began = time.monotonic()
    ended = threading.Event()
    if interval:
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()

    def come(place: int) -> None:
        for visit_ in itertools.count():
            due = began + (visit_ * count + place) * interval
            if ended.wait(max(due - time.monotonic(), 0)) or time.monotonic() >= began + seconds:
                return
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
