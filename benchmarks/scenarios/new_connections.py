"""A new TLS connection for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, measure_cpu
from benchmarks.wrk import drive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["CPU", "RATE", "SCENARIO"]

RATE: Final = Measure("connections/s", more_is_better=True, digits=0)
CPU: Final = Measure("CPU us/connection", digits=0)
CLIENTS: Final = 16


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    with measure_cpu(running) as cpu:
        load = drive(running.port, "/", connections=CLIENTS, seconds=plan.seconds, close=True)
    return {RATE.name: load.rate, CPU.name: cpu.seconds / load.requests * 1e6}


def _cases(_: Plan) -> tuple[Case, ...]:
    return (Case(f"{CLIENTS} clients", (RATE, CPU), _run),)


SCENARIO: Final = Scenario(
    "new connections",
    "A full TLS 1.3 handshake with an ECDSA P-256 certificate, one request of 12 bytes, and a close, from 16 "
    "clients of wrk. The client's part of a handshake costs about as much as the server's and runs on the same "
    "cores, so the CPU says more than the rate.",
    _cases,
)
