"""Scenarios measure real servers, and everything that they start is gone afterwards."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import clients
from benchmarks.credentials import make_credential
from benchmarks.crowd import crowd
from benchmarks.environment import ROOT
from benchmarks.processes import Child
from benchmarks.results import Results
from benchmarks.scenario import FULL, SHORT, Scenario
from benchmarks.scenarios import (
    SCENARIOS,
    hostile,
    identity,
    idle_memory,
    keepalive,
    mixed,
    resumption,
    rotation,
    uploads,
)
from benchmarks.servers import SERVERS, Bench, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.servers import RunningServer

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
PLAN = dataclasses.replace(SHORT, seconds=0.3, good_seconds=0.3, idle_connections=5, hostile_counts=(3,), rotations=3)


def measure(scenario: Scenario, running: RunningServer) -> Mapping[str, float]:
    """Return what the first case of a scenario measures."""
    case = scenario.cases(PLAN)[0]
    values = case.run(running, PLAN)
    assert set(values) <= {measure.name for measure in case.measures}
    return values


def test_sessions_are_resumed(running: RunningServer) -> None:
    """The client of the benchmark resumes every session with our servers, and their CPU is counted."""
    values = measure(resumption.SCENARIO, running)
    assert values["resumed %"] == 100
    assert values["CPU us/connection"] >= 0


def test_idle_connections_are_weighed(running: RunningServer) -> None:
    """Idle connections are really there while the memory is read."""
    values = measure(idle_memory.SCENARIO, running)
    assert values["connections kept"] == 5
    assert values["MB at start"] > 1


@pytest.mark.parametrize("kind", ["silent", "half a hello", "shaken", "half a head", "slow body", "slow reader"])
def test_hostile_clients_get_in_and_stay(running: RunningServer, kind: str) -> None:
    """Every kind of hostile client gets in and is still there when a good one is answered."""
    with crowd(kind, 3, running.port) as hostile_ones:
        assert hostile_ones.got_in == 3
        assert clients.fetch_once(running.port, timeout=20) == b"Hello, world"
        assert hostile_ones.count_open() == 3


def test_a_good_client_is_timed_beside_hostile_ones(running: RunningServer) -> None:
    """The good client's latencies are told, and that it did not fail."""
    values = measure(hostile.SCENARIO, running)
    assert values["good failed"] == 0
    assert 0 < values["good median ms"] <= values["good worst ms"]


def test_identities_are_weighed(running: RunningServer) -> None:
    """Clients with certificates get in, handshakes with and without them are timed, and so are requests."""
    values = measure(identity.SCENARIO, running)
    assert min(value for name, value in values.items() if "us" in name) > 0
    (case,) = (case for case in identity.SCENARIO.cases(PLAN) if case.name == "request")
    assert set(case.run(running, PLAN)) == {each.name for each in case.measures}


@needs_wrk
def test_requests_are_counted(running: RunningServer) -> None:
    """Under load from wrk, the server answers and nothing goes wrong."""
    values = measure(keepalive.SCENARIO, running)
    assert values["requests/s"] > 0
    assert values["errors"] == 0


@needs_wrk
def test_uploads_arrive_whole(running: RunningServer) -> None:
    """Uploads are answered, all of them."""
    assert measure(uploads.SCENARIO, running)["MB/s"] > 0


@needs_wrk
def test_quick_requests_are_told_from_slow_ones(running: RunningServer) -> None:
    """Beside requests that wait 50 ms, the median of the quick ones is theirs alone."""
    values = measure(mixed.SCENARIO, running)
    assert values["quick requests/s"] > 0
    assert values["quick p50 ms"] <= values["quick p99 ms"]


@needs_wrk
def test_rotations_are_seen_by_new_connections(running: RunningServer) -> None:
    """Each rotation is served before the next, and nothing fails meanwhile."""
    values = measure(rotation.SCENARIO, running)
    assert values["rotations"] == 3
    assert values["failed"] == 0


def test_large_answers_are_what_they_should_be(running: RunningServer) -> None:
    """The client of the benchmark gets every byte of the large answer."""
    assert clients.fetch_once(running.port, "/1m", timeout=20) == b"x" * 1_048_576
    assert clients.negotiated(running.port).startswith("TLSv1.3 ")


def test_stopping_a_child_ends_what_it_started(tmp_path: Path) -> None:
    """A child's own children are known, and end with it."""
    with (tmp_path / "log").open("wb") as log:
        child = Child(["sh", "-c", "sleep 600 & echo $!; exec sleep 600"], directory=tmp_path, log=log, piped=True)
    assert child.process.stdout is not None
    grandchild = int(child.process.stdout.readline())
    assert child.tree() == [child.pid, grandchild]
    child.stop()
    assert child.has_ended()
    deadline = time.monotonic() + 20
    while _runs(grandchild) and time.monotonic() < deadline:
        os.sched_yield()
    assert not _runs(grandchild)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_server_that_does_not_start_is_reported(tmp_path: Path) -> None:
    """A server that ends at once is an error that names it and its log, and leaves nothing behind."""
    bench = Bench(tmp_path, [make_credential(tmp_path, "first")])
    broken = Server("broken", lambda _: [["false"]])
    with (
        pytest.raises(RuntimeError, match=r"broken did not start; its last words are in .*servers\.log"),
        bench.running(broken, 1),
    ):
        pytest.fail("it runs")


def test_every_scenario_and_server_has_a_name_of_its_own() -> None:
    """Names tell scenarios, cases and servers apart, since results are found by them."""
    names = [(scenario.name, case.name) for scenario in SCENARIOS for case in scenario.cases(FULL)]
    assert len(set(names)) == len(names)
    assert len({server.name for server in SERVERS}) == len(SERVERS)


@needs_wrk
def test_the_command_measures_and_writes_its_reports(tmp_path: Path) -> None:
    """One command measures what it is asked for and writes JSON, a table and a chart."""
    command = [sys.executable, "-m", "benchmarks", "--short", "--environment", sys.prefix, "--output", str(tmp_path)]
    chosen = ["--server", "secureserve, b", "--server", "cheroot, b", "--scenario", "keepalive"]
    done = subprocess.run([*command, *chosen], cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    results = Results.from_json((tmp_path / "results.json").read_text())
    assert {sample.server for sample in results.samples} == {"secureserve, builtin", "cheroot, builtin"}
    assert "| secureserve, builtin |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.svg").read_text().startswith("<svg ")


def test_a_name_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """A misspelt server is an error, not an empty report."""
    command = [sys.executable, "-m", "benchmarks", "--environment", sys.prefix, "--output", str(tmp_path)]
    done = subprocess.run(
        [*command, "--server", "chreoot"], cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())
