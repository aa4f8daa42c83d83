"""Real applications served by ``secureserve run``, and real clients that fetch from them."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.ssl_ import create_urllib3_context

from tests.processes import ServerProcess

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE = 45


@pytest.fixture(scope="session")
def ca_path(tls_authority: Any) -> Path:
    """The file of the certificate that clients trust."""
    path: Path = tls_authority.cert_path
    return path


@pytest.fixture
def serve(tls_credential: Any, tmp_path: Path, engine: str) -> Iterator[Callable[..., ServerProcess]]:
    """A function that serves an application of `tests.interop.applications` until the test ends."""
    credential = tls_credential("localhost")
    with contextlib.ExitStack() as stack:

        def start(application: str, *options: str) -> ServerProcess:
            return stack.enter_context(
                ServerProcess(
                    [
                        "run",
                        f"tests.interop.applications.{application}",
                        *("--app-dir", str(project_root())),
                        *("--socket-host", "127.0.0.1", "--socket-port", "0"),
                        *("--ssl-certificate", str(credential.certificate_path)),
                        *("--ssl-private-key", str(credential.private_key_path)),
                        *("--ssl-module", engine),
                        *options,
                    ],
                    directory=tmp_path,
                    # What frameworks warn of is not ours to mend.
                    environment={"PYTHONWARNINGS": "default"},
                )
            )

        yield start


def project_root() -> Path:
    """Return the directory above ``tests``."""
    from tests.docs.blocks import ROOT

    return ROOT


class _Pinned(HTTPAdapter):
    """Speaks one version of TLS only."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Have every connection made with the context."""
        super().init_poolmanager(*args, **options, ssl_context=self._context)  # type: ignore[no-untyped-call]


@pytest.fixture
def session(ca_path: Path) -> Iterator[Callable[[str], requests.Session]]:
    """A function that makes a requests session for one version of TLS, verifying against our authority alone."""
    with contextlib.ExitStack() as stack:

        def make(version: str = "TLSv1.3") -> requests.Session:
            import ssl

            pinned = ssl.TLSVersion[version.replace(".", "_")]
            context = create_urllib3_context(ssl_minimum_version=pinned, ssl_maximum_version=pinned)
            context.load_verify_locations(ca_path)
            made = stack.enter_context(requests.Session())
            made.trust_env = False
            made.verify = str(ca_path)
            made.mount("https://", _Pinned(context))
            return made

        yield make


@pytest.fixture
def curl(ca_path: Path) -> Callable[..., bytes]:
    """A function that runs curl, verifying, and returns what it wrote; a failure of curl fails the test."""

    def run(*arguments: str) -> bytes:
        command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", str(ca_path)]
        done = subprocess.run([*command, *arguments], capture_output=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


@pytest.fixture
def s_client(ca_path: Path) -> Callable[..., str]:
    """A function that sends bytes through ``openssl s_client``, verifying, and returns everything that it printed."""

    def run(port: int, request: bytes, *options: str) -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost"]
        verifying = ["-CAfile", str(ca_path), "-verify_return_error", "-verify_hostname", "localhost", "-ign_eof"]
        done = subprocess.run(
            [*command, *verifying, *options], input=request, capture_output=True, timeout=DEADLINE, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode() + done.stderr.decode()

    return run
