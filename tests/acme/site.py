"""A directory from which a server obtains its certificates from Pebble, and who makes its life difficult."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import CompletedCommand, ServerProcess, secureserve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from tests.acme.pebble import Pebble

__all__ = ["APPLICATION", "Load", "Relay", "Site", "nobodys_url", "wait_for_file"]

DEADLINE = 60.0
"""Seconds for whatever is waited for."""

APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]


def decide(name):
    return name.endswith(".demand.test")
"""


@dataclass
class Site:
    """A directory with an application, and the options with which a server obtains certificates from Pebble.

    Attributes:
        directory: Where.
        pebble: The authority.
        ca_file: What a client has to trust.
    """

    directory: Path
    pebble: Pebble
    ca_file: Path

    def serve(
        self, *options: str, tls: bool = True, plain: bool = False, url: str | None = None, expected_status: int = 0
    ) -> ServerProcess:
        """Run ``secureserve run app:app``, with the authority named because it is none of the well-known ones."""
        return ServerProcess(
            [
                *("run", "app:app", "--acme-email", "ops@example.test", "--acme-accept-terms"),
                *("--acme-directory", url or self.pebble.directory_url, "--acme-ca-file", str(self.pebble.ca_file)),
                *("--socket-host", "127.0.0.1", "--socket-port", str(self.pebble.tls_port) if tls else "0"),
                *(("--redirect-port", str(self.pebble.http_port)) if plain else ()),
                *("--control-socket", "control", *options),
            ],
            directory=self.directory,
            expected_status=expected_status,
        )

    def acme(self, *arguments: str) -> CompletedCommand:
        """Run ``secureserve acme ARGUMENTS`` beside the server."""
        return secureserve("acme", *arguments, "--control-socket", "control", directory=self.directory)

    def fetch(self, name: str, port: int) -> str:
        """Fetch with curl, which verifies the certificate for the name."""
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", str(self.ca_file)),
                *("--resolve", f"{name}:{port}:127.0.0.1", f"https://{name}:{port}/"),
            ],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def listed(self) -> list[dict[str, Any]]:
        """Return what ``acme list`` tells of the running server."""
        done = self.acme("list", "--json")
        assert done.status == 0, done.errors
        certificates: list[dict[str, Any]] = json.loads(done.output)["certificates"]
        return certificates


def wait_for_file(path: Path) -> None:
    """Wait until there is such a file."""
    waited = threading.Event()
    for _ in range(int(DEADLINE / 0.05)):
        if path.exists():
            return
        waited.wait(0.05)
    pytest.fail(f"there is no {path}")


def nobodys_url() -> str:
    """Return the URL of an authority that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"https://localhost:{gone.getsockname()[1]}/dir"


class Relay:
    """A port that leads to Pebble once it is opened; until then nobody listens there."""

    def __init__(self, pebble: Pebble) -> None:
        self._target = int(pebble.directory_url.split(":")[2].split("/")[0])
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind(("127.0.0.1", 0))
        self.directory_url = f"https://localhost:{self._sock.getsockname()[1]}/dir"
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        for sock in self._open:
            sock.close()

    def open(self) -> None:
        """Begin to listen."""
        self._sock.listen()
        self._start(self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sock.accept()
                server = socket.create_connection(("127.0.0.1", self._target), timeout=DEADLINE)
                self._open += [client, server]
                self._start(_pass_on, client, server)
                self._start(_pass_on, server, client)

    def _start(self, call: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=call, args=arguments, daemon=True))
        self._threads[-1].start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@dataclass
class Load:
    """Clients that ask for the whole length of a with statement, each verifying what it is shown.

    Attributes:
        failures: What went wrong.
        seen: Fingerprints of the certificates that were presented.
        rounds: How many answers each client has had.
    """

    site: Site
    name: str
    port: int
    kept: int
    new: int
    failures: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    rounds: dict[int, int] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: bool = False

    def __enter__(self) -> Self:
        self._context = ssl.create_default_context(cafile=str(self.site.ca_file))
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), kwargs={"keeps": number < self.kept}, daemon=True)
            for number in range(self.kept + self.new)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        for thread in self._threads:
            thread.join(DEADLINE)

    def wait_for(self, more: int) -> None:
        """Wait until every client has had so many more answers, or one has failed."""
        with self.changed:
            wanted = {number: self.rounds.get(number, 0) + more for number in range(self.kept + self.new)}
            done = self.changed.wait_for(
                lambda: self.failures or all(self.rounds.get(one, 0) >= count for one, count in wanted.items()),
                DEADLINE,
            )
        assert done

    def _ask(self, number: int, *, keeps: bool) -> None:
        try:
            while not self.stopping:
                with self._connect() as sock:
                    while self._exchange(sock, number, keeps=keeps) and keeps and not self.stopping:
                        pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure of the server's
            with self.changed:
                self.failures.append(repr(error))
                self.changed.notify_all()

    def _connect(self) -> ssl.SSLSocket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        wrapped = self._context.wrap_socket(sock, server_hostname=self.name)
        self.seen.add(hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest())
        return wrapped

    def _exchange(self, sock: ssl.SSLSocket, number: int, *, keeps: bool) -> bool:
        connection = "keep-alive" if keeps else "close"
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {self.name}\r\nConnection: {connection}\r\n\r\n".encode())
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert (response.status, response.read()) == (200, b"hello\n")
        with self.changed:
            self.rounds[number] = self.rounds.get(number, 0) + 1
            self.changed.notify_all()
        return not response.will_close
