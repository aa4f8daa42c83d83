"""What the tests of the command line share."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from secureserve import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APPLICATION = """
def application(environ, start_response):
    body = (environ.get("SSL_PROTOCOL", "plain") + " " + environ["PATH_INFO"] + "\\n").encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def make():
    return application
"""


@pytest.fixture
def place(tmp_path: Path, tls_credential: Any) -> Path:
    """A directory with an application and a certificate for it: app.py, cert.pem, key.pem, ca.pem."""
    credential = tls_credential("localhost", "127.0.0.1")
    (tmp_path / "app.py").write_text(APPLICATION, encoding="utf-8")
    (tmp_path / "cert.pem").write_bytes(credential.certificate_path.read_bytes())
    (tmp_path / "key.pem").write_bytes(credential.private_key_path.read_bytes())
    return tmp_path


@pytest.fixture
def fetch(tls_authority: Any) -> Callable[..., str]:
    """A function that fetches with curl, verifying against the suite's authority, and returns the body."""

    def run(url: str, *options: str) -> str:
        command = [
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--cacert",
            str(tls_authority.cert_path),
        ]
        done = subprocess.run([*command, *options, url], capture_output=True, text=True, timeout=45, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def restored_loggers() -> Iterator[None]:
    """Put the package's loggers back as they were."""
    import logging

    loggers = [logging.getLogger(name) for name in ("secureserve", logs.ACCESS_LOGGER)]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
