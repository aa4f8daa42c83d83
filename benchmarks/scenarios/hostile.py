"""A good client beside many hostile ones."""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks import clients
from benchmarks.crowd import crowd
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, with_application

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer, Server

__all__ = ["FAILED", "MEDIAN", "MEDIAN_RATIO", "SCENARIO", "WORST"]

MEDIAN: Final = Measure("good median ms")
MEDIAN_RATIO: Final = Measure("times unloaded", digits=2)
WORST: Final = Measure("good worst ms", digits=0)
FAILED: Final = Measure("good failed", digits=0)
GOT_IN: Final = Measure("hostile got in", digits=0)

GOOD: Final = 60
GOOD_TIMEOUT: Final = 3.0

COMPARED: Final = ("secureserve", "cheroot, builtin", "gunicorn", "nginx and waitress")


def _run(kind: str, count: int, running: RunningServer, plan: Plan) -> Mapping[str, float]:
    before, _failed = clients.latencies(running.port, count=GOOD, seconds=plan.good_seconds, timeout=GOOD_TIMEOUT)
    with crowd(kind, count, running.port) as hostile:
        during, failed = clients.latencies(running.port, count=GOOD, seconds=plan.good_seconds, timeout=GOOD_TIMEOUT)
    values = {FAILED.name: float(failed), GOT_IN.name: float(hostile.got_in)}
    if during:
        median = statistics.median(during)
        values |= {MEDIAN.name: median * 1e3, WORST.name: max(during) * 1e3}
        values[MEDIAN_RATIO.name] = median / statistics.median(before)
    return values


def _refuses(server: Server) -> str | None:
    if not server.name.startswith(COMPARED):
        return "not compared in this scenario"
    return with_application(server)


def _cases(plan: Plan) -> tuple[Case, ...]:
    return tuple(
        Case(
            f"{count} {kind}",
            (MEDIAN, MEDIAN_RATIO, WORST, FAILED, GOT_IN),
            partial(_run, kind, count),
            fresh=True,
            once=True,
            refuses=_refuses,
        )
        for kind in plan.hostile_kinds
        for count in plan.hostile_counts
    )


SCENARIO: Final = Scenario(
    "hostile",
    f"One good client makes up to {GOOD} new connections, one after the other, for 12 bytes each, waiting "
    f"{GOOD_TIMEOUT:.0f} s at most; beside it hostile clients, in a process of their own: silent (connected, say "
    "nothing), half a hello (of TLS, then silent), shaken (handshake done, then silent), half a head (one byte of "
    "it a second), slow body (one byte a second), slow reader (asks for 1 MB and reads none). Fewer than all may "
    "get in.",
    _cases,
)
