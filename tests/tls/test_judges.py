"""What tools that auditors use say of a server: sslyze, sslscan, testssl. Each is skipped where it is not installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import secureserve
from secureserve.certificates.sources import MemorySource
from secureserve.certificates.store import CertificateStore
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.engines import capabilities
from secureserve.tls.policy import TLSPolicy
from tests.tls.serving import SmallServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from secureserve.testing.authority import Authority

KEYS = pytest.mark.parametrize("keys", ["ecdsa", "rsa", "ecdsa+rsa"])
NOT_OURS = {"scanTime", "engine_problem", "QUIC", "security_headers"}
"""What testssl says of itself and of what it lacks, and of headers that are the application's."""

LIBRARY_GROUPS = {"X448", "secp521r1"}
"""What ssl's own groups have beyond ours; before Python 3.15 it takes them all, or a single one."""


def needs(tool: str, reason: str) -> pytest.MarkDecorator:
    """Skip a test where a tool is missing."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=reason)


def serve(authority: Authority, keys: str, policy: TLSPolicy, engine: str) -> SmallServer:
    """Return a server with certificates of these key types."""
    credentials = [authority.issue("localhost", key_type=key).credential for key in keys.split("+")]
    acceptor = TLSAcceptor(CertificateStore(credentials), policy, engine=engine)
    return SmallServer(acceptor)


@needs("sslyze", "sslyze needs an environment of its own: pip install sslyze there, and put it on PATH")
@pytest.mark.parametrize(
    ("profile", "keys"),
    [
        ("intermediate", "ecdsa"),
        ("intermediate", "rsa"),
        ("intermediate", "ecdsa+rsa"),
        ("modern", "ecdsa"),
        ("modern", "ecdsa+rsa"),
    ],
)
def test_sslyze(tls_authority: Authority, engine: str, profile: str, keys: str) -> None:
    """Mozilla's profile is kept, but for the groups of an engine that cannot choose several; modern wants ECDSA."""
    policy = {"intermediate": TLSPolicy.INTERMEDIATE, "modern": TLSPolicy.MODERN}[profile]
    found = compliance(tls_authority, keys, policy, engine, profile)
    if capabilities(engine).chooses_groups:
        assert found == []
    else:
        assert [line for line in found if "tls_curves" not in line] == []
        assert set(re.findall(r"'(\w+)'", "".join(found))) <= LIBRARY_GROUPS
        assert compliance(tls_authority, keys, policy.replace(groups=["P-256"]), engine, profile) == []


def compliance(authority: Authority, keys: str, policy: TLSPolicy, engine: str, profile: str) -> list[str]:
    """Return what sslyze has against a server."""
    with serve(authority, keys, policy, engine) as server:
        command = ["sslyze", f"--mozilla_config={profile}", "--sni=localhost"]
        command += [f"--certinfo_ca_file={authority.cert_path}", f"127.0.0.1:{server.port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Checking results against Mozilla's" in done.stdout, done.stdout + done.stderr
    return [line.strip() for line in done.stdout.partition("Checking results")[2].splitlines() if "* " in line]


@needs("sslscan", "sslscan is not installed (Debian: apt-get install sslscan)")
@KEYS
def test_sslscan(tls_authority: Authority, engine: str, keys: str) -> None:
    """The scanner sees the two versions, the suites that are ours, and nothing that it knows as a weakness."""
    with serve(tls_authority, keys, TLSPolicy.INTERMEDIATE, engine) as server:
        command = ["sslscan", "--no-colour", "--sni-name=localhost", f"127.0.0.1:{server.port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    printed = done.stdout
    versions = dict(re.findall(r"^((?:TLS|SSL)v[\d.]+) +(enabled|disabled)$", printed, re.MULTILINE))
    assert {version for version, state in versions.items() if state == "enabled"} == {"TLSv1.2", "TLSv1.3"}
    assert "Server supports TLS Fallback SCSV" in printed
    assert "Session renegotiation not supported" in printed
    assert "not vulnerable to heartbleed" in printed
    suites = set(re.findall(r"^(?:Preferred|Accepted) +TLSv1.2 +\d+ bits +(\S+)", printed, re.MULTILINE))
    assert suites == {
        suite for suite in TLSPolicy.INTERMEDIATE.ciphers if any(f"-{key.upper()}-" in suite for key in keys.split("+"))
    }
    if capabilities(engine).chooses_groups:
        groups = set(re.findall(r"^TLSv1.3 +\d+ bits +(\S+)", printed.partition("Key Exchange Group")[2], re.MULTILINE))
        assert groups <= {"x25519", "secp256r1", "secp384r1"}


@needs("testssl", "testssl is not installed (Debian: apt-get install testssl.sh)")
@pytest.mark.skipif(
    "SECURESERVE_TEST_SLOW" not in os.environ, reason="takes minutes: set SECURESERVE_TEST_SLOW=1 to have it run"
)
@pytest.mark.timeout(600)
@KEYS
def test_testssl(tls_authority: Authority, engine: str, keys: str, tmp_path: Path) -> None:
    """testssl.sh finds nothing of severity low or worse, and where it gives marks (3.2, not 3.0) gives an A+."""
    credentials = [tls_authority.issue("localhost", key_type=key).credential for key in keys.split("+")]
    settings: dict[str, Any] = {"ssl_module": engine, "hsts": "max-age=63072000"}
    with secureserve.Server(
        answer, socket_host="127.0.0.1", socket_port=0, certificate_sources=[MemorySource(*credentials)], **settings
    ) as server:
        port = server.bound_addr[1]
        findings = ask_testssl(tls_authority, port, tmp_path / "weaknesses.json", "-p", "-U", "-h")
        marks = ask_testssl(tls_authority, port, tmp_path / "marks.json", "--rating-only") if gives_marks() else None
    grave = [each for each in findings if each["severity"] not in {"OK", "INFO", "DEBUG"}]
    assert [each for each in grave if each["id"] not in NOT_OURS] == []
    assert {"heartbleed", "CRIME_TLS", "ROBOT", "LUCKY13"} <= {each["id"] for each in findings}
    assert [each["severity"] for each in findings if each["id"] == "HSTS_time"] == ["OK"]
    if marks is not None:
        assert [each["finding"] for each in marks if each["id"] == "overall_grade"] == ["A+"], marks


def ask_testssl(authority: Authority, port: int, report: Path, *checks: str) -> list[dict[str, str]]:
    """Return what testssl finds."""
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--ip", "127.0.0.1"]
    command += ["--add-ca", str(authority.cert_path), "--jsonfile", str(report), *checks, f"localhost:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, stdin=subprocess.DEVNULL)
    assert report.exists(), done.stdout + done.stderr
    found: list[dict[str, str]] = json.loads(report.read_text())
    return found


def gives_marks() -> bool:
    """Return whether this testssl knows SSL Labs' marks."""
    done = subprocess.run(["testssl", "--help"], capture_output=True, text=True, check=False, timeout=60)
    return "--rating-only" in done.stdout


def answer(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Be an application."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
