"""Fixtures for whoever tests TLS: an authority, credentials good and bad, servers, hostile clients.

pytest loads this module in every suite of an environment where secureserve is installed. It therefore imports nothing
but pytest until a fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential

__all__: list[str] = []


@pytest.fixture(scope="session")
def tls_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority, made once a session, that only this suite's clients trust.

    ``tls_authority.cert_pem`` is its root as in trustme, ``.cert_path`` a file of it, ``.configure_trust(client)`` makes
    a client trust it, ``.issue("localhost", ...)`` issues a credential that outlives the test.
    """
    from secureserve.testing.authority import Authority

    return Authority(tmp_path_factory.mktemp("tls_authority"))


class _CredentialFactory:
    """Issues credentials into a test's own directory."""

    def __init__(self, authority: Authority, directory: Path) -> None:
        self._authority = authority
        self._directory = directory
        self._issued = 0

    def __call__(self, *identities: str, **options: Any) -> IssuedCredential:
        """Issue a credential; the arguments are those of `Authority.issue`."""
        self._issued += 1
        options.setdefault("directory", self._directory / f"credential-{self._issued}")
        return self._authority.issue(*identities, **options)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f'tls_credential makes credentials: write tls_credential("localhost").{name}.')


@pytest.fixture
def tls_credential(tls_authority: Authority, tmp_path: Path) -> _CredentialFactory:
    """A factory of good credentials: ``tls_credential("localhost", "127.0.0.1", key_type="rsa", chain_depth=1)``.

    Without names it is for localhost, 127.0.0.1 and ::1. It takes ``key_type``, ``lifetime``, ``not_before``,
    ``not_after``, ``usage``, ``chain_depth``, ``password`` and more, see `secureserve.testing.Authority.issue`. What it
    returns has ``certificate_path``, ``private_key_path``, ``pem_path``, ``pkcs12_path`` and
    ``write(directory, layout)``; its files are below ``tmp_path``, mode 0600.
    """
    return _CredentialFactory(tls_authority, tmp_path)


@pytest.fixture
def client_credential(tls_credential: _CredentialFactory) -> IssuedCredential:
    """A credential for a TLS client: common name "client", e-mail client@example.test, client authentication only."""
    return tls_credential("client@example.test", common_name="client", usage="client")


@pytest.fixture
def tls_client_context(tls_authority: Authority) -> ssl.SSLContext:
    """An `ssl.SSLContext` for clients that verifies everything and trusts ``tls_authority`` alone."""
    return tls_authority.client_context()
