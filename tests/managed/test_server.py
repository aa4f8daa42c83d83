"""The managed server: every attribute, its default and its effect; every refusal; the three ways to start it."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import pwd
import re
import socket
import ssl
import stat
import struct
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cheroot.server
import cheroot.wsgi
import pytest

from secureserve.errors import (
    ConfigurationError,
    ConfigurationErrors,
    CredentialError,
    LifecycleError,
    StartFailed,
)
from secureserve.events import CredentialRotated, ServerReady, ServerStopped
from secureserve.front.settings import FrontSettings
from secureserve.http.server import HTTPServer
from secureserve.managed.attributes import ServerAttributes
from secureserve.managed.engine import Engine, State
from secureserve.managed.server import Server
from secureserve.managed.settings import SETTINGS
from secureserve.managed.tls import POLICY_SETTINGS
from tests.managed.clients import (
    DEADLINE,
    application,
    connect,
    exchange,
    fetch,
    is_refused,
    read_all,
    served_fingerprint,
    server_threads,
    show_environ,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential

CONTRACT = {
    "socket_port": 8080,
    "socket_host": None,
    "socket_file": None,
    "socket_queue_size": 5,
    "socket_timeout": 10,
    "protocol_version": "HTTP/1.1",
    "reverse_dns": False,
    "thread_pool": 10,
    "max_request_header_size": 500 * 1024,
    "max_request_body_size": 100 * 1024 * 1024,
    "ssl_certificate": None,
    "ssl_private_key": None,
}

GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """See that no test leaves a server's thread behind."""
    yield
    assert server_threads() == []


def local(app: Any = application, **settings: Any) -> Server:
    """Return a server for a free port of 127.0.0.1."""
    return Server(**{"application": app, "socket_host": "127.0.0.1", "socket_port": 0, **settings})


# The table.


def test_the_defaults_are_the_contract_s() -> None:
    """Every attribute of the contract has exactly its default."""
    server = Server()
    assert {name: getattr(server, name) for name in CONTRACT} == CONTRACT


def test_every_setting_is_an_attribute_and_the_other_way_round() -> None:
    """The class has an attribute for each setting of the table, with its default and its sentence, and no other."""
    attributes = {name for name, value in vars(ServerAttributes).items() if hasattr(value, "setting")}
    assert attributes == set(SETTINGS)
    server = Server()
    assert all(getattr(server, name) == setting.default for name, setting in SETTINGS.items())
    assert all(vars(ServerAttributes)[name].__doc__ == setting.doc for name, setting in SETTINGS.items())


def test_every_front_setting_has_the_front_s_default() -> None:
    """What the Front calls a setting, and what it is by default, is the same here."""
    assert {each.name: each.default for each in fields(FrontSettings)} == {
        each.name: SETTINGS[each.name].default for each in fields(FrontSettings)
    }


def test_front_settings_reach_the_front() -> None:
    """Each of the Front's settings that is set on the server arrives in the HTTP server's."""
    wanted: dict[str, Any] = {
        "handshake_timeout": 1.5,
        "read_header_timeout": 2.5,
        "read_body_timeout": 3.5,
        "keep_alive_timeout": 4.5,
        "write_timeout": 5.5,
        "linger_timeout": 0.5,
        "min_body_rate": 1,
        "min_write_rate": 2,
        "max_buffered_body_size": 3,
        "max_buffered_response_size": 4,
        "max_request_line_size": 5,
        "max_header_fields": 6,
        "max_idle_connections": 7,
        "max_connections": 8,
        "max_connections_per_address": 9,
        "proxy_protocol": True,
        "proxy_allow_ips": ("10.0.0.0/8",),
        "plain_http": "redirect",
        "reverse_dns": True,
        "reverse_dns_timeout": 0.25,
    }
    httpserver, _ = local(**wanted).httpserver_from_self()
    assert {name: getattr(httpserver.settings, name) for name in wanted} == wanted


