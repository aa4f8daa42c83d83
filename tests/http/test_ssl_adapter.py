"""`SSLAdapter` under an unmodified cheroot and an unmodified CherryPy, with real clients."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import cheroot.server
import cheroot.ssl.builtin
import cheroot.wsgi
import pytest
import urllib3
from cherrypy._cpserver import Server as CherryPyServer

from secureserve.errors import ConfigurationError, Expired, KeyMismatch
from secureserve.http.ssl_adapter import BuiltinSSLAdapter, SSLAdapter
from secureserve.tls.policy import TLSPolicy
from tests.tls.lockstep import limited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential

DEADLINE = 30.0
CHUNK = os.urandom(65536)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the hash of the body, with many bytes, or with a variable of the environ."""
    path = environ["PATH_INFO"]
    if path == "/hash":
        digest, left = hashlib.sha256(), int(environ["CONTENT_LENGTH"])
        while left:
            data = environ["wsgi.input"].read(min(left, 100_000))
            digest.update(data)
            left -= len(data)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [digest.hexdigest().encode()]
    if path == "/many":
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(80 * 65536))])
        return [CHUNK] * 80
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(environ.get(path[1:], "(not set)")).encode()]


@contextmanager
def serving(adapter: Any, app: Any = application, **options: Any) -> Iterator[cheroot.wsgi.Server]:
    """Run an unmodified cheroot server."""
    server = cheroot.wsgi.Server(("127.0.0.1", 0), app, **{"numthreads": 4, "shutdown_timeout": 5, **options})
    server.ssl_adapter = adapter
    server.expiration_interval = 0.02
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(DEADLINE)


@pytest.fixture(scope="module")
def issued(tls_authority: Authority) -> IssuedCredential:
    """A credential for localhost under an intermediate."""
    return tls_authority.issue("localhost", "127.0.0.1", chain_depth=1)


@pytest.fixture
def adapter(issued: IssuedCredential, engine: str) -> SSLAdapter:
    """An adapter for each engine, with certificate and chain in one file."""
    return SSLAdapter(issued.certificate_path, issued.private_key_path, engine=engine)


@pytest.fixture
def client(tls_client_context: ssl.SSLContext, tls_version: str) -> ssl.SSLContext:
    """A client that verifies and speaks one version."""
    return limited(tls_client_context, tls_version)


