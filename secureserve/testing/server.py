"""An HTTPS server for the length of a test, ready when it is handed over and stopped after."""

from __future__ import annotations

import logging
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from secureserve.certificates.store import CertificateStore
from secureserve.http.reporter import Reporter
from secureserve.http.server import HTTPServer
from secureserve.http.ssl_adapter import SSLAdapter
from secureserve.testing.bad import BadCredential, RefusedBy
from secureserve.testing.credentials import IssuedCredential, write_private
from secureserve.testing.recording import Journal, RecordedRequest, Recorder, hello
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.ocsp import StapleCache
from secureserve.tls.policy import TLSPolicy

if TYPE_CHECKING:
    import os
    from collections.abc import Generator
    from pathlib import Path

    from secureserve.certificates.credential import Credential
    from secureserve.errors import PeerError
    from secureserve.front.connection import Connection
    from secureserve.front.settings import FrontSettings
    from secureserve.http.request import HTTPRequest
    from secureserve.testing.recording import Application

__all__ = ["TestServer", "https_server"]

READY_TIMEOUT: Final = 30.0
"""Seconds; a server binds in a millisecond, unless the machine is very busy."""

ANY_STRENGTH: Final = ("DEFAULT:@SECLEVEL=0",)
"""OpenSSL's security level would keep a server from presenting what its client is to refuse."""


class TestServer:
    """A running HTTPS server of a test.

    Attributes:
        credential: What it presents.
        http_server: The `HTTPServer` itself.
        requests: What it was asked, as `RecordedRequest`, in order.

    Threads: any.
    """

    __test__ = False  # pytest takes a class of this name for tests.

    def __init__(
        self, http_server: HTTPServer, credential: IssuedCredential, recorder: Recorder, journal: Journal
    ) -> None:
        self.http_server = http_server
        self.credential = credential
        self._recorder = recorder
        self._journal = journal
        self._store: CertificateStore = http_server.ssl_adapter.acceptor.store

    def __repr__(self) -> str:
        """Say where it is and what it presents."""
        return f"<TestServer {self.url} with {self.credential}>"

    @property
    def bound_addr(self) -> tuple[str, int]:
        """The address that it listens at."""
        host, port = self.http_server.bind_addr[:2]
        return host, port

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return self.bound_addr[1]

    @property
    def url(self) -> str:
        """Its URL, by a name or address that its credential is (or ought to be) for, without a slash at the end."""
        host = self.host
        return f"https://[{host}]:{self.port}" if ":" in host else f"https://{host}:{self.port}"

    @property
    def host(self) -> str:
        """The name or address in `url`."""
        return next(
            (one for one in ("localhost", "127.0.0.1", "::1") if one in self.credential.intended_for), "localhost"
        )

    @property
    def requests(self) -> list[RecordedRequest]:
        """What it was asked, in order."""
        return self._recorder.requests

    @property
    def log(self) -> str:
        """Its log so far: answers, refused handshakes, errors of the application with their tracebacks."""
        return self._journal.text()

    def wait_for_requests(self, count: int = 1, timeout: float = READY_TIMEOUT) -> list[RecordedRequest]:
        """Wait until `count` requests have arrived, and return all that have.

        Raises:
            TimeoutError: They did not within `timeout` seconds; the message has the log.
        """
        if not self._recorder.wait_for(count, timeout):
            raise TimeoutError(
                f"{len(self.requests)} of {count} requests within {timeout} s. The server's log:\n{self.log}"
            )
        return self.requests

    def rotate(self, credential: IssuedCredential) -> None:
        """Present another credential in every handshake from now on; connections that are open keep theirs."""
        self._store.replace([credential.credential])
        self.credential = credential