def test_policy_settings_reach_the_policy(tls_credential: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """Each TLS setting that is set on the server arrives in the acceptor's policy."""
    issued: IssuedCredential = tls_credential()
    crl = tls_authority.crl_path(issued)
    wanted: dict[str, Any] = {
        "tls_minimum_version": "TLSv1.3",
        "tls_maximum_version": "TLSv1.3",
        "tls_groups": ("X25519",),
        "tls_session_tickets": False,
        "tls_session_ticket_lifetime": 60,
        "tls_keylog_file": str(tmp_path / "keys.log"),
        "ssl_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
        "ssl_ciphersuites": "TLS_AES_128_GCM_SHA256",
        "ssl_client_ca": str(tls_authority.cert_path),
        "ssl_client_verify": "optional",
        "ssl_client_verify_depth": 1,
        "ssl_client_crl": str(crl),
        "ssl_client_crl_expired": "accept",
    }
    with local(ssl_certificate=issued.pem_path, **wanted) as server:
        policy = server.httpserver.ssl_adapter.acceptor.policy
    assert policy.minimum_version.value == policy.maximum_version.value == "TLSv1.3"
    assert policy.groups == ("X25519",)
    assert not policy.session_tickets
    assert policy.session_ticket_lifetime == 60
    assert policy.keylog_file == tmp_path / "keys.log"
    assert policy.ciphers == ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256")
    assert policy.ciphersuites == ("TLS_AES_128_GCM_SHA256",)
    assert policy.client_ca == tls_authority.cert_path
    assert policy.client_verify.value == "optional"
    assert policy.client_verify_depth == 1
    assert policy.client_crl == crl
    assert policy.client_crl_expired.value == "accept"
    assert set(wanted) | {"tls_ocsp_staple"} == set(POLICY_SETTINGS)


# What each attribute does.


@pytest.mark.parametrize("app", [application, "tests.managed.clients:application", "tests.managed.clients.application"])
def test_application_is_what_is_served(app: Any) -> None:
    """A callable, or its name with a colon or with dots, answers the requests."""
    with local(app) as server:
        assert fetch(server.bound_addr, "/there") == b"hello /there"


def test_socket_port_0_asks_the_system() -> None:
    """With 0 the system chooses a port, and bound_addr and base() tell it."""
    with local(socket_port=0) as server:
        host, port = server.bound_addr
        assert host == "127.0.0.1"
        assert port > 0
        assert server.base() == f"http://127.0.0.1:{port}"
    assert is_refused((host, port))


def test_socket_port_is_where_it_listens() -> None:
    """A given port is listened at, and no other."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    with local(socket_port=port) as server:
        assert server.bound_addr == ("127.0.0.1", port)
        assert fetch(("127.0.0.1", port)) == b"hello /"


def test_no_socket_host_is_every_interface() -> None:
    """Without a host it answers on IPv4 and on IPv6."""
    with Server(application, socket_port=0) as server:
        port = server.bound_addr[1]
        assert fetch(("127.0.0.1", port)) == b"hello /"
        if socket.has_ipv6 and _has_loopback6():
            assert fetch(("::1", port)) == b"hello /"
        assert socket.gethostname() in server.base()


def test_socket_host_is_the_only_interface() -> None:
    """With one address it does not answer on another."""
    with local() as server:
        assert is_refused(("127.0.0.2", server.bound_addr[1]))


def test_socket_host_may_be_a_name() -> None:
    """A host name is looked up, in the system's order."""
    with Server(application, socket_host="localhost", socket_port=0) as server:
        assert fetch(server.bound_addr) == b"hello /"


def test_socket_file_is_a_unix_socket_with_its_mode(tmp_path: Path) -> None:
    """With socket_file host and port are ignored; its permissions are 0600 unless socket_mode says otherwise."""
    path = str(tmp_path / "app.sock")
    for mode in (None, 0o660):
        settings = {} if mode is None else {"socket_mode": mode}
        with Server(application, socket_file=path, **settings) as server:
            assert server.base() == server.bound_addr == path
            assert stat.S_IMODE(Path(path).stat().st_mode) == (mode or 0o600)
            assert exchange(path, GET % b"").endswith(b"hello /")
        assert not Path(path).exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_socket_owner_is_who_the_socket_belongs_to(tmp_path: Path) -> None:
    """user:group, by name or number, own the unix socket."""
    nobody = pwd.getpwnam("nobody")
    path = str(tmp_path / "app.sock")
    with Server(application, socket_file=path, socket_owner=f"nobody:{nobody.pw_gid}"):
        assert (Path(path).stat().st_uid, Path(path).stat().st_gid) == (nobody.pw_uid, nobody.pw_gid)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells a socket's backlog")
def test_socket_queue_size_is_the_backlog() -> None:
    """The listening socket's backlog is 5, or what was set."""
    for wanted in (5, 77):
        with local(**({} if wanted == 5 else {"socket_queue_size": wanted})) as server:
            info = server.httpserver.listeners[0].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            # On a listening socket the kernel reports the backlog in tcpi_sacked.
            assert struct.unpack_from("=I", info, 28)[0] == wanted


def test_reuse_port_lets_another_listen_too() -> None:
    """Two servers share a port if both ask for it; without it the second is refused."""
    with local(reuse_port=True) as first:
        port = first.bound_addr[1]
        with local(reuse_port=True, socket_port=port) as second:
            assert second.bound_addr == first.bound_addr
        with pytest.raises(StartFailed), local(socket_port=port):
            pass


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the server's side of a connection in /proc")
@pytest.mark.parametrize("nodelay", [True, False])
def test_nodelay_is_set_on_connections(nodelay: bool) -> None:
    """The server's side of a connection has TCP_NODELAY as the attribute says."""
    with local(nodelay=nodelay) as server, connect(server.bound_addr) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(65536)
        with _other_end(client) as other:
            assert bool(other.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == nodelay


def test_socket_timeout_is_the_base_of_every_phase() -> None:
    """A connection that sends nothing is closed after socket_timeout, unless its phase has a deadline of its own."""
    with local(socket_timeout=0.1) as server, connect(server.bound_addr) as silent:
        read_all(silent)
        timeouts = server.httpserver.settings.timeouts(server.httpserver.timeout)
        assert (timeouts.handshake, timeouts.keep_alive) == (0.1, 0.1)


def test_keep_alive_timeout_ends_an_idle_connection() -> None:
    """After a response the connection is closed when nothing came for keep_alive_timeout."""
    with local(keep_alive_timeout=0.1) as server, connect(server.bound_addr) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"hello /" in read_all(client)


def test_protocol_version_is_in_the_status_line() -> None:
    """With HTTP/1.0 responses say so, and connections are not kept."""
    for version in ("HTTP/1.1", "HTTP/1.0"):
        with local(protocol_version=version) as server:
            answer = exchange(server.bound_addr, GET % b"")
            assert answer.startswith(version.encode() + b" 200 OK\r\n")


def test_wsgi_version_chooses_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is called by the gateway that is registered for the version; an unknown one is refused."""

    class Newer(cheroot.wsgi.Gateway_10):
        def get_environ(self) -> dict[str, Any]:
            return {**super().get_environ(), "wsgi.version": (1, 7)}

    with local(show_environ) as server:
        assert fetch(server.bound_addr, "/wsgi.version") == b"(1, 0)"
    with pytest.raises(ConfigurationError, match=r"wsgi_version = \(1, 7\)"):
        local(wsgi_version=(1, 7)).start()
    monkeypatch.setitem(cheroot.wsgi.wsgi_gateways, (1, 7), Newer)
    with local(show_environ, wsgi_version=(1, 7)) as server:
        assert fetch(server.bound_addr, "/wsgi.version") == b"(1, 7)"


def test_server_name_is_in_the_server_field() -> None:
    """The Server header holds what was set, else the package's name."""
    for settings, name in (({}, b"secureserve"), ({"server_name": "mine"}, b"mine")):
        with local(**settings) as server:
            assert b"\r\nServer: " + name + b"\r\n" in exchange(server.bound_addr, GET % b"")


def test_reverse_dns_sets_remote_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """REMOTE_HOST is the client's name, where forward and reverse agree, and is absent by default."""
    monkeypatch.setattr(socket, "gethostbyaddr", lambda address: ("client.test", [], [address]))
    monkeypatch.setattr(socket, "getnameinfo", lambda address, flags: ("client.test", "0"))
    forward = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "client.test":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or 0))]
        return forward(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with local(show_environ) as server:
        assert fetch(server.bound_addr, "/REMOTE_HOST") == b"None"
    with local(show_environ, reverse_dns=True, reverse_dns_timeout=DEADLINE) as server:
        assert fetch(server.bound_addr, "/REMOTE_HOST") == b"client.test"


def test_thread_pool_is_how_many_requests_run_at_once() -> None:
    """With three threads three requests are in the application at the same time."""
    together = threading.Barrier(3)

    def meet(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        together.wait(DEADLINE)
        return list(application(environ, start_response))

    with local(meet, thread_pool=3) as server:
        answers: list[bytes] = []
        clients = [threading.Thread(target=lambda: answers.append(fetch(server.bound_addr))) for _ in range(3)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(DEADLINE)
        assert answers == [b"hello /"] * 3
        assert server.httpserver.requests.size == 3


def test_thread_pool_max_is_what_the_pool_grows_to() -> None:
    """One thread grows to two under load if it may, so that two requests meet in the application."""
    together = threading.Barrier(2)

    def meet(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        together.wait(DEADLINE)
        return list(application(environ, start_response))

    with local(meet, thread_pool=1, thread_pool_max=2) as server:
        first = threading.Thread(target=fetch, args=(server.bound_addr,))
        first.start()
        assert fetch(server.bound_addr) == b"hello /"
        first.join(DEADLINE)


def test_the_switch_interval_is_set_while_the_server_runs() -> None:
    """The interpreter changes threads as often as thread_switch_interval says, and as before once that server stops."""
    before = sys.getswitchinterval()
    with local():
        assert sys.getswitchinterval() == before
    with local(thread_switch_interval=0.0625):
        assert sys.getswitchinterval() == 0.0625
    assert sys.getswitchinterval() == before


def test_a_full_queue_is_answered_503() -> None:
    """With accepted_queue_size 1 and its timeout over, one request too many gets 503."""
    inside, release = threading.Event(), threading.Event()

    def wait(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        inside.set()
        release.wait(DEADLINE)
        return list(application(environ, start_response))

    with local(wait, thread_pool=1, accepted_queue_size=1, accepted_queue_timeout=0.05) as server:
        held = [connect(server.bound_addr) for _ in range(3)]
        try:
            held[0].sendall(GET % b"")
            assert inside.wait(DEADLINE)
            for each in held[1:]:
                each.sendall(GET % b"")
            refused = [each for each in held[1:] if _answers(each)]
            assert refused
            assert read_all(refused[0]).startswith(b"HTTP/1.1 503 ")
        finally:
            release.set()
            for each in held:
                each.close()


def test_shutdown_timeout_bounds_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    """An application that does not come back is left after shutdown_timeout, and named."""
    inside, release = threading.Event(), threading.Event()

    def hang(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        inside.set()
        release.wait(DEADLINE)
        return list(application(environ, start_response))

    server = local(hang, shutdown_timeout=0.05)
    with server, connect(server.bound_addr) as client:
        client.sendall(GET % b"")
        assert inside.wait(DEADLINE)
    release.set()
    assert "still run the application" in caplog.text


def test_a_request_in_progress_may_finish() -> None:
    """Stop waits for a request that is being answered."""
    inside, release = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        inside.set()
        release.wait(DEADLINE)
        return list(application(environ, start_response))

    server = local(slow, shutdown_timeout=DEADLINE)
    with server:
        client = connect(server.bound_addr)
        client.sendall(GET % b"")
        assert inside.wait(DEADLINE)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        release.set()
        assert read_all(client).endswith(b"hello /")
        client.close()
        stopper.join(DEADLINE)
        assert not stopper.is_alive()


def test_limits_on_requests_are_answered_413() -> None:
    """A head beyond max_request_header_size and a body beyond max_request_body_size get 413."""
    with local(max_request_header_size=200, max_request_body_size=10) as server:
        long_head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 300 + b"\r\n\r\n"
        assert b" 413 " in exchange(server.bound_addr, long_head).split(b"\r\n")[0]
        long_body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n12345678901"
        assert b" 413 " in exchange(server.bound_addr, long_body).split(b"\r\n")[0]
        fitting = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n12"
        assert b" 200 " in exchange(server.bound_addr, fitting).split(b"\r\n")[0]


def test_peercreds_are_in_the_environ(tmp_path: Path) -> None:
    """On a unix socket the peer's process and user are told, with its name if that is asked for."""
    path = str(tmp_path / "app.sock")
    with Server(show_environ, socket_file=path, peercreds=True, peercreds_resolve=True):
        assert exchange(path, GET % b"X_REMOTE_PID").endswith(f"\r\n\r\n{os.getpid()}".encode())
        name = pwd.getpwuid(os.getuid()).pw_name
        assert exchange(path, GET % b"X_REMOTE_USER").endswith(f"\r\n\r\n{name}".encode())


def test_statistics_are_switched() -> None:
    """The HTTP server's statistics are off unless the attribute says otherwise."""
    for statistics in (False, True):
        with local(statistics=statistics) as server:
            assert server.httpserver.stats["Enabled"] is statistics


def test_log_format_is_the_access_log_s(caplog: pytest.LogCaptureFixture) -> None:
    """Access lines are in the combined format, or JSON."""
    caplog.set_level(logging.INFO, "secureserve.access")
    for log_format, start in (("combined", "127.0.0.1 - - ["), ("json", '{"time":')):
        caplog.clear()
        with local(log_format=log_format) as server:
            fetch(server.bound_addr)
        (record,) = [each for each in caplog.records if each.name == "secureserve.access"]
        assert record.getMessage().startswith(start)


def test_start_timeout_bounds_the_start() -> None:
    """A given server that is not ready within start_timeout fails the start."""

    class Never:
        ready = False

        def __init__(self) -> None:
            self.stopped = threading.Event()

        def start(self) -> None:
            self.stopped.wait(DEADLINE)

        def stop(self) -> None:
            self.stopped.set()

    server = Server(instance=Never(), start_timeout=0.05)
    with pytest.raises(StartFailed, match=r"0\.05 seconds"):
        server.start()


# TLS.


@pytest.fixture
def issued(tls_credential: Any) -> IssuedCredential:
    """A good credential for localhost, in files."""
    credential: IssuedCredential = tls_credential("localhost", "127.0.0.1")
    return credential


def test_certificate_and_key_make_it_https(
    issued: IssuedCredential, tls_client_context: ssl.SSLContext, engine: str
) -> None:
    """With certificate and key it speaks TLS, under both engines, and base() says https."""
    with local(
        ssl_certificate=issued.certificate_path, ssl_private_key=issued.private_key_path, ssl_module=engine
    ) as server:
        assert fetch(server.bound_addr, "/there", tls_client_context) == b"hello /there"
        assert server.base() == f"https://127.0.0.1:{server.bound_addr[1]}"
        (shown,) = server.certificates
        assert shown.fingerprint == issued.fingerprint
        assert server.httpserver.ssl_adapter.acceptor.engine == engine


def test_one_file_with_both_is_a_certificate_alone(
    issued: IssuedCredential, tls_client_context: ssl.SSLContext
) -> None:
    """A PEM that holds the key as well is accepted as ssl_certificate alone."""
    with local(ssl_certificate=issued.pem_path) as server:
        assert fetch(server.bound_addr, "/", tls_client_context) == b"hello /"


def test_the_chain_may_be_a_file_of_its_own(tls_credential: Any, tls_client_context: ssl.SSLContext) -> None:
    """The leaf alone is completed by ssl_certificate_chain, so that a client which has only the root verifies it."""
    credential = tls_credential("localhost", chain_depth=1)
    with local(
        ssl_certificate=credential.leaf_path,
        ssl_private_key=credential.private_key_path,
        ssl_certificate_chain=credential.chain_path,
    ) as server:
        assert fetch(server.bound_addr, "/", tls_client_context) == b"hello /"


def test_the_key_s_password(tls_credential: Any, tls_client_context: ssl.SSLContext, tmp_path: Path) -> None:
    """The password is given as text, by a callable, or in a file; a wrong one is refused without being shown."""
    credential = tls_credential("localhost", password="open sesame")
    files = {"ssl_certificate": credential.certificate_path, "ssl_private_key": credential.private_key_path}
    (tmp_path / "password").write_text("open sesame\n")
    for password in (
        {"ssl_private_key_password": "open sesame"},
        {"ssl_private_key_password": lambda: b"open sesame"},
        {"ssl_private_key_password_file": tmp_path / "password"},
    ):
        with local(**files, **password) as server:
            assert fetch(server.bound_addr, "/", tls_client_context) == b"hello /"
    with pytest.raises(CredentialError) as caught, local(**files, ssl_private_key_password="hunter2"):
        pass
    assert "hunter2" not in str(caught.value)


def test_a_directory_is_chosen_from_by_name(tls_credential: Any, tmp_path: Path) -> None:
    """Each certificate of ssl_certificate_directory is shown to who asks for its name; others are refused if strict."""
    directory = tmp_path / "certificates"
    directory.mkdir(mode=0o700)
    one, two = tls_credential("one.test"), tls_credential("two.test")
    for name, credential in (("one", one), ("two", two)):
        (directory / f"{name}.pem").write_bytes(credential.pem_path.read_bytes())
    with local(ssl_certificate_directory=directory, sni_strict=True) as server:
        assert served_fingerprint(server.bound_addr, "one.test") == _der(one)
        assert served_fingerprint(server.bound_addr, "two.test") == _der(two)
        with pytest.raises(ssl.SSLError):
            served_fingerprint(server.bound_addr, "three.test")


def test_credentials_in_memory(issued: IssuedCredential, tls_client_context: ssl.SSLContext) -> None:
    """certificate_sources takes credentials, and sources of them."""
    with local(certificate_sources=[issued.credential]) as server:
        assert fetch(server.bound_addr, "/", tls_client_context) == b"hello /"


@pytest.mark.parametrize("polling", [0, 0.05])
def test_a_replaced_certificate_is_noticed(tls_credential: Any, tmp_path: Path, polling: float) -> None:
    """The files' replacement is served without a restart, noticed by notification or by polling."""
    old, new = tls_credential("localhost"), tls_credential("localhost")
    path = tmp_path / "live.pem"
    path.write_bytes(old.pem_path.read_bytes())
    rotated = threading.Event()
    with local(ssl_certificate=path, certificate_polling_interval=polling) as server:
        server.events.subscribe(lambda event: rotated.set() if isinstance(event, CredentialRotated) else None)
        replacement = tmp_path / "new.pem"
        replacement.write_bytes(new.pem_path.read_bytes())
        replacement.replace(path)
        assert rotated.wait(DEADLINE)
        assert served_fingerprint(server.bound_addr) == _der(new)


def test_certificates_are_reloaded_on_request(tls_credential: Any, tmp_path: Path) -> None:
    """Unwatched files are taken by reload_certificates and by the engine's graceful; a bad one changes nothing."""
    old, new = tls_credential("localhost"), tls_credential("localhost")
    path = tmp_path / "live.pem"
    path.write_bytes(old.pem_path.read_bytes())
    with local(ssl_certificate=path, certificate_watch=False) as server:
        path.write_bytes(new.pem_path.read_bytes())
        assert served_fingerprint(server.bound_addr) == _der(old)
        assert server.reload_certificates().ok
        assert served_fingerprint(server.bound_addr) == _der(new)
        path.write_bytes(b"not a certificate")
        with pytest.raises(LifecycleError, match=r"live\.pem"):
            server.engine.graceful()
        assert served_fingerprint(server.bound_addr) == _der(new)
        assert server.certificates.refused
        path.write_bytes(old.pem_path.read_bytes())
        server.reload_certificates(force=True)
        assert served_fingerprint(server.bound_addr) == _der(old)
    with pytest.raises(LifecycleError, match="serves no certificates"):
        server.reload_certificates()


def test_an_emergency_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """start_with_emergency_certificate serves a self-signed one, loudly, where the configured one does not load."""
    with local(ssl_certificate=tmp_path / "missing.pem", start_with_emergency_certificate=True) as server:
        assert served_fingerprint(server.bound_addr)
        assert server.certificates.emergency
    assert "EMERGENCY" in caplog.text


def test_the_modern_policy_speaks_tls_1_3_alone(issued: IssuedCredential, tls_client_context: ssl.SSLContext) -> None:
    """tls_policy modern refuses a client of TLS 1.2, which intermediate takes."""
    tls_client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    with local(ssl_certificate=issued.pem_path) as server:
        assert fetch(server.bound_addr, "/", tls_client_context) == b"hello /"
    with local(ssl_certificate=issued.pem_path, tls_policy="modern") as server, pytest.raises(ssl.SSLError):
        fetch(server.bound_addr, "/", tls_client_context)


def test_client_certificates(
    issued: IssuedCredential, client_credential: IssuedCredential, tls_authority: Authority
) -> None:
    """With ssl_client_verify required only a client with a certificate of ssl_client_ca gets in, and is named."""
    with local(
        show_environ,
        ssl_certificate=issued.pem_path,
        ssl_client_ca=tls_authority.cert_path,
        ssl_client_verify="required",
    ) as server:
        context = tls_authority.client_context()
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            fetch(server.bound_addr, "/", context)
        client_credential.configure_cert(context)
        assert fetch(server.bound_addr, "/SSL_CLIENT_S_DN_CN", context) == b"client"


def test_hsts_is_sent(issued: IssuedCredential, tls_client_context: ssl.SSLContext) -> None:
    """The value of hsts is in responses over TLS."""
    with (
        local(ssl_certificate=issued.pem_path, hsts="max-age=60") as server,
        tls_client_context.wrap_socket(connect(server.bound_addr), server_hostname="localhost") as client,
    ):
        client.sendall(GET % b"")
        assert b"\r\nStrict-Transport-Security: max-age=60\r\n" in read_all(client)


def test_plain_http_on_the_tls_port(issued: IssuedCredential) -> None:
    """Plain HTTP gets 400, or a redirect if plain_http says so."""
    for plain_http, status in (("reject", b" 400 "), ("redirect", b" 308 ")):
        with local(ssl_certificate=issued.pem_path, plain_http=plain_http) as server:
            assert status in exchange(server.bound_addr, GET % b"there").split(b"\r\n")[0]


@pytest.mark.parametrize(("asked", "named"), [(b"", b"8443"), (b":9443", b"9443")])
def test_plain_http_is_redirected_to_where_clients_reach_https(
    issued: IssuedCredential, asked: bytes, named: bytes
) -> None:
    """A client that named a port is sent to it, since it reached us there; any other to redirect_to_port."""
    request = GET.replace(b"localhost", b"localhost" + asked) % b"there"
    with local(ssl_certificate=issued.pem_path, plain_http="redirect", redirect_to_port=8443) as server:
        assert b"\r\nLocation: https://localhost:" + named + b"/there\r\n" in exchange(server.bound_addr, request)


# Refusals.


def test_an_empty_host_is_refused() -> None:
    """socket_host = '' is refused with what to write instead."""
    with pytest.raises(ConfigurationError, match=r"socket_host = '' is empty.*leave it out \(None\)"):
        Server(socket_host="")
    with pytest.raises(ValueError, match="socket_host"):
        Server().socket_host = ""  # type: ignore[assignment]


def test_half_a_pair_is_refused_and_says_which_half(issued: IssuedCredential) -> None:
    """A key without a certificate, or a certificate without any key, names what is missing."""
    with pytest.raises(ConfigurationError, match="ssl_certificate is missing"):
        local(ssl_private_key=issued.private_key_path).start()
    with pytest.raises(ConfigurationError, match="ssl_private_key is missing"):
        local(ssl_certificate=issued.certificate_path).start()


def test_a_taken_port_is_refused() -> None:
    """A port in use is a StartFailed that names the address, in the caller's thread, with nothing left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = local(socket_port=port)
        with pytest.raises(StartFailed, match=str(port)):
            server.start()
    assert not server.running
    server.start()
    server.stop()


def test_a_unix_path_that_is_too_long_or_occupied_is_refused(tmp_path: Path) -> None:
    """A path longer than a unix socket's, or where a file lives, is refused and the file kept."""
    with pytest.raises(ConfigurationError, match=r"socket_file.*too long"):
        Server(socket_file="/" + "x" * 200)
    occupied = tmp_path / "precious"
    occupied.write_text("data")
    with pytest.raises(ConfigurationError, match="precious"):
        Server(application, socket_file=occupied).start()
    assert occupied.read_text() == "data"


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("ssl_module", "openssl", r"ssl_module = 'openssl'.*Write one of: pyopenssl, builtin"),
        ("socket_port", 70000, "not a port"),
        ("socket_port", "443", "not a whole number"),
        ("socket_timeout", 0, "socket_timeout"),
        ("thread_pool", 0, "thread_pool"),
        ("thread_pool", True, "thread_pool"),
        ("protocol_version", "HTTP/2", r"HTTP/1\.1, HTTP/1\.0"),
        ("proxy_allow_ips", ["10.0.0.0/99"], "proxy_allow_ips"),
        ("reverse_dns", "perhaps", "reverse_dns"),
        ("wsgi_version", "newest", "wsgi_version"),
        ("nodelay", 7, "nodelay"),
        ("max_request_body_size", "many", "max_request_body_size"),
        ("tls_policy", "old", "intermediate, modern"),
        ("socket_host", "ho st", "socket_host"),
        ("socket_mode", 0o1777, "socket_mode"),
        ("ssl_private_key_password", 5, "ssl_private_key_password is an int, not a password"),
    ],
)
def test_impossible_values_are_refused_when_they_are_set(name: str, value: object, match: str) -> None:
    """A value that is not of the setting's kind is refused at once, naming setting, value and remedy."""
    with pytest.raises(ConfigurationError, match=match):
        Server(**{name: value})
    server = Server()
    with pytest.raises(ConfigurationError, match=match):
        setattr(server, name, value)
    assert getattr(server, name) == SETTINGS[name].default


def test_a_misspelt_attribute_is_refused_with_a_suggestion() -> None:
    """A keyword or an attribute that looks like a setting names the one that was probably meant."""
    with pytest.raises(ConfigurationError, match=r"socket_prot is not a setting. Did you mean socket_port\?"):
        Server(socket_prot=1)
    with pytest.raises(ConfigurationError, match="Did you mean socket_port"):
        Server().socket_prot = 1  # type: ignore[attr-defined]
    Server().something_of_mine = 1  # type: ignore[attr-defined]


def test_a_context_made_elsewhere_is_refused_with_the_reason() -> None:
    """CherryPy's ssl_context is not taken, and the error says what to set instead."""
    with pytest.raises(ConfigurationError, match=r"ssl_context is not a setting.*set ssl_certificate"):
        Server(ssl_context=ssl.create_default_context())


def test_several_impossible_values_are_told_at_once() -> None:
    """Two bad keywords are both in the one error, and nothing is set."""
    with pytest.raises(ConfigurationErrors) as caught:
        Server(socket_port=-1, thread_pool=0, socket_timeout=5)
    assert {problem.key for problem in caught.value.problems} == {"socket_port", "thread_pool"}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"application": None}, "application is missing"),
        ({"application": 5}, "application = 5 cannot be called"),
        ({"application": "no.such.module:app"}, "cannot be imported"),
        ({"application": "tests.managed.clients:nothing"}, "there is no 'nothing'"),
        ({"application": "nothing"}, "names no object"),
        ({"instance": "no.such.Server"}, "instance.*cannot be imported"),
        ({"instance": 5}, "no start and no stop"),
        ({"thread_pool": 5, "thread_pool_max": 3}, "less than thread_pool"),
        ({"hsts": "max-age=1"}, "no effect without TLS"),
        ({"redirect_port": 80}, "no effect without TLS"),
        ({"redirect_to_port": 443}, "redirect_to_port = 443 has no effect while nothing redirects"),
        ({"peercreds_resolve": True}, "no effect without peercreds"),
        ({"socket_file": "/run/x.sock", "socket_owner": "no-such-user"}, "no user of this system"),
    ],
    ids=str,
)
def test_what_cannot_be_started_is_refused_and_problems_tells_so_before(settings: dict[str, Any], match: str) -> None:
    """Impossible combinations fail the start with a ConfigurationError, and problems() tells them without starting."""
    server = local(**settings)
    assert any(re.search(match, str(problem)) for problem in server.problems())
    with pytest.raises(ConfigurationError, match=match):
        server.start()
    assert not server.running


