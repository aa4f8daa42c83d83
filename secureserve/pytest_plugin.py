"""Fixtures for whoever tests TLS: an authority, credentials good and bad, servers, hostile clients.

pytest loads this module in every suite of an environment where secureserve is installed. It therefore imports nothing
but pytest until a fixture is used.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator
    from pathlib import Path

    from secureserve.testing.acme import ACMEAuthority
    from secureserve.testing.authority import Authority
    from secureserve.testing.bad import BadCredential
    from secureserve.testing.credentials import IssuedCredential
    from secureserve.testing.directory import CredentialDirectory
    from secureserve.testing.hostile import HostileClient
    from secureserve.testing.server import TestServer

__all__: list[str] = []

_SERVERS = pytest.StashKey["list[TestServer]"]()


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker."""
    config.addinivalue_line(
        "markers",
        "bad_credentials(*names, also=(), without=()): which kinds the fixture bad_credentials runs the test for; "
        "without names, all that a client must refuse in the handshake.",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the log of a test's servers with its failure, as pytest shows what was captured."""
    servers = item.stash.get(_SERVERS, []) if call.when == "call" else []
    for number, server in enumerate(servers, 1):
        if server.log:
            item.add_report_section("call", f"log of https_server {number}", server.log)
    return (yield)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``bad_credentials`` once for each."""
    if "bad_credentials" not in metafunc.fixturenames:
        return
    from secureserve.testing.bad import bad_kinds

    marker = metafunc.definition.get_closest_marker("bad_credentials")
    try:
        kinds = bad_kinds() if marker is None else bad_kinds(*marker.args, **marker.kwargs)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: @pytest.mark.bad_credentials: {error}") from None
    metafunc.parametrize("bad_credentials", [kind.name for kind in kinds], indirect=True)


@pytest.fixture(scope="session")
def tls_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority, made once a session, that only this suite's clients trust.

    ``tls_authority.cert_pem`` is its root as in trustme, ``.cert_path`` a file of it, ``.configure_trust(client)``
    makes a client trust it, ``.issue("localhost", ...)`` issues a credential that outlives the test.
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


class _BadCredentialFactory:
    """Issues bad credentials into a test's own directory."""

    def __init__(self, authority: Authority, directory: Path) -> None:
        self._authority = authority
        self._directory = directory

    def __call__(self, name: str, *identities: str) -> BadCredential:
        """Issue a bad credential of the kind `name`, for whom it would be if it were good."""
        from secureserve.testing.bad import issue_bad

        return issue_bad(self._authority, name, *identities, directory=self._directory)


@pytest.fixture
def bad_credential(tls_authority: Authority, tmp_path: Path) -> _BadCredentialFactory:
    """A factory of bad credentials by name: ``bad_credential("expired")``, ``bad_credential("revoked", "localhost")``.

    The names are those of `secureserve.testing.BAD_KINDS`; each has one fault and is right in everything else. For
    ``revoked``, ``tls_authority.crl_path(credential)`` and ``.ocsp_response(credential)`` say so.
    """
    return _BadCredentialFactory(tls_authority, tmp_path)


@pytest.fixture
def bad_credentials(request: pytest.FixtureRequest, bad_credential: _BadCredentialFactory) -> BadCredential:
    """A bad credential; the test runs once for each kind that a client must refuse in the handshake.

    ``@pytest.mark.bad_credentials("expired", "wrong_host")`` chooses, ``also=["revoked"]`` adds and ``without=[...]``
    leaves out. It has ``name`` and ``fault``, and everything a good credential has.
    """
    name: str | None = getattr(request, "param", None)
    if name is None:
        raise pytest.UsageError(
            "bad_credentials makes a test run once for each bad credential, so the test function itself has to take "
            "it as an argument. In a unittest.TestCase, loop over secureserve.testing.bad_kinds() with self.subTest(); "
            'for one in particular write bad_credential("expired").'
        )
    return bad_credential(name)


class _DirectoryFactory:
    """Makes directories of credentials below a test's own."""

    def __init__(self, authority: Authority, directory: Path) -> None:
        self._authority = authority
        self._directory = directory
        self._made = 0

    def __call__(self, *identities: str, **options: Any) -> CredentialDirectory:
        """Make one; the arguments are those of `CredentialDirectory`, without authority and directory."""
        from secureserve.testing.directory import CredentialDirectory

        self._made += 1
        directory = self._directory / f"credential-directory-{self._made}"
        return CredentialDirectory(self._authority, directory, *identities, **options)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"credential_directory makes directories: write credential_directory().{name}.")


