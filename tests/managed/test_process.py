"""Whole processes: signals, restarts, systemd, and the calls that serve until told to stop."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from secureserve.managed.control import ask
from tests.managed.clients import DEADLINE, connect, exchange, fetch, is_refused, read_all, served_fingerprint

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from secureserve.testing.credentials import IssuedCredential

GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, os, sys, uuid

from secureserve import serve

BOOT = uuid.uuid4().hex.encode()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/wait":
        print("inside", flush=True)
        sys.stdin.readline()
    return [BOOT]


def tell(server):
    print("ready", server.base(), flush=True)


if __name__ == "__main__":
    serve(application, ready=tell, **{"socket_host": "127.0.0.1", "socket_port": 0, **json.loads(sys.argv[1])})
"""


class Program:
    """A process that serves, and what it says."""

    def __init__(self, path: Path, settings: Any, environ: dict[str, str], text: str = PROGRAM) -> None:
        path.write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(path), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        )
        self.base = ""

    def wait_ready(self) -> tuple[str, int]:
        """Wait until it says that it is ready, and return its address."""
        line = self.line()
        assert line.startswith("ready "), line + self.errors()
        self.base = line.split()[1]
        parts = urlsplit(self.base)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def errors(self) -> str:
        """Return what it wrote to standard error, once it has ended."""
        self.process.kill()
        return self.process.communicate(timeout=DEADLINE)[1]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def answer(self) -> None:
        """Let a waiting request finish."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Wait until it has ended; returns its status and what it wrote to standard error."""
        errors = self.process.communicate(timeout=DEADLINE)[1]
        return self.process.returncode, errors


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start a program that serves with the given settings."""
    programs = []

    def start(settings: Any = None, text: str = PROGRAM, **environ: str) -> Program:
        program = Program(tmp_path / "program.py", settings or {}, environ, text)
        programs.append(program)
        return program

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate(timeout=DEADLINE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_and_int_let_requests_finish(run: Callable[..., Program], number: signal.Signals) -> None:
    """A request in progress is answered after the signal; then the process ends in peace, with its port free."""
    program = run({"shutdown_timeout": DEADLINE})
    address = program.wait_ready()
    with connect(address) as client:
        client.sendall(GET % b"wait")
        assert program.line() == "inside\n"
        program.signal(number)
        _wait_until_refused(address)
        program.answer()
        assert read_all(client).startswith(b"HTTP/1.1 200 OK")
    assert program.end() == (0, "")


def test_a_second_signal_cuts(run: Callable[..., Program]) -> None:
    """With a request that does not end, the second signal ends the process long before shutdown_timeout."""
    program = run({"shutdown_timeout": DEADLINE * 10})
    address = program.wait_ready()
    with connect(address) as client:
        client.sendall(GET % b"wait")
        assert program.line() == "inside\n"
        program.signal(signal.SIGTERM)
        _wait_until_refused(address)
        program.signal(signal.SIGTERM)
        # Its input stays open until it has ended, since the end of it would be an answer.
        program.process.wait(DEADLINE)
        status, errors = program.end()
    assert status != 0
    assert "was cut short" in errors


def test_hup_reloads_certificates_and_configuration_or_nothing(
    run: Callable[..., Program], tls_credential: Any, tmp_path: Path
) -> None:
    """HUP takes a new certificate and a new limit; with a mistake in the file neither; what cannot change is told."""
    old, new = tls_credential("localhost"), tls_credential("localhost")
    live, config, log = tmp_path / "live.pem", tmp_path / "site.toml", tmp_path / "error.log"
    live.write_bytes(old.pem_path.read_bytes())
    config.write_text("server.max_request_body_size = 10\n")
    reloaded = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(reloaded))
        manager.settimeout(DEADLINE)
        program = run(
            {
                "config": str(config),
                "ssl_certificate": str(live),
                "certificate_watch": False,
                "error_log": str(log),
                "plain_http": "reject",
            },
            NOTIFY_SOCKET=str(reloaded),
        )
        address = program.wait_ready()
        assert manager.recv(1000).startswith(b"READY=1")
        assert served_fingerprint(address) == _der(old)

        live.write_bytes(new.pem_path.read_bytes())
        config.write_text("server.max_request_body_sizes = 20\n")
        program.signal(signal.SIGUSR2)
        _wait_for_line(log, "Not all that SIGUSR2 asks for could be done")
        program.signal(signal.SIGHUP)
        _wait_for_line(log, "Not all that SIGHUP asks for could be done")
        assert "site.toml:1: server.max_request_body_sizes is not a setting" in log.read_text()
        assert served_fingerprint(address) == _der(old)

        config.write_text("server.max_request_body_size = 20\nserver.socket_queue_size = 9\n")
        program.signal(signal.SIGHUP)
        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(1000).startswith(b"READY=1")
        _wait_for_line(log, "These wait for a restart: socket_queue_size")
        assert served_fingerprint(address) == _der(new)
        program.signal(signal.SIGTERM)
        assert manager.recv(1000).startswith(b"STOPPING=1")
        assert program.end()[0] == 0


def test_usr1_opens_the_logs_anew(run: Callable[..., Program], tmp_path: Path) -> None:
    """After a rotation by renaming, USR1 has lines written to a new file under the old name."""
    access, errors = tmp_path / "access.log", tmp_path / "error.log"
    program = run({"access_log": str(access), "error_log": str(errors)})
    address = program.wait_ready()
    fetch(address, "/before")
    _wait_for_line(access, "GET /before")
    access.rename(tmp_path / "access.log.1")
    errors.rename(tmp_path / "error.log.1")
    program.signal(signal.SIGUSR1)
    _wait_for_file(access)
    fetch(address, "/after")
    _wait_for_line(access, "GET /after")
    assert "GET /after" not in (tmp_path / "access.log.1").read_text()


def test_usr2_restarts_without_refusing_anybody(run: Callable[..., Program]) -> None:
    """The program is executed again under its number and on its port; nobody is refused meanwhile."""
    program = run({"socket_queue_size": 1024})
    number = program.process.pid
    address = program.wait_ready()
    first = fetch(address)
    refused, ended, stop = [], [], threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                fetch(address)
            except ConnectionRefusedError as error:
                refused.append(error)
            except (OSError, http.client.HTTPException) as error:
                # A connection that the stopping program had accepted may end.
                ended.append(error)

    client = threading.Thread(target=keep_asking)
    client.start()
    try:
        program.signal(signal.SIGUSR2)
        assert program.wait_ready() == address
        second = fetch(address)
    finally:
        stop.set()
        client.join(DEADLINE)
    assert first != second
    assert refused == []
    assert program.process.poll() is None
    assert program.process.pid == number
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0


def test_a_restart_hands_over_the_redirecting_port(run: Callable[..., Program], tls_credential: Any) -> None:
    """Both ports of a server that redirects pass to the new program: neither is ever closed."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    program = run({"ssl_certificate": str(tls_credential("localhost").pem_path), "redirect_port": port})
    address = program.wait_ready()
    before = _inodes(address[1], port)
    program.signal(signal.SIGUSR2)
    assert program.wait_ready() == address
    assert _inodes(address[1], port) == before
    assert b" 308 " in exchange(("127.0.0.1", port), GET % b"")


