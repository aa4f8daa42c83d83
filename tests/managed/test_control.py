"""The control socket of a running server."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.errors import ConfigurationError, LifecycleError, StartFailed
from secureserve.managed import control
from secureserve.managed.control import ControlSocket, ask
from secureserve.managed.server import Server
from secureserve.testing import CredentialDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from secureserve.testing import Authority


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., ControlSocket]]:
    """A factory of started control sockets that are stopped after the test."""
    made: list[ControlSocket] = []

    def start(**commands: Callable[..., Any]) -> ControlSocket:
        made.append(ControlSocket(tmp_path / "control", commands))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.stop()


def _say(path: str, said: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(path)
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_question_and_answer(started: Any) -> None:
    """A command gets its arguments, and its result comes back; what fails comes back as an error."""

    def fail() -> None:
        raise ConfigurationError("x", 1, "is wrong")

    def crash() -> None:
        raise RuntimeError("oh dear")

    path = started(add=lambda a, b: {"sum": a + b}, fail=fail, crash=crash).path
    assert ask(path, "add", a=1, b=2) == {"sum": 3}
    with pytest.raises(LifecycleError, match="x = 1 is wrong"):
        ask(path, "fail")
    with pytest.raises(LifecycleError, match="oh dear"):
        ask(path, "crash")
    with pytest.raises(LifecycleError, match=r"knows add, crash, fail\."):
        ask(path, "subtract")
    with pytest.raises(LifecycleError, match="does not take these arguments"):
        ask(path, "add", c=1)


@pytest.mark.parametrize(
    "said", [b"", b"\n", b"{}\n", b"[]\n", b"not json\n", b'{"command": []}\n', b"x" * 70_000, b"\xff\n"]
)
def test_nonsense(started: Any, said: bytes) -> None:
    """Whatever is said to it, it answers with an error or not at all, and goes on."""
    path = started(ping=lambda: "pong").path
    try:
        answer = _say(path, said)
    except ConnectionError:
        answer = b""
    assert not answer or "error" in json.loads(answer)
    assert ask(path, "ping") == "pong"


def test_for_the_owner_only(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is 0600 whatever the umask; another user is neither answered nor believed."""
    before = os.umask(0)
    try:
        path = started(ping=lambda: "pong").path
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    monkeypatch.setattr(control, "_user_of", lambda sock: 12345)
    # Closed at once: whether that shows while writing or while reading is a matter of timing.
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        _say(path, b'{"command": "ping"}\n')
    with pytest.raises(LifecycleError, match="another user"):
        ask(path, "ping")


def test_silent_client(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says nothing is given up on, and the next is answered."""
    monkeypatch.setattr(control, "QUESTION_TIMEOUT", 0.2)
    path = started(ping=lambda: "pong").path
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(path)
        assert ask(path, "ping") == "pong"


def test_no_answer(started: Any) -> None:
    """Who asks waits no longer than it said, and is told when nobody is there."""
    release = threading.Event()
    path = started(wait=lambda: release.wait(20)).path
    with pytest.raises(LifecycleError, match=r"did not answer 'wait' within 0\.2 seconds"):
        ask(path, "wait", timeout=0.2)
    release.set()
    with pytest.raises(LifecycleError, match="Is it running"):
        ask(path + ".nobody", "wait")


def test_stop(started: Any) -> None:
    """After stopping the path and the thread are gone; stopping again does no harm; a path in use is refused."""
    one = started(ping=lambda: "pong")
    with pytest.raises(StartFailed, match="control_socket"):
        ControlSocket(one.path, {}).start()
    one.stop()
    one.stop()
    assert not Path(one.path).exists()
    assert "secureserve-control" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConfigurationError, match="control_socket"):
        ControlSocket("x" * 200, {}).start()


def test_a_dead_server_leaves_no_obstacle(tmp_path: Path) -> None:
    """The socket of a server that was killed does not keep the next one from starting."""
    script = (
        "import os, sys; from secureserve.managed.control import ControlSocket; "
        "ControlSocket(sys.argv[1], {}).start(); os._exit(1)"
    )
    path = tmp_path / "control"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    assert path.is_socket()
    again = ControlSocket(path, {"ping": lambda: "pong"})
    again.start()
    try:
        assert ask(path, "ping") == "pong"
    finally:
        again.stop()


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Answer anything."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def test_managed_server(tls_authority: Authority, tmp_path: Path) -> None:
    """A running server tells its status and certificates there, and reloads them; after stopping it is gone."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    path = tmp_path / "control"
    settings: dict[str, Any] = {
        "socket_host": "127.0.0.1",
        "socket_port": 0,
        "ssl_certificate": str(directory.certificate_path),
        "ssl_private_key": str(directory.private_key_path),
        "certificate_watch": False,
        "control_socket": str(path),
    }
    with Server(application, **settings) as server:
        status = ask(path, "status")
        assert status["pid"] == os.getpid()
        assert tuple(status["address"]) == server.bound_addr
        assert status["certificate_files"][0]["certificate"] == str(directory.certificate_path)
        assert ask(path, "certificates.show")["served"][0]["fingerprint"] == directory.fingerprint
        new = directory.rotate().fingerprint
        assert ask(path, "certificates.reload") == {"ok": True, "rotated": [new], "refused": []}
        assert server.certificates[0].fingerprint == new
        directory.break_("garbage")
        refused = ask(path, "certificates.reload")
        assert not refused["ok"]
        assert refused["refused"][0]["source"] == str(directory.certificate_path)
    assert not path.exists()


def test_managed_server_that_cannot_listen(tls_authority: Authority, tmp_path: Path) -> None:
    """A server whose control socket cannot be made does not start, and leaves nothing behind."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    (tmp_path / "control").write_text("something else")
    server = Server(
        application,
        socket_host="127.0.0.1",
        socket_port=0,
        ssl_certificate=str(directory.certificate_path),
        ssl_private_key=str(directory.private_key_path),
        control_socket=str(tmp_path / "control"),
    )
    with pytest.raises(ConfigurationError, match="control_socket"):
        server.start()
    assert not [one.name for one in threading.enumerate() if one.name.startswith("secureserve-")]
