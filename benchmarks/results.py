"""What was measured, and what follows from it: medians, ratios of the same round, spreads."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.servers import BASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Measure", "Results", "Sample", "Spread"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity.

    Attributes:
        name: What it is, with its unit.
        more_is_better: Whether a higher value is the better one.
        digits: After the point, in tables.
    """

    name: str
    more_is_better: bool = False
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one round."""

    scenario: str
    case: str
    server: str
    measure: str
    round: int
    value: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several values, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Return the spread of `values`; None of none."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found)) if found else None


class Results:
    """All samples, all that was skipped and why, and what they depend on."""

    def __init__(self, machine: Mapping[str, str], settings: Mapping[str, object]) -> None:
        self.machine = dict(machine)
        self.settings = dict(settings)
        self.samples: list[Sample] = []
        self.skipped: dict[tuple[str, str, str], str] = {}
        self.negotiated: dict[str, str] = {}
        self.limits: dict[str, float] = {}

    def add(self, scenario: str, case: str, server: str, round_: int, values: Mapping[str, float]) -> None:
        """Take note of what one measurement gave."""
        self.samples += [Sample(scenario, case, server, name, round_, value) for name, value in values.items()]

    def skip(self, scenario: str, case: str, server: str, reason: str) -> None:
        """Take note of why something was not measured."""
        self.skipped.setdefault((scenario, case, server), reason)

    def take_in(self, other: Results) -> None:
        """Add the samples of another run. Its scenarios should be others: rounds are compared by number."""
        self.samples += other.samples
        self.skipped.update(other.skipped)
        self.negotiated = {**other.negotiated, **self.negotiated}
        self.limits = {**other.limits, **self.limits}

    def by_round(self, scenario: str, case: str, server: str, measure: str) -> dict[int, float]:
        """Return the values of one cell by their rounds."""
        key = (scenario, case, server, measure)
        return {s.round: s.value for s in self.samples if (s.scenario, s.case, s.server, s.measure) == key}

    def spread(self, scenario: str, case: str, server: str, measure: str) -> Spread | None:
        """Return what one cell came to."""
        return Spread.of(self.by_round(scenario, case, server, measure).values())

    def ratio(
        self, scenario: str, case: str, server: str, measure: str, to: str = BASE, *, to_case: str = ""
    ) -> Spread | None:
        """Return one server's values as multiples of another's, or of another case's, of the same rounds."""
        mine = self.by_round(scenario, case, server, measure)
        theirs = self.by_round(scenario, to_case or case, to, measure)
        return Spread.of(value / theirs[n] for n, value in mine.items() if theirs.get(n))

    def as_json(self) -> str:
        """Return everything, for programs."""
        return json.dumps(
            {
                "machine": self.machine,
                "settings": self.settings,
                "negotiated": self.negotiated,
                "limits": self.limits,
                "samples": [asdict(sample) for sample in self.samples],
                "skipped": [[*key, reason] for key, reason in self.skipped.items()],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Return what `as_json` wrote."""
        data = json.loads(text)
        results = cls(data["machine"], data["settings"])
        results.negotiated, results.limits = data["negotiated"], data["limits"]
        results.samples = [Sample(**sample) for sample in data["samples"]]
        results.skipped = {(scenario, case, server): reason for scenario, case, server, reason in data["skipped"]}
        return results
