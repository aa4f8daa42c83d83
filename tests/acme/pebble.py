"""Pebble, Let's Encrypt's test authority, with its DNS server: started on loopback, validating for real."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from secureserve.acme.authorities import Authority

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from secureserve.testing import Authority as TestAuthority

__all__ = ["Pebble", "require_pebble", "reserved_port", "run_pebble"]

DEADLINE: Final = 45.0
"""Seconds for a program to start or to end."""

PROGRAMS: Final = ("pebble", "pebble-challtestsrv")

START_ATTEMPTS: Final = 5


@dataclass
class Pebble:
    """A running Pebble.

    Attributes:
        directory_url: Where clients begin.
        ca_file: The root of its own HTTPS certificate.
        http_port: Where it looks for http-01. Free to listen at.
        tls_port: Where it looks for tls-alpn-01. Free to listen at.
        management: The URL of its DNS server's management interface.
        roots: The roots of what it issues, in PEM: its own first, then the alternate ones.
    """

    directory_url: str
    ca_file: Path
    http_port: int
    tls_port: int
    management: str
    roots: tuple[bytes, ...]
    log: list[str] = field(default_factory=list, repr=False)
    manage_url: str = ""

    @property
    def authority(self) -> Authority:
        """It, as an authority."""
        return Authority("pebble", self.directory_url, str(self.ca_file))

    def manage(self, action: str, **wishes: Any) -> None:
        """Have the DNS server do something, such as ``add-a``."""
        request = urllib.request.Request(f"{self.management}/{action}", json.dumps(wishes).encode())
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            response.read()

    def dns_hook(self, action: str, name: str, value: str) -> None:
        """Change a TXT record: a hook for dns-01."""
        if action == "present":
            self.manage("set-txt", host=f"{name}.", value=value)
        else:
            self.manage("clear-txt", host=f"{name}.")

    def certificate_status(self, serial_number: int) -> str:
        """Return what Pebble says of a certificate: ``Valid`` or ``Revoked``."""
        return str(self._ask(f"cert-status-by-serial/{serial_number:x}")["Status"])

    def _ask(self, path: str) -> Any:
        return json.loads(_get(f"{self.manage_url}/{path}", self.ca_file))


def require_pebble() -> None:
    """Skip the test where Pebble is not installed."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (Debian's package pebble has both)")


@contextlib.contextmanager
def reserved_port() -> Generator[int]:
    """Keep a port from being given to anybody who does not ask for it by its number, and give that."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def run_pebble(
    tls_authority: TestAuthority,
    directory: Path,
    *,
    environ: Mapping[str, str] | None = None,
    **config: Any,
) -> Generator[Pebble]:
    """Run Pebble and its DNS server for the length of a with statement.

    Args:
        tls_authority: Where its own HTTPS certificate comes from.
        directory: Where its files go.
        environ: More of its environment, such as ``PEBBLE_WFE_NONCEREJECT``.
        config: More of its configuration, such as ``externalAccountMACKeys``.
    """
    require_pebble()
    credential = tls_authority.issue("localhost", "127.0.0.1")
    ca_file = directory / "pebble-ca.pem"
    ca_file.write_bytes(tls_authority.cert_pem.bytes())
    (directory / "cert.pem").write_bytes(credential.credential.chain_pem())
    (directory / "key.pem").write_bytes(credential.credential.private_key_pem())
    with ExitStack() as stack:
        http_port, tls_port = (stack.enter_context(reserved_port()) for _ in range(2))
        for attempt in range(START_ATTEMPTS):
            with ExitStack() as probe:
                ports = [probe.enter_context(reserved_port()) for _ in range(4)]
            settings = {
                "listenAddress": f"127.0.0.1:{ports[0]}",
                "managementListenAddress": f"127.0.0.1:{ports[1]}",
                "certificate": str(directory / "cert.pem"),
                "privateKey": str(directory / "key.pem"),
                "httpPort": http_port,
                "tlsPort": tls_port,
                "ocspResponderURL": "",
                "externalAccountBindingRequired": False,
                **config,
            }
            path = directory / "pebble.json"
            path.write_text(json.dumps({"pebble": settings}))
            dns, management = f"127.0.0.1:{ports[2]}", f"127.0.0.1:{ports[3]}"
            try:
                stack.enter_context(
                    _running(
                        [
                            *("pebble-challtestsrv", "-http01", "", "-https01", "", "-tlsalpn01", ""),
                            *("-dns01", dns, "-management", management, "-defaultIPv6", ""),
                        ],
                        {},
                        "Starting management server",
                        ports[2:],
                    )
                )
                log = stack.enter_context(
                    _running(
                        ["pebble", "-config", str(path), "-dnsserver", dns, "-strict"],
                        {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_ALTERNATE_ROOTS": "1", **(environ or {})},
                        "ACME directory available",
                        ports[:2],
                    )
                )
            except RuntimeError:
                if attempt == START_ATTEMPTS - 1:
                    raise
                continue
            break
        manage_url = f"https://127.0.0.1:{ports[1]}"
        alternates = int((environ or {}).get("PEBBLE_ALTERNATE_ROOTS", "1"))
        roots = tuple(_get(f"{manage_url}/roots/{number}", ca_file) for number in range(1 + alternates))
        yield Pebble(
            f"https://localhost:{ports[0]}/dir",
            ca_file,
            http_port,
            tls_port,
            f"http://{management}",
            roots,
            log,
            manage_url,
        )


@contextlib.contextmanager
def _running(command: list[str], environ: Mapping[str, str], ready: str, ports: list[int]) -> Generator[list[str]]:
    """Run a program until the end of the with statement, from when on it says that it is ready and its ports answer."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    is_ready = threading.Event()

    def follow() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if ready in line:
                is_ready.set()
        is_ready.set()

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    try:
        if not is_ready.wait(DEADLINE) or not any(ready in line for line in lines):
            raise RuntimeError(f"{command[0]} did not start:\n{''.join(lines)}")
        # It says so a moment before it is true.
        for port in ports:
            _await_listener(port, process)
        yield lines
    finally:
        process.terminate()
        process.wait(DEADLINE)
        reader.join(DEADLINE)
        if process.stdout is not None:
            process.stdout.close()


def _await_listener(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), DEADLINE).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nobody listens at port {port}") from None
            pause.wait(0.02)
        else:
            return


def _get(url: str, ca_file: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(ca_file))
    with urllib.request.urlopen(url, timeout=DEADLINE, context=context) as response:
        content: bytes = response.read()
    return content
