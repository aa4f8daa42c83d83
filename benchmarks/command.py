"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.results import Results

__all__ = ["main"]

SHORT_BUDGET: Final = 160.0
FULL_BUDGET: Final = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status."""
    options = _parser().parse_args(arguments)
    if not environment.has_tool("wrk"):
        print("This needs wrk, the load generator: install the package of that name.")
        return 2
    environment.enter(options.environment)
    return _measure(options) if options.report is None else _report(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description="Measure secureserve and its peers side by side."
    )
    parser.add_argument("--short", action="store_true", help="one round of a second for each value: under 3 minutes")
    parser.add_argument("--seconds", type=float, help="seconds for each value")
    parser.add_argument("--rounds", type=int, help="how often each server has its turn")
    parser.add_argument("--budget", type=float, help="seconds after which nothing more is begun")
    parser.add_argument("--server", action="append", help="the beginning of a server's name; may be repeated")
    parser.add_argument("--scenario", action="append", help="the beginning of a scenario's name; may be repeated")
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"), help="the directory for the reports")
    parser.add_argument(
        "--environment", type=Path, help="where the virtual environment with the peers is, or is to be made"
    )
    parser.add_argument("--report", type=Path, action="append", help="measure nothing: report what a results.json has")
    parser.add_argument("--page", type=Path, help="a page of the documentation to put the figures into")
    return parser


def _measure(options: argparse.Namespace) -> int:
    # What follows needs the environment.
    from benchmarks.crowd import raise_descriptor_limit
    from benchmarks.measuring import measure
    from benchmarks.results import Results
    from benchmarks.scenario import FULL, SHORT
    from benchmarks.scenarios import SCENARIOS
    from benchmarks.servers import SERVERS

    plan = SHORT if options.short else FULL
    changes = {name: getattr(options, name) for name in ("seconds", "rounds") if getattr(options, name)}
    plan = dataclasses.replace(plan, **changes)
    servers = [server for server in SERVERS if _is_chosen(server.name, options.server)]
    scenarios = [scenario for scenario in SCENARIOS if _is_chosen(scenario.name, options.scenario)]
    if not servers or not scenarios:
        print("There is no such server or scenario.")
        return 2
    raise_descriptor_limit()
    results = Results(environment.describe(), dataclasses.asdict(plan))
    budget = options.budget or (SHORT_BUDGET if options.short else FULL_BUDGET)
    try:
        measure(
            results, servers=servers, scenarios=scenarios, plan=plan, budget=budget, with_limits=not options.scenario
        )
    except KeyboardInterrupt:
        print("Interrupted; what was measured so far is reported.")
    _write(results, options)
    return 0


def _report(options: argparse.Namespace) -> int:
    from benchmarks.results import Results

    first, *others = (Results.from_json(path.read_text()) for path in options.report)
    for other in others:
        first.take_in(other)
    _write(first, options)
    return 0


def _write(results: Results, options: argparse.Namespace) -> None:
    from benchmarks.chart import chart
    from benchmarks.page import put_figures
    from benchmarks.report import markdown

    text, image = markdown(results), chart(results)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(results.as_json())
    (options.output / "results.md").write_text(text)
    (options.output / "results.svg").write_text(image)
    if options.page is not None:
        put_figures(options.page, text, image)
    print(text)
    print(f"Written: results.json, results.md and results.svg in {options.output}")


def _is_chosen(name: str, beginnings: Sequence[str] | None) -> bool:
    return not beginnings or name.startswith(tuple(beginnings))
