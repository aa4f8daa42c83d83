"""The order of things: every server in turn, round by round, each thing for a bounded time."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import clients, limits
from benchmarks.application import CONTENT
from benchmarks.credentials import make_credential
from benchmarks.servers import Bench, missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.results import Results
    from benchmarks.scenario import Case, Plan, Scenario
    from benchmarks.servers import RunningServer, Server

__all__ = ["measure"]


def measure(
    results: Results,
    *,
    servers: Sequence[Server],
    scenarios: Sequence[Scenario],
    plan: Plan,
    budget: float,
    with_limits: bool,
) -> None:
    """Measure, and put what comes of it into `results`.

    Args:
        results: Takes the samples.
        servers: That are compared.
        scenarios: That are measured.
        plan: How much of each.
        budget: Seconds, after which nothing more is begun.
        with_limits: Whether OpenSSL's own programs are measured as well.
    """
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)  # nginx reads its files as another user
        for path, content in CONTENT.items():
            if path != "/":
                (directory / path[1:]).write_bytes(content)
        credentials = [make_credential(directory, name) for name in ("first", "second")]
        bench = Bench(directory, credentials)
        deadline = time.monotonic() + budget
        if with_limits:
            results.limits = limits.measure(directory, credentials[0].certificate, credentials[0].key)
        for round_ in range(plan.rounds):
            for server in servers:
                print(f"round {round_ + 1} of {plan.rounds}: {server.name}", flush=True)
                turn = _Turn(results, bench=bench, plan=plan, deadline=deadline, server=server, round_=round_)
                turn.take(scenarios)


class _Turn:
    """One server's turn in one round."""

    def __init__(
        self, results: Results, *, bench: Bench, plan: Plan, deadline: float, server: Server, round_: int
    ) -> None:
        self._results = results
        self._bench = bench
        self._plan = plan
        self._deadline = deadline
        self._server = server
        self._round = round_

    def take(self, scenarios: Iterable[Scenario]) -> None:
        """Measure what there is to measure, on as few starts of the server as will do."""
        shared: dict[int, list[tuple[Scenario, Case]]] = {}
        alone: list[tuple[Scenario, Case]] = []
        for scenario in scenarios:
            for case in scenario.cases(self._plan):
                reason = missing(self._server) or case.refuses(self._server)
                if reason is not None:
                    self._skip(scenario, case, reason)
                elif case.fresh:
                    if not (case.once and self._round):
                        alone.append((scenario, case))
                else:
                    shared.setdefault(case.threads if self._server.threaded else 0, []).append((scenario, case))
        for group in (*shared.values(), *([pair] for pair in alone)):
            self._measure(group)

    def _measure(self, group: Sequence[tuple[Scenario, Case]]) -> None:
        if time.monotonic() > self._deadline:
            for scenario, case in group:
                self._skip(scenario, case, "out of time")
            return
        try:
            with self._bench.running(self._server, group[0][1].threads) as running:
                if not any(case.fresh for _, case in group):
                    self._look(running)
                for scenario, case in group:
                    self._measure_one(running, scenario, case)
        except (RuntimeError, OSError, ValueError) as error:
            for scenario, case in group:
                self._skip(scenario, case, str(error))

    def _look(self, running: RunningServer) -> None:
        """See that the server does what the others do, and warm it up."""
        self._results.negotiated[self._server.name] = clients.negotiated(running.port)
        for path, content in CONTENT.items():
            if clients.fetch_once(running.port, path, timeout=clients.TIMEOUT) != content:
                message = f"{self._server.name} answers {path} with something else"
                raise RuntimeError(message)

    def _measure_one(self, running: RunningServer, scenario: Scenario, case: Case) -> None:
        if time.monotonic() > self._deadline:
            self._skip(scenario, case, "out of time")
            return
        try:
            values = case.run(running, self._plan)
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            self._skip(scenario, case, str(error))
        else:
            self._results.add(scenario.name, case.name, self._server.name, self._round, values)

    def _skip(self, scenario: Scenario, case: Case, reason: str) -> None:
        self._results.skip(scenario.name, case.name, self._server.name, " ".join(reason.split()))
