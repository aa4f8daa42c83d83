"""A function decides what is presented."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.certificates.on_demand import CallableSource
from secureserve.certificates.sources import MemorySource
from secureserve.managed.server import Server
from secureserve.tls.client_hello import ClientHello
from secureserve.tls.peeking import client_hello_message
from tests.certificates.test_serving import PATIENCE, Client, application, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from secureserve.certificates.credential import Credential
    from secureserve.testing import Authority


@pytest.fixture
def source() -> Iterator[Callable[..., CallableSource]]:
    """A factory of started sources that are stopped after the test."""
    made: list[CallableSource] = []

    def start(*arguments: Any, **options: Any) -> CallableSource:
        made.append(CallableSource(*arguments, **options))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.stop()


@pytest.fixture(scope="module")
def default(tls_authority: Authority) -> Credential:
    """What the store has."""
    return tls_authority.issue("localhost", "default.test").credential


def _server(default: Credential, source: CallableSource, **options: Any) -> Server:
    sources = [source, MemorySource(default)]
    return Server(application, socket_host="127.0.0.1", socket_port=0, certificate_sources=sources, **options)


def test_decides(tls_authority: Authority, default: Credential, engine: str, tls_version: str) -> None:
    """It is told what the client offers, and what it returns is presented; None leaves it to the store."""
    by_name = {name: tls_authority.issue(name, fresh_key=True).credential for name in ("a.test", "b.test")}
    seen: list[Any] = []

    def get_certificate(client_hello: Any) -> Credential | None:
        seen.append(client_hello)
        return by_name.get(client_hello.server_name)

    with _server(default, CallableSource(get_certificate), ssl_module=engine) as server:
        for name, expected in [*by_name.items(), ("default.test", default), ("a.test", by_name["a.test"])]:
            client = Client(tls_authority, server, version=tls_version, name=name)
            client.context.set_alpn_protocols(["http/1.1"])
            assert client.fingerprint() == expected.fingerprint
        assert [hello.server_name for hello in seen] == ["a.test", "b.test", "default.test", "a.test"]
        assert seen[0].alpn_protocols == ("http/1.1",)
        assert seen[0].signature_schemes
    assert not [one.name for one in threading.enumerate() if one.name.startswith("secureserve-")]


def test_slow_decisions_hold_no_thread(tls_authority: Authority, default: Credential, engine: str) -> None:
    """While the function ponders over many handshakes, a server of one thread answers everybody else at once."""
    release = threading.Event()
    pondering = threading.Semaphore(0)
    slow = tls_authority.issue("slow.test").credential

    def get_certificate(client_hello: Any) -> Credential | None:
        if client_hello.server_name == "slow.test":
            pondering.release()
            release.wait(PATIENCE)
            return slow
        return None

    # Eight wait, and none of the function's threads is left for them: one more for the others.
    source = CallableSource(get_certificate, timeout=PATIENCE, threads=9)
    with _server(default, source, ssl_module=engine, thread_pool=1) as server:
        client = Client(tls_authority, server, name="slow.test")
        found: list[str] = []
        waiting = [threading.Thread(target=lambda: found.append(client.fingerprint())) for _ in range(8)]
        for thread in waiting:
            thread.start()
        for _ in waiting:
            assert pondering.acquire(timeout=PATIENCE)
        quick = Client(tls_authority, server, name="default.test")
        assert quick.fingerprint() == default.fingerprint
        used = time.process_time()
        assert not release.wait(0.3)
        used = time.process_time() - used
        release.set()
        for thread in waiting:
            thread.join(PATIENCE)
    assert found == [slow.fingerprint] * 8
    assert used < 0.25, "waiting for the function must not go round in circles"


def test_deadline(tls_authority: Authority, default: Credential, engine: str, caplog: pytest.LogCaptureFixture) -> None:
    """After its deadline the store decides, and the log says so."""
    release = threading.Event()
    source = CallableSource(lambda _hello: release.wait(PATIENCE) and None, timeout=0.1)
    with _server(default, source, ssl_module=engine) as server:
        assert Client(tls_authority, server).fingerprint() == default.fingerprint
        release.set()
    assert "took more than 0.1 s" in caplog.text


@pytest.mark.parametrize("answer", ["not a credential", ZeroDivisionError("oh dear")])
def test_failures(tls_authority: Authority, default: Credential, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A function that fails, or returns something else, leaves it to the store, and the log says so."""

    def get_certificate(_hello: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with _server(default, CallableSource(get_certificate)) as server:
        assert Client(tls_authority, server).fingerprint() == default.fingerprint
    assert "get_certificate" in caplog.text


def test_unix_socket(tls_authority: Authority, default: Credential, engine: str, tmp_path: Path) -> None:
    """On a unix socket, whose handshakes cannot rest, the function decides as well."""
    other = tls_authority.issue("a.test").credential
    source = CallableSource(lambda hello: other if hello.server_name == "a.test" else None)
    with _server(default, source, ssl_module=engine, socket_file=str(tmp_path / "socket")):
        context = tls_authority.client_context()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(tmp_path / "socket"))
            with context.wrap_socket(sock, server_hostname="a.test") as tls:
                assert fingerprint_of(tls) == other.fingerprint


