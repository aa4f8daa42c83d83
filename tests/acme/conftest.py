"""What the tests of ACME share: a storage, real authorities, and real servers for them to look at."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from secureserve.acme.authorities import Authority
from secureserve.acme.solvers import DNS01Solver, HTTP01Solver, TLSALPN01Solver
from secureserve.acme.storage import FileStorage
from secureserve.certificates.development import self_signed_credential
from secureserve.certificates.store import CertificateStore
from secureserve.http.plain import RedirectApp
from secureserve.http.server import HTTPServer
from secureserve.http.ssl_adapter import SSLAdapter
from secureserve.tls.acceptor import TLSAcceptor
from tests.acme.pebble import Pebble, run_pebble

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from secureserve.certificates.credential import Credential
    from secureserve.testing import ACMEAuthority
    from secureserve.testing import Authority as TestAuthority


@pytest.fixture(scope="session")
def pebble(tls_authority: TestAuthority, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pebble]:
    """A running Pebble, which validates at ports of its own and rejects some nonces."""
    with run_pebble(tls_authority, tmp_path_factory.mktemp("pebble"), domainBlocklist=["blocked.test"]) as running:
        yield running


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    """An empty storage."""
    return FileStorage(tmp_path / "storage")


@pytest.fixture
def authority(acme_authority: ACMEAuthority, tls_authority: TestAuthority) -> Authority:
    """The small authority of the testing package, as an authority."""
    return Authority("testing", acme_authority.directory_url, str(tls_authority.cert_path))


@pytest.fixture
def zone_solver(acme_authority: ACMEAuthority) -> DNS01Solver:
    """Answers dns-01 in the zone of the small authority."""

    def hook(action: str, name: str, value: str) -> None:
        values = acme_authority.validation.zone.setdefault(name, [])
        if action == "present":
            values.append(value)
        else:
            values.remove(value)
            if not values:
                del acme_authority.validation.zone[name]

    return DNS01Solver(hook)


@contextlib.contextmanager
def listening_tls(port: int = 0, engine: str = "pyopenssl") -> Generator[tuple[int, dict[str, Credential]]]:
    """Run a server of ours with TLS; give its port and the mapping in which it finds the answers to tls-alpn-01."""

    def hello(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"hello"]

    acceptor = TLSAcceptor(CertificateStore([self_signed_credential()]), engine=engine)
    server = HTTPServer(("127.0.0.1", port), hello, numthreads=2)
    server.ssl_adapter = SSLAdapter(acceptor=acceptor)
    mapping: dict[str, Credential] = {}
    acceptor.alpn_challenges = mapping
    try:
        server.prepare()
        yield server.bind_addr[1], mapping
    finally:
        server.stop()
        acceptor.close()


@contextlib.contextmanager
def listening_http(port: int = 0) -> Generator[tuple[int, dict[str, str]]]:
    """Run a server of ours with plain HTTP; give its port and the mapping in which it finds the answers to http-01."""
    mapping: dict[str, str] = {}
    server = HTTPServer(("127.0.0.1", port), RedirectApp(443, lambda _host: True, mapping), numthreads=2)
    try:
        server.prepare()
        yield server.bind_addr[1], mapping
    finally:
        server.stop()


@pytest.fixture
def tls_solver(pebble: Pebble, engine: str) -> Generator[TLSALPN01Solver]:
    """Answers tls-alpn-01 where Pebble looks, from a real server of ours under either engine."""
    with listening_tls(pebble.tls_port, engine) as (_, mapping):
        yield TLSALPN01Solver(mapping)
        assert not mapping


@pytest.fixture
def http_solver(pebble: Pebble) -> Generator[HTTP01Solver]:
    """Answers http-01 where Pebble looks, from a real server of ours."""
    with listening_http(pebble.http_port) as (_, mapping):
        yield HTTP01Solver(mapping)
        assert not mapping