@contextmanager
def https_server(
    app: Application | None = None,
    *,
    credential: IssuedCredential,
    engine: str = "pyopenssl",
    policy: TLSPolicy | None = None,
    client_verify: str = "none",
    client_ca: str | os.PathLike[str] | None = None,
    client_crl: str | os.PathLike[str] | None = None,
    ocsp_response: bytes | None = None,
    settings: FrontSettings | None = None,
    host: str = "127.0.0.1",
    threads: int = 4,
    timeout: float = 10.0,
) -> Generator[TestServer]:
    """Run an HTTPS server on a free port of loopback for the length of a with statement.

    Args:
        app: A WSGI application; without one, every request is answered with 200 and ``hello``.
        credential: What it presents, good or bad.
        engine: The TLS library: ``pyopenssl`` or ``builtin``.
        policy: How TLS is spoken; by default as `TLSPolicy.INTERMEDIATE`, or as weak as a bad credential needs.
        client_verify: Whether clients have to show a certificate: ``none``, ``optional`` or ``required``.
        client_ca: A PEM file of the authorities that client certificates may come from.
        client_crl: A PEM file of their revocation lists.
        ocsp_response: What is stapled to the certificate, in DER, good or bad; not with the engine ``builtin``.
        settings: The deadlines and limits of connections.
        host: The address to listen at.
        threads: How many threads run the application.
        timeout: Seconds for each phase of a connection.

    Yields:
        The server, ready for requests.

    Raises:
        TypeError: `app` or `credential` is not what it has to be; the message says what to write.
        ValueError: The credential is one that no server can present.
        ConfigurationError: A setting that cannot be honoured.
        CredentialError: The engine does not take the credential.
    """
    _check(app, credential)
    policy = _policy(
        policy,
        credential,
        {
            "client_verify": client_verify,
            "client_ca": client_ca,
            "client_crl": client_crl,
            "ocsp_staple": None if ocsp_response is None else _staple(credential, ocsp_response),
        },
    )
    journal = Journal()
    recorder = Recorder(app or hello, journal)
    http_server = _JournalledServer(
        journal, (host, 0), recorder, numthreads=threads, timeout=timeout, settings=settings
    )
    staples = None if ocsp_response is None else _AnyStaple(ocsp_response)
    acceptor = TLSAcceptor(CertificateStore([credential.credential]), policy, engine=engine, staples=staples)
    http_server.ssl_adapter = SSLAdapter(acceptor=acceptor)
    try:
        # It answers as soon as it is prepared; serve() would only wait for its end, which is ours to bring about.
        http_server.prepare()
        yield TestServer(http_server, credential, recorder, journal)
    finally:
        http_server.stop()
        acceptor.close()


class _JournalledServer(HTTPServer):
    """An HTTP server that writes its log for the test that runs it as well."""

    def __init__(self, journal: Journal, *args: Any, **options: Any) -> None:
        self._journal = journal
        super().__init__(*args, **options)
        self.reporter = _JournallingReporter(journal)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: FBT001, FBT002 - cheroot's
        self._journal.write(msg)
        super().error_log(msg, level, traceback)


class _AnyStaple(StapleCache):
    """Staples one response to every certificate, also one that a sound server would keep to itself."""

    def __init__(self, response: bytes) -> None:
        self._response = response

    def prepare(self, credential: Credential) -> None:  # noqa: ARG002 - the same for all
        return

    def keep_only(self, credentials: tuple[Credential, ...]) -> None:  # noqa: ARG002 - the same for all
        return

    def get(self, credential: Credential) -> bytes:  # noqa: ARG002 - the same for all
        return self._response


class _JournallingReporter(Reporter):
    """Writes what goes wrong for the test as well."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        super().__init__()

    def refused(self, connection: Connection, error: PeerError) -> None:
        self._journal.write(f"{connection.address[0]} {error.reason}: {error}")
        super().refused(connection, error)

    def broken(self, connection: Connection, error: Exception) -> None:
        self._journal.write("".join(traceback.format_exception(error)))
        super().broken(connection, error)

    def application_failed(self, request: HTTPRequest, error: BaseException) -> None:
        self._journal.write("The application raised:\n" + "".join(traceback.format_exception(error)))
        super().application_failed(request, error)


def _check(app: object, credential: object) -> None:
    if isinstance(app, IssuedCredential):
        raise TypeError("https_server() takes the application first: write https_server(credential=...).")
    if app is not None and not callable(app):
        raise TypeError(f"https_server(app={app!r}): write a WSGI application, app(environ, start_response).")
    if not isinstance(credential, IssuedCredential):
        raise TypeError(
            f"https_server(credential={credential!r}): write what tls_credential(...) or bad_credential(...) returned."
        )
    if isinstance(credential, BadCredential) and credential.kind.refused_by is RefusedBy.LOADING:
        raise ValueError(
            f"No server can present {credential.name!r} ({credential.fault}): it is bad as files. Load "
            f".certificate_path and .private_key_path with what is under test."
        )


def _policy(policy: TLSPolicy | None, credential: IssuedCredential, changes: dict[str, Any]) -> TLSPolicy:
    chosen = {name: value for name, value in changes.items() if value not in {None, "none"}}
    if policy is not None:
        return policy.replace(**chosen) if chosen else policy
    if isinstance(credential, BadCredential):
        return TLSPolicy.insecure(ciphers=ANY_STRENGTH, **chosen)
    return TLSPolicy(**chosen)


def _staple(credential: IssuedCredential, response: bytes) -> Path:
    return write_private(credential.directory / "ocsp.der", response)
