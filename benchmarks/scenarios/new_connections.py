"""A new TLS connection for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.newcomers import visit
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, measure_cpu

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["CPU", "RATE", "SCENARIO"]

RATE: Final = Measure("connections/s", more_is_better=True, digits=0)
CPU: Final = Measure("CPU us/connection", digits=0)
FAILED: Final = Measure("failed", digits=0)
CLIENTS: Final = 16


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    with measure_cpu(running) as cpu:
        visits = visit(running.port, count=CLIENTS, seconds=plan.seconds)
    return {
        RATE.name: visits.rate,
        CPU.name: cpu.seconds / visits.connections * 1e6,
        FAILED.name: visits.failed,
    }


def _cases(_: Plan) -> tuple[Case, ...]:
    return (Case(f"{CLIENTS} clients", (RATE, CPU, FAILED), _run),)


SCENARIO: Final = Scenario(
    "new connections",
    "A full TLS 1.3 handshake with an ECDSA P-256 certificate, one request of 12 bytes, and a close, from 16 "
    "clients of our own in two processes. A client's part costs more than the server's and runs on the same cores, "
    "so the CPU says more than the rate. (wrk would resume its sessions.)",
    _cases,
)
