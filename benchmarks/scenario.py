"""What a scenario is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

    from benchmarks.results import Measure
    from benchmarks.servers import RunningServer, Server

__all__ = ["FULL", "SHORT", "Case", "Plan", "Scenario", "measure_cpu"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        seconds: That a server is loaded for each value.
        rounds: How often every server has its turn.
        every_case: Whether scenarios measure all that they can, or only their chief cases.
        good_seconds: That a good client tries to be answered beside hostile ones.
        idle_connections: Held open for their memory.
        hostile_counts: How many hostile clients at once.
        hostile_kinds: What they do.
        rotations: Of the certificate under load.
        light_rotations: Of the certificate where servers are compared, under light load.
    """

    seconds: float
    rounds: int
    every_case: bool
    good_seconds: float
    idle_connections: int
    hostile_counts: tuple[int, ...]
    hostile_kinds: tuple[str, ...]
    rotations: int
    light_rotations: int


FULL = Plan(
    seconds=3.0,
    rounds=3,
    every_case=True,
    good_seconds=6.0,
    idle_connections=1000,
    hostile_counts=(1, 50, 500, 2000),
    hostile_kinds=("silent", "half a hello", "shaken", "half a head", "slow body", "slow reader"),
    rotations=1000,
    light_rotations=20,
)
SHORT = Plan(
    seconds=1.0,
    rounds=1,
    every_case=False,
    good_seconds=2.0,
    idle_connections=100,
    hostile_counts=(50,),
    hostile_kinds=("silent",),
    rotations=50,
    light_rotations=10,
)


def anybody(_: Server) -> str | None:
    """Let every server take part."""
    return None


def with_application(server: Server) -> str | None:
    """Let those take part that run an application."""
    return None if server.runs_application else "runs no application"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured.

    Attributes:
        name: What reports call it.
        measures: What comes of it.
        run: Measures it.
        threads: Worker threads of the server, where it has any.
        fresh: Whether the server is started for this case alone.
        once: Whether one round is enough.
        refuses: Why a server does not take part; None where it does.
    """

    name: str
    measures: tuple[Measure, ...]
    run: Callable[[RunningServer, Plan], Mapping[str, float]]
    threads: int = 10
    fresh: bool = False
    once: bool = False
    refuses: Callable[[Server], str | None] = anybody


@dataclass(frozen=True, slots=True)
class Scenario:
    """Cases that belong together.

    Attributes:
        name: In one word.
        compares: What is compared, in a sentence or two.
        cases: What is measured.
    """

    name: str
    compares: str
    cases: Callable[[Plan], tuple[Case, ...]]


class measure_cpu:  # noqa: N801 - used as a verb
    """The processor time that a server uses in a block.

    Attributes:
        seconds: How much, once the block has ended.
    """

    def __init__(self, running: RunningServer) -> None:
        self._running = running
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._before = self._running.cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._running.cpu_seconds() - self._before