def connect(server: cheroot.wsgi.Server, client: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection that has shaken hands."""
    plain = socket.create_connection(server.bind_addr, timeout=DEADLINE)
    return client.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)


def pool(server: cheroot.wsgi.Server, client: ssl.SSLContext) -> urllib3.HTTPSConnectionPool:
    """Return a pool of connections to a server."""
    port = server.bind_addr[1]
    return urllib3.HTTPSConnectionPool("localhost", port, ssl_context=client, retries=False, timeout=DEADLINE)


def test_requests_on_one_connection(adapter: SSLAdapter, client: ssl.SSLContext, tls_version: str) -> None:
    """Several requests go through one connection, and the application knows how it is spoken to."""
    with serving(adapter) as server, pool(server, client) as http:
        for path, expected in [
            ("/wsgi.url_scheme", "https"),
            ("/HTTPS", "on"),
            ("/SSL_PROTOCOL", tls_version),
            ("/SSL_TLS_SNI", "localhost"),
            ("/SSL_CLIENT_VERIFY", "NONE"),
            ("/SSL_SESSION_RESUMED", "Initial"),
        ]:
            assert http.request("GET", path).data.decode() == expected
        assert http.num_connections == 1
        assert "TLSInfo(" in http.request("GET", "/secureserve.tls").data.decode()


def test_the_validator_is_content(adapter: SSLAdapter, client: ssl.SSLContext) -> None:
    """wsgiref.validate finds nothing to complain about: every variable is a str."""

    def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"valid"]

    with serving(adapter, validator(plain)) as server, pool(server, client) as http:
        assert http.request("GET", "/").data == b"valid"


def test_five_megabytes_down(adapter: SSLAdapter, client: ssl.SSLContext) -> None:
    """A large answer arrives bit for bit."""
    with serving(adapter) as server, pool(server, client) as http:
        assert http.request("GET", "/many").data == CHUNK * 80


def test_five_megabytes_up_with_pauses(adapter: SSLAdapter, client: ssl.SSLContext) -> None:
    """A large body that arrives with pauses, also between records of one read, is whole."""
    pause = threading.Event()
    with serving(adapter) as server, connect(server, client) as tls:
        body = CHUNK * 80
        tls.sendall(f"POST /hash HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        pause.wait(0.25)
        tls.sendall(body[:1000])
        pause.wait(0.25)
        tls.sendall(body[1000:2_000_000])
        pause.wait(0.25)
        tls.sendall(body[2_000_000:])
        answer = b""
        while hashlib.sha256(body).hexdigest().encode() not in answer:
            data = tls.recv(65536)
            assert data, answer
            answer += data


def test_a_silent_client_stops_nobody(adapter: SSLAdapter, client: ssl.SSLContext) -> None:
    """While a client says nothing at all, others connect and are answered."""
    with serving(adapter) as server, socket.create_connection(server.bind_addr):
        for _ in range(3):
            with pool(server, client) as http:
                assert http.request("GET", "/HTTPS").data == b"on"


def test_a_silent_client_is_given_up(
    issued: IssuedCredential, engine: str, client: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A handshake that does not end within its deadline ends the connection, frees the thread, and is logged."""
    caplog.set_level(logging.INFO, "secureserve.tls")
    adapter = SSLAdapter(issued.certificate_path, issued.private_key_path, engine=engine, handshake_timeout=0.2)
    with serving(adapter, numthreads=1) as server:
        with socket.create_connection(server.bind_addr, timeout=DEADLINE) as silent:
            assert silent.recv(100) == b""
        with pool(server, client) as http:
            assert http.request("GET", "/HTTPS").data == b"on"
    assert "not done within 0.2 seconds" in caplog.text


def test_records_that_came_together_are_all_answered(adapter: SSLAdapter, client: ssl.SSLContext) -> None:
    """Requests that reach OpenSSL in one piece are answered although no selector tells of the later ones."""
    request = b"GET /HTTPS HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(adapter) as server, connect(server, client) as tls:
        tls.sendall(request * 5 + b"GET /HTTPS HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := tls.recv(65536):
            answer += data
        assert answer.count(b"HTTP/1.1 200 OK") == 6


def test_a_connection_ends_with_close_notify(adapter: SSLAdapter, client: ssl.SSLContext) -> None:
    """A client that insists on a proper end gets one."""
    with serving(adapter) as server, connect(server, client) as tls:
        tls.sendall(b"GET /HTTPS HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while tls.recv(65536):
            pass


def test_plain_http_is_told_so(adapter: SSLAdapter, caplog: pytest.LogCaptureFixture) -> None:
    """A plain HTTP request gets a plain 400 that says what is wrong, and the log says who sent it."""
    caplog.set_level(logging.INFO, "secureserve.tls")
    with serving(adapter) as server, socket.create_connection(server.bind_addr, timeout=DEADLINE) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while data := plain.recv(65536):
            answer += data
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"https" in answer.lower()
    assert "plain HTTP" in caplog.text


def test_a_failed_handshake_is_logged(adapter: SSLAdapter, caplog: pytest.LogCaptureFixture) -> None:
    """A client that does not trust the certificate leaves a line with its address and its alert."""
    caplog.set_level(logging.INFO, "secureserve.tls")
    with (
        serving(adapter) as server,
        socket.create_connection(server.bind_addr, timeout=DEADLINE) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
    assert "TLS handshake with 127.0.0.1:" in caplog.text
    assert "unknown ca" in caplog.text


def test_suites_take_effect(issued: IssuedCredential, engine: str, client: ssl.SSLContext) -> None:
    """The ciphers given are those that are used, and a weak or unknown one is refused."""
    files = issued.certificate_path, issued.private_key_path
    limited(client, "TLSv1.2")
    chosen = "ECDHE-ECDSA-CHACHA20-POLY1305"
    with serving(SSLAdapter(*files, None, chosen, engine=engine)) as server, connect(server, client) as tls:
        assert tls.cipher() is not None
        assert tls.cipher()[0] == chosen
    with pytest.raises(ConfigurationError, match="AES128-SHA"):
        SSLAdapter(*files, None, "AES128-SHA", engine=engine)


def test_a_reload_presents_the_new_certificate(
    tls_authority: Authority, engine: str, client: ssl.SSLContext, tmp_path: Path
) -> None:
    """reload() reads the files again; when they are bad it raises and the old certificate is presented on."""
    pem, first, second = tmp_path / "pem", tls_authority.issue("localhost"), tls_authority.issue("localhost")
    pem.write_bytes(first.private_key_and_cert_chain_pem.bytes())
    adapter = SSLAdapter(pem, engine=engine)
    with serving(adapter) as server:

        def shown() -> bytes | None:
            with connect(server, client) as tls:
                return tls.getpeercert(binary_form=True)

        before = shown()
        pem.write_bytes(second.private_key_and_cert_chain_pem.bytes())
        adapter.reload()
        after = shown()
        assert before != after
        pem.write_bytes(first.private_key_pem.bytes() + second.cert_chain_pem.bytes())
        with pytest.raises(KeyMismatch):
            adapter.reload()
        assert shown() == after


def test_encrypted_keys_need_no_terminal(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """An encrypted key opens with a password or a callable that gives it."""
    issued = tls_authority.issue("localhost", password="correct horse")
    files = issued.certificate_path, issued.private_key_path
    for password in ("correct horse", lambda: b"correct horse"):
        with serving(SSLAdapter(*files, private_key_password=password, engine=engine)) as server:
            connect(server, client).close()


def test_bad_certificates_are_refused_at_once(bad_credential: Any) -> None:
    """A certificate that must not be served fails the construction, naming its file."""
    expired = bad_credential("expired", "localhost")
    with pytest.raises(Expired, match="expired on"):
        SSLAdapter(expired.certificate_path, expired.private_key_path)


def test_contexts_of_others_are_refused(issued: IssuedCredential) -> None:
    """Setting a context, which would have no effect, is an error that says what to do instead."""
    adapter = SSLAdapter(issued.certificate_path, issued.private_key_path)
    adapter.context = None
    with pytest.raises(ConfigurationError, match="ssl_context cannot be used"):
        adapter.context = ssl.create_default_context()
    with pytest.raises(ConfigurationError, match="ssl_certificate is missing"):
        SSLAdapter()


def test_an_adapter_of_cheroot_can_be_taken_over(issued: IssuedCredential, client: ssl.SSLContext) -> None:
    """from_cheroot() makes an adapter of ours with the same files."""
    theirs = cheroot.ssl.builtin.BuiltinSSLAdapter(str(issued.certificate_path), str(issued.private_key_path))
    with serving(SSLAdapter.from_cheroot(theirs)) as server:
        connect(server, client).close()
    theirs.certificate = None
    with pytest.raises(ConfigurationError, match="ssl_context"):
        SSLAdapter.from_cheroot(theirs)


def test_cheroot_knows_it_by_name() -> None:
    """Both engines are in cheroot's registry, where CherryPy looks for them."""
    assert cheroot.server.get_ssl_adapter_class("secureserve") is SSLAdapter
    assert cheroot.server.get_ssl_adapter_class("secureserve-builtin") is BuiltinSSLAdapter
    assert CherryPyServer.ssl_module


def test_the_policy_is_obeyed(issued: IssuedCredential, engine: str, tls_client_context: ssl.SSLContext) -> None:
    """Under MODERN a client that stays with TLS 1.2 is refused with protocol_version."""
    adapter = SSLAdapter(issued.certificate_path, issued.private_key_path, policy=TLSPolicy.MODERN, engine=engine)
    with serving(adapter) as server:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert[ _]protocol[ _]version"):
            connect(server, limited(tls_client_context, "TLSv1.2"))
        connect(server, limited(tls_client_context, "TLSv1.3")).close()


def test_the_alert_reaches_a_client_that_has_gone_on(
    issued: IssuedCredential, tls_authority: Authority, engine: str, tls_client_context: ssl.SSLContext
) -> None:
    """With TLS 1.3 a client without the certificate that it needs sends its request first, and then reads the alert."""
    policy = TLSPolicy(client_verify="required", client_ca=tls_authority.cert_path)
    adapter = SSLAdapter(issued.certificate_path, issued.private_key_path, policy=policy, engine=engine)
    with serving(adapter) as server, connect(server, limited(tls_client_context, "TLSv1.3")) as tls:
        tls.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate[ _]required"):
            tls.recv(100)


CHERRYPY = textwrap.dedent(
    """
    import sys
    import cherrypy
    import secureserve.http.ssl_adapter

    class Root:
        @cherrypy.expose
        def index(self):
            environ = cherrypy.request.wsgi_environ
            return f"{cherrypy.request.scheme} {environ['SSL_PROTOCOL']} {environ['SSL_VERSION_LIBRARY']}"

        @cherrypy.expose
        def upload(self, file):
            return str(len(file.file.read()))

    cherrypy.config.update({
        "environment": "production",
        "server.socket_host": "127.0.0.1",
        "server.socket_port": 0,
        "server.ssl_module": sys.argv[1],
        "server.ssl_certificate": sys.argv[2],
        "server.ssl_private_key": sys.argv[3],
    })
    cherrypy.tree.mount(Root(), "/")
    cherrypy.engine.start()
    print(cherrypy.server.bound_addr[1], flush=True)
    sys.stdin.readline()
    cherrypy.engine.exit()
    """
)


@pytest.mark.parametrize(
    ("name", "library"), [("secureserve", "OpenSSL"), ("secureserve-builtin", ssl.OPENSSL_VERSION)]
)
def test_cherrypy_uses_it(
    issued: IssuedCredential, name: str, library: str, tls_client_context: ssl.SSLContext
) -> None:
    """An unmodified CherryPy with server.ssl_module set to our name serves pages and takes uploads."""
    command = [sys.executable, "-c", CHERRYPY, name, str(issued.certificate_path), str(issued.private_key_path)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()
        port = lines.get(timeout=60)
        assert port, process.stderr.read()
        with urllib3.PoolManager(ssl_context=tls_client_context, retries=False, timeout=DEADLINE) as http:
            page = http.request("GET", f"https://localhost:{port.strip()}/").data.decode()
            assert page.startswith("https TLSv1.3 ")
            assert library in page
            url = f"https://localhost:{port.strip()}/upload"
            body = CHUNK * 16
            assert http.request("POST", url, fields={"file": ("f", body)}).data.decode() == str(len(body))
        process.communicate("stop\n", timeout=60)
        assert process.returncode == 0
