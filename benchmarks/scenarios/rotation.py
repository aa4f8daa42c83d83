"""Another certificate, again and again, under load."""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING, Final

from benchmarks import clients
from benchmarks.processes import descriptors
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario
from benchmarks.wrk import drive

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer, Server
    from benchmarks.wrk import Load

__all__ = ["DESCRIPTORS", "FAILED", "MEMORY", "P99", "RESUMED", "SCENARIO", "SERVED"]

DONE: Final = Measure("rotations", more_is_better=True, digits=0)
SERVED: Final = Measure("served after ms", digits=2)
WORST: Final = Measure("worst ms", digits=1)
FAILED: Final = Measure("failed", digits=0)
P99: Final = Measure("p99, times without", digits=2)
RESUMED: Final = Measure("resumed %", more_is_better=True)
MEMORY: Final = Measure("MB grown")
DESCRIPTORS: Final = Measure("descriptors grown", digits=0)

CONNECTIONS: Final = 32
ROTATION_SECONDS: Final = 0.02
"""Allowed for each rotation; those for which there is no time are not made."""


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    without = drive(running.port, "/", connections=CONNECTIONS, seconds=plan.seconds)
    memory, open_before = running.pss(), descriptors(running.pids())
    seconds = max(plan.rotations * ROTATION_SECONDS, plan.seconds)
    loads: list[Load] = []
    loader = threading.Thread(
        target=lambda: loads.append(drive(running.port, "/", connections=CONNECTIONS, seconds=seconds + 1))
    )
    loader.start()
    try:
        rotated = _rotate(running, plan.rotations, time.monotonic() + seconds)
    finally:
        loader.join()
    load = loads[0]
    return {
        **rotated,
        FAILED.name: rotated[FAILED.name] + load.errors,
        P99.name: load.p99 / without.p99,
        MEMORY.name: (running.pss() - memory) / 1e6,
        DESCRIPTORS.name: descriptors(running.pids()) - open_before,
    }


def _rotate(running: RunningServer, rotations: int, deadline: float) -> dict[str, float]:
    taken: list[float] = []
    failed = resumed = 0
    session: ssl.SSLSession | None = None
    for number in range(rotations):
        began = time.monotonic()
        if began > deadline:
            break
        credential = running.credentials[(number + 1) % 2]
        running.command(f"rotate {credential.certificate} {credential.key}")
        try:
            while _served(running.port) != credential.fingerprint:
                if time.monotonic() - began > clients.TIMEOUT:
                    message = "the certificate that was put in place was not served"
                    raise RuntimeError(message)
            taken.append(time.monotonic() - began)
            session, was_resumed = clients.resume(running.port, session)
            resumed += was_resumed
        except (OSError, ValueError):
            failed += 1
    return {
        DONE.name: len(taken),
        SERVED.name: statistics.median(taken) * 1e3,
        WORST.name: max(taken) * 1e3,
        FAILED.name: failed,
        RESUMED.name: 100 * resumed / max(len(taken) - 1, 1),
    }


def _served(port: int) -> str:
    with clients.connect(port, timeout=clients.TIMEOUT) as sock:
        return clients.fingerprint(sock)


def _refuses(server: Server) -> str | None:
    return None if server.rotates else "does not take another certificate while it runs"


def _cases(_: Plan) -> tuple[Case, ...]:
    measures = (DONE, SERVED, WORST, FAILED, P99, RESUMED, MEMORY, DESCRIPTORS)
    return (Case("under load", measures, _run, fresh=True, once=True, refuses=_refuses),)


SCENARIO: Final = Scenario(
    "rotation",
    "The program swaps between two certificates as often as it can, while 32 kept connections ask for 12 bytes "
    "each. After every rotation a new connection must be shown the new certificate, and another one resumes a "
    "session from before it. The times run from the call to the end of the first handshake that shows it. Failures "
    "are those of handshakes and requests together.",
    _cases,
)
