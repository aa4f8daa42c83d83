"""Authorities and revocation lists of clients, replaced under a server that runs."""

from __future__ import annotations

import http.client
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.managed.server import Server
from secureserve.testing.authority import Authority
from tests.managed.clients import DEADLINE, application, fetch

if TYPE_CHECKING:
    from pathlib import Path

    from secureserve.testing.credentials import IssuedCredential

REFUSALS = (ssl.SSLError, ConnectionError, http.client.HTTPException)


@pytest.fixture
def settings(tls_credential: Any, engine: str) -> dict[str, Any]:
    """A server that requires client certificates, but for the authority."""
    return {
        "socket_host": "127.0.0.1",
        "socket_port": 0,
        "ssl_module": engine,
        "ssl_certificate": tls_credential("localhost").pem_path,
        "ssl_client_verify": "required",
    }


@pytest.mark.parametrize("how", ["watched", "asked"])
def test_the_authorities_rotate(
    settings: dict[str, Any], tls_authority: Authority, client_credential: IssuedCredential, how: str, tmp_path: Path
) -> None:
    """After the file is replaced clients of the new authority get in and those of the old do not; neither before."""
    others = Authority(tmp_path / "others", keys=tls_authority.keys)
    newcomer = others.issue("client@example.test", usage="client")
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(tls_authority.cert_path.read_bytes())
    settings.update(ssl_client_ca=authorities, certificate_polling_interval=0.05, certificate_watch=how == "watched")
    with Server(application, **settings) as server:
        gets_in = Visitors(server, tls_authority)
        assert gets_in(client_credential)
        assert not gets_in(newcomer)
        replace(authorities, others.cert_path.read_bytes())
        if how == "asked":
            server.reload_certificates("test")
        gets_in.come_until(True, newcomer)
        assert not gets_in(client_credential)


def test_the_revocation_list_rotates(
    settings: dict[str, Any], tls_authority: Authority, tls_credential: Any, tmp_path: Path
) -> None:
    """A certificate that a new list revokes is refused from then on; rubbish leaves the last list in force."""
    good, bad = (tls_credential(f"{name}@example.test", usage="client") for name in ("good", "bad"))
    revoked = tmp_path / "clients.crl"
    revoked.write_bytes(tls_authority.crl())
    settings.update(ssl_client_ca=tls_authority.cert_path, ssl_client_crl=revoked, certificate_polling_interval=0.05)
    with Server(application, **settings) as server:
        gets_in = Visitors(server, tls_authority)
        assert gets_in(bad)
        tls_authority.revoke(bad)
        replace(revoked, tls_authority.crl())
        gets_in.come_until(False, bad)
        replace(revoked, b"rubbish")
        server.reload_certificates("test")
        assert gets_in(good)
        assert not gets_in(bad)


class Visitors:
    """Clients of one server."""

    def __init__(self, server: Server, authority: Authority) -> None:
        self._address = server.bound_addr
        self._authority = authority

    def __call__(self, issued: IssuedCredential) -> bool:
        """Return whether the server lets in who shows a certificate."""
        context = self._authority.client_context()
        issued.configure_cert(context)
        try:
            return fetch(self._address, "/", context) == b"hello /"
        except REFUSALS:
            return False

    def come_until(self, expected: bool, issued: IssuedCredential) -> None:
        """Come again and again until the server lets them in, or does not."""
        deadline = time.monotonic() + DEADLINE
        while self(issued) != expected:
            assert time.monotonic() < deadline, "the server does not take notice"


def replace(path: Path, content: bytes) -> None:
    """Put a file in another's place, as a careful administrator does."""
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)
