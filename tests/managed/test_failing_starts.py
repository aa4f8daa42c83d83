"""Starts that fail, each for a reason of its own: nothing of them is left running."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secureserve import Server
from secureserve.errors import SecureServeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from secureserve.testing.credentials import IssuedCredential

CASES: Mapping[str, Mapping[str, Any]] = {
    "a taken port": {"socket_port": "taken"},
    "a taken port to redirect from": {"redirect_port": "taken"},
    "a control socket in no directory": {"control_socket": "/nonexistent/control"},
    "a unix socket in no directory": {"socket_file": "/nonexistent/socket"},
    "an unknown host": {"socket_host": "host.invalid"},
    "no such certificate": {"ssl_certificate": "/nonexistent/certificate.pem"},
    "no such client authority": {"ssl_client_ca": "/nonexistent/ca.pem", "ssl_client_verify": "required"},
    "a key log that cannot be written": {"tls_keylog_file": "/nonexistent/log"},
    "an application that is not there": {"application": "nonexistent:application"},
}


def application(_environ: Any, start_response: Any) -> list[bytes]:
    """Answer, if it comes to that."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


@pytest.fixture
def issued(tls_credential: Any) -> IssuedCredential:
    """A credential for localhost."""
    credential: IssuedCredential = tls_credential("localhost", "127.0.0.1")
    return credential


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is listened at already."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("case", CASES)
def test_a_failing_start_leaves_nothing(case: str, issued: IssuedCredential, taken: int, engine: str) -> None:
    """The error is raised where the server was started, and neither a thread nor a socket is left."""
    wanted = {name: taken if value == "taken" else value for name, value in CASES[case].items()}
    settings: dict[str, Any] = {
        "application": application,
        "socket_host": "127.0.0.1",
        "socket_port": 0,
        "ssl_certificate": issued.pem_path,
        "ssl_module": engine,
        **wanted,
    }
    threads, sockets = set(threading.enumerate()), open_sockets()
    with pytest.raises(SecureServeError), Server(**settings):
        pass
    assert set(threading.enumerate()) <= threads
    assert open_sockets() <= sockets


def open_sockets() -> set[str]:
    """Return the sockets that this process has open, by their numbers in the kernel."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith("socket:"):
                found.add(target)
    return found
