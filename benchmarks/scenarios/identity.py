"""Clients that show certificates: what their identity costs a handshake, and a request that does not look at it."""

from __future__ import annotations

import contextlib
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import clients
from benchmarks.environment import ROOT
from benchmarks.identities import Client, make_clients
from benchmarks.processes import Child, cpu_seconds
from benchmarks.results import Measure
from benchmarks.scenario import Case, Plan, Scenario
from benchmarks.servers import HOST, OURS, Server, client_verifying

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from benchmarks.servers import RunningServer

__all__ = ["ADDED", "REQUEST", "SCENARIO"]

ADDED: Final = Measure("% added to OpenSSL's own")
BARE: Final = Measure("OpenSSL's own us", digits=0)
OUR_OWN: Final = Measure("ours us", digits=0)
BARE_WITHOUT: Final = Measure("OpenSSL's own us, no client certificate", digits=0)
OURS_WITHOUT: Final = Measure("ours us, no client certificate", digits=0)
REQUEST: Final = Measure("CPU to that without", digits=2)
WITH: Final = Measure("CPU us/request, with certificate")
WITHOUT: Final = Measure("CPU us/request, without")

CLIENTS: Final = 8
BURST: Final = 200
START_SECONDS: Final = 20.0


def _handshakes(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    # What follows needs secureserve itself.
    from benchmarks.handshakes import bare, client_context, ours, shake_hands

    engine, files = _engine(running), running.credentials[0]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        visitors = make_clients(Path(scratch), CLIENTS)
        known, unknown = [client_context(visitor) for visitor in visitors], [client_context(None)]
        kinds = {
            BARE.name: (bare(engine, files, visitors[0]), known),
            OUR_OWN.name: (ours(engine, files, visitors[0]), known),
            BARE_WITHOUT.name: (bare(engine, files, None), unknown),
            OURS_WITHOUT.name: (ours(engine, files, None), unknown),
        }
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        deadline, turn = time.monotonic() + plan.seconds, 0
        while time.monotonic() < deadline or turn < CLIENTS:
            for name, (begin, contexts) in kinds.items():
                taken[name].append(shake_hands(begin, contexts[turn % len(contexts)]))
            turn += 1
    us = {name: statistics.median(values) * 1e6 for name, values in taken.items()}
    verifying = us[BARE.name] - us[BARE_WITHOUT.name]
    added = us[OUR_OWN.name] - us[OURS_WITHOUT.name] - verifying
    return {ADDED.name: added / us[BARE.name] * 100, **us}


def _requests(running: RunningServer, plan: Plan) -> Mapping[str, float]:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        directory = Path(scratch)
        (visitor,) = make_clients(directory, 1)
        with (
            _verifying(running, visitor, directory) as (child, port),
            clients.connect(running.port, timeout=clients.TIMEOUT) as plain,
            _connected(port, visitor) as known,
        ):
            used = {WITHOUT.name: 0.0, WITH.name: 0.0}
            sides = ((WITHOUT.name, plain, running.pids()), (WITH.name, known, child.tree()))
            deadline, made = time.monotonic() + 2 * plan.seconds, 0
            while time.monotonic() < deadline:
                for name, sock, pids in sides:
                    before = cpu_seconds(pids)
                    for _ in range(BURST):
                        clients.ask(sock, keep=True)
                    used[name] += cpu_seconds(pids) - before
                made += BURST
    return {
        REQUEST.name: used[WITH.name] / max(used[WITHOUT.name], 1e-9),
        **{name: seconds / made * 1e6 for name, seconds in used.items()},
    }


@contextlib.contextmanager
def _verifying(running: RunningServer, visitor: Client, directory: Path) -> Iterator[tuple[Child, int]]:
    """Run another such server, which requires certificates."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = client_verifying(_engine(running), port, running.credentials[0], running.threads, visitor.authority)
    with (directory / "server.log").open("ab") as log:
        child = Child(command, directory=ROOT, log=log, piped=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                _connected(port, visitor).close()
            except OSError:
                if child.has_ended() or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                break
        yield child, port
    finally:
        child.stop()


def _connected(port: int, visitor: Client) -> ssl.SSLSocket:
    """Return a connection on which a client has shown its certificate and was answered."""
    context = clients.tls_context()
    context.load_cert_chain(visitor.certificate, visitor.key)
    sock = context.wrap_socket(socket.create_connection((HOST, port), clients.TIMEOUT), server_hostname="localhost")
    clients.ask(sock, keep=True)
    return sock


def _engine(running: RunningServer) -> str:
    return running.server.name.rpartition(" ")[2]


def _only_ours(server: Server) -> str | None:
    return None if server.name in OURS else "has no such identity to give"


def _cases(_: Plan) -> tuple[Case, ...]:
    handshake = (ADDED, BARE, OUR_OWN, BARE_WITHOUT, OURS_WITHOUT)
    return (
        Case("handshake", handshake, _handshakes, refuses=_only_ours),
        Case("request", (REQUEST, WITH, WITHOUT), _requests, refuses=_only_ours),
    )


SCENARIO: Final = Scenario(
    "identity",
    "Clients with ECDSA P-256 certificates, signed by the authority that is trusted; 8 of them come again and again. "
    "Handshakes run in one thread over socket pairs, ours and the TLS library's own in turn, and only the server's "
    "part counts, ours with the variables that the first request gets. What the identity adds is ours with "
    "certificates less ours without, less the same of the library, in per cent of the library's handshake with "
    "verification. Requests are for 12 bytes, on one connection that is kept, from an application that does not look "
    "at the identity.",
    _cases,
)