def test_client_verification_without_authorities_is_refused(issued: IssuedCredential) -> None:
    """ssl_client_verify without ssl_client_ca is refused under these names, not the policy's."""
    server = local(ssl_certificate=issued.pem_path, ssl_client_verify="required")
    with pytest.raises(ConfigurationError, match=r"ssl_client_verify.*Set ssl_client_ca"):
        server.start()


def test_problems_are_all_told_at_once(issued: IssuedCredential) -> None:
    """What is wrong with application, certificate and combinations is listed together; nothing for a good server."""
    server = local(None, ssl_private_key="/no/such/key.pem", thread_pool_max=1)
    found = " ".join(str(problem) for problem in server.problems())
    for word in ("application", "ssl_certificate", "thread_pool_max"):
        assert word in found
    assert local(ssl_certificate=issued.pem_path).problems() == ()


# Starting and stopping.


def test_listening_inside_the_block_and_stopped_after_it() -> None:
    """A with block answers inside, tells its events, and leaves its port free."""
    server = local()
    seen: list[object] = []
    server.events.subscribe(seen.append)
    with server:
        base, address = server.base(), server.bound_addr
        assert fetch(address) == b"hello /"
    assert is_refused(address)
    assert seen == [ServerReady(base), ServerStopped(base)]
    with server:
        assert fetch(server.bound_addr) == b"hello /"


