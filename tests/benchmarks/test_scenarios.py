"""Scenarios measure real servers, and everything that they start is gone afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
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
from benchmarks.light_load import light_load
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
from benchmarks.servers import SERVERS, Bench, Server, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.servers import RunningServer

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
PLAN = dataclasses.replace(
    SHORT, seconds=0.3, good_seconds=0.3, idle_connections=5, hostile_counts=(3,), rotations=3, light_rotations=2
)


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
    assert (values["rotations"], values["failed"]) == (3, 0), values


@pytest.mark.parametrize("name", ["by files", "by a call"])
def test_rotations_are_compared_under_light_load(running: RunningServer, name: str) -> None:
    """Replaced files and a call are both served to new connections, while no handshake and no request fails."""
    values = measure_rotation(running, name)
    assert values["rotations"] == 2
    assert 0 < values["served after ms"] <= values["worst ms"]
    assert values["failed handshakes"] == values["failed requests"] == values["kept connections closed"] == 0
    assert values["CPU %"] > 0


@pytest.mark.parametrize(("name", "case"), [("gunicorn gthread", "by files"), ("Caddy", "by a call")])
def test_peers_rotate_too(tmp_path: Path, name: str, case: str) -> None:
    """Replaced files reach clients of gunicorn, and what Caddy is called with reaches its clients."""
    server = next(server for server in SERVERS if server.name == name)
    if reason := missing(server):
        pytest.skip(reason)
    bench = Bench(tmp_path, [make_credential(tmp_path, "first")])
    with bench.running(server, 4) as running:
        values = measure_rotation(running, case)
    assert values["rotations"] == 2
    assert values["served after ms"] > 0


def measure_rotation(running: RunningServer, name: str) -> Mapping[str, float]:
    """Return what a case of the rotation scenario measures in two rotations."""
    (case,) = (case for case in rotation.SCENARIO.cases(PLAN) if case.name == name)
    assert case.refuses(running.server) is None
    values = case.run(running, PLAN)
    assert set(values) == {measure.name for measure in case.measures}
    return values


def test_a_server_is_not_rotated_in_a_way_that_it_has_not() -> None:
    """The report says why a server is missing: it has no call, does not notice replaced files, or neither."""
    servers = {server.name: server for server in SERVERS}
    cases = under_load, by_files, by_call = rotation.SCENARIO.cases(PLAN)
    assert by_files.refuses(servers["Caddy"]) == "does not notice that its files were replaced"
    assert by_call.refuses(servers["gunicorn gthread"]) == "has no call for another certificate"
    assert under_load.refuses(servers["Caddy"]) == "rotated under light load only"
    assert {case.refuses(servers["uvicorn"]) for case in cases} == {"does not take another certificate while it runs"}


def test_a_light_load_counts_what_fails_and_what_was_closed(tmp_path: Path) -> None:
    """Clients that are turned away count as failed, and those that are answered do not."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with light_load(nobody.getsockname()[1]) as load:
            wait_for(lambda: load.failed_handshakes > 0)
    assert (load.answered, load.failed_requests, load.closed) == (0, 0, 0)
    server = next(server for server in SERVERS if server.name == "secureserve, builtin")
    bench = Bench(tmp_path, [make_credential(tmp_path, "first")])
    with contextlib.ExitStack() as stack:
        with bench.running(server, 4) as running:
            load = stack.enter_context(light_load(running.port))
            wait_for(lambda: load.answered >= 10)
            assert (load.failed_handshakes, load.failed_requests, load.closed) == (0, 0, 0)
        wait_for(lambda: load.closed + load.failed_requests >= 4)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true, or fail."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


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
