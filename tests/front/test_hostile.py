"""Hostile clients, a few and many of each kind, cost good ones nothing and end by their deadlines."""

from __future__ import annotations

import contextlib
import http.client
import resource
import threading
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.certificates.store import CertificateStore
from secureserve.front.settings import FrontSettings
from secureserve.http.server import HTTPServer
from secureserve.http.ssl_adapter import SSLAdapter
from secureserve.tls.acceptor import TLSAcceptor
from tests.front.crowd import PATIENCE, RESETS, STAYING, Crowd, Kind

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from secureserve.testing.credentials import IssuedCredential

ENOUGH = 20.0
"""Seconds in which a good client is answered whatever else is going on: no measure of speed, but of getting through."""

PATIENT = 60.0
"""A timeout that no test lives to see, so that nothing is ended but by what is under test."""

PAGE = b"x" * 200_000
LARGE = b"x" * 5_000_000


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the body, and answer with a page or a large one, in one piece or in many."""
    environ["wsgi.input"].read()
    path = environ["PATH_INFO"]
    body = {"/page": PAGE, "/large": LARGE}.get(path, b"hello")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture(autouse=True, scope="module")
def descriptors() -> Iterator[None]:
    """Let this process have descriptors for both ends of thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def serving(credential: IssuedCredential | None, engine: str, **settings: Any) -> Iterator[HTTPServer]:
    """Run a server with few threads; over TLS, if it is given a credential."""
    server = HTTPServer(
        ("127.0.0.1", 0),
        application,
        numthreads=4,
        request_queue_size=1024,
        timeout=PATIENT,
        settings=FrontSettings(**settings),
    )
    if credential is not None:
        acceptor = TLSAcceptor(CertificateStore([credential.credential]), engine=engine)
        server.ssl_adapter = SSLAdapter(acceptor=acceptor)
    thread = threading.Thread(target=server.start, daemon=True)
    thread.start()
    try:
        assert server.wait_ready(PATIENCE)
        yield server
    finally:
        server.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def visit(server: HTTPServer, context: ssl.SSLContext | None) -> None:
    """Be a good client: connect anew, ask, and be answered in time."""
    host, port = server.bind_addr
    client: http.client.HTTPConnection = (
        http.client.HTTPConnection(host, port, timeout=ENOUGH)
        if context is None
        else http.client.HTTPSConnection("localhost", port, timeout=ENOUGH, context=context)
    )
    with contextlib.closing(client):
        client.request("GET", "/")
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"hello")


@pytest.mark.parametrize("count", [1, 50, 500])
@pytest.mark.parametrize("kind", STAYING, ids=lambda kind: kind.value)
def test_good_clients_are_answered_beside_hostile_ones(
    kind: Kind,
    count: int,
    engine: str,
    tls_credential: Callable[..., IssuedCredential],
    tls_client_context: ssl.SSLContext,
) -> None:
    """With any number of hostile clients in place, none of them gone yet, good ones connect and are answered."""
    with serving(tls_credential("localhost"), engine) as server:
        with Crowd(server.bind_addr, kind, count, page="page"):
            for _ in range(3):
                visit(server, tls_client_context)
            states = server.connections_by_state()
        assert sum(states.values()) >= count


@pytest.mark.parametrize("count", [10, 200])
@pytest.mark.parametrize("kind", RESETS, ids=lambda kind: kind.value)
def test_resets_cost_nobody_else_anything(
    kind: Kind,
    count: int,
    engine: str,
    tls_credential: Callable[..., IssuedCredential],
    tls_client_context: ssl.SSLContext,
) -> None:
    """Connections that are reset in any phase are gone, and good clients are answered meanwhile and after."""
    with serving(tls_credential("localhost"), engine) as server:
        with Crowd(server.bind_addr, kind, count) as crowd:
            visit(server, tls_client_context)
            crowd.wait_ended()
        visit(server, tls_client_context)
    totals = server.totals()
    assert sum(totals.closed.values()) == totals.accepted
    assert totals.accepted >= 2
    assert "error" not in totals.closed


@pytest.mark.parametrize("kind", [Kind.SLOW_READER, Kind.SLOW_BODY], ids=lambda kind: kind.value)
def test_threads_are_not_held_by_what_is_larger_than_the_buffers(
    kind: Kind, engine: str, tls_credential: Callable[..., IssuedCredential], tls_client_context: ssl.SSLContext
) -> None:
    """Bodies and answers larger than what is buffered are under a minimum rate, so their threads come back."""
    limits = {"read_body_timeout": 0.5, "write_timeout": 0.5, "max_buffered_body_size": 100}
    with (
        serving(tls_credential("localhost"), engine, **limits) as server,
        Crowd(server.bind_addr, kind, 3, page="large") as crowd,
    ):
        visit(server, tls_client_context)
        crowd.wait_ended()
        visit(server, tls_client_context)


PHASES = {
    Kind.SILENT: ("handshake_timeout", "timeout"),
    Kind.HALF_HANDSHAKE: ("handshake_timeout", "timeout"),
    Kind.DRIBBLED_HANDSHAKE: ("handshake_timeout", "timeout"),
    Kind.SHAKEN_THEN_SILENT: ("read_header_timeout", "timeout"),
    Kind.DRIBBLED_HEAD: ("read_header_timeout", "finished"),
    Kind.SLOW_BODY: ("read_body_timeout", "finished"),
    Kind.SLOW_READER: ("write_timeout", "timeout"),
    Kind.IDLE: ("keep_alive_timeout", "idle"),
}
"""What bounds each kind, and how its connections end; those that can be told why are answered, and finish with that."""


@pytest.mark.parametrize("kind", STAYING, ids=lambda kind: kind.value)
def test_each_phase_ends_by_its_own_deadline(
    kind: Kind, engine: str, tls_credential: Callable[..., IssuedCredential]
) -> None:
    """With a short time for its phase every hostile connection is ended by the server and accounted for by why."""
    phase, reason = PHASES[kind]
    # The phases before have all the time that a busy machine makes them take.
    limits = {phase: 0.3, "linger_timeout": 0.1}
    with (
        serving(tls_credential("localhost"), engine, **limits) as server,
        Crowd(server.bind_addr, kind, 10, pause=0.05) as crowd,
    ):
        crowd.wait_ended()
    totals = server.totals()
    assert sum(totals.closed.values()) == totals.accepted == 10
    assert totals.closed == {reason: 10}


@pytest.mark.parametrize(
    "kind", [kind for kind in STAYING if "HANDSHAKE" not in kind.name], ids=lambda kind: kind.value
)
def test_plain_servers_are_as_patient_and_as_firm(kind: Kind) -> None:
    """Without TLS the same holds: good clients are answered beside hostile ones."""
    with serving(None, "builtin") as server, Crowd(server.bind_addr, kind, 50, tls=False, page="page"):
        visit(server, None)


@pytest.mark.parametrize(("kind", "engine_name"), [(Kind.SILENT, "pyopenssl"), (Kind.SHAKEN_THEN_SILENT, "builtin")])
def test_two_thousand_at_once(
    kind: Kind, engine_name: str, tls_credential: Callable[..., IssuedCredential], tls_client_context: ssl.SSLContext
) -> None:
    """Two thousand hostile connections are open together, and good clients are answered."""
    with (
        serving(tls_credential("localhost"), engine_name) as server,
        Crowd(server.bind_addr, kind, 2000),
    ):
        for _ in range(3):
            visit(server, tls_client_context)
        assert sum(server.connections_by_state().values()) >= 2000
