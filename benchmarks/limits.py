"""What OpenSSL's own programs reach on the same machine: the limit for anything that speaks TLS with it."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final

from benchmarks.processes import Child, cpu_seconds

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LIMITS", "measure"]

LIMITS: Final = {
    "ECDSA P-256 signature, us": "`openssl speed`: what each full handshake of a server needs at least",
    "ECDH X25519, us": "`openssl speed`: and the key agreement",
    "AES-256-GCM, CPU s/GB": "`openssl speed` with blocks of 16 kB: what each gigabyte costs each side at least",
    "new connections/s": "`openssl s_time` against `openssl s_server`, full handshakes, one after the other",
    "server CPU us/connection": "of that `s_server`, which answers each with a status page",
}
"""What is measured, and how."""

SECONDS: Final = 1
START_SECONDS: Final = 5.0


def measure(directory: Path, certificate: Path, key: Path) -> dict[str, float]:
    """Return the limits, by the names in `LIMITS`."""
    values = dict(zip(LIMITS, (_speed("ecdsap256"), _speed("ecdhx25519"), _cipher()), strict=False))
    values.update(_connections(directory, certificate, key))
    return values


def _told(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def _speed(algorithm: str) -> float:
    """Return the microseconds of one operation: of a signature, where there is that and a verification."""
    told = _told("speed", "-seconds", str(SECONDS), algorithm)
    line = next(line for line in told.splitlines() if re.match(r"\s*\d+ bits", line))
    rates = [float(word) for word in line.split() if re.fullmatch(r"\d+\.\d+", word)]
    return 1e6 / rates[0]


def _cipher() -> float:
    told = _told("speed", "-seconds", str(SECONDS), "-bytes", "16384", "-evp", "aes-256-gcm")
    thousands = float(told.strip().splitlines()[-1].split()[-1].removesuffix("k"))
    return 1e9 / (thousands * 1e3)


def _connections(directory: Path, certificate: Path, key: Path) -> dict[str, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "openssl",
        "s_server",
        "-accept",
        f"127.0.0.1:{port}",
        "-cert",
        str(certificate),
        "-key",
        str(key),
        "-www",
        "-quiet",
    ]
    with (directory / "servers.log").open("ab") as log:
        server = Child(command, directory=directory, log=log)
    try:
        _await(port)
        before = cpu_seconds([server.pid])
        told = _told("s_time", "-connect", f"127.0.0.1:{port}", "-new", "-time", str(SECONDS + 1), "-www", "/")
        used = cpu_seconds([server.pid]) - before
    finally:
        server.stop()
    found = re.search(r"(\d+) connections in (\d+) real seconds", told)
    if found is None or not int(found[1]):
        return {}
    count = int(found[1])
    return {"new connections/s": count / (SECONDS + 1), "server CPU us/connection": used / count * 1e6}


def _await(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
