"""Rotation as clients see it: real files, a real watcher, real handshakes."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import ssl
import threading
import time
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secureserve.certificates.sources import MemorySource
from secureserve.events import CredentialRotated
from secureserve.managed.server import Server
from secureserve.testing import CredentialDirectory, temporary_authority
from tests.certificates.test_file_sequences import GENERATIONS, Disk, actions, generations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from secureserve.testing import Authority, IssuedCredential
    from tests.certificates.conftest import Listener

__all__ = ["generations"]

PATIENCE = 20.0
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Answer anything."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


class Client:
    """A client that verifies the server, and remembers its session where it is told to."""

    def __init__(self, authority: Authority, server: Server, *, version: str | None = None, name: str = "localhost"):
        self.context = authority.client_context()
        if version is not None:
            self.context.minimum_version = self.context.maximum_version = VERSIONS[version]
        self.address = server.bound_addr
        self.name = name

    def connect(self, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """Shake hands."""
        sock = socket.create_connection(self.address, timeout=PATIENCE)
        return self.context.wrap_socket(sock, server_hostname=self.name, session=session)

    def fingerprint(self) -> str:
        """Return what a new connection gets, verified, with a request answered on it."""
        with self.connect() as tls:
            self.ask(tls)
            return fingerprint_of(tls)

    @staticmethod
    def ask(tls: ssl.SSLSocket) -> None:
        """Send a request and read the answer whole."""
        tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = http.client.HTTPResponse(tls)
        answer.begin()
        assert (answer.status, answer.read()) == (200, b"hello")


def fingerprint_of(tls: ssl.SSLSocket) -> str:
    """Return the SHA-256 of what the server presented."""
    return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


@pytest.fixture
def serve(listener: Listener) -> Iterator[Callable[..., Server]]:
    """A factory of running servers, whose events the listener hears."""
    with contextlib.ExitStack() as stack:

        def start(**given_settings: Any) -> Server:
            server = Server(application, socket_host="127.0.0.1", socket_port=0, **given_settings)
            server.events.subscribe(listener)
            return stack.enter_context(server)

        yield start


def test_from_files(
    tls_authority: Authority, tmp_path: Path, serve: Any, listener: Listener, *, engine: str, tls_version: str
) -> None:
    """A replaced pair is what new clients get; a connection from before goes on; a broken pair changes nothing."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", chain_depth=1)
    server = serve(
        ssl_certificate=str(directory.certificate_path),
        ssl_private_key=str(directory.private_key_path),
        ssl_module=engine,
    )
    client = Client(tls_authority, server, version=tls_version)
    old = directory.fingerprint
    with client.connect() as before:
        client.ask(before)
        new = directory.rotate().fingerprint
        listener.wait_for(CredentialRotated, lambda event: event.fingerprint == new)
        assert client.fingerprint() == new
        client.ask(before)
        assert fingerprint_of(before) == old
    directory.break_("key_mismatch")
    assert not server.reload_certificates().ok
    assert client.fingerprint() == new


def test_sessions_resume(tls_authority: Authority, serve: Any, engine: str, tls_version: str) -> None:
    """A session from before a rotation resumes after it; after `revoke_sessions` it does not."""
    source = MemorySource(tls_authority.issue().credential)
    server = serve(certificate_sources=[source], ssl_module=engine)
    client = Client(tls_authority, server, version=tls_version)

    def session() -> ssl.SSLSession:
        with client.connect() as tls:
            client.ask(tls)
            assert tls.session is not None
            return tls.session

    def resumes(kept: ssl.SSLSession) -> bool:
        with client.connect(kept) as tls:
            client.ask(tls)
            return bool(tls.session_reused)

    first = session()
    source.replace(tls_authority.issue(fresh_key=True).credential)
    assert resumes(first)
    second = session()
    server.reload_certificates(revoke_sessions=True)
    assert not resumes(second)


def test_at_once(tls_authority: Authority, serve: Any, engine: str) -> None:
    """When the call returns, the very next handshake gets the new one, within 50 ms of the call (best of several)."""
    source = MemorySource(tls_authority.issue().credential)
    server = serve(certificate_sources=[source], ssl_module=engine)
    client = Client(tls_authority, server)
    took: list[float] = []
    for _ in range(10):
        new = tls_authority.issue(fresh_key=True).credential
        began = time.monotonic()
        source.replace(new)
        took.append(time.monotonic() - began)
        assert client.fingerprint() == new.fingerprint
    assert min(took) < 0.05


