"""Connections that resume a TLS session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from benchmarks import clients
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, measure_cpu

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["CPU", "RESUMED", "SCENARIO"]

RESUMED: Final = Measure("resumed %", more_is_better=True)
CPU: Final = Measure("CPU us/connection", digits=0)
AT_MOST: Final = 2000


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    session = clients.resume(running.port, None)[0]
    made = resumed = 0
    deadline = time.monotonic() + plan.seconds
    with measure_cpu(running) as cpu:
        while made < AT_MOST and time.monotonic() < deadline:
            session, was_resumed = clients.resume(running.port, session)
            resumed += was_resumed
            made += 1
    return {RESUMED.name: 100 * resumed / made, CPU.name: cpu.seconds / made * 1e6}


def _cases(_: Plan) -> tuple[Case, ...]:
    return (Case("one client", (RESUMED, CPU), _run),)


SCENARIO: Final = Scenario(
    "resumption",
    "One client that connects again and again, each time with the newest TLS 1.3 ticket that it was given, and "
    "asks for 12 bytes.",
    _cases,
)
