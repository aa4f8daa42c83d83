"""Quick requests beside slow ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, with_application
from benchmarks.wrk import drive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["P50", "P99", "SCENARIO"]

P50: Final = Measure("quick p50 ms", digits=2)
P99: Final = Measure("quick p99 ms", digits=2)
QUICK: Final = Measure("quick requests/s", more_is_better=True, digits=0)
SCRIPT: Final = Path(__file__).with_name("mixed.lua")
CLIENTS: Final = 10
KINDS: Final = (("alone", None), ("beside waiting 50 ms", "/wait50"), ("beside computing 50 ms", "/compute"))


def _run(slow_path: str | None, running: RunningServer, plan: Plan) -> Mapping[str, float]:
    load = drive(
        running.port,
        "/",
        connections=CLIENTS,
        threads=CLIENTS,
        seconds=plan.seconds,
        script=SCRIPT,
        arguments=() if slow_path is None else (slow_path,),
    )
    return {
        P50.name: load.told["p50"] / 1e3,
        P99.name: load.told["p99"] / 1e3,
        QUICK.name: load.told["quick"] / load.seconds,
    }


def _cases(plan: Plan) -> tuple[Case, ...]:
    return tuple(
        Case(f"quick, {name}", (P50, P99, QUICK), partial(_run, path), refuses=with_application)
        for name, path in (KINDS if plan.every_case else KINDS[1:2])
    )


SCENARIO: Final = Scenario(
    "mixed",
    "10 clients of wrk, each asking nine times for the quick page and then once for one that waits, or computes in "
    "Python, for 50 ms; 10 worker threads where there are threads. What is reported is the latency of the quick "
    "ones; alone, all are quick.",
    _cases,
)
