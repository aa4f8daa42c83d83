"""Requests on connections that are kept."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, measure_cpu
from benchmarks.wrk import drive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["CPU", "P50", "P99", "RATE", "SCENARIO"]

RATE: Final = Measure("requests/s", more_is_better=True, digits=0)
CPU: Final = Measure("CPU us/request")
P50: Final = Measure("p50 ms", digits=2)
P99: Final = Measure("p99 ms", digits=2)
ERRORS: Final = Measure("errors", digits=0)

CHIEF: Final = 32
LOADS: Final = (("12 B", "/", 1), ("12 B", "/", 32), ("12 B", "/", 256), ("10 kB", "/10k", 32), ("10 kB", "/10k", 256))


def _run(path: str, connections: int, running: RunningServer, plan: Plan) -> Mapping[str, float]:
    with measure_cpu(running) as cpu:
        load = drive(running.port, path, connections=connections, seconds=plan.seconds)
    return {
        RATE.name: load.rate,
        CPU.name: cpu.seconds / load.requests * 1e6,
        P50.name: load.p50 * 1e3,
        P99.name: load.p99 * 1e3,
        ERRORS.name: load.errors,
    }


def _cases(plan: Plan) -> tuple[Case, ...]:
    return tuple(
        Case(f"{size}, {connections} connections", (RATE, CPU, P50, P99, ERRORS), partial(_run, path, connections))
        for size, path, connections in LOADS
        if plan.every_case or connections == CHIEF
    )


SCENARIO: Final = Scenario(
    "keepalive",
    "The same bytes from the same application, TLS 1.3, one process, 10 worker threads where there are threads. "
    "wrk with one thread on the same cores, as many connections as are named, each asking again as soon as it is "
    "answered. The CPU is the server's own, with the handshakes at the start.",
    _cases,
)
