"""A real Chromium, which offers the post-quantum key exchange by itself."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.docs.blocks import ROOT
from tests.processes import ServerProcess, clean_environment

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
DEADLINE = 100

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)
"""It shows the page and asks nobody else for anything."""


@pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason=f"there is no {CHROMIUM} (Debian: apt-get install chromium)")
@pytest.mark.timeout(2 * DEADLINE)
def test_chromium_agrees_on_the_post_quantum_group(tls_credential: Any, tmp_path: Path) -> None:
    """Chromium shows the page, and page and access log say that X25519MLKEM768 was agreed on."""
    credential = tls_credential("localhost")
    arguments = [
        *("run", "tests.interop.applications.plain_app:page", "--app-dir", str(ROOT)),
        *("--socket-host", "127.0.0.1", "--socket-port", "0", "--ssl-module", "pyopenssl"),
        *("--ssl-certificate", str(credential.certificate_path), "--ssl-private-key", str(credential.private_key_path)),
    ]
    with ServerProcess(arguments, directory=tmp_path) as server:
        command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}"]
        command += [f"--ignore-certificate-errors-spki-list={public_key_digest(credential)}"]
        done = subprocess.run(
            [*command, "--dump-dom", server.url("/page")],
            env=clean_environment(tmp_path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert '<p id="group">X25519MLKEM768</p>' in done.stdout, done.stderr
        server.output.wait_for(r'"GET /page HTTP/1\.1" 200 .* TLSv1\.3 TLS_\w+ X25519MLKEM768 "localhost" ')


def public_key_digest(credential: Any) -> str:
    """Return by what Chromium knows a key that it is to trust."""
    key = credential.leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
