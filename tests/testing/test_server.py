"""The HTTPS server for the length of a test."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import threading
import unittest
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3

from secureserve.errors import ConfigurationError
from secureserve.front.settings import FrontSettings
from secureserve.testing import (
    BadCredential,
    bad_kinds,
    issue_bad,
    temporary_authority,
)
from secureserve.testing import (
    https_server as run_https_server,
)
from secureserve.tls.policy import TLSPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from secureserve.testing import Authority, IssuedCredential, TestServer


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the request's body."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def get(server: TestServer, authority: Authority, path: str = "/", **options: Any) -> requests.Response:
    """Ask a server with requests, trusting the authority."""
    return requests.get(server.url + path, verify=str(authority.cert_path), timeout=30, **options)


def test_serves_an_application_over_each_engine_and_version(
    https_server: Callable[..., TestServer], tls_client_context: ssl.SSLContext, engine: str, tls_version: str
) -> None:
    """It is ready when it is handed over, on a port of its own, and runs the application given."""
    server = https_server(echo, engine=engine)
    version = ssl.TLSVersion[tls_version.replace(".", "_")]
    tls_client_context.minimum_version = tls_client_context.maximum_version = version
    with urllib3.PoolManager(ssl_context=tls_client_context) as pool:
        assert pool.request("POST", server.url, body=b"ping").data == b"ping"
    assert server.requests[0].environ["SSL_PROTOCOL"] == tls_version
    assert server.url == f"https://localhost:{server.bound_addr[1]}"


def test_requests_are_recorded(https_server: Callable[..., TestServer], tls_authority: Authority) -> None:
    """What clients asked is there to be asserted: method, path, query, headers, body and status."""
    server = https_server()
    requests.post(
        f"{server.url}/a%20b?c=d",
        data=b"body",
        headers={"X-Test": "yes"},
        verify=str(tls_authority.cert_path),
        timeout=30,
    )
    (request,) = server.wait_for_requests(1)
    assert (request.method, request.path, request.query_string) == ("POST", "/a b", "c=d")
    assert (request.headers["x-test"], request.headers["content-length"]) == ("yes", "4")
    assert (request.body, request.status) == (b"body", "200 OK")


def test_what_the_application_reads_is_recorded(
    https_server: Callable[..., TestServer], tls_authority: Authority
) -> None:
    """However an application reads its input, the record holds what it read."""

    def lines(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        stream = environ["wsgi.input"]
        read = [stream.readline(), *stream.readlines(1), next(iter(stream)), stream.read()]
        start_response("200 OK", [])
        return read

    server = https_server(lines)
    data = b"one\ntwo\nthree\nfour\nfive"
    answer = requests.post(server.url, data=data, verify=str(tls_authority.cert_path), timeout=30)
    assert answer.content == data
    assert server.requests[0].body == data


def test_waiting_for_a_request_ends_with_the_log(https_server: Callable[..., TestServer]) -> None:
    """A request that never comes is a TimeoutError, not a hang."""
    with pytest.raises(TimeoutError, match=r"0 of 1 requests"):
        https_server().wait_for_requests(1, timeout=0.01)


def test_client_certificates(
    https_server: Callable[..., TestServer], tls_authority: Authority, client_credential: IssuedCredential, engine: str
) -> None:
    """With client_verify, the authority's clients get in, their name reaches the application, and others do not."""
    server = https_server(client_verify="required", engine=engine)
    certificate = (str(client_credential.certificate_path), str(client_credential.private_key_path))
    assert get(server, tls_authority, cert=certificate).ok
    assert server.requests[0].environ["SSL_CLIENT_S_DN_CN"] == "client"
    with pytest.raises(requests.exceptions.ConnectionError):
        get(server, tls_authority)


