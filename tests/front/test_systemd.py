"""Socket activation, by the protocol of sd_listen_fds(3)."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from secureserve.errors import ConfigurationError
from secureserve.front.systemd import adopt_from_systemd, sockets_left

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PID = 4711

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""


@pytest.fixture
def passed() -> Iterator[int]:
    """Pass two listening sockets and a unix one, as if through exec, and return the first descriptor."""
    with contextlib.ExitStack() as cleanup:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp"))
        sockets = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))]
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(f"{directory}/s")
        unix.listen()
        sockets.append(unix)
        first = 700
        while any(_is_open(first + offset) for offset in range(3)):
            first += 3
        for offset, sock in enumerate(sockets):
            os.dup2(sock.fileno(), first + offset, inheritable=True)
            sock.close()
            cleanup.callback(_close, first + offset)
        yield first


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def environ(count: object = 3, names: str | None = "web:web:admin", pid: object = PID) -> dict[str, str]:
    """Give the variables that systemd sets."""
    variables = {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count)}
    return variables if names is None else {**variables, "LISTEN_FDNAMES": names}


def test_every_socket_passed_is_taken_with_its_name(passed: int) -> None:
    """All sockets become listeners of their own family, in order, named as in their units."""
    listeners = adopt_from_systemd(environ(), PID, first=passed)
    assert [(listener.name, listener.is_unix) for listener in listeners] == [
        ("web", False),
        ("web", False),
        ("admin", True),
    ]
    assert not any(os.get_inheritable(listener.fileno()) for listener in listeners)
    assert all(listener.sock.gettimeout() == 0 for listener in listeners)
    for listener in listeners:
        listener.close()


def test_names_are_optional(passed: int) -> None:
    """Sockets without names are called unknown, as systemd does."""
    listeners = adopt_from_systemd(environ(names=None), PID, first=passed)
    assert [listener.name for listener in listeners] == ["unknown"] * 3
    for listener in listeners:
        listener.close()


def test_several_servers_take_theirs_by_name(passed: int) -> None:
    """A server takes the sockets of its name, leaves the others, and nobody takes one twice."""
    (admin,) = adopt_from_systemd(environ(), PID, names=["admin"], first=passed)
    web = adopt_from_systemd(environ(), PID, first=passed)
    assert [listener.name for listener in web] == ["web", "web"]
    assert adopt_from_systemd(environ(), PID, first=passed) == []
    for listener in [admin, *web]:
        listener.close()


def test_a_closed_listeners_socket_can_be_taken_again(passed: int) -> None:
    """A server stopped and started again finds its socket, which kept listening meanwhile."""
    (admin,) = adopt_from_systemd(environ(), PID, names=["admin"], first=passed)
    path = admin.bound_addr
    assert isinstance(path, str)
    admin.close()
    admin.close()
    assert admin.closed
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        (again,) = adopt_from_systemd(environ(), PID, names=["admin"], first=passed)
        select.select([again], [], [], 10)
        ((sock, _),) = again.accept_many(1).connections
        sock.close()
        again.close()
    assert os.path.exists(path)  # noqa: PTH110 - the path is systemd's, as text


@pytest.mark.parametrize("variables", [{}, {"LISTEN_PID": "", "LISTEN_FDS": "1"}, environ(pid=PID + 1)])
def test_sockets_for_another_process_are_left_alone(passed: int, variables: dict[str, str]) -> None:
    """Without the variables, or with another process's id in them, nothing is taken."""
    assert adopt_from_systemd(variables, PID, first=passed) == []
    assert os.get_inheritable(passed)


@pytest.mark.parametrize("count", ["", "-1", "three", "1.5", "99999", "\u0663"])
def test_a_count_that_makes_no_sense_is_an_error(count: str) -> None:
    """LISTEN_FDS has to be a number of sockets."""
    with pytest.raises(ConfigurationError, match="LISTEN_FDS"):
        adopt_from_systemd(environ(count), PID)


def test_names_have_to_be_as_many_as_sockets(passed: int) -> None:
    """A list of names of another length is refused rather than guessed at."""
    with pytest.raises(ConfigurationError, match="2 names for 3 sockets"):
        adopt_from_systemd(environ(names="web:admin"), PID, first=passed)


