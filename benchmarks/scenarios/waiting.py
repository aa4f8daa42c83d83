"""An application that waits, as for a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, measure_cpu, with_application
from benchmarks.scenarios.keepalive import CPU, P99, RATE
from benchmarks.wrk import drive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["IDEAL", "SCENARIO"]

CONNECTIONS: Final = 32
IDEAL_RATE: Final = CONNECTIONS / 0.010
IDEAL: Final = Measure("of the ideal", more_is_better=True, digits=2)


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    with measure_cpu(running) as cpu:
        load = drive(running.port, "/wait10", connections=CONNECTIONS, seconds=plan.seconds)
    return {
        RATE.name: load.rate,
        IDEAL.name: load.rate / IDEAL_RATE,
        CPU.name: cpu.seconds / load.requests * 1e6,
        P99.name: load.p99 * 1e3,
    }


def _cases(_: Plan) -> tuple[Case, ...]:
    return (
        Case("10 ms, 32 connections, 32 threads", (IDEAL, RATE, CPU, P99), _run, threads=32, refuses=with_application),
    )


SCENARIO: Final = Scenario(
    "waiting",
    "The application sleeps 10 ms before it answers; 32 connections, 32 worker threads where there are threads. No "
    f"server can do more than {IDEAL_RATE:,.0f} requests/s: that is the ideal. The servers that speak ASGI sleep on "
    "their event loop, without threads.",
    _cases,
)