def test_an_error_in_the_block_is_the_block_s_and_stops_the_server() -> None:
    """What the block raises comes out, after the server has stopped."""
    with pytest.raises(KeyError, match="mine"), local() as server:
        raise KeyError("mine")
    assert not server.running


def test_a_server_that_dies_in_the_block_is_told_after_it() -> None:
    """What broke the server while the block ran comes out of it."""
    server = local()

    def die() -> None:
        with server:
            server.httpserver.stop()
            assert server.engine.wait(State.EXITING, timeout=DEADLINE)

    with pytest.raises(LifecycleError, match="stopped serving by itself"):
        die()


def test_quickstart_builds_and_starts() -> None:
    """quickstart() starts with the attributes' values and returns; stop() stops."""
    server = Server(engine=Engine())
    server.application = application
    server.socket_host, server.socket_port = "127.0.0.1", 0
    server.quickstart()
    assert fetch(server.bound_addr) == b"hello /"
    assert isinstance(server.httpserver, HTTPServer)
    server.stop()
    server.stop()


def test_exit_stops_what_was_started_without_the_engine() -> None:
    """After quickstart() alone, engine.exit() and engine.stop() stop the server, once."""
    for leave in ("exit", "stop"):
        bus = Engine()
        server = local(engine=bus)
        server.quickstart()
        address = server.bound_addr
        getattr(bus, leave)()
        assert is_refused(address)
        assert not server.running


