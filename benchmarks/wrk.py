"""Driving a server with wrk, and reading what it says."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Load", "drive"]

GRACE_SECONDS: Final = 20.0
"""What wrk may take beyond its duration before it is ended."""

_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_SIZES: Final = {"B": 1.0, "KB": 1024.0, "MB": 1024.0**2, "GB": 1024.0**3}


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk found.

    Attributes:
        requests: How many were answered.
        seconds: How long it took.
        p50: Median latency in seconds.
        p99: The latency that 99 of 100 stay below.
        errors: Answers that were missing, late or not 200.
        received: Bytes.
        told: What a script printed at the end, by name.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int
    received: float
    told: dict[str, float]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def drive(
    port: int,
    path: str,
    *,
    connections: int,
    seconds: float,
    threads: int = 1,
    script: Path | None = None,
    arguments: Sequence[str] = (),
) -> Load:
    """Load a server.

    Args:
        port: Where it listens, on loopback.
        path: What is asked for.
        connections: How many at once.
        seconds: How long, in whole seconds or more.
        threads: Of wrk.
        script: What wrk is to run.
        arguments: Of the script.

    Raises:
        RuntimeError: wrk failed, or nothing was answered.
    """
    command = [
        "wrk",
        "--latency",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{max(round(seconds), 1)}s",
        "--timeout",
        "5s",
    ]
    if script is not None:
        command += ["-s", str(script)]
    done = subprocess.run(
        [*command, f"https://127.0.0.1:{port}{path}", "--", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds + GRACE_SECONDS,
        check=False,
    )
    load = parse(done.stdout)
    if load is None or not load.requests:
        message = f"wrk had no answer: {' '.join(done.stderr.split()) or 'nothing was said'}"
        raise RuntimeError(message)
    return load


def parse(text: str) -> Load | None:
    """Return what wrk printed; None where it is not a report."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m), ([\d.]+)([KMG]?B) read", text)
    if total is None:
        return None
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    errors += sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    return Load(
        requests=int(total[1]),
        seconds=float(total[2]) * _UNITS[total[3]],
        p50=_percentile(text, 50),
        p99=_percentile(text, 99),
        errors=errors,
        received=float(total[4]) * _SIZES[total[5]],
        told={name: float(value) for name, value in re.findall(r"^told (\S+) ([\d.]+)$", text, re.MULTILINE)},
    )


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")