@pytest.mark.parametrize("name", [kind.name for kind in bad_kinds(also=["revoked", "common_name_only"])])
def test_presents_every_bad_credential(
    https_server: Callable[..., TestServer], bad_credential: Callable[..., BadCredential], engine: str, name: str
) -> None:
    """Either engine presents each bad credential, so that it is the client who refuses it."""
    bad = bad_credential(name)
    server = https_server(credential=bad, engine=engine)
    with (
        socket.create_connection(server.bound_addr, 30) as plain,
        careless_context().wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert ssl.DER_cert_to_PEM_cert(sock.getpeercert(binary_form=True) or b"").encode() == (
            bad.cert_chain_pems[0].bytes()
        )


@pytest.mark.bad_credentials(also=["revoked"])
def test_a_careless_client_gets_an_answer(
    https_server: Callable[..., TestServer], bad_credentials: BadCredential
) -> None:
    """Nothing but the client's own checks keeps it from an answer: without them, every bad server answers."""
    server = https_server(credential=bad_credentials)
    connection = http.client.HTTPSConnection("localhost", server.port, context=careless_context(), timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        assert connection.getresponse().status == 200


@needs_curl
@pytest.mark.parametrize(("revoke", "exit_code"), [(True, 91), (False, 0)])
def test_revocation_is_stapled(
    https_server: Callable[..., TestServer],
    tls_authority: Authority,
    bad_credential: Callable[..., BadCredential],
    revoke: bool,
    exit_code: int,
) -> None:
    """A stapled response is sent with the certificate, and curl goes by it: good, or revoked."""
    credential = bad_credential("revoked") if revoke else tls_authority.issue(chain_depth=1)
    server = https_server(credential=credential, ocsp_response=tls_authority.ocsp_response(credential))
    command = ["curl", "-sS", "--cacert", str(tls_authority.cert_path), "--cert-status", server.url]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert answer.returncode == exit_code, answer.stderr
    assert ("revocation reason" in answer.stderr) == revoke


def test_builtin_engine_cannot_staple(https_server: Callable[..., TestServer], tls_authority: Authority) -> None:
    """Asked to staple through ssl, which cannot, the server does not start without a word."""
    credential = tls_authority.issue(chain_depth=1)
    with pytest.raises(ConfigurationError, match="ocsp_staple"):
        https_server(credential=credential, engine="builtin", ocsp_response=tls_authority.ocsp_response(credential))


def test_policy_and_settings_are_the_ones_given(
    https_server: Callable[..., TestServer], tls_client_context: ssl.SSLContext
) -> None:
    """A policy decides how TLS is spoken, and settings what a connection may do."""
    server = https_server(policy=TLSPolicy.MODERN, settings=FrontSettings(hsts="max-age=60"))
    with urllib3.PoolManager(ssl_context=tls_client_context) as pool:
        assert pool.request("GET", server.url).headers["Strict-Transport-Security"] == "max-age=60"
    tls_client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        urllib3.PoolManager(ssl_context=tls_client_context, retries=False) as pool,
        pytest.raises(urllib3.exceptions.SSLError),
    ):
        pool.request("GET", server.url)


def test_revoked_clients_are_refused(
    https_server: Callable[..., TestServer], tls_authority: Authority, tls_credential: Callable[..., IssuedCredential]
) -> None:
    """With client_crl, a client whose certificate was revoked does not get in; policy and client_verify combine."""
    good, revoked = (tls_credential(usage="client", common_name=name) for name in ("good", "revoked"))
    tls_authority.revoke(revoked)
    server = https_server(
        policy=TLSPolicy.INTERMEDIATE, client_verify="required", client_crl=tls_authority.crl_path(revoked)
    )
    assert get(server, tls_authority, cert=(str(good.certificate_path), str(good.private_key_path))).ok
    with pytest.raises(requests.exceptions.ConnectionError):
        get(server, tls_authority, cert=(str(revoked.certificate_path), str(revoked.private_key_path)))


def test_listens_where_it_is_told(
    https_server: Callable[..., TestServer], tls_credential: Callable[..., IssuedCredential], tls_authority: Authority
) -> None:
    """Over IPv6 the URL has brackets."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    server = https_server(host="::1", credential=tls_credential("::1"))
    assert server.url.startswith("https://[::1]:")
    assert get(server, tls_authority).ok


def test_rotation_shows_in_new_handshakes(
    https_server: Callable[..., TestServer], tls_credential: Callable[..., IssuedCredential], tls_authority: Authority
) -> None:
    """rotate() presents another credential from the next connection on."""
    server = https_server()
    context = tls_authority.client_context()
    fingerprints = []
    for credential in (server.credential, tls_credential()):
        if credential is not server.credential:
            server.rotate(credential)
        with (
            socket.create_connection(server.bound_addr, 30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            fingerprints.append(sock.getpeercert(binary_form=True))
    assert fingerprints[0] != fingerprints[1]
    assert server.credential is credential


def test_log_has_answers_refusals_and_tracebacks(
    https_server: Callable[..., TestServer], tls_authority: Authority
) -> None:
    """The log tells of answers, of handshakes that clients broke off, and of what the application raised."""

    def broken(_environ: dict[str, Any], _start_response: Callable[..., Any]) -> list[bytes]:
        raise RuntimeError("the application's own mistake")

    server = https_server(broken)
    assert get(server, tls_authority).status_code == 500
    assert "the application's own mistake" in server.log
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(server.url, timeout=30)
    other = https_server()
    assert get(other, tls_authority, "/page").ok
    assert "GET /page -> 200 OK" in other.log
    assert "mistake" not in other.log


def test_several_at_once(https_server: Callable[..., TestServer], tls_authority: Authority) -> None:
    """Each server has a port, requests and a credential of its own."""
    servers = [https_server() for _ in range(3)]
    for server in servers:
        assert get(server, tls_authority).ok
    assert len({server.port for server in servers}) == 3
    assert [len(server.requests) for server in servers] == [1, 1, 1]


def test_address_and_family(
    https_server: Callable[..., TestServer], tls_credential: Callable[..., IssuedCredential], tls_authority: Authority
) -> None:
    """The URL names what the credential is for: an address where it is for that alone."""
    server = https_server(credential=tls_credential("127.0.0.1"))
    assert server.url.startswith("https://127.0.0.1:")
    assert get(server, tls_authority).ok


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("not an app",), {}, r"write a WSGI application"),
        ((None,), {"credential": "cert.pem"}, r"write what tls_credential"),
    ],
)
def test_misuse(
    https_server: Callable[..., TestServer], arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    """What is neither an application nor a credential gives an error that says what to write."""
    with pytest.raises(TypeError, match=message):
        https_server(*arguments, **options)


def test_credential_in_the_application_place(
    https_server: Callable[..., TestServer], tls_credential: Callable[..., IssuedCredential]
) -> None:
    """A credential given where the application belongs is told apart."""
    with pytest.raises(TypeError, match=r"credential=\.\.\."):
        https_server(tls_credential())


@pytest.mark.parametrize("name", ["wrong_order", "key_mismatch"])
def test_what_no_server_can_present(
    https_server: Callable[..., TestServer], bad_credential: Callable[..., BadCredential], name: str
) -> None:
    """A credential that is bad as files cannot be served, and the error says how to use it instead."""
    with pytest.raises(ValueError, match=r"\.certificate_path"):
        https_server(credential=bad_credential(name))


def test_the_factory_is_not_a_server(https_server: Callable[..., TestServer]) -> None:
    """Taking the factory for a server gives an error that says what to write."""
    with pytest.raises(AttributeError, match=r"write https_server\(app\)\.url"):
        https_server.url  # type: ignore[attr-defined] # noqa: B018 - the mistake under test


def test_leaves_no_thread_and_no_port(tls_authority: Authority) -> None:
    """After its block, its threads have ended and nothing answers at its address."""
    before = set(threading.enumerate())
    with run_https_server(credential=tls_authority.issue()) as server:
        assert get(server, tls_authority).ok
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.bound_addr, 30).close()


class WithUnittest(unittest.TestCase):
    """The same without pytest: context managers."""

    def test_rejects_every_bad_credential(self) -> None:
        """A unittest suite loops over the kinds with subTest."""
        with temporary_authority() as authority:
            for kind in bad_kinds("expired", "wrong_host"):
                with (
                    self.subTest(kind.fault),
                    run_https_server(credential=issue_bad(authority, kind.name)) as server,
                    pytest.raises(requests.exceptions.SSLError),
                ):
                    get(server, authority)


def careless_context() -> ssl.SSLContext:
    """Return a context that checks nothing at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context