def test_changed_attributes_count_from_the_next_start() -> None:
    """After a stop the server is built anew from what the attributes say then."""
    server = local()
    server.start()
    server.stop()
    server.server_name = "renamed"
    server.start()
    assert b"\r\nServer: renamed\r\n" in exchange(server.bound_addr, GET % b"")
    server.stop()


def test_some_attributes_change_while_it_runs() -> None:
    """change() applies what can change at once, and tells what waits for the next start."""
    with local() as server:
        waiting = server.change({"max_request_body_size": 1, "thread_pool": 4, "server_name": "later"})
        assert waiting == ("server_name",)
        body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n12"
        assert b" 413 " in exchange(server.bound_addr, body).split(b"\r\n")[0]
        with pytest.raises(ConfigurationError, match="less than thread_pool"):
            server.change({"thread_pool_max": 2, "max_request_body_size": 5})
        assert server.max_request_body_size == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [(("::1", 1), ("::1", 1)), ("/run/x.sock", "/run/x.sock"), (None, (None, 8080)), ((None, 0), (None, 0))],
)
def test_bind_addr_has_three_forms(value: Any, expected: Any) -> None:
    """bind_addr is set to host and port, to a path, or to nothing, and sets the three attributes."""
    server = Server(socket_host="127.0.0.1", socket_port=1)
    server.bind_addr = value
    assert server.bind_addr == expected
    with pytest.raises(ConfigurationError, match="bind_addr"):
        server.bind_addr = 5
    with pytest.raises(ConfigurationError, match="socket_port"):
        server.bind_addr = ("::1", "x")


