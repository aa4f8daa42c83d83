"""How long importing and starting take."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from benchmarks.environment import ROOT
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

__all__ = ["IMPORT", "SCENARIO", "START"]

IMPORT: Final = Measure("import ms", digits=0)
START: Final = Measure("first answer ms", digits=0)


def _run(running: RunningServer, _: Plan) -> Mapping[str, float]:
    values = {START.name: running.seconds_to_answer * 1e3}
    if running.server.module:
        values[IMPORT.name] = (_seconds(f"import {running.server.module}") - _seconds("pass")) * 1e3
    return values


def _seconds(statement: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True, timeout=60)
    return time.monotonic() - began


def _cases(_: Plan) -> tuple[Case, ...]:
    return (Case("start", (IMPORT, START), _run, fresh=True),)


SCENARIO: Final = Scenario(
    "startup",
    "Importing what a program needs to serve, from bytecode, beyond what the interpreter itself takes; and from the "
    "start of the process to the first answer over TLS, tried again every 5 ms.",
    _cases,
)
