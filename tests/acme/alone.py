"""What `test_server_alone` runs where the whole network is this test's: there Pebble looks at the real ports."""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

from tests.acme.pebble import run_pebble
from tests.acme.site import APPLICATION
from tests.processes import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from secureserve.testing import Authority

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
"""Of netdevice(7)."""


def test_plain(tls_authority: Authority, tmp_path: Path) -> None:
    """A name, an address and the acceptance of the terms: that is all. The environment stands in for Let's Encrypt."""
    bring_up_loopback()
    (tmp_path / "app.py").write_text(APPLICATION)
    with run_pebble(tls_authority, tmp_path, httpPort=80, tlsPort=443) as pebble:
        (tmp_path / "roots.pem").write_bytes(pebble.roots[0])
        plain = ["run", "app:app", "--acme-domain", "example.org", "--acme-email", "ops@example.org"]
        environment = {
            "SECURESERVE_ACME_DIRECTORY": pebble.directory_url,
            "SECURESERVE_ACME_CA_FILE": str(pebble.ca_file),
        }
        with ServerProcess([*plain, "--acme-accept-terms"], directory=tmp_path, environment=environment) as server:
            server.errors.wait_for("obtained a certificate for example.org")
            assert fetch(tmp_path / "roots.pem", "https://example.org/") == "hello\n"
            assert fetch(tmp_path / "roots.pem", "--location", "http://example.org/") == "hello\n"


def bring_up_loopback() -> None:
    """Make 127.0.0.1 work in a network that is new."""
    name = b"lo".ljust(16, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sh14x", name, 0))
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | IFF_UP))


def fetch(ca_file: Path, *arguments: str) -> str:
    """Fetch with curl, which verifies the certificate."""
    resolved = ("--resolve", "example.org:443:127.0.0.1", "--resolve", "example.org:80:127.0.0.1")
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", str(ca_file)),
            *(*resolved, *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
