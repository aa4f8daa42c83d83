"""Large answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.application import CONTENT
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, measure_cpu
from benchmarks.wrk import drive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["CPU", "RATE", "SCENARIO"]

RATE: Final = Measure("MB/s", more_is_better=True, digits=0)
CPU: Final = Measure("CPU s/GB", digits=2)
CLIENTS: Final = 4


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    with measure_cpu(running) as cpu:
        load = drive(running.port, "/1m", connections=CLIENTS, seconds=plan.seconds)
    size = load.requests * len(CONTENT["/1m"])
    return {RATE.name: size / load.seconds / 1e6, CPU.name: cpu.seconds / size * 1e9}


def _cases(_: Plan) -> tuple[Case, ...]:
    return (Case("1 MB", (RATE, CPU), _run),)


SCENARIO: Final = Scenario(
    "downloads",
    "Bodies of 1 MB (1,048,576 bytes) that the application has as one piece, to 4 clients of wrk on kept connections."
    " nginx sends them from a file.",
    _cases,
)
