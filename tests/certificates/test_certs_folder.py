"""What is in certs/ works as it says: hooks, units, manifests; and there is no private key, nor ever was."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.testing
import yaml

from secureserve.certificates.credential import Credential
from secureserve.cli.app import app
from secureserve.managed.server import Server
from secureserve.testing import CredentialDirectory, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from secureserve.testing import Authority

ROOT = Path(__file__).parents[2]
CERTS = ROOT / "certs"


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Answer anything."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


class Deployment:
    """A running server, and a tool that has renewed its certificate somewhere else."""

    def __init__(self, authority: Authority, path: Path, **settings: Any) -> None:
        self.authority, self.path = authority, path
        self.directory = CredentialDirectory(authority, path / "server", "one.test")
        self.control = path / "control"
        command = path / "bin" / "secureserve"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m secureserve "$@"\n')
        command.chmod(0o755)
        self.environment = {
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SECURESERVE_CONTROL_SOCKET": str(self.control),
        }
        self.server = Server(
            application,
            socket_host="127.0.0.1",
            socket_port=0,
            ssl_certificate=str(self.directory.certificate_path),
            ssl_private_key=str(self.directory.private_key_path),
            control_socket=str(self.control),
            certificate_watch=False,
            **settings,
        )

    def run(self, hook: str | Path, *arguments: object, **environment: object) -> subprocess.CompletedProcess[str]:
        """Run a hook as its tool does."""
        return subprocess.run(
            [str(CERTS / "hooks" / hook), *map(str, arguments)],
            env={**self.environment, **{name: str(value) for name, value in environment.items()}},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def fingerprint(self) -> str:
        """Of what is served."""
        return self.server.certificates[0].fingerprint


@pytest.fixture
def deployment(tls_authority: Authority, tmp_path: Path) -> Iterator[Deployment]:
    """A running server."""
    deployment = Deployment(tls_authority, tmp_path)
    with deployment.server:
        yield deployment


@pytest.mark.parametrize("tool", ["certbot", "lego", "lego 5", "acme", "step"])
def test_hooks(deployment: Deployment, tool: str) -> None:
    """Each hook takes what its tool tells it, and has the renewed certificate served when it succeeds."""
    layout = {"certbot": Layout.CERTBOT, "acme": Layout.ACME_SH}.get(tool, Layout.LEGO)
    renewed = CredentialDirectory(
        deployment.authority, deployment.path / "tool", "one.test", layout=layout, name="one.test"
    )
    certificate, key = renewed.certificate_path, renewed.private_key_path
    done = {
        "certbot": lambda: deployment.run("certbot.sh", RENEWED_LINEAGE=certificate.parent),
        "lego": lambda: deployment.run("lego.sh", LEGO_CERT_PATH=certificate, LEGO_CERT_KEY_PATH=key),
        "lego 5": lambda: deployment.run("lego.sh", LEGO_HOOK_CERT_PATH=certificate, LEGO_HOOK_CERT_KEY_PATH=key),
        "acme": lambda: deployment.run("acme.sh", CERT_FULLCHAIN_PATH=certificate, CERT_KEY_PATH=key),
        "step": lambda: deployment.run("step.sh", certificate, key),
    }[tool]()
    assert done.returncode == 0, done.stderr
    assert deployment.fingerprint == renewed.fingerprint
    assert "Rotated." in done.stdout


def test_hook_where_the_server_reads_the_files(deployment: Deployment) -> None:
    """Where the tool has renewed in place, the hook touches no file and has the server take them."""
    new = deployment.directory.rotate().fingerprint
    done = deployment.run("step.sh", deployment.directory.certificate_path, deployment.directory.private_key_path)
    assert done.returncode == 0, done.stderr
    assert "Nothing to install" in done.stdout
    assert deployment.fingerprint == new


def test_hook_by_a_link(deployment: Deployment) -> None:
    """A hook may be linked into the directory where its tool looks for hooks."""
    renewed = CredentialDirectory(deployment.authority, deployment.path / "tool", "one.test", layout=Layout.CERTBOT)
    link = deployment.path / "renewal-hooks" / "secureserve"
    link.parent.mkdir()
    link.symlink_to(CERTS / "hooks" / "certbot.sh")
    done = deployment.run(link, RENEWED_LINEAGE=renewed.certificate_path.parent)
    assert done.returncode == 0, done.stderr
    assert deployment.fingerprint == renewed.fingerprint


def test_hook_where_the_server_reads_a_directory(tls_authority: Authority, tmp_path: Path) -> None:
    """A server over certbot's whole directory takes what was renewed there; a broken renewal fails the hook."""
    live = tmp_path / "certbot" / "live"
    renewed = CredentialDirectory(
        tls_authority, tmp_path / "certbot", "two.test", layout=Layout.CERTBOT, name="two.test"
    )
    assert live in renewed.certificate_path.parents
    deployment = Deployment(tls_authority, tmp_path, ssl_certificate_directory=str(live))
    with deployment.server:
        renewed.rotate()
        done = deployment.run("certbot.sh", RENEWED_LINEAGE=renewed.certificate_path.parent)
        assert done.returncode == 0, done.stderr
        assert "Nothing to install" in done.stdout
        assert [each.fingerprint for each in deployment.server.certificates][1:] == [renewed.fingerprint]
        renewed.rotate(identities=("three.test",))
        done = deployment.run("certbot.sh", RENEWED_LINEAGE=renewed.certificate_path.parent)
        assert done.returncode == 1
        assert "does not cover two.test" in done.stderr