ACTIVATED = """
import os, sys
if "LISTEN_PID" not in os.environ:
    # What systemd does: the socket is descriptor 3 of the process that is then executed.
    os.dup2(int(sys.argv[1]), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
import secureserve
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"again"]
with secureserve.Server(application):
    pass
secureserve.serve(
    application,
    ready=lambda server: print("ready", server.base(), flush=True),
)
"""


def test_sockets_of_systemd_are_served_given_back_and_kept_by_a_restart(tmp_path: Path) -> None:
    """A passed socket is served in place of the configured one; it may be served again, also by a restarted program."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        path = tmp_path / "program.py"
        path.write_text(ACTIVATED)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
        program = Program.__new__(Program)
        program.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(path), str(passed.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[passed.fileno()],
            env={**environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            assert program.wait_ready() == passed.getsockname()
            assert fetch(passed.getsockname()) == b"again"
            program.signal(signal.SIGUSR2)
            assert program.wait_ready() == passed.getsockname()
            assert fetch(passed.getsockname()) == b"again"
            program.signal(signal.SIGTERM)
            assert program.end() == (0, "")
        finally:
            program.process.kill()
            program.process.communicate()


def test_a_restart_keeps_a_unix_socket(run: Callable[..., Program], tmp_path: Path) -> None:
    """A unix socket's path stays in place across a restart, and is removed at the end."""
    path = tmp_path / "app.sock"
    program = run({"socket_file": str(path)})
    assert program.line() == f"ready {path}\n"
    inode = path.stat().st_ino
    program.signal(signal.SIGUSR2)
    assert program.line() == f"ready {path}\n"
    assert path.stat().st_ino == inode
    assert b"200 OK" in exchange(str(path), GET % b"")
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert not path.exists()