def test_an_application_may_shut_everything_down_and_still_answer() -> None:
    """A request that calls engine.exit() gets its response, and whoever blocks returns once it has."""
    bus = Engine()

    def leave(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        bus.exit()
        return list(application(environ, start_response))

    server = local(leave, engine=bus, shutdown_timeout=DEADLINE)
    server.subscribe()
    bus.start()
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(fetch(server.bound_addr)))
    client.start()
    bus.block()
    assert server_threads() == []
    client.join(DEADLINE)
    assert answers == [b"hello /"]


def test_two_servers_share_nothing(issued: IssuedCredential, tls_client_context: ssl.SSLContext) -> None:
    """Two servers in one process have their own applications, limits, threads and TLS."""
    with (
        local(max_request_body_size=1, server_name="first") as first,
        local(show_environ, server_name="second", ssl_certificate=issued.pem_path) as second,
    ):
        body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n12"
        assert b" 413 " in exchange(first.bound_addr, body).split(b"\r\n")[0]
        assert fetch(second.bound_addr, "/wsgi.url_scheme", tls_client_context) == b"https"
        assert first.httpserver.requests is not second.httpserver.requests
        assert cheroot.wsgi.Server.ConnectionClass.RequestHandlerClass is cheroot.server.HTTPRequest
        first.stop()
        assert fetch(second.bound_addr, "/SERVER_NAME", tls_client_context)


