"""The servers that are compared: how each is started, and what could not be made equal."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, cast

from benchmarks import clients
from benchmarks.credentials import put_together
from benchmarks.environment import ROOT, has_tool
from benchmarks.processes import Child, cpu_seconds, pss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.credentials import Credential

__all__ = ["BASE", "HOST", "OURS", "SERVERS", "Bench", "RunningServer", "Server", "client_verifying", "missing"]

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 20.0
START_ATTEMPTS: Final = 3
"""A port found free may be taken by somebody else before the server binds it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What a server is started with."""

    port: int
    inner_port: int
    certificate: Path
    key: Path
    threads: int
    directory: Path

    @property
    def served(self) -> Path:
        """Where a certificate and its key are that may be replaced while the server runs."""
        return self.directory / f"served-{self.port}.pem"


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server.

    Attributes:
        name: What reports call it.
        commands: Makes the command lines of its processes; the first is the one that clients talk to.
        differs: What could not be made equal.
        module: What a program imports to serve with it; empty where that is no Python.
        needs: A program that must be installed; empty for none.
        runs_application: Whether it runs the application at all.
        threaded: Whether requests run on as many threads as are asked for.
        by_files: Gives it another certificate by replacing its files; None where it does not notice.
        by_api: Gives it another certificate by a call; None where there is none.
    """

    name: str
    commands: Callable[[Launch], Sequence[Sequence[str]]]
    differs: str = ""
    module: str = ""
    needs: str = ""
    runs_application: bool = True
    threaded: bool = True
    by_files: Callable[[RunningServer, Credential], None] | None = None
    by_api: Callable[[RunningServer, Credential], None] | None = None


class RunningServer:
    """A server that answers."""

    def __init__(
        self,
        server: Server,
        launch: Launch,
        children: Sequence[Child],
        seconds_to_answer: float,
        credentials: Sequence[Credential],
    ) -> None:
        self.server = server
        self.launch = launch
        self.port = launch.port
        self.threads = launch.threads
        self.seconds_to_answer = seconds_to_answer
        self.children = children
        self.credentials = credentials

    def pids(self) -> list[int]:
        """Return the ids of all its processes."""
        return [pid for child in self.children for pid in child.tree()]

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used so far."""
        return cpu_seconds(self.pids())

    def pss(self) -> int:
        """Return its memory in bytes."""
        return pss(self.pids())

    def command(self, line: str) -> str:
        """Give it a command, and return its answer."""
        process = self.children[0].process
        command, answer = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        command.write(f"{line}\n".encode())
        command.flush()
        return answer.readline().decode().strip()


class Bench:
    """Where servers are started.

    Args:
        directory: For their files and logs.
        credentials: What all of them present, and what is put in its place by rotation.
    """

    def __init__(self, directory: Path, credentials: Sequence[Credential]) -> None:
        self.directory = directory
        self.credentials = credentials

    @contextlib.contextmanager
    def running(self, server: Server, threads: int) -> Iterator[RunningServer]:
        """Run a server for the length of a block.

        Raises:
            RuntimeError: It did not start.
        """
        launch, children, seconds = self._start(server, threads)
        try:
            yield RunningServer(server, launch, children, seconds, self.credentials)
        finally:
            _stop(children)

    def _start(self, server: Server, threads: int) -> tuple[Launch, list[Child], float]:
        for _ in range(START_ATTEMPTS):
            port, inner_port = _free_ports(2)
            presented = self.credentials[0]
            launch = Launch(port, inner_port, presented.certificate, presented.key, threads, self.directory)
            began = time.monotonic()
            children: list[Child] = []
            try:
                for command in server.commands(launch):
                    piped = "secureserve_server" in " ".join(command)
                    with (self.directory / "servers.log").open("ab") as log:
                        children.append(Child(command, directory=ROOT, log=log, piped=piped))
                if _answers(launch.port, children):
                    return launch, children, time.monotonic() - began
            except BaseException:
                _stop(children)
                raise
            _stop(children)
        message = f"{server.name} did not start; its last words are in {self.directory / 'servers.log'}"
        raise RuntimeError(message)


def _stop(children: Sequence[Child]) -> None:
    for child in children:
        child.stop()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((HOST, 0))
        return [sock.getsockname()[1] for sock in sockets]


def _answers(port: int, children: Sequence[Child]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and not any(child.has_ended() for child in children):
        try:
            clients.fetch_once(port, timeout=2.0)
        except (OSError, ValueError):
            time.sleep(0.005)
        else:
            return True
    return False


def _program(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.programs.{name}", *map(str, arguments)]


def _secureserve(engine: str) -> Callable[[Launch], Sequence[Sequence[str]]]:
    def commands(launch: Launch) -> Sequence[Sequence[str]]:
        return [_program("secureserve_server", engine, launch.port, launch.certificate, launch.key, launch.threads)]

    return commands


def _cheroot(adapter: str) -> Callable[[Launch], Sequence[Sequence[str]]]:
    def commands(launch: Launch) -> Sequence[Sequence[str]]:
        return [_program("cheroot_server", adapter, launch.port, launch.certificate, launch.key, launch.threads)]

    return commands


def _gunicorn(launch: Launch) -> Sequence[Sequence[str]]:
    put_together(launch.served, launch.certificate, launch.key)
    options = f"--worker-class gthread --workers 1 --threads {launch.threads} --keep-alive 75 --log-level error"
    where = f"--bind {HOST}:{launch.port} --certfile {launch.served} --keyfile {launch.served} --backlog 1024"
    more = "--worker-connections 5000"
    return [
        [
            sys.executable,
            "-m",
            "gunicorn",
            *options.split(),
            *where.split(),
            *more.split(),
            "benchmarks.application:application",
        ]
    ]


def _uvicorn(launch: Launch) -> Sequence[Sequence[str]]:
    options = "--loop uvloop --http httptools --no-access-log --log-level error --timeout-keep-alive 75"
    where = f"--host {HOST} --port {launch.port} --ssl-certfile {launch.certificate} --ssl-keyfile {launch.key}"
    return [[sys.executable, "-m", "uvicorn", *options.split(), *where.split(), "benchmarks.application:asgi"]]


def _hypercorn(launch: Launch) -> Sequence[Sequence[str]]:
    options = "--workers 1 --keep-alive 75 --backlog 1024 --log-level error"
    where = f"--bind {HOST}:{launch.port} --certfile {launch.certificate} --keyfile {launch.key}"
    return [[sys.executable, "-m", "hypercorn", *options.split(), *where.split(), "benchmarks.application:asgi"]]


def _granian(launch: Launch) -> Sequence[Sequence[str]]:
    options = f"--interface wsgi --workers 1 --blocking-threads {launch.threads} --no-access-log --log-level error"
    where = f"--host {HOST} --port {launch.port} --ssl-certificate {launch.certificate} --ssl-keyfile {launch.key}"
    return [[sys.executable, "-m", "granian", *options.split(), *where.split(), "benchmarks.application:application"]]


_NGINX: Final = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 8000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 75;
  client_max_body_size 100m;
  client_body_temp_path {directory}/nginx-body;
  proxy_temp_path {directory}/nginx-proxy;
  fastcgi_temp_path {directory}/nginx-fastcgi;
  uwsgi_temp_path {directory}/nginx-uwsgi;
  scgi_temp_path {directory}/nginx-scgi;
  upstream application {{ server {host}:{inner_port}; keepalive 64; }}
  server {{
    listen {host}:{port} ssl backlog=1024;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    default_type text/plain;
    {locations}
  }}
}}
"""