def test_systemd_is_told_and_its_watchdog_kept_quiet(run: Callable[..., Program], tmp_path: Path) -> None:
    """With NOTIFY_SOCKET the manager hears READY, then WATCHDOG again and again, then STOPPING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0secureserve-test-" + tmp_path.name + str(os.getpid()))
        manager.settimeout(DEADLINE)
        name = manager.getsockname().decode().replace("\0", "@", 1)
        program = run(NOTIFY_SOCKET=name, WATCHDOG_USEC="20000")
        program.wait_ready()
        message = manager.recv(1000).decode()
        assert message.splitlines()[:2] == ["READY=1", f"MAINPID={program.process.pid}"]
        assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        program.signal(signal.SIGTERM)
        while (message := manager.recv(1000).decode()) == "WATCHDOG=1":
            continue
        assert message.startswith("STOPPING=1")


FORKING = """
import json, multiprocessing, os, signal, sys, warnings

from secureserve import serve

# From Python 3.12 on, of threads, which a server has and an application that forks knows of.
warnings.simplefilter("ignore", DeprecationWarning)


def linger(told):
    told.send_bytes(b"here")
    signal.pause()


def application(environ, start_response):
    context = multiprocessing.get_context("fork")
    hears, told = context.Pipe()
    child = context.Process(target=linger, args=(told,))
    child.start()
    hears.recv_bytes()
    child.terminate()
    child.join(10)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(child.exitcode).encode()]


def tell(server):
    print("ready", server.base(), flush=True)


if __name__ == "__main__":
    serve(application, ready=tell, **{"socket_host": "127.0.0.1", "socket_port": 0, **json.loads(sys.argv[1])})
"""


def test_a_signal_for_a_process_of_the_application_is_its_own(run: Callable[..., Program]) -> None:
    """What the application has forked off ends when it is told to, and the server does not."""
    program = run(text=FORKING)
    address = program.wait_ready()
    for _ in range(2):
        assert fetch(address) == str(-signal.SIGTERM).encode()
    program.signal(signal.SIGTERM)
    assert program.end() == (0, "")


def test_what_does_not_start_is_an_error_of_serve(run: Callable[..., Program]) -> None:
    """What serve cannot start it raises in its caller, and the process ends with an error that names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, errors = run({"socket_port": port}).end()
    assert status == 1
    assert errors.splitlines()[-1].startswith("secureserve.errors.StartFailed: ")
    assert str(port) in errors.splitlines()[-1]


QUICKSTART = """
import json, os, sys
import secureserve

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"quick"]

secureserve.server.socket_host = "127.0.0.1"
secureserve.engine.subscribe("start", lambda: print("ready", secureserve.server.base(), flush=True), 90)
assert secureserve.server is secureserve.server
secureserve.quickstart(application, config={"server.socket_port": 0, "server.thread_pool": 2})
assert secureserve.config["server.thread_pool"] == 2
assert secureserve.server.thread_pool == 2
print(secureserve.engine.state.name, flush=True)
"""


def test_quickstart_configures_starts_and_blocks(run: Callable[..., Program]) -> None:
    """secureserve.quickstart sets the configuration, starts server and engine, and returns after SIGTERM."""
    program = run(text=QUICKSTART)
    assert fetch(program.wait_ready()) == b"quick"
    program.signal(signal.SIGTERM)
    assert program.line() == "EXITING\n"
    assert program.end() == (0, "")


def test_autoreload_restarts_when_a_file_changes(run: Callable[..., Program], tmp_path: Path) -> None:
    """With autoreload a change to a module of the program executes it again."""
    program = run({"autoreload": True, "autoreload_files": [str(tmp_path / "data")], "socket_queue_size": 100})
    address = program.wait_ready()
    first = fetch(address)
    # The watch begins in a thread of its own, so the change is made until it is noticed.
    changed, noticed = tmp_path / "program.py", threading.Event()

    def keep_changing() -> None:
        while not noticed.wait(0.1):
            # In one step, so that the program never finds half of itself when it starts again.
            changed.with_suffix(".new").write_text(PROGRAM)
            changed.with_suffix(".new").replace(changed)

    writer = threading.Thread(target=keep_changing)
    writer.start()
    try:
        assert program.wait_ready() == address
    finally:
        noticed.set()
        writer.join(DEADLINE)
    with contextlib.suppress(ConnectionError):
        assert fetch(address) != first


