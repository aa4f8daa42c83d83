"""Another certificate, again and again, under load."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks import clients
from benchmarks.credentials import make_credential
from benchmarks.light_load import light_load
from benchmarks.newcomers import visiting
from benchmarks.processes import descriptors
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario, measure_cpu
from benchmarks.servers import OURS
from benchmarks.wrk import drive

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from benchmarks.credentials import Credential
    from benchmarks.servers import RunningServer, Server
    from benchmarks.wrk import Load

__all__ = [
    "DESCRIPTORS",
    "FAILED",
    "FAILED_HANDSHAKES",
    "FAILED_REQUESTS",
    "MEMORY",
    "P99",
    "RESUMED",
    "SCENARIO",
    "SERVED",
    "WORST",
]

DONE: Final = Measure("rotations", more_is_better=True, digits=0)
SERVED: Final = Measure("served after ms", digits=2)
WORST: Final = Measure("worst ms", digits=1)
FAILED: Final = Measure("failed", digits=0)
P99: Final = Measure("p99, times without", digits=2)
RESUMED: Final = Measure("resumed %", more_is_better=True)
MEMORY: Final = Measure("MB grown")
DESCRIPTORS: Final = Measure("descriptors grown", digits=0)
FAILED_HANDSHAKES: Final = Measure("failed handshakes", digits=0)
FAILED_REQUESTS: Final = Measure("failed requests", digits=0)
CLOSED: Final = Measure("kept connections closed", digits=0)
CPU: Final = Measure("CPU %")
CPU_WITHOUT: Final = Measure("CPU % without")

CONNECTIONS: Final = 32
VISIT_SECONDS: Final = 0.002
"""From one new connection to the next under load."""
ROTATION_SECONDS: Final = 0.06
"""Allowed for each rotation; those for which there is no time are not made."""
LEAST_SECONDS: Final = 20.0
"""Allowed for all of them however few they are, since a busy machine may take long over a single one."""
LIGHT_ROTATION_SECONDS: Final = 0.2
"""From one rotation to the next, under light load."""
LIGHT_SECONDS: Final = 6.0
"""After which no rotation is begun any more."""
TRY_SECONDS: Final = 0.002
"""From one new connection to the next, while the new certificate is waited for."""

_NEVER: Final = "does not take another certificate while it runs"


def _run(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    ended = threading.Event()
    with visiting(running.port, every=VISIT_SECONDS), ThreadPoolExecutor(1) as looker:
        looking = looker.submit(_look, running.port, ended)
        try:
            without = drive(running.port, "/", connections=CONNECTIONS, seconds=plan.seconds)
        finally:
            ended.set()
        looking.result()
    memory, open_before = running.pss(), descriptors(running.pids())
    seconds = plan.rotations * ROTATION_SECONDS
    loaded_seconds = max(seconds, plan.seconds) + 1
    done = threading.Event()

    def load_until_done() -> list[Load]:
        loads: list[Load] = []
        while not loads or not done.is_set():
            loads.append(drive(running.port, "/", connections=CONNECTIONS, seconds=loaded_seconds))
        return loads

    with visiting(running.port, every=VISIT_SECONDS) as visits, ThreadPoolExecutor(1) as loader:
        loading = loader.submit(load_until_done)
        try:
            rotated = _rotate(running, plan.rotations, time.monotonic() + max(seconds, LEAST_SECONDS))
        finally:
            done.set()
        loads = loading.result()
    return {
        **rotated,
        FAILED.name: rotated[FAILED.name] + sum(load.errors for load in loads) + visits.failed,
        P99.name: max(load.p99 for load in loads) / without.p99,
        MEMORY.name: (running.pss() - memory) / 1e6,
        DESCRIPTORS.name: descriptors(running.pids()) - open_before,
    }


def _look(port: int, ended: threading.Event) -> None:
    """Make the connections that rotations are seen by, without any, so that what differs is the rotations alone."""
    session: ssl.SSLSession | None = None
    while not ended.is_set():
        _served(port)
        session, _ = clients.resume(port, session)


def _rotate(running: RunningServer, rotations: int, deadline: float) -> dict[str, float]:
    taken: list[float] = []
    failed = resumed = 0
    session: ssl.SSLSession | None = None
    for number in range(rotations):
        began = time.monotonic()
        if began > deadline:
            break
        credential = running.credentials[(number + 1) % 2]
        running.command(f"rotate {credential.certificate} {credential.key}")
        try:
            while _served(running.port) != credential.fingerprint:
                if time.monotonic() - began > clients.TIMEOUT:
                    message = "the certificate that was put in place was not served"
                    raise RuntimeError(message)
            taken.append(time.monotonic() - began)
            session, was_resumed = clients.resume(running.port, session)
            resumed += was_resumed
        except (OSError, ValueError):
            failed += 1
    return {
        DONE.name: len(taken),
        SERVED.name: statistics.median(taken) * 1e3,
        WORST.name: max(taken) * 1e3,
        FAILED.name: failed,
        RESUMED.name: 100 * resumed / max(len(taken) - 1, 1),
    }


def _served(port: int) -> str:
    with clients.connect(port, timeout=clients.TIMEOUT) as sock:
        return clients.fingerprint(sock)


def _run_files(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    assert running.server.by_files is not None
    return _compare(running, plan, partial(running.server.by_files, running))


def _run_call(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    assert running.server.by_api is not None
    return _compare(running, plan, partial(running.server.by_api, running))


def _compare(running: RunningServer, plan: Plan, put: Callable[[Credential], None]) -> Mapping[str, float]:
    directory = running.launch.directory
    # Each is at least as young as the one before, as one that was renewed is: a server may refuse an older one.
    credentials = [make_credential(directory, f"next-{running.port}-{n}") for n in range(plan.light_rotations)]
    with light_load(running.port), measure_cpu(running) as without:
        began = time.monotonic()
        time.sleep(plan.seconds)
        seconds_without = time.monotonic() - began
    taken: list[float] = []
    failed = 0
    with light_load(running.port) as load, measure_cpu(running) as cpu, ThreadPoolExecutor(1) as caller:
        began = time.monotonic()
        for credential in credentials:
            due = time.monotonic() + LIGHT_ROTATION_SECONDS
            if time.monotonic() > began + LIGHT_SECONDS:
                break
            seconds, unanswered = _wait_served(running.port, credential, partial(caller.submit, put, credential))
            taken.append(seconds)
            failed += unanswered
            time.sleep(max(due - time.monotonic(), 0))
        seconds_with = time.monotonic() - began
    return {
        SERVED.name: statistics.median(taken) * 1e3,
        WORST.name: max(taken) * 1e3,
        DONE.name: len(taken),
        FAILED_HANDSHAKES.name: failed + load.failed_handshakes,
        FAILED_REQUESTS.name: load.failed_requests,
        CLOSED.name: load.closed,
        CPU.name: 100 * cpu.seconds / seconds_with,
        CPU_WITHOUT.name: 100 * without.seconds / seconds_without,
    }


def _wait_served(port: int, credential: Credential, put: Callable[[], Future[None]]) -> tuple[float, int]:
    """Put a certificate in place; return the seconds until it was served, and how many handshakes failed meanwhile.

    The call may go on after that: some servers serve a new certificate before they answer.
    """
    failed = 0
    began = time.monotonic()
    called = put()
    while True:
        try:
            served = _served(port)
        except OSError:
            served, failed = "", failed + 1
        taken = time.monotonic() - began
        if served == credential.fingerprint:
            break
        if taken > clients.TIMEOUT:
            message = "the certificate that was put in place was not served"
            raise RuntimeError(message)
        time.sleep(TRY_SECONDS)
    called.result(clients.TIMEOUT)
    return taken, failed


def _refuses(server: Server) -> str | None:
    if server.name in OURS:
        return None
    return "rotated under light load only" if server.by_files or server.by_api else _NEVER


def _refuses_files(server: Server) -> str | None:
    return None if server.by_files else "does not notice that its files were replaced" if server.by_api else _NEVER


def _refuses_call(server: Server) -> str | None:
    return None if server.by_api else "has no call for another certificate" if server.by_files else _NEVER


def _cases(_: Plan) -> tuple[Case, ...]:
    measures = (DONE, SERVED, WORST, FAILED, P99, RESUMED, MEMORY, DESCRIPTORS)
    compared = (SERVED, WORST, DONE, FAILED_HANDSHAKES, FAILED_REQUESTS, CLOSED, CPU, CPU_WITHOUT)
    return (
        Case("under load", measures, _run, fresh=True, once=True, refuses=_refuses),
        Case("by files", compared, _run_files, fresh=True, once=True, refuses=_refuses_files),
        Case("by a call", compared, _run_call, fresh=True, once=True, refuses=_refuses_call),
    )


SCENARIO: Final = Scenario(
    "rotation",
    "Under load: the program swaps between two certificates as often as it can, while 32 kept connections ask for "
    "12 bytes each, and others are made, one every 2 ms. After every rotation a new connection must be shown the new "
    "certificate, and another one resumes a session from before it. Without rotations all these connections are made "
    "too, so that the 99th percentiles differ by the rotations alone. The times run from the call to the end of the "
    "first handshake that shows it. Failures are those of handshakes and requests together. By files and by a call: a "
    "younger certificate each time, put in place by a rename, or by the server's own call, five times a second at "
    "most, under light load: four kept connections with a request "
    "every 20 ms each, and a new connection every 20 ms. New connections, 2 ms apart, see when it is served. A kept"
    " connection that the server closed between two requests is made again, and its request with it. CPU is the "
    "server's share of one core, with rotations and without.",
    _cases,
)
