"""Large requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, measure_cpu, with_application
from benchmarks.wrk import drive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["CPU", "RATE", "SCENARIO"]

RATE: Final = Measure("MB/s", more_is_better=True, digits=0)
CPU: Final = Measure("CPU s/GB", digits=2)
SCRIPT: Final = Path(__file__).with_name("uploads.lua")
SIZE: Final = 10 * 1024 * 1024
CLIENTS: Final = 4


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    with measure_cpu(running) as cpu:
        load = drive(running.port, "/upload", connections=CLIENTS, seconds=plan.seconds, script=SCRIPT)
    if load.errors:
        message = f"{load.errors} of {load.requests} uploads failed"
        raise RuntimeError(message)
    size = load.requests * SIZE
    return {RATE.name: size / load.seconds / 1e6, CPU.name: cpu.seconds / size * 1e9}


def _cases(_: Plan) -> tuple[Case, ...]:
    return (Case("10 MB", (RATE, CPU), _run, refuses=with_application),)


SCENARIO: Final = Scenario(
    "uploads",
    "POST of 10 MB (10,485,760 bytes) from 4 clients of wrk on kept connections. The application reads it to the "
    "end in pieces of 64 kB, in ASGI in the server's own pieces, and answers with its size. Behind nginx the "
    "application hears of it when nginx has it all.",
    _cases,
)
