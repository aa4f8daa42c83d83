"""Who the client is, as applications on the whole server see it: WSGI, Flask and Django."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import flask
import pytest
import urllib3

import secureserve
from secureserve.certificates.store import CertificateStore
from secureserve.errors import ConfigurationError
from secureserve.http.client_authorisation import AuthoriseClients
from secureserve.http.server import HTTPServer
from secureserve.http.ssl_adapter import SSLAdapter
from secureserve.testing.template import USAGES, Issuer, Template
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.policy import TLSPolicy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential

DEADLINE = 30.0


@contextmanager
def serving(authority: Authority, engine: str, application: Any, verify: str = "optional") -> Iterator[str]:
    """Run a server that asks for certificates, and give its URL."""
    store = CertificateStore([authority.issue("localhost").credential])
    policy = TLSPolicy(client_verify=verify, client_ca=authority.cert_path)
    server = HTTPServer(("127.0.0.1", 0), application, numthreads=2)
    server.ssl_adapter = SSLAdapter(acceptor=TLSAcceptor(store, policy, engine=engine))
    thread = threading.Thread(target=server.start)
    thread.start()
    try:
        assert server.wait_ready(DEADLINE)
        yield f"https://localhost:{server.bind_addr[1]}"
    finally:
        server.stop()
        thread.join(DEADLINE)


def visitor(authority: Authority, issued: IssuedCredential | None) -> urllib3.PoolManager:
    """Return a client, with a certificate or without."""
    context = authority.client_context()
    if issued is not None:
        context.load_cert_chain(issued.certificate_path, issued.private_key_path)
    return urllib3.PoolManager(ssl_context=context, retries=False, timeout=DEADLINE)


def variables(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with all that is text in the environ."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: value for name, value in environ.items() if isinstance(value, str)}).encode()]


def test_the_identity_is_in_the_environ(
    tls_authority: Authority, client_credential: IssuedCredential, engine: str
) -> None:
    """A verified client's names are there, and a client without a certificate is told from it."""
    with serving(tls_authority, engine, variables) as url:
        with visitor(tls_authority, client_credential) as http:
            known = http.request("GET", url).json()
        with visitor(tls_authority, None) as http:
            unknown = http.request("GET", url).json()
    assert known["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert known["SSL_CLIENT_S_DN_CN"] == "client"
    assert known["SSL_CLIENT_SAN_Email_0"] == "client@example.test"
    assert unknown["SSL_CLIENT_VERIFY"] == "NONE"
    assert "SSL_CLIENT_S_DN" not in unknown


def test_no_header_can_pose_as_an_identity(tls_authority: Authority, engine: str) -> None:
    """Whatever header a client sends, no variable of TLS changes and none appears."""
    forged = {
        "SSL_CLIENT_VERIFY": "SUCCESS",
        "SSL-Client-Verify": "SUCCESS",
        "SSL-Client-S-DN-CN": "admin",
        "X-SSL-Client-S-DN": "CN=admin",
        "REMOTE-USER": "admin",
        "secureserve.tls": "admin",
    }
    with serving(tls_authority, engine, variables) as url, visitor(tls_authority, None) as http:
        plain = http.request("GET", url).json()
        for name, value in forged.items():
            response = http.request("GET", url, headers={name: value})
            if response.status == 200:
                seen = response.json()
                trusted = {key for key in seen if not key.startswith("HTTP_")}
                assert {key: seen[key] for key in trusted if key.startswith(("SSL_", "REMOTE_USER"))} == {
                    key: plain[key] for key in plain if key.startswith(("SSL_", "REMOTE_USER"))
                }
                assert "secureserve.tls" not in seen
            else:
                assert response.status == 400


def test_rules_answer_403(
    tls_authority: Authority, client_credential: IssuedCredential, tls_client_context: ssl.SSLContext, engine: str
) -> None:
    """Who no rule allows gets 403, by path; who is allowed is REMOTE_USER."""
    allow = {"/": ["email:*@example.test"], "/admin": ["dns:root.example.test"]}
    application = AuthoriseClients(variables, allow, remote_user_field="SSL_CLIENT_S_DN_CN")
    with serving(tls_authority, engine, application) as url:
        with visitor(tls_authority, client_credential) as http:
            answer = http.request("GET", url)
            assert answer.status == 200
            assert answer.json()["REMOTE_USER"] == "client"
            assert http.request("GET", f"{url}/admin").status == 403
            assert http.request("GET", f"{url}/admin/x").status == 403
        with visitor(tls_authority, None) as http:
            assert http.request("GET", url).status == 403
    assert tls_client_context.check_hostname


def test_without_rules_only_the_name_is_set(tls_authority: Authority, client_credential: IssuedCredential) -> None:
    """Without rules everybody gets through, and REMOTE_USER is there for the verified alone."""
    application = AuthoriseClients(variables, remote_user_field="SSL_CLIENT_SAN_Email_0")
    with serving(tls_authority, "pyopenssl", application) as url:
        with visitor(tls_authority, client_credential) as http:
            assert http.request("GET", url).json()["REMOTE_USER"] == "client@example.test"
        with visitor(tls_authority, None) as http:
            assert "REMOTE_USER" not in http.request("GET", url).json()


def test_flask_sees_the_client(tls_authority: Authority, client_credential: IssuedCredential, engine: str) -> None:
    """A Flask view gets at the identity with nothing in between, as text and as certificates."""
    app = flask.Flask("app")

    @app.get("/")
    def whoami() -> dict[str, str]:
        info = flask.request.environ["secureserve.tls"]
        certificate = info.peer_certificate
        return {
            "name": flask.request.environ["SSL_CLIENT_S_DN_CN"],
            "serial": str(certificate.serial_number),
            "version": info.version,
        }

    with serving(tls_authority, engine, app, "required") as url, visitor(tls_authority, client_credential) as http:
        said = http.request("GET", url).json()
    assert said == {
        "name": "client",
        "serial": str(client_credential.leaf.serial_number),
        "version": "TLSv1.3",
    }


@pytest.mark.parametrize("with_certificate", [True, False])
def test_the_typed_object_is_always_there(
    tls_authority: Authority, client_credential: IssuedCredential, engine: str, with_certificate: bool
) -> None:
    """environ["secureserve.tls"] tells version, suite, name, resumption and the verified chain of every connection."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        info = environ["secureserve.tls"]
        start_response("200 OK", [("Content-Type", "application/json")])
        chain = [certificate.subject.rfc4514_string() for certificate in info.peer_chain]
        return [json.dumps([info.version, info.server_name, info.resumed, info.verified, chain]).encode()]

    issued = client_credential if with_certificate else None
    with serving(tls_authority, engine, application) as url, visitor(tls_authority, issued) as http:
        version, server_name, resumed, verified, chain = http.request("GET", url).json()
    assert (version, server_name, resumed, verified) == ("TLSv1.3", "localhost", False, with_certificate)
    expected = [client_credential.leaf, tls_authority.certificate] if with_certificate else []
    assert chain == [certificate.subject.rfc4514_string() for certificate in expected]


def test_rules_are_settings(tls_authority: Authority, tls_credential: Any, client_credential: IssuedCredential) -> None:
    """ssl_client_allow answers 403 to who no rule allows, and ssl_client_remote_user names who is."""
    issued = tls_credential("localhost")
    settings: dict[str, Any] = {
        "socket_host": "127.0.0.1",
        "socket_port": 0,
        "ssl_certificate": issued.certificate_path,
        "ssl_private_key": issued.private_key_path,
        "ssl_client_ca": tls_authority.cert_path,
        "ssl_client_verify": "optional",
        "ssl_client_allow": "dns:other.test, email:*@example.test",
        "ssl_client_remote_user": "SSL_CLIENT_S_DN_CN",
    }
    with secureserve.Server(variables, **settings) as server:
        url = f"https://localhost:{server.bound_addr[1]}/"
        with visitor(tls_authority, client_credential) as http:
            assert http.request("GET", url).json()["REMOTE_USER"] == "client"
        with visitor(tls_authority, None) as http:
            assert http.request("GET", url).status == 403
    settings.update(ssl_client_allow="nonsense")
    with pytest.raises(ConfigurationError, match=r"ssl_client_allow = 'nonsense' is not a rule"):
        secureserve.Server(variables, **settings).__enter__()
    settings.update(ssl_client_allow=None, ssl_client_verify="none", ssl_client_ca=None)
    with pytest.raises(ConfigurationError, match=r"ssl_client_remote_user .* has no effect while ssl_client_verify"):
        secureserve.Server(variables, **settings).__enter__()


def test_the_log_says_who_was_refused_and_why(
    tls_authority: Authority, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that is not let in leaves one line: its address, the reason, and where the engine tells whose it was."""
    strangers = Issuer.self_signed(Template(common_name="strangers", is_authority=True), tls_authority.keys.take())
    template = Template(identities=("ann@example.test",), common_name="ann", extended_key_usage=USAGES["client"])
    stranger = tls_authority.issue_from(template, tls_authority.keys.take(), strangers)
    with (
        caplog.at_level("INFO", "secureserve.tls"),
        serving(tls_authority, engine, variables, "required") as url,
        visitor(tls_authority, stranger) as http,
        pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)),
    ):
        http.request("GET", url)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "secureserve.tls"]
    assert "127.0.0.1" in line
    assert "unable to get local issuer certificate" in line
    assert "\n" not in line
    if engine == "pyopenssl":
        assert "CN=ann" in line