def test_hook_fails(deployment: Deployment) -> None:
    """A hook whose certificate is not taken fails, says why, and leaves everything as it was."""
    before = deployment.fingerprint
    bad = CredentialDirectory(deployment.authority, deployment.path / "tool", "other.test", layout=Layout.LEGO)
    done = deployment.run("step.sh", bad.certificate_path, bad.private_key_path)
    assert done.returncode == 1
    assert "does not cover one.test" in done.stderr
    assert deployment.fingerprint == before
    assert deployment.run("certbot.sh").returncode != 0
    assert "certbot sets it" in deployment.run("certbot.sh").stderr
    del deployment.environment["SECURESERVE_CONTROL_SOCKET"]
    assert "control_socket" in deployment.run("step.sh", bad.certificate_path, bad.private_key_path).stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_hooks_are_clean() -> None:
    """A linter finds nothing in the hooks."""
    hooks = sorted((CERTS / "hooks").glob("*.sh"))
    subprocess.run(["shellcheck", *map(str, hooks)], check=True, timeout=60)


def _understood(command: list[str]) -> bool:
    """Return whether our command line has these options, without doing what they say."""
    *words, last = command
    result = typer.testing.CliRunner().invoke(app, [*words, last, "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", result.output))
    used = {word.split("=")[0] for word in command if word.startswith("--")}
    return result.exit_code == 0 and used <= known


def test_systemd_units() -> None:
    """The path unit starts the service, whose command is one of ours."""
    names = ("secureserve-certificates.path", "secureserve-certificates.service")
    units = {name: configparser.ConfigParser(interpolation=None) for name in names}
    for name, unit in units.items():
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(CERTS / "systemd" / name)
    path = units["secureserve-certificates.path"]["Path"]
    service = units[path["Unit"]]["Service"]
    program, *command = service["ExecStart"].split()
    assert Path(program).name == "secureserve"
    assert path["PathChanged"].endswith("fullchain.pem")
    assert _understood(command)


def test_kubernetes_manifest() -> None:
    """The Deployment mounts the Secret that the Certificate fills, and the server reads it there, by options it has."""
    documents = list(yaml.safe_load_all((CERTS / "kubernetes" / "cert-manager.yaml").read_text()))
    by_kind = {document["kind"]: document for document in documents}
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume["secret"]["secretName"] == by_kind["Certificate"]["spec"]["secretName"]
    assert mount["name"] == volume["name"]
    assert "subPath" not in mount
    program, *command = container["command"]
    assert program == "secureserve"
    assert f"--ssl-certificate={mount['mountPath']}/tls.crt" in command
    assert f"--ssl-private-key={mount['mountPath']}/tls.key" in command
    assert _understood(command)
    assert by_kind["Service"]["spec"]["selector"] == by_kind["Deployment"]["spec"]["selector"]["matchLabels"]


def test_vault_agent(tls_authority: Authority, tmp_path: Path) -> None:
    """What the template writes is a file that the server loads, key and chain in one; its command is one of ours."""
    text = (CERTS / "vault" / "agent.hcl").read_text()
    template = re.search(r"<<EOT\n(.*?)EOT", text, re.DOTALL)
    assert template is not None
    issued = tls_authority.issue("app.internal", chain_depth=1)
    leaf, intermediate = (blob.bytes().decode().strip() for blob in issued.cert_chain_pems)
    values = {".Key": issued.private_key_pem.bytes().decode().strip(), ".Cert": leaf, ".CA": intermediate}
    rendered = re.sub(r"\{\{ (?:with .*?|end) \}\}", "", template[1])
    rendered = re.sub(r"\{\{ (\.\w+) \}\}", lambda found: values[found[1]], rendered)
    (tmp_path / "app.pem").write_text(rendered)
    credential = Credential.load(tmp_path / "app.pem")
    assert credential.fingerprint == issued.fingerprint
    assert len(credential.chain) == 2
    command = re.search(r"command = \[(.*)\]", text)
    assert command is not None
    program, *words = [word.strip().strip('"') for word in command[1].split(",")]
    assert program == "secureserve"
    assert _understood(words)


def test_no_private_key_in_the_whole_history() -> None:
    """No commit, on any branch, has ever added a private key's block to any file."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    # A block, not the words: what follows the line is base64, which a mere mention in code never has.
    pattern = r"^[+-]?-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----$"
    found = subprocess.run(
        ["git", "-C", str(ROOT), "log", "--all", "--format=%h", "--extended-regexp", "-G", pattern],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert found.stdout.split() == []
    assert not [path for path in CERTS.rglob("*") if path.suffix in {".key", ".pem", ".p12", ".pfx"}]