def test_emergency(tls_authority: Authority, tmp_path: Path, serve: Any, listener: Listener) -> None:
    """A server whose certificate cannot be loaded lets its owner in by a self-signed one, until it is mended."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    directory.break_("garbage")
    server = serve(
        ssl_certificate=str(directory.certificate_path),
        ssl_private_key=str(directory.private_key_path),
        start_with_emergency_certificate=True,
    )
    client = Client(tls_authority, server)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self.signed"):
        client.fingerprint()
    assert server.certificates.emergency
    directory.mend()
    listener.wait_for(CredentialRotated)
    assert client.fingerprint() == directory.fingerprint


def test_client_authorities_rotate(
    tls_authority: Authority, tmp_path: Path, serve: Any, tls_credential: Any, *, engine: str, tls_version: str
) -> None:
    """Replaced client authorities decide on new connections; a broken file changes nothing."""
    with temporary_authority() as other:
        file = tmp_path / "client-ca.pem"
        file.write_bytes(tls_authority.cert_pem.bytes())
        server = serve(
            certificate_sources=[MemorySource(tls_authority.issue().credential)],
            ssl_client_ca=str(file),
            ssl_client_verify="required",
            ssl_module=engine,
        )
        clients = {}
        for name, authority in (("old", tls_authority), ("new", other)):
            issued = authority.issue("client@example.test", usage="client")
            clients[name] = Client(tls_authority, server, version=tls_version)
            clients[name].context.load_cert_chain(issued.certificate_path, issued.private_key_path)

        def accepted(name: str) -> bool:
            try:
                clients[name].fingerprint()
            except (OSError, http.client.HTTPException):
                return False
            return True

        assert accepted("old")
        assert not accepted("new")
        file.write_bytes(b"nonsense")
        server.reload_certificates()
        assert accepted("old")
        file.with_name("next.pem").write_bytes(other.cert_pem.bytes())
        file.with_name("next.pem").replace(file)
        pause, deadline = threading.Event(), time.monotonic() + PATIENCE
        while not accepted("new") and time.monotonic() < deadline:
            pause.wait(0.05)
        assert accepted("new")
        assert not accepted("old")


class Load:
    """Clients that never stop: some on connections that they keep, one on new ones."""

    def __init__(self, client: Client, known: set[str], *, kept: int) -> None:
        self.client, self.known = client, known
        self.failures: list[Exception] = []
        self.requests = self.handshakes = 0
        self._stop = threading.Event()
        self._progress = threading.Condition()
        steps = [self._keep_alive] * kept + [self._connect_anew]
        self._threads = [threading.Thread(target=self._run, args=(step,)) for step in steps]

    def __enter__(self) -> Load:  # noqa: PYI034 - Self comes with Python 3.11
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def wait_for_handshakes(self, count: int) -> None:
        """Wait until there were so many more, or something failed."""
        with self._progress:
            wanted = self.handshakes + count
            assert self._progress.wait_for(lambda: self.handshakes >= wanted or self.failures, PATIENCE)

    def _run(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the test reports it
            with self._progress:
                self.failures.append(error)
                self._progress.notify_all()

    def _keep_alive(self) -> None:
        with self.client.connect() as tls:
            while not self._stop.is_set():
                self.client.ask(tls)
                self.requests += 1

    def _connect_anew(self) -> None:
        while not self._stop.is_set():
            assert self.client.fingerprint() in self.known
            with self._progress:
                self.handshakes += 1
                self._progress.notify_all()


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_under_load(tls_authority: Authority, serve: Any, engine: str) -> None:
    """While certificates are rotated again and again, no handshake and no request fails, and nothing is left over."""
    start = datetime.now(timezone.utc) - timedelta(hours=1)
    pool = [tls_authority.issue(fresh_key=True, not_before=start).credential for _ in range(4)]
    source = MemorySource(pool[0])
    server = serve(certificate_sources=[source], ssl_module=engine, thread_pool=4)
    load = Load(Client(tls_authority, server), {one.fingerprint for one in pool}, kept=4)

    def rotate(times: int) -> None:
        for number in range(times):
            source.replace(pool[number % len(pool)])
            if number % 10 == 0:
                load.wait_for_handshakes(1)

    with load:
        load.wait_for_handshakes(5)
        descriptors, threads = _open_descriptors(), threading.active_count()
        tracemalloc.start()
        rotate(20)
        before = tracemalloc.get_traced_memory()[0]
        rotate(60)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        load.wait_for_handshakes(5)
        assert threading.active_count() == threads
        assert _open_descriptors() <= descriptors + 4
    assert load.failures == []
    assert load.requests > 0
    assert grown < 10_000_000
    assert server.certificates[0].fingerprint == pool[3].fingerprint


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(sequence=st.lists(actions, min_size=4, max_size=10))
def test_any_sequence_while_serving(
    tls_authority: Authority,
    generations: Sequence[IssuedCredential],
    tmp_path_factory: pytest.TempPathFactory,
    sequence: list[tuple[str, str, int]],
) -> None:
    """While files go through anything, every handshake succeeds with one of the pairs; in the end with the newest."""
    disk = Disk(tmp_path_factory.mktemp("disk"), generations)
    known = [issued.fingerprint for issued in generations]
    rotated = threading.Event()
    server = Server(
        application,
        socket_host="127.0.0.1",
        socket_port=0,
        ssl_certificate=str(disk.file("cert")),
        ssl_private_key=str(disk.file("key")),
    )

    def hear(event: object) -> None:
        if isinstance(event, CredentialRotated) and event.fingerprint == known[-1]:
            rotated.set()

    server.events.subscribe(hear)
    with server:
        client = Client(tls_authority, server, name="one.test")
        last = 0
        for action in sequence:
            disk.do(action)
            now = known.index(client.fingerprint())
            assert now >= last
            last = now
        disk.do(("swap", "both", GENERATIONS - 1))
        assert last == GENERATIONS - 1 or rotated.wait(PATIENCE)
        assert client.fingerprint() == known[-1]