@pytest.fixture
def credential_directory(tls_authority: Authority, tmp_path: Path) -> _DirectoryFactory:
    """A factory of directories whose credential changes on command: ``credential_directory(layout="kubernetes")``.

    It has ``certificate_path``, ``private_key_path``, ``fingerprint``; ``rotate()`` puts a new credential in place as
    the layout's tool does (plain files, certbot, lego, acme.sh, Caddy, Kubernetes), ``break_("truncated")`` something
    bad, and ``mend()`` the last good one again.
    """
    return _DirectoryFactory(tls_authority, tmp_path)


class _ServerFactory:
    """Starts servers that end with the test."""

    def __init__(self, credential: _CredentialFactory, authority: Authority, servers: list[TestServer]) -> None:
        self._credential = credential
        self._authority = authority
        self._servers = servers
        self._running = ExitStack()

    def __call__(self, app: Any = None, **options: Any) -> TestServer:
        """Start one; the arguments are those of `secureserve.testing.https_server`."""
        from secureserve.testing.server import https_server

        if options.get("credential") is None:
            options["credential"] = self._credential()
        if options.get("client_verify", "none") != "none":
            options.setdefault("client_ca", self._authority.cert_path)
        server = self._running.enter_context(https_server(app, **options))
        self._servers.append(server)
        return server

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"https_server starts servers: write https_server(app).{name}, or take https_url.")

    def close(self) -> None:
        """Stop them all."""
        self._running.close()


@pytest.fixture
def https_server(
    request: pytest.FixtureRequest, tls_credential: _CredentialFactory, tls_authority: Authority
) -> Generator[_ServerFactory]:
    """A factory of running HTTPS servers: ``https_server(app, credential=..., client_verify="required")``.

    Without an application it answers 200 and "hello"; without a credential it presents a good one. It takes
    ``engine``, ``policy``, ``client_verify``, ``ocsp_response`` and more, see `secureserve.testing.https_server`. What
    it returns is ready and has ``url``, ``bound_addr``, ``requests``, ``log`` and ``rotate(credential)``; it stops
    after the test, and its log is shown when the test fails.
    """
    servers: list[TestServer] = request.node.stash.setdefault(_SERVERS, [])
    factory = _ServerFactory(tls_credential, tls_authority, servers)
    yield factory
    factory.close()


@pytest.fixture
def https_url(https_server: _ServerFactory) -> str:
    """The URL of a running HTTPS server with a good credential that answers everything with 200 and "hello"."""
    return https_server().url


class _HostileFactory:
    """Makes hostile clients whose connections end with the test."""

    def __init__(self) -> None:
        self._clients = ExitStack()

    def __call__(self, server: Any) -> HostileClient:
        """Make one for a server, a URL, or ``(host, port)``."""
        from secureserve.testing.hostile import HostileClient

        return self._clients.enter_context(HostileClient(server))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"hostile_client needs to know its victim: write hostile_client(server).{name}.")

    def close(self) -> None:
        """Close all their connections."""
        self._clients.close()


@pytest.fixture
def hostile_client() -> Generator[_HostileFactory]:
    """A factory of clients that misbehave: ``hostile_client(server).silent()``.

    Also ``handshake_then_silent()``, ``half_request()``, ``slow(data)``, ``never_reads()``,
    ``resets(after="handshake")`` and more. Each gives a connection with ``closed_by_server(timeout)``; all are closed
    after the test. The server may be anything with a ``url``, a URL, or ``(host, port)``.
    """
    factory = _HostileFactory()
    yield factory
    factory.close()


@pytest.fixture
def acme_authority(tls_authority: Authority) -> Generator[ACMEAuthority]:
    """A small real ACME authority on loopback, which issues certificates that ``tls_authority``'s clients trust.

    Clients begin at ``directory_url``. Challenges are validated for real: ``validation.http_port`` and
    ``validation.tls_port`` say where, ``validation.zone`` holds TXT records. ``fail_next(...)``, ``refused``,
    ``outage()``, ``reject_every`` and ``renewal_window`` make it difficult; ``issued`` and ``accounts`` tell what it
    did.
    """
    from secureserve.testing.acme import acme_authority as run_acme_authority

    with run_acme_authority(tls_authority) as acme:
        yield acme
