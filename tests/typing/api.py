"""The types of the public API: checked by mypy, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import secureserve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import cheroot.wsgi
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Be a WSGI application."""
    start_response("200 OK", [])
    return []


def consume(*_: object) -> None:
    """Take what has the right type."""


def three_rungs() -> None:
    """Serve: by one call, within a block, from parts."""
    secureserve.serve(application, ssl_certificate="fullchain.pem", ssl_private_key="privkey.pem")
    with secureserve.Server(application, socket_host="127.0.0.1", socket_port=0) as server:
        base: str = server.base()
        port: int = server.socket_port
        certificate: str | None = server.ssl_certificate
        consume(base, port, certificate)
    httpserver: cheroot.wsgi.Server = secureserve.HTTPServer(("::", 0), application)
    httpserver.ssl_adapter = secureserve.SSLAdapter(
        "fullchain.pem", "privkey.pem", policy=secureserve.TLSPolicy.MODERN, engine="builtin"
    )
    engine: secureserve.Engine = secureserve.Engine()
    adapter: secureserve.ServerAdapter = secureserve.ServerAdapter(engine, httpserver, ("::", 0))
    adapter.subscribe()


def the_process_s_own() -> None:
    """Use what the managed-server API makes on first use."""
    secureserve.config.update({"server.socket_port": 443})
    secureserve.server.application = application
    secureserve.server.quickstart()
    secureserve.engine.start()
    secureserve.engine.block()
    secureserve.quickstart(application)


def certificates(path: Path) -> None:
    """Load, check, keep and select credentials."""
    credential: secureserve.Credential = secureserve.Credential.load(path, password=lambda: b"secret")
    names: tuple[str, ...] = credential.names
    store: secureserve.CertificateStore = secureserve.CertificateStore([credential], default=credential)
    selected: secureserve.Credential | None = store.select(names[0])
    consume(selected)
    sources: Sequence[secureserve.CredentialSource] = [
        secureserve.FileSource(path),
        secureserve.DirectorySource(path),
        secureserve.MemorySource(credential),
        secureserve.CallableSource(lambda hello: credential if hello.server_name else None, timeout=1.0),
        *(secureserve.KeyedSource(path, key) for key in keys(path)),
    ]
    for source in sources:
        loaded: Sequence[secureserve.Credential] = source.load()
        consume(loaded)


def keys(path: Path) -> Sequence[secureserve.PrivateKeySource]:
    """Have keys from a file, from systemd, from a function."""
    return [
        secureserve.FileKey(path, password_file=path),
        secureserve.SystemdKey("tls-key", {"CREDENTIALS_DIRECTORY": "/run/credentials/web.service"}),
        secureserve.CallableKey(path.read_bytes, place="the vault"),
    ]


def acme(server: secureserve.Server, storage: secureserve.Storage) -> None:
    """Obtain by a server's settings, and from parts."""
    server.acme_domain = ["example.org", ("example.net", "www.example.net")]
    server.acme_storage = secureserve.FileStorage("/var/lib/acme")
    solvers: Sequence[secureserve.Solver] = [
        secureserve.TLSALPN01Solver(server.alpn_challenges),
        secureserve.HTTP01Solver(server.acme_challenges),
        secureserve.DNS01Solver(["/usr/local/bin/dns-hook"]),
    ]
    source: secureserve.CredentialSource = secureserve.ACMESource([["example.org"]], storage)
    authority = secureserve.Authority("ours", "https://ca.example/directory", ca_file="/etc/ca.pem")
    account = secureserve.ExternalAccount("key-1", "c2VjcmV0c2VjcmV0c2VjcmV0")
    steward: type[secureserve.Steward] = secureserve.Steward
    consume(solvers, source, authority, account, steward)


def clients(tls: secureserve.TLSInfo) -> bool:
    """Say which clients may do what, and look at who one is."""
    server = secureserve.HTTPServer(
        ("::", 0),
        secureserve.AuthoriseClients(
            application, {"/admin": ["dns:admin.staff.test"]}, remote_user_field="SSL_CLIENT_S_DN_CN"
        ),
        settings=secureserve.FrontSettings(handshake_timeout=5.0),
    )
    variables: dict[str, str] = tls.environ()
    group: str | None = tls.group
    consume(server, variables, group, tls.peer_chain_der)
    return secureserve.ClientAuthorisation(["email:*@staff.test", lambda info: info.resumed]).allows(tls, "/")


def policy() -> secureserve.TLSPolicy:
    """Change a policy into another."""
    return secureserve.TLSPolicy.INTERMEDIATE.replace(client_ca="clients.pem")


def errors(error: Any) -> str:
    """Tell errors apart, and read what they carry."""
    if isinstance(error, secureserve.ConfigurationError):
        return error.key
    if isinstance(error, secureserve.HandshakeFailed):
        return error.alert or ""
    every: tuple[type[secureserve.SecureServeError], ...] = (
        secureserve.AlreadyStarted,
        secureserve.BadRequest,
        secureserve.BodyTooLarge,
        secureserve.BodyTruncated,
        secureserve.ChainBroken,
        secureserve.ConfigurationErrors,
        secureserve.CredentialError,
        secureserve.Expired,
        secureserve.HeadTooLarge,
        secureserve.IssuanceError,
        secureserve.KeyMismatch,
        secureserve.LifecycleError,
        secureserve.NameNotCovered,
        secureserve.NoCredential,
        secureserve.NotYetValid,
        secureserve.OlderThanServed,
        secureserve.Overloaded,
        secureserve.PeerError,
        secureserve.PeerTimeout,
        secureserve.PlainHTTPOnTLSPort,
        secureserve.ProxyHeaderError,
        secureserve.StartFailed,
        secureserve.StopTimedOut,
        secureserve.StorageError,
        secureserve.UnreadableCertificate,
        secureserve.UnreadableKey,
        secureserve.UsageNotAllowed,
        secureserve.WeakKey,
    )
    return every[0].__name__
