"""The goals, and whether they are reached: each a ratio of values measured in the same round, or a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.scenarios import (
    downloads,
    hostile,
    identity,
    idle_memory,
    keepalive,
    mixed,
    new_connections,
    resumption,
    rotation,
    startup,
    uploads,
    waiting,
)
from benchmarks.servers import BASE, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Measure, Results
    from benchmarks.scenario import Scenario

__all__ = ["GOALS", "Goal", "Verdict", "judge"]

GRANIAN: Final = "granian, WSGI"
UVICORN: Final = "uvicorn"
GUNICORN: Final = "gunicorn gthread"
NGINX: Final = "nginx"
ALONE: Final = "quick, alone"
PYTHON_PEERS: Final = (BASE, "cheroot, pyopenssl", GUNICORN, UVICORN, "hypercorn", GRANIAN)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached.

    Attributes:
        text: In words.
        scenario: Where it is measured.
        case: The beginning of the names of its cases.
        measure: What is looked at.
        limit: The value that is to be reached, or kept to, or the multiple of another server's.
        of: The servers whose value it is a multiple of, all of them; empty where `limit` is the value itself.
        than: The case of the same server whose value it is a multiple of, instead of another server's.
        plus: Added to the other server's value.
        engine: The one of ours that it is for; empty for both.
    """

    text: str
    scenario: Scenario
    case: str
    measure: Measure
    limit: float
    of: tuple[str, ...] = ()
    than: str = ""
    plus: float = 0.0
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found for one goal, one case and one engine."""

    goal: Goal
    case: str
    engine: str
    to: str
    found: float
    reached: bool


_HIGH = keepalive.SCENARIO
GOALS: Final = (
    Goal("keep-alive rate at least granian's", _HIGH, "12 B, 32", keepalive.RATE, 1.0, (GRANIAN,)),
    Goal("keep-alive rate at least granian's", _HIGH, "12 B, 256", keepalive.RATE, 1.0, (GRANIAN,)),
    Goal("keep-alive rate at least granian's", _HIGH, "10 kB", keepalive.RATE, 1.0, (GRANIAN,)),
    Goal("keep-alive rate 1.3 times uvicorn's", _HIGH, "12 B, 32", keepalive.RATE, 1.3, (UVICORN,)),
    Goal("keep-alive rate 1.3 times uvicorn's", _HIGH, "12 B, 256", keepalive.RATE, 1.3, (UVICORN,)),
    Goal("keep-alive rate 1.3 times uvicorn's", _HIGH, "10 kB", keepalive.RATE, 1.3, (UVICORN,)),
    Goal("keep-alive rate 4 times cheroot's", _HIGH, "12 B, 32", keepalive.RATE, 4.0, (BASE,)),
    Goal("rate of 1 connection above cheroot's", _HIGH, "12 B, 1 ", keepalive.RATE, 1.0, (BASE,)),
    Goal("CPU per request at most granian's", _HIGH, "12 B, 32", keepalive.CPU, 1.0, (GRANIAN,)),
    Goal("CPU per request at most a quarter of cheroot's", _HIGH, "12 B, 32", keepalive.CPU, 0.25, (BASE,)),
    Goal("p99 below uvicorn's", _HIGH, "12 B, 32", keepalive.P99, 1.0, (UVICORN,)),
    Goal(
        "CPU per new connection at most 1.2 times nginx's",
        new_connections.SCENARIO,
        "",
        new_connections.CPU,
        1.2,
        (NGINX,),
    ),
    Goal(
        "CPU per new connection at most 0.7 of cheroot's",
        new_connections.SCENARIO,
        "",
        new_connections.CPU,
        0.7,
        (BASE,),
    ),
    Goal("new connections at least granian's", new_connections.SCENARIO, "", new_connections.RATE, 1.0, (GRANIAN,)),
    Goal("at least 97 % resumed", resumption.SCENARIO, "", resumption.RESUMED, 97.0),
    Goal("at least 97 % resumed across rotations", rotation.SCENARIO, "under load", rotation.RESUMED, 97.0),
    Goal("1 MB answers at least granian's MB/s", downloads.SCENARIO, "", downloads.RATE, 1.0, (GRANIAN,)),
    Goal("CPU per GB below every Python peer's", downloads.SCENARIO, "", downloads.CPU, 1.0, PYTHON_PEERS),
    Goal("uploads ahead of every Python peer", uploads.SCENARIO, "", uploads.RATE, 1.0, PYTHON_PEERS),
    Goal("waiting: 0.95 of the ideal", waiting.SCENARIO, "", waiting.IDEAL, 0.95),
    Goal("mixed p50 below cheroot's and gunicorn's", mixed.SCENARIO, "quick, beside", mixed.P50, 1.0, (BASE, GUNICORN)),
    Goal("mixed p99 below cheroot's and gunicorn's", mixed.SCENARIO, "quick, beside", mixed.P99, 1.0, (BASE, GUNICORN)),
    Goal(
        "quick ones beside waiting: p50 within twice alone",
        mixed.SCENARIO,
        "quick, beside wait",
        mixed.P50,
        2.0,
        than=ALONE,
    ),
    Goal(
        "quick ones beside waiting: p99 within twice alone",
        mixed.SCENARIO,
        "quick, beside wait",
        mixed.P99,
        2.0,
        than=ALONE,
    ),
    Goal(
        "start to first answer below cheroot's plus 150 ms",
        startup.SCENARIO,
        "",
        startup.START,
        1.0,
        (BASE,),
        plus=150.0,
    ),
    Goal("import below cheroot's plus 150 ms", startup.SCENARIO, "", startup.IMPORT, 1.0, (BASE,), plus=150.0),
    Goal("memory at start below uvicorn's", idle_memory.SCENARIO, "", idle_memory.START, 1.0, (UVICORN,)),
    Goal("at most 17 kB per idle connection", idle_memory.SCENARIO, "", idle_memory.CONNECTION, 17.0, engine=OURS[0]),
    Goal("at most 30 kB per idle connection", idle_memory.SCENARIO, "", idle_memory.CONNECTION, 30.0, engine=OURS[1]),
    Goal("hostile: good median within 3 times unloaded", hostile.SCENARIO, "", hostile.MEDIAN_RATIO, 3.0),
    Goal("hostile: good worst within 250 ms", hostile.SCENARIO, "", hostile.WORST, 250.0),
    Goal("hostile: no good client fails", hostile.SCENARIO, "", hostile.FAILED, 0.0),
    Goal("rotation: served within 50 ms of the call", rotation.SCENARIO, "under load", rotation.SERVED, 50.0),
    Goal("rotation: nothing fails", rotation.SCENARIO, "under load", rotation.FAILED, 0.0),
    Goal("rotation: p99 within twice without", rotation.SCENARIO, "under load", rotation.P99, 2.0),
    Goal("rotation: at most 10 MB grown", rotation.SCENARIO, "under load", rotation.MEMORY, 10.0),
    Goal("rotation: no descriptor left", rotation.SCENARIO, "under load", rotation.DESCRIPTORS, 0.0),
    Goal("rotation: served within 2 s of the rename", rotation.SCENARIO, "by files", rotation.WORST, 2000.0),
    Goal("rotation: served within 50 ms of the call", rotation.SCENARIO, "by a call", rotation.SERVED, 50.0),
    Goal("rotation: no handshake fails", rotation.SCENARIO, "by ", rotation.FAILED_HANDSHAKES, 0.0),
    Goal("rotation: no request fails", rotation.SCENARIO, "by ", rotation.FAILED_REQUESTS, 0.0),
    Goal("identity adds at most 10 % to OpenSSL's verification", identity.SCENARIO, "handshake", identity.ADDED, 10.0),
    Goal("identity costs a request at most 2 %", identity.SCENARIO, "request", identity.REQUEST, 1.02),
)
"""In the order in which they are reported."""


def judge(results: Results) -> Iterator[Verdict]:
    """Return what was found for every goal of which there are values."""
    for goal in GOALS:
        cases = {s.case: None for s in results.samples if s.scenario == goal.scenario.name}
        for case in cases:
            if case.startswith(goal.case):
                for engine in OURS:
                    if goal.engine in {"", engine}:
                        yield from _verdict(results, goal, case, engine)


def _verdict(results: Results, goal: Goal, case: str, engine: str) -> Iterator[Verdict]:
    if goal.than:
        ratio = results.ratio(goal.scenario.name, case, engine, goal.measure.name, engine, to_case=goal.than)
        if ratio is not None:
            yield Verdict(goal, case, engine, goal.than, ratio.median, _is_reached(goal, ratio.median))
        return
    if not goal.of:
        value = results.spread(goal.scenario.name, case, engine, goal.measure.name)
        if value is not None:
            yield Verdict(goal, case, engine, "", value.median, _is_reached(goal, value.median))
        return
    found = []
    for other in goal.of:
        mine = results.spread(goal.scenario.name, case, engine, goal.measure.name)
        theirs = results.spread(goal.scenario.name, case, other, goal.measure.name)
        ratio = results.ratio(goal.scenario.name, case, engine, goal.measure.name, other)
        if mine is not None and theirs is not None and ratio is not None:
            reached = mine.median <= theirs.median + goal.plus if goal.plus else _is_reached(goal, ratio.median)
            found.append(Verdict(goal, case, engine, other, ratio.median, reached))
    if found:
        # The one that is hardest to beat says it all.
        yield min(found, key=lambda verdict: verdict.found if goal.measure.more_is_better else -verdict.found)


def _is_reached(goal: Goal, value: float) -> bool:
    return value >= goal.limit if goal.measure.more_is_better else value <= goal.limit
