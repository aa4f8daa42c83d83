"""What rotation costs: a server under load whose certificate is replaced a thousand times, and a store of ten thousand.

    python benchmarks/rotation.py [--rotations 1000] [--engine pyopenssl]

The server runs in a process of its own. 32 clients keep their connections and ask every 20 ms; another process opens a
new connection every 2 ms, as far as the machine keeps up. First there is load alone, then load with rotations. What is
compared is taken in one run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secureserve.certificates.credential import Credential
from secureserve.certificates.sources import DirectorySource, MemorySource
from secureserve.certificates.store import CertificateStore
from secureserve.managed.server import Server
from secureserve.testing import temporary_authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

KEPT = 32
BETWEEN_REQUESTS = 0.02
BETWEEN_CONNECTIONS = 0.002
SETTLING = 12.0


def application(_environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Answer with twelve bytes."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "12")])
    return [b"hello world\n"]


def serve(pipe: Connection, paths: list[str], engine: str) -> None:
    """Serve, and rotate when told to; report what the process uses."""
    pool = [Credential.load(path) for path in paths]
    source = MemorySource(pool[0])
    with Server(
        application, socket_host="127.0.0.1", socket_port=0, certificate_sources=[source], ssl_module=engine
    ) as server:
        pipe.send(server.bound_addr)
        while (order := pipe.recv()) is not None:
            took: list[float] = []
            for number in range(order):
                began = time.perf_counter()
                source.replace(pool[(number + 1) % len(pool)])
                took.append(time.perf_counter() - began)
                threading.Event().wait(0.01)
            pipe.send(took)
            pipe.recv()
            pipe.send(
                {
                    "descriptors": len(list(Path("/proc/self/fd").iterdir())),
                    "threads": threading.active_count(),
                    "memory_kb": _resident_kb(),
                }
            )


def connect_anew(pipe: Connection, address: tuple[str, int], ca: str) -> None:
    """Open connections, each with one request, until told to stop; report times and failures."""
    context = ssl.create_default_context(cafile=ca)
    while (seconds := pipe.recv()) is not None:
        took: list[float] = []
        failures: list[str] = []
        until = time.monotonic() + seconds
        pause = threading.Event()
        while (began := time.monotonic()) < until:
            try:
                sock = socket.create_connection(address, timeout=20)
                with sock, context.wrap_socket(sock, server_hostname="localhost") as tls:
                    _ask(tls)
                took.append(time.monotonic() - began)
            except OSError as error:
                failures.append(repr(error))
            pause.wait(max(0.0, BETWEEN_CONNECTIONS - (time.monotonic() - began)))
        pipe.send((took, failures))


def keep_alive(pipe: Connection, address: tuple[str, int], ca: str) -> None:
    """Ask on connections that are kept, until told to stop; report times and failures."""
    context = ssl.create_default_context(cafile=ca)
    while (seconds := pipe.recv()) is not None:
        socks = []
        for _ in range(KEPT):
            sock = socket.create_connection(address, timeout=20)
            socks.append(context.wrap_socket(sock, server_hostname="localhost"))
        took: list[float] = []
        failures: list[str] = []
        until = time.monotonic() + seconds
        pause = threading.Event()
        while time.monotonic() < until:
            for tls in socks:
                began = time.monotonic()
                try:
                    _ask(tls)
                    took.append(time.monotonic() - began)
                except OSError as error:
                    failures.append(repr(error))
                pause.wait(BETWEEN_REQUESTS / KEPT)
        for tls in socks:
            tls.close()
        pipe.send((took, failures))


def _ask(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = http.client.HTTPResponse(tls)
    answer.begin()
    if answer.status != 200 or len(answer.read()) != 12:
        raise ConnectionError(f"answer {answer.status}")


def _resident_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def _milliseconds(took: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100)
    return {"p50": round(cuts[49] * 1000, 2), "p99": round(cuts[98] * 1000, 2), "count": len(took)}


def measure_rotation(rotations: int, engine: str) -> dict[str, Any]:
    """Measure load alone, then load with rotations."""
    start = datetime.now(timezone.utc) - timedelta(hours=1)
    with temporary_authority() as authority:
        paths = [str(authority.issue(fresh_key=True, not_before=start).pem_path) for _ in range(4)]
        ca = str(authority.cert_path)
        context = multiprocessing.get_context("spawn")
        pipes, processes = [], []

        def start_process(target: Callable[..., None], *arguments: Any) -> Connection:
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
            return ours

        server = start_process(serve, paths, engine)
        address = server.recv()
        clients = {
            "new connections": start_process(connect_anew, address, ca),
            "kept connections": start_process(keep_alive, address, ca),
        }
        found: dict[str, Any] = {"engine": engine, "rotations": rotations}
        # The first round warms up: threads, arenas, sessions.
        for phase, times in (("warm-up", 50), ("load alone", 0), ("with rotations", rotations)):
            # Both phases that are compared take as long.
            seconds = 5.0 if phase == "warm-up" else max(5.0, rotations * 0.014)
            for pipe in clients.values():
                pipe.send(seconds)
            server.send(times)
            took = server.recv()
            results = {name: pipe.recv() for name, pipe in clients.items()}
            # What closed connections leave is let go of when their deadlines come.
            threading.Event().wait(SETTLING)
            failures = [failure for _times, failed in results.values() for failure in failed]
            if not all(times_ for times_, _failed in results.values()):
                raise SystemExit(f"nothing was answered during the {phase}: {failures[:3]}")
            server.send("how are you?")
            state = server.recv()
            found[phase] = {
                **state,
                **{name: _milliseconds(times_) for name, (times_, _failures) in results.items()},
                "failures": failures[:5],
            }
            if len(took) > 1:
                found[phase]["call"] = _milliseconds(took)
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(20)
        return found


def measure_store(count: int) -> dict[str, Any]:
    """Measure a directory of many pairs: loading, looking up, memory."""
    with temporary_authority() as authority, tempfile.TemporaryDirectory() as path:
        for number in range(count):
            name = f"host{number}.example.test"
            authority.issue(name).write(Path(path) / name, "kubernetes")
        began = time.perf_counter()
        loaded = DirectorySource(path).load()
        load_seconds = time.perf_counter() - began
        memory = _resident_kb()
        tracemalloc.start()
        store = CertificateStore(loaded)
        index = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        found: dict[str, Any] = {
            "credentials": count,
            "load_seconds": round(load_seconds, 2),
            "process_memory_kb": memory,
            "index_bytes": index,
        }
        for word, name in [("found", f"host{count // 2}.example.test"), ("unknown", "nobody.example.org")]:
            began = time.perf_counter()
            for _ in range(10_000):
                store.select(name)
            found[f"lookup_{word}_microseconds"] = round((time.perf_counter() - began) * 100, 2)
        return found


def main() -> None:
    """Print what was found, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rotations", type=int, default=1000)
    parser.add_argument("--engine", choices=["pyopenssl", "builtin"], default="pyopenssl")
    parser.add_argument("--credentials", type=int, default=10_000, help="in the store; 0 leaves that out")
    chosen = parser.parse_args()
    found = {"rotation": measure_rotation(chosen.rotations, chosen.engine)}
    if chosen.credentials:
        found["store"] = measure_store(chosen.credentials)
    json.dump(found, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
