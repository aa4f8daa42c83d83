"""Servers over plain HTTP and over TLS, for tests of what is said over either."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from secureserve.http.ssl_adapter import SSLAdapter
from tests.http.talking import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential


@pytest.fixture(scope="session")
def served_credential(tls_authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> IssuedCredential:
    """One credential for all the servers of these tests."""
    return tls_authority.issue("localhost", "127.0.0.1", directory=tmp_path_factory.mktemp("served"))


@pytest.fixture
def serve(caplog: pytest.LogCaptureFixture) -> Iterator[Serving]:
    """Runs servers over plain HTTP; in the end no connection was lost to a fault of ours."""
    yield Serving()
    _no_faults(caplog)


@pytest.fixture
def serve_tls(
    engine: str, caplog: pytest.LogCaptureFixture, tls_authority: Authority, served_credential: IssuedCredential
) -> Iterator[Serving]:
    """Runs servers over TLS; a test that takes it runs once with each engine."""
    yield _over_tls(engine, tls_authority, served_credential)
    _no_faults(caplog)


@pytest.fixture(params=["plain", "pyopenssl", "builtin"])
def serve_any(
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    tls_authority: Authority,
    served_credential: IssuedCredential,
) -> Iterator[Serving]:
    """Runs servers; a test that takes it runs once over plain HTTP, and once over TLS with each engine."""
    yield Serving() if request.param == "plain" else _over_tls(request.param, tls_authority, served_credential)
    _no_faults(caplog)


def _over_tls(engine: str, authority: Authority, credential: IssuedCredential) -> Serving:
    def adapter() -> SSLAdapter:
        return SSLAdapter(credential.certificate_path, credential.private_key_path, engine=engine)

    return Serving(adapter, authority.client_context())


def _no_faults(caplog: pytest.LogCaptureFixture) -> None:
    faults = [record for record in caplog.get_records("call") if "lost to a fault" in record.getMessage()]
    assert not faults, faults[0].exc_text or faults[0].exc_info