def test_a_name_that_was_not_passed_is_an_error_that_lists_those_that_were(passed: int) -> None:
    """Asking for a name nobody passed says which names there are."""
    with pytest.raises(ConfigurationError, match=r"has no 'api'.*admin, web"):
        adopt_from_systemd(environ(), PID, names=["api"], first=passed)


def test_what_does_not_listen_is_refused_and_nothing_stays_taken(passed: int) -> None:
    """A connection (Accept=yes), a datagram socket or a file among the sockets fails all of them, untaken."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(type=socket.SOCK_DGRAM) as datagrams, tempfile.TemporaryFile() as file:
        for bad, told in ((ours, "not a listening"), (datagrams, "not a listening"), (file, "not a socket")):
            os.dup2(bad.fileno(), passed + 2, inheritable=True)
            with pytest.raises(ConfigurationError, match=told):
                adopt_from_systemd(environ(), PID, first=passed)
            assert all(os.get_inheritable(passed + offset) for offset in range(3))


def test_a_process_started_with_sockets_serves_them() -> None:
    """A program executed with sockets from descriptor 3 on accepts on them, as under systemd."""
    program = (
        "import os, select\n"
        "from secureserve.front.systemd import adopt_from_systemd\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "(listener,) = adopt_from_systemd(os.environ, os.getpid())\n"
        "select.select([listener], [], [], 20)\n"
        "((sock, _),) = listener.accept_many(1).connections\n"
        "sock.sendall(listener.name.encode())\n"
    )
    shell = 'exec 3<&"$1"; exec "$2" -c "$3"'
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = ["bash", "-c", shell, "bash", str(server.fileno()), sys.executable, program]
        variables = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
        child = subprocess.Popen(arguments, pass_fds=[server.fileno()], env=variables)
        with socket.create_connection(server.getsockname(), timeout=20) as client:
            assert client.makefile("rb").read() == b"web"
        assert child.wait(20) == 0


def test_several_servers_find_theirs_by_address(passed: int) -> None:
    """A server takes the sockets at its own port or path if there are any, and otherwise all that are left."""
    everything = adopt_from_systemd(environ(), PID, first=passed)
    addresses = [listener.bound_addr for listener in everything]
    for listener in everything:
        listener.close()
    (second,) = adopt_from_systemd(environ(), PID, at=(None, int(addresses[1][1])), first=passed)
    (unix,) = adopt_from_systemd(environ(), PID, at=str(addresses[2]), first=passed)
    (rest,) = adopt_from_systemd(environ(), PID, at=("localhost", 1), first=passed)
    assert [second.bound_addr, unix.bound_addr, rest.bound_addr] == [addresses[1], addresses[2], addresses[0]]
    for listener in (second, unix, rest):
        listener.close()


def test_which_sockets_are_left_can_be_told(passed: int) -> None:
    """Sockets that no listener has, and those given back, are told by their inodes."""
    inodes = [os.fstat(passed + offset).st_ino for offset in range(3)]
    (admin,) = adopt_from_systemd(environ(), PID, names=["admin"], first=passed)
    assert sockets_left(environ(), PID, first=passed) == set(inodes[:2])
    admin.close()
    assert sockets_left(environ(), PID, first=passed) == set(inodes)
    assert sockets_left(environ(), PID + 1, first=passed) == set()


def test_a_server_program_under_activation(tmp_path: Path) -> None:
    """The command serves the socket it is passed, on TLS, answers who waited there, and stops without a complaint."""
    (tmp_path / "app.py").write_text(APPLICATION)
    shell = 'exec 3<&"$1"; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web.socket; shift; exec "$@"'
    command = [sys.executable, "-m", "secureserve", "run", "app:application", "--self-signed"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    variables = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen(
            ["bash", "-c", shell, "bash", str(server.fileno()), *command],
            pass_fds=[server.fileno()],
            env=variables,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as child:
            with contextlib.closing(
                http.client.HTTPSConnection("127.0.0.1", port, timeout=40, context=context)
            ) as client:
                client.request("GET", "/")
                assert client.getresponse().read() == b"hello"
            assert child.stdout is not None
            assert any("Serving on" in line for line in child.stdout)
            child.send_signal(signal.SIGTERM)
            output, _ = child.communicate(timeout=40)
        assert child.returncode == 0, output
        assert "still listens" not in output
