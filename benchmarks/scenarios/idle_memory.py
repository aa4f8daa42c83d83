"""Memory: at start, and for each connection that is kept and says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.crowd import crowd
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["CONNECTION", "SCENARIO", "START"]

START: Final = Measure("MB at start")
CONNECTION: Final = Measure("kB/connection")
STAYED: Final = Measure("connections kept", more_is_better=True, digits=0)


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    at_start = running.pss()
    with crowd("idle", plan.idle_connections, running.port) as idle:
        grown = running.pss() - at_start
        kept = idle.count_open()
    return {START.name: at_start / 1e6, CONNECTION.name: grown / plan.idle_connections / 1e3, STAYED.name: kept}


def _cases(_: Plan) -> tuple[Case, ...]:
    return (Case("idle", (START, CONNECTION, STAYED), _run, fresh=True),)


SCENARIO: Final = Scenario(
    "memory",
    "Proportional set size of all the server's processes: after its first answer, and how much more with idle TLS "
    "connections, each of which was answered once and is then kept (1,000 of them; 100 in the short run).",
    _cases,
)