_FILES: Final = """
    location = / {{ return 200 "Hello, world"; }}
    location / {{ root {directory}; }}
"""

_PROXY: Final = """
    location / {
      proxy_pass http://application;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
"""


def _nginx_command(launch: Launch, locations: str) -> list[str]:
    directory = launch.directory
    configuration = directory / f"nginx-{launch.port}.conf"
    configuration.write_text(
        _NGINX.format(
            directory=directory,
            host=HOST,
            port=launch.port,
            inner_port=launch.inner_port,
            certificate=launch.certificate,
            key=launch.key,
            locations=locations,
        )
    )
    program = cast("str", shutil.which("nginx"))
    return [program, "-c", str(configuration), "-p", str(directory), "-e", str(directory / "nginx.log")]


def _nginx(launch: Launch) -> Sequence[Sequence[str]]:
    return [_nginx_command(launch, _FILES.format(directory=launch.directory))]


def _waitress(launch: Launch) -> Sequence[Sequence[str]]:
    return [_nginx_command(launch, _PROXY), _program("waitress_server", launch.inner_port, launch.threads)]


def _caddy(launch: Launch) -> Sequence[Sequence[str]]:
    constant = {"match": [{"path": ["/"]}], "handle": [{"handler": "static_response", "body": "Hello, world"}]}
    files = {"handle": [{"handler": "file_server", "root": str(launch.directory)}]}
    server = {
        "listen": [f"{HOST}:{launch.port}"],
        "routes": [constant, files],
        "automatic_https": {"disable": True},
        "tls_connection_policies": [{"default_sni": "localhost"}],
    }
    configuration = {
        "admin": {"listen": f"{HOST}:{launch.inner_port}", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "storage": {"module": "file_system", "root": str(launch.directory / "caddy")},
        "apps": {
            "http": {"servers": {"benchmark": server}},
            "tls": {"certificates": {"load_files": _caddy_files(launch.certificate, launch.key)}},
        },
    }
    file = launch.directory / f"caddy-{launch.port}.json"
    file.write_text(json.dumps(configuration))
    return [[cast("str", shutil.which("caddy")), "run", "--config", str(file)]]


def _caddy_files(certificate: Path, key: Path) -> list[dict[str, str]]:
    return [{"certificate": str(certificate), "key": str(key)}]


def _replace_files(running: RunningServer, credential: Credential) -> None:
    put_together(running.launch.served, credential.certificate, credential.key)


def _command_rotation(running: RunningServer, credential: Credential) -> None:
    running.command(f"rotate {credential.certificate} {credential.key}")


def _patch_caddy(running: RunningServer, credential: Credential) -> None:
    connection = http.client.HTTPConnection(HOST, running.launch.inner_port, timeout=START_SECONDS)
    with contextlib.closing(connection):
        connection.request(
            "PATCH",
            "/config/apps/tls/certificates/load_files",
            json.dumps(_caddy_files(credential.certificate, credential.key)),
            {"Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        told = answer.read()
    if answer.status != http.client.OK:
        message = f"Caddy refused the certificate: {told.decode(errors='replace')}"
        raise RuntimeError(message)


def client_verifying(engine: str, port: int, presented: Credential, threads: int, client_ca: Path) -> Sequence[str]:
    """Return the command line of a server of ours that clients have to show a certificate to."""
    return _program("secureserve_server", engine, port, presented.certificate, presented.key, threads, client_ca)


def missing(server: Server) -> str | None:
    """Return why a server cannot be run here; None where it can."""
    if server.needs and not has_tool(server.needs):
        return f"{server.needs} is not installed"
    package = server.module.partition(",")[0].partition(".")[0]
    return f"{package} is not installed" if package and importlib.util.find_spec(package) is None else None


OURS: Final = ("secureserve, builtin", "secureserve, pyopenssl")
BASE: Final = "cheroot, builtin"
"""The server that ratios are to."""

_OURS: Final = "the command line's defaults, watching its certificate and logging as always"
_CHEROOT: Final = "backlog 1024 instead of 5, and no limit of keep-alive connections instead of 10"
_OWN_OPENSSL: Final = "an OpenSSL of its own, newer than the system's"
_ASGI: Final = "the same application in ASGI, on one event loop, no worker threads"

SERVERS: Final = (
    Server(
        OURS[0],
        _secureserve("builtin"),
        _OURS,
        "secureserve.managed.server, secureserve.http.server",
        by_files=_replace_files,
        by_api=_command_rotation,
    ),
    Server(
        OURS[1],
        _secureserve("pyopenssl"),
        f"{_OURS}; {_OWN_OPENSSL}",
        "secureserve.managed.server, secureserve.http.server",
        by_files=_replace_files,
        by_api=_command_rotation,
    ),
    Server(BASE, _cheroot("builtin"), _CHEROOT, "cheroot.wsgi, cheroot.ssl.builtin"),
    Server(
        "cheroot, pyopenssl",
        _cheroot("pyopenssl"),
        f"{_CHEROOT}; {_OWN_OPENSSL}",
        "cheroot.wsgi, cheroot.ssl.pyopenssl",
    ),
    Server(
        "gunicorn gthread",
        _gunicorn,
        "a process more, which only watches; reads its certificate and key, one file, for every connection",
        "gunicorn.app.wsgiapp, gunicorn.workers.gthread",
        by_files=_replace_files,
    ),
    Server("uvicorn", _uvicorn, _ASGI, "uvicorn, uvloop, httptools", threaded=False),
    Server("hypercorn", _hypercorn, _ASGI, "hypercorn.asyncio", threaded=False),
    Server(
        "granian, WSGI", _granian, "TLS by rustls, HTTP by hyper, on threads beside the interpreter's", "granian.server"
    ),
    Server(
        "nginx and waitress",
        _waitress,
        "two processes; nginx takes TLS and gathers bodies, the application hears plain HTTP",
        module="waitress",
        needs="nginx",
    ),
    Server(
        "nginx",
        _nginx,
        "runs no application: a constant, and files, sent from C",
        needs="nginx",
        runs_application=False,
        threaded=False,
    ),
    Server(
        "Caddy",
        _caddy,
        "runs no application: a constant, and files, sent from Go; automatic HTTPS off",
        needs="caddy",
        runs_application=False,
        threaded=False,
        by_api=_patch_caddy,
    ),
)