DROPS = """
import json, os, sys
from secureserve import serve

def application(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps([os.getresuid(), os.getresgid(), os.getgroups()]).encode()]

serve(application, ready=lambda server: print("ready", server.base(), flush=True), **json.loads(sys.argv[1]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_privileges_are_dropped_after_binding_and_reading_keys(
    run: Callable[..., Program], tls_credential: Any, tls_client_context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Bound, with root's key read, it serves as nobody with nobody's groups, and says the key is not readable again."""
    import pwd

    credential: IssuedCredential = tls_credential("localhost")
    log = tmp_path / "error.log"
    program = run(
        {
            "socket_host": "127.0.0.1",
            "socket_port": 0,
            "ssl_certificate": str(credential.certificate_path),
            "ssl_private_key": str(credential.private_key_path),
            "user": "nobody",
            "error_log": str(log),
        },
        DROPS,
    )
    address = program.wait_ready()
    nobody = pwd.getpwnam("nobody")
    users, groups, supplementary = json.loads(fetch(address, "/", tls_client_context))
    assert users == [nobody.pw_uid] * 3
    assert groups == [nobody.pw_gid] * 3
    assert 0 not in supplementary
    assert f"{credential.private_key_path} cannot be read by user nobody" in log.read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_the_control_socket_is_handed_over(run: Callable[..., Program], tls_credential: Any, tmp_path: Path) -> None:
    """The user that serves may use the control socket, which was made before it was that user's turn."""
    import pwd

    control = tmp_path / "control"
    program = run(
        {
            "socket_host": "127.0.0.1",
            "socket_port": 0,
            "ssl_certificate": str(tls_credential("localhost").pem_path),
            "control_socket": str(control),
            "user": "nobody",
        },
        DROPS,
    )
    program.wait_ready()
    nobody = pwd.getpwnam("nobody")
    status = control.stat()
    assert (status.st_uid, status.st_gid) == (nobody.pw_uid, nobody.pw_gid)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert ask(control, "status")["pid"] == program.process.pid


PRIVILEGED = """
import os, sys, socket
from secureserve import Server
server = Server(lambda environ, start_response: [], socket_host="127.0.0.1", socket_port=0)
with socket.create_server(("127.0.0.1", 0)) as taken:
    # What a start and its failure need is imported before the privilege to read it is gone.
    server.socket_port = taken.getsockname()[1]
    try:
        server.start()
    except Exception:
        pass
os.setresuid(65534, 65534, 65534)
server.socket_port = int(sys.argv[1])
server.start()
"""


def test_a_privileged_port_without_privilege_is_refused(run: Callable[..., Program]) -> None:
    """A low port that this user may not have is a StartFailed that names it and what to do."""
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if lowest.exists() and int(lowest.read_text()) <= 1:
        pytest.skip("this system lets anybody have any port")
    text = PRIVILEGED if os.getuid() == 0 else PRIVILEGED.replace("os.setresuid", "str")
    status, errors = run(1, text).end()
    assert status == 1
    # Not always the last line: whoever the program became may not write the coverage that is being measured.
    told = [line for line in errors.splitlines() if line.startswith("secureserve.errors.StartFailed: ")]
    assert len(told) == 1, errors
    assert "socket_port = 1 is not permitted" in told[0]
    assert "CAP_NET_BIND_SERVICE" in told[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_are_sound(tmp_path: Path) -> None:
    """The unit files to copy are accepted by systemd without a word."""
    for unit in (ROOT / "certs" / "systemd").glob("secureserve.*"):
        shutil.copy(unit, tmp_path)
    units = sorted(map(str, tmp_path.glob("secureserve.*")))
    verified = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60, check=False
    )
    assert len(units) >= 2
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def _der(credential: IssuedCredential) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return credential.leaf.public_bytes(Encoding.DER)


def _inodes(*ports: int) -> set[str]:
    """Return the inodes of the sockets that listen on the ports, which are those of the sockets themselves."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = {row[9] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) in ports}
    assert len(found) == len(ports)
    return found


def _wait_until_refused(address: tuple[str, int]) -> None:
    _wait_until(lambda: is_refused(address))


def _wait_for_line(path: Path, text: str) -> None:
    _wait_until(lambda: path.exists() and text in path.read_text())


def _wait_for_file(path: Path) -> None:
    _wait_until(path.exists)


def _wait_until(reached: Callable[[], bool]) -> None:
    never, tries = threading.Event(), int(DEADLINE / 0.02)
    assert any(reached() or never.wait(0.02) for _ in range(tries))