def test_hello_in_pieces(tls_authority: Authority, default: Credential, engine: str) -> None:
    """A ClientHello that arrives byte by byte is waited for, and then decided on."""
    other = tls_authority.issue("a.test").credential
    source = CallableSource(lambda hello: other if hello.server_name == "a.test" else None)
    with _server(default, source, ssl_module=engine) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = tls_authority.client_context().wrap_bio(incoming, outgoing, server_hostname="a.test")
        with socket.create_connection(server.bound_addr, timeout=PATIENCE) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            for byte in outgoing.read():
                sock.sendall(bytes([byte]))
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    received = sock.recv(65536)
                    assert received
                    incoming.write(received)
            certificate = tls.getpeercert(binary_form=True)
        assert certificate == other.leaf.public_bytes(_der())


def _der() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


def test_client_that_half_closes(tls_authority: Authority, default: Credential) -> None:
    """A client that ends its side while the function ponders keeps nobody busy until the function has done."""
    asked, release = threading.Event(), threading.Event()

    def get_certificate(_hello: Any) -> None:
        asked.set()
        release.wait(PATIENCE)

    with _server(default, CallableSource(get_certificate, timeout=PATIENCE)) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = tls_authority.client_context().wrap_bio(incoming, outgoing, server_hostname="a.test")
        with socket.create_connection(server.bound_addr, timeout=PATIENCE) as sock:
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            sock.sendall(outgoing.read())
            assert asked.wait(PATIENCE)
            sock.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: sock.recv(65536), b""))
            assert received, "the handshake goes on with what the store has"
        release.set()


def test_no_client_hello(tls_authority: Authority, default: Credential) -> None:
    """What is no ClientHello is answered as ever, and a client that goes away costs nothing."""
    source = CallableSource(lambda _hello: None)
    with _server(default, source) as server:
        for said in (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", b"\x16\x03\x01", b"\x16" * 20_000, b"\x80junk"):
            with socket.create_connection(server.bound_addr, timeout=PATIENCE) as sock:
                sock.sendall(said)
                sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while sock.recv(65536):
                        pass
        assert Client(tls_authority, server).fingerprint() == default.fingerprint


def test_bounded(source: Any) -> None:
    """No more wait for it than it was told; the store decides for the rest, and for all once it is stopped."""
    release = threading.Event()
    one = source(lambda _hello: release.wait(PATIENCE) and None, timeout=PATIENCE, threads=1, max_waiting=3)
    answers = [one.ask(ClientHello()) for _ in range(5)]
    assert [answer.done() for answer in answers] == [False, False, False, True, True]
    release.set()
    assert [answer.result(PATIENCE) for answer in answers] == [None] * 5
    one.stop()
    one.stop()
    assert one.ask(ClientHello()).result(0) is None


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"", None),
        (b"\x16", None),
        (b"\x16\x03\x01\x00\x06\x01\x00", None),
        (b"\x16\x03\x01\x00\x06\x01\x00\x00\x02ab", b"\x01\x00\x00\x02ab"),
        (b"\x16\x03\x01\x00\x06\x01\x00\x00\x02abXYZ", b"\x01\x00\x00\x02ab"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x02a\x16\x03\x01\x00\x01b", b"\x01\x00\x00\x02ab"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x02a", None),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x02a\x17", b""),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b""),
        (b"GET / HTTP/1.1", b""),
    ],
)
def test_client_hello_message(received: bytes, expected: bytes | None) -> None:
    """The message is taken out of its records, however many; what is something else is known as that."""
    assert client_hello_message(received) == expected
