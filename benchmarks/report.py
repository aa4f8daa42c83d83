"""Results in Markdown: ratios first, then the values they come from, then what was not measured and why."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from benchmarks.goals import judge
from benchmarks.limits import LIMITS
from benchmarks.scenario import FULL
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import BASE, SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.goals import Verdict
    from benchmarks.results import Measure, Results, Spread
    from benchmarks.scenario import Case, Scenario

__all__ = ["markdown"]

MANY: Final = 4
"""Cases of one goal from which on only the hardest is told."""


def markdown(results: Results) -> str:
    """Return the whole report."""
    parts = [*_machine(results), *_overview(results), *_goals(results)]
    for scenario in SCENARIOS:
        parts += _scenario(results, scenario)
    parts += [*_limits(results), *_differences(results), *_skipped(results)]
    return "\n".join(parts) + "\n"


def _machine(results: Results) -> Iterator[str]:
    yield "## What it was measured on\n"
    yield from _table(("", ""), ([name, value] for name, value in results.machine.items()))
    rounds, seconds = results.settings["rounds"], results.settings["seconds"]
    yield f"Rounds: {rounds}, with {seconds:g} s for each value. A value is the median, with the least and the"
    yield f"most in brackets. A ratio is to {BASE} in the same round.\n"


def _overview(results: Results) -> Iterator[str]:
    names = [server.name for server in SERVERS if any(sample.server == server.name for sample in results.samples)]
    rows = []
    for scenario in SCENARIOS:
        for case in scenario.cases(FULL):
            for measure in case.measures[:2]:
                ratios = [results.ratio(scenario.name, case.name, name, measure.name) for name in names]
                if any(ratios):
                    what = f"{scenario.name}, {case.name}: {measure.name} {'↑' if measure.more_is_better else '↓'}"
                    rows.append([what, *(f"{ratio.median:.2f}" if ratio else "—" for ratio in ratios)])
    if rows:
        yield "## Ratios\n"
        yield f"To {BASE}. ↑: more is better. ↓: less is better.\n"
        yield from _table(("", *names), rows)


def _goals(results: Results) -> Iterator[str]:
    verdicts = list(_hardest(judge(results)))
    if not verdicts:
        return
    yield "## The goals\n"
    yield from _table(
        ("goal", "case", "engine", "found", "reached"),
        (
            [
                verdict.goal.text,
                verdict.case,
                verdict.engine.partition(", ")[2],
                f"{verdict.found:.2f} of {verdict.to}" if verdict.to else f"{verdict.found:.4g}",
                "yes" if verdict.reached else "**no**",
            ]
            for verdict in verdicts
        ),
    )


def _hardest(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Return the verdicts, of many cases of one goal only the one that is hardest to reach."""
    groups: dict[tuple[str, str, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        key = (verdict.goal.text, verdict.goal.case, verdict.goal.measure.name, verdict.engine)
        groups.setdefault(key, []).append(verdict)
    for group in groups.values():
        if len(group) < MANY:
            yield from group
            continue
        sign = 1 if group[0].goal.measure.more_is_better else -1
        worst = min(group, key=lambda verdict: sign * verdict.found)
        yield dataclasses.replace(worst, case=f"{len(group)} cases, hardest: {worst.case}")


def _scenario(results: Results, scenario: Scenario) -> Iterator[str]:
    cases = [
        case
        for case in scenario.cases(FULL)
        if any(s.case == case.name for s in results.samples if s.scenario == scenario.name)
    ]
    if not cases:
        return
    yield f"## {scenario.name.capitalize()}\n"
    yield f"{scenario.compares}\n"
    for case in cases:
        yield from _case(results, scenario, case)


def _case(results: Results, scenario: Scenario, case: Case) -> Iterator[str]:
    yield f"### {scenario.name.capitalize()}: {case.name}\n"
    chief = case.measures[0]
    rows: list[list[str]] = []
    for server in SERVERS:
        spreads = [results.spread(scenario.name, case.name, server.name, measure.name) for measure in case.measures]
        if any(spreads):
            ratio = results.ratio(scenario.name, case.name, server.name, chief.name)
            shown = "" if ratio is None else f"{ratio.median:.2f}"
            rows.append([server.name, shown, *map(_shown, spreads, case.measures)])
    head = ["server", f"{chief.name}, ratio", *(measure.name for measure in case.measures)]
    if not any(row[1] for row in rows):
        # Nobody to compare with: the server that ratios are to did not get that far.
        head, rows = [head[0], *head[2:]], [[row[0], *row[2:]] for row in rows]
    yield from _table(head, rows)


def _shown(spread: Spread | None, measure: Measure) -> str:
    if spread is None:
        return "—"
    digits = measure.digits
    text = f"{spread.median:,.{digits}f}"
    if spread.least != spread.most:
        text += f" ({spread.least:,.{digits}f}..{spread.most:,.{digits}f})"
    return text


def _limits(results: Results) -> Iterator[str]:
    if results.limits:
        yield "## The limit\n"
        yield "What OpenSSL's own programs reach on this machine, with the system's library.\n"
        rows = ([name, f"{value:,.4g}", LIMITS[name]] for name, value in results.limits.items())
        yield from _table(("", "", "by"), rows)


def _differences(results: Results) -> Iterator[str]:
    yield "## What was not equal\n"
    seen = {sample.server for sample in results.samples}
    yield from _table(
        ("server", "negotiated", "differs"),
        (
            [server.name, results.negotiated.get(server.name, ""), server.differs]
            for server in SERVERS
            if server.name in seen
        ),
    )


def _skipped(results: Results) -> Iterator[str]:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for (scenario, case, server), reason in results.skipped.items():
        rows.setdefault((server, scenario, reason), []).append(case)
    if rows:
        yield "## What was not measured\n"
        shown = (
            [server, scenario, "; ".join(cases) if len(cases) < MANY else f"{len(cases)} cases", reason]
            for (server, scenario, reason), cases in rows.items()
        )
        yield from _table(("server", "scenario", "case", "why"), shown)


def _table(head: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
