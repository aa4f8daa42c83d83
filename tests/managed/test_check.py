"""``secureserve check``: everything that is wrong with a configuration, at once, without starting anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.managed.clients import DEADLINE

ROOT = Path(__file__).parents[2]


def check(directory: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """Run the command in a directory with an application; returns its status, its output and its lines of errors."""
    (directory / "app.py").write_text("def application(environ, start_response):\n    return []\n")
    done = subprocess.run(
        [sys.executable, "-m", "secureserve", "check", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE * 3,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_everything_wrong_is_told_with_its_line(tmp_path: Path) -> None:
    """Three mistakes in the file and an application that is not there are four lines, and status 2."""
    (tmp_path / "bad.toml").write_text('[server]\nsocket_prot = 1\nthread_pool = "x"\n[engine]\nusr = "x"\n')
    status, output, errors = check(tmp_path, "app:nothing", "--config", "bad.toml")
    assert (status, output) == (2, "")
    assert len(errors) == 4
    assert all(line.startswith("secureserve: ") for line in errors)
    for expected in (
        "app:nothing",
        "bad.toml:2: server.socket_prot is not a setting. Did you mean server.socket_port?",
        "bad.toml:3: server.thread_pool = 'x'",
        "bad.toml:5: engine.usr is not a setting. Did you mean engine.user?",
    ):
        assert any(expected in line for line in errors)


def test_what_only_shows_together_is_told_too(tmp_path: Path, tls_credential: Any) -> None:
    """Values that do not go together, a key that does not fit, and half a pair of a further server are all found."""
    one, other = tls_credential("localhost"), tls_credential("localhost")
    (tmp_path / "bad.toml").write_text(
        "[server]\nthread_pool_max = 1\n"
        f'ssl_certificate = "{one.certificate_path}"\nssl_private_key = "{other.private_key_path}"\n'
        f'[server.admin]\nssl_private_key = "{one.private_key_path}"\n'
    )
    status, _, errors = check(tmp_path, "app:application", "--config", "bad.toml")
    assert status == 2
    assert len(errors) == 3
    for expected in ("thread_pool_max", str(other.private_key_path), "ssl_certificate is missing"):
        assert any(expected in line for line in errors)


def test_a_good_configuration_is_called_good_and_not_started(tmp_path: Path, tls_credential: Any) -> None:
    """With a port that is taken the check passes all the same, since it binds nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "good.ini").write_text(
            f"[global]\nserver.socket_host = '127.0.0.1'\nserver.socket_port = {taken.getsockname()[1]}\n"
            f"server.ssl_certificate = '{tls_credential('localhost').pem_path}'\n"
        )
        assert check(tmp_path, "app:application", "-c", "good.ini") == (0, "Nothing is wrong.\n", [])