def test_three_on_one_engine(issued: IssuedCredential, tls_client_context: ssl.SSLContext) -> None:
    """Two TLS servers and a plain one start and stop with one engine."""
    bus = Engine()
    servers = [local(application, engine=bus, ssl_certificate=issued.pem_path) for _ in range(2)]
    servers.append(local(application, engine=bus))
    for server in servers:
        server.subscribe()
    bus.start()
    assert [fetch(each.bound_addr, "/", tls_client_context) for each in servers[:2]] == [b"hello /"] * 2
    assert fetch(servers[2].bound_addr) == b"hello /"
    addresses = [server.bound_addr for server in servers]
    bus.exit()
    assert all(is_refused(address) for address in addresses)


def test_one_that_fails_stops_the_others_and_is_named() -> None:
    """Where one of three cannot start, the others are stopped and the error names its address."""
    bus = Engine()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        servers = [local(engine=bus), local(engine=bus, socket_port=port), local(engine=bus)]
        for server in servers:
            server.subscribe()
        with pytest.raises(StartFailed, match=str(port)):
            bus.start()
    assert not any(server.running for server in servers)
    assert bus.state is State.EXITING


def test_starting_a_tls_server_leaves_no_trace_of_a_check(
    issued: IssuedCredential, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing connects to a TLS server to see whether it answers: no handshake fails, none is counted."""
    caplog.set_level(logging.DEBUG)
    with local(ssl_certificate=issued.pem_path) as server:
        totals = server.httpserver.totals()
    assert totals.accepted == 0
    assert not [each for each in caplog.records if each.name == "secureserve.tls"]


def test_a_foreign_tls_server_is_not_disturbed(issued: IssuedCredential, capfd: pytest.CaptureFixture[str]) -> None:
    """Cheroot's own TLS server, managed here, logs no failed handshake on start and stop."""
    from cheroot.ssl.builtin import BuiltinSSLAdapter

    httpserver = cheroot.wsgi.Server(("127.0.0.1", 0), application, numthreads=1)
    httpserver.ssl_adapter = BuiltinSSLAdapter(str(issued.certificate_path), str(issued.private_key_path))
    with Server(instance=httpserver) as server:
        assert server.base().startswith("https://127.0.0.1:")
    assert capfd.readouterr().err == ""


# Servers given ready-made, and the older spellings.


class OwnServer(cheroot.wsgi.Server):
    """A server class that takes what it needs from the managing server."""

    def __init__(self, managing: Server) -> None:
        """Copy the attributes."""
        super().__init__(managing.bind_addr, managing.application, numthreads=managing.thread_pool)
        self.copied = managing.socket_timeout


@pytest.mark.parametrize(
    "given",
    [OwnServer, "tests.managed.test_server.OwnServer", lambda managing: OwnServer(managing=managing)],
    ids=["class", "name", "function"],
)
def test_a_class_of_server_is_built_with_the_managing_server(given: Any) -> None:
    """A class, its name or a function given as instance is called with the server whose attributes it may copy."""
    with local(instance=given, socket_timeout=3) as server:
        assert type(server.httpserver).__name__ == "OwnServer"
        assert server.httpserver.copied == 3
        assert fetch(server.bound_addr) == b"hello /"


def test_an_instance_is_managed_as_it_is() -> None:
    """Instance takes an HTTP server, which then decides where it listens."""
    httpserver = HTTPServer(("127.0.0.1", 0), application)
    with Server(instance=httpserver) as server:
        assert server.httpserver is httpserver
        assert fetch(server.bound_addr) == b"hello /"


def test_httpserverclass_is_the_older_instance() -> None:
    """Httpserverclass works and points to instance; httpserver holds what was built."""
    server = local()
    with pytest.warns(DeprecationWarning, match=r"server\.instance"):
        server.httpserverclass = OwnServer
    with server:
        assert isinstance(server.httpserver, OwnServer)


def test_init_only_is_quickstart() -> None:
    """start(init_only=True) starts, returns, and tells its caller of quickstart(); blocking tells which was asked."""
    server = local()
    with pytest.warns(DeprecationWarning, match=r"server\.quickstart\(\)") as told:
        server.start(init_only=True)
    assert told[0].filename == __file__
    assert fetch(server.bound_addr) == b"hello /"
    assert server.blocking is False
    server.stop()


@pytest.mark.parametrize("engine_started", [False, True])
def test_init_only_false_starts_and_blocks(engine_started: bool) -> None:
    """start(init_only=False) serves until the engine exits, started already or not, and points to serve()."""
    bus = Engine()
    server = local(engine=bus)
    if engine_started:
        bus.start()
    seen: list[object] = []

    def use(event: object) -> None:
        seen.append(event)
        threading.Thread(target=look_and_leave).start()

    def look_and_leave() -> None:
        seen.append(fetch(server.bound_addr))
        # The server is ready a moment before the engine has started; to leave before that is another story.
        bus.wait([State.STARTED], timeout=DEADLINE)
        bus.exit()

    server.events.subscribe(lambda event: use(event) if isinstance(event, ServerReady) else None)
    with pytest.warns(DeprecationWarning, match=r"secureserve\.serve\(\)"):
        server.start(init_only=False)
    assert seen[1] == b"hello /"
    assert server.blocking
    assert not server.running


def test_a_block_on_a_given_engine_leaves_the_engine_alone() -> None:
    """With an engine of somebody else's the block starts and stops the server only."""
    bus = Engine()
    with local(engine=bus) as server:
        assert fetch(server.bound_addr) == b"hello /"
        assert bus.state is State.STOPPED
    assert not server.running
    assert bus.state is State.STOPPED


def test_an_http_server_put_in_by_hand_is_managed() -> None:
    """Httpserver may be set to a server that is then started and stopped as it is."""
    server = Server()
    server.httpserver = HTTPServer(("127.0.0.1", 0), application)
    with server:
        assert fetch(server.bound_addr) == b"hello /"


def test_start_with_callback_blocks_while_the_function_runs() -> None:
    """start_with_callback runs the function once the server answers, and blocks until the engine exits."""
    server = local()
    seen: list[object] = []

    def use(word: str, *, end: str) -> None:
        seen.append((word, end, fetch(server.bound_addr), server.blocking))
        server.engine.exit()

    with pytest.warns(DeprecationWarning, match="with Server"):
        server.start_with_callback(use, ("a",), {"end": "b"})
    assert seen == [("a", "b", b"hello /", True)]


def test_httpservers_is_the_older_adapter() -> None:
    """httpservers[myserver] = address has the engine start and stop it, and points to ServerAdapter."""
    server = local()
    httpserver = cheroot.wsgi.Server(("127.0.0.1", 0), application, numthreads=1)
    with pytest.warns(DeprecationWarning, match="ServerAdapter"):
        server.httpservers[httpserver] = ("127.0.0.1", 0)
    with server:
        assert fetch(httpserver.bind_addr, "/other") == b"hello /other"
    del server.httpservers[httpserver]
    with server:
        assert not httpserver.ready


def _der(credential: IssuedCredential) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return credential.leaf.public_bytes(Encoding.DER)


def _has_loopback6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _answers(sock: socket.socket) -> bool:
    sock.settimeout(1)
    with contextlib.suppress(TimeoutError):
        return bool(sock.recv(1, socket.MSG_PEEK))
    return False


def _other_end(client: socket.socket) -> socket.socket:
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found = socket.socket(fileno=os.dup(int(descriptor.name)))
            with contextlib.suppress(OSError):
                if found.getpeername() == client.getsockname():
                    return found
            found.close()
    raise AssertionError("the server's side was not found")
