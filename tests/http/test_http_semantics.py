"""What a client sees over a real connection: RFC 9110 and RFC 9112, over plain HTTP and over TLS."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.front.settings import FrontSettings
from secureserve.logs import AccessLog, AccessRecord
from tests.http.serving import DEADLINE, Gate, hello, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.http.talking import Serving, Talker

StartResponse = Any
Environ = dict[str, Any]


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the method, the path and the body."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ".encode("latin-1"), body]


def answering(status: str, *fields: tuple[str, str], body: Any = ()) -> Callable[..., Iterable[bytes]]:
    """Return an application with one answer; `body` is an iterable of bytes, or makes one."""

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, list(fields))
        found: Iterable[bytes] = body() if callable(body) else body
        return found

    return app


def assert_usable(talker: Talker) -> None:
    """The connection takes one more request and then closes in an orderly way."""
    assert talker.get("Connection: close").status in {200, 204, 205, 304}
    assert talker.is_closed()


# Connections.


def test_a_connection_is_kept_until_the_client_has_enough(serve_any: Serving) -> None:
    """HTTP/1.1 keeps a connection; Connection: close ends it after the response, with close_notify under TLS."""
    with serve_any(hello) as server, serve_any.talk(server) as talker:
        for _ in range(3):
            response = talker.get()
            assert (response.version, response.status, response.body) == ("HTTP/1.1", 200, b"hello")
            assert response.get("connection") is None
        assert talker.get("Connection: close").get("connection") == "close"
        assert talker.is_closed()


def test_pipelined_requests_are_answered_in_order(serve_any: Serving) -> None:
    """Requests sent without waiting get their responses one after the other, bodies and all."""
    with serve_any(echo) as server, serve_any.talk(server) as talker:
        head = "{} /{} HTTP/1.1\r\nHost: localhost\r\n"
        pieces = []
        for number in range(20):
            pieces.append(head.format("GET", number).encode() + b"\r\n")
            pieces.append(head.format("POST", number).encode() + b"Content-Length: 5\r\n\r\nhello")
            pieces.append(
                head.format("PUT", number).encode() + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
            )
        talker.send(*pieces)
        for number in range(20):
            assert talker.response().body == b"GET /%d " % number
            assert talker.response().body == b"POST /%d hello" % number
            assert talker.response().body == b"PUT /%d x" % number
        assert_usable(talker)


def test_connections_that_take_turns_get_their_own(serve_any: Serving) -> None:
    """Heads that arrive in halves, bodies and pipelined requests of several connections do not mix."""
    with serve_any(echo) as server, contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(serve_any.talk(server)) for _ in range(3))
        for turn in range(3):
            first.send(b"GET /first/%d HTTP/1.1\r\nHo" % turn)
            second.send(b"POST /second/%d HTTP/1.1\r\nHost: localhost\r\n" % turn)
            second.send(b"Transfer-Encoding: chunked\r\n\r\n3\r\nab")
            third.request(line=f"GET /third/{turn} HTTP/1.1")
            third.request("X: y", line=f"PUT /third/{turn} HTTP/1.1")
            assert third.response().body == b"GET /third/%d " % turn
            assert third.response().body == b"PUT /third/%d " % turn
            first.send(b"st: localhost\r\n\r\n")
            assert first.response().body == b"GET /first/%d " % turn
            second.send(b"c\r\n0\r\n\r\n")
            assert second.response().body == b"POST /second/%d abc" % turn
        for talker in (first, second, third):
            assert_usable(talker)


def test_a_bad_request_behind_good_ones_ends_the_connection(serve_any: Serving) -> None:
    """What came before it is answered; what comes after it is not looked at."""
    with serve_any(echo) as server, serve_any.talk(server) as talker:
        talker.request()
        talker.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        talker.request(line="GET /smuggled HTTP/1.1")
        assert talker.response().body == b"GET / "
        refusal = talker.response()
        assert (refusal.status, refusal.get("connection")) == (400, "close")
        assert talker.is_closed()


@pytest.mark.parametrize(
    ("lines", "kept"), [((), False), (("Connection: keep-alive",), True), (("Connection: close",), False)]
)
def test_http_10_closes_unless_asked_to_keep(serve: Serving, lines: tuple[str, ...], kept: bool) -> None:
    """An HTTP/1.0 client that wants its connection kept says so, and is told that it is."""
    with serve(hello) as server, serve.talk(server) as talker:
        talker.request(*lines, line="GET / HTTP/1.0")
        response = talker.response()
        assert (response.version, response.status, response.body) == ("HTTP/1.1", 200, b"hello")
        assert response.get("connection") == ("keep-alive" if kept else "close")
        if kept:
            assert_usable(talker)
        else:
            assert talker.is_closed()


def test_http_10_gets_no_chunks(serve: Serving) -> None:
    """Content of unknown length ends with the connection, whatever the client asked for."""
    app = answering("200 OK", body=lambda: iter([b"one", b"two"]))
    with serve(app) as server, serve.talk(server) as talker:
        talker.request("Connection: keep-alive", line="GET / HTTP/1.0")
        response = talker.response()
        assert (response.get("transfer-encoding"), response.get("connection")) == (None, "close")
        assert response.body == b"onetwo"


def test_a_server_that_speaks_http_10_uses_nothing_newer(serve: Serving) -> None:
    """`protocol` is what the status line says, and limits the features used."""
    app = answering("200 OK", body=lambda: iter([b"one", b"two"]))
    with serve(app, attributes={"protocol": "HTTP/1.0"}) as server, serve.talk(server) as talker:
        response = talker.get()
        assert (response.version, response.get("transfer-encoding"), response.body) == ("HTTP/1.0", None, b"onetwo")


def test_the_application_may_close_the_connection(serve: Serving) -> None:
    """Connection: close from the application is heeded; anything else about the connection is not its to say."""
    with serve(answering("200 OK", ("Connection", "close"))) as server, serve.talk(server) as talker:
        assert talker.get().get("connection") == "close"
        assert talker.is_closed()
    with serve(answering("200 OK", ("Connection", "Keep-Alive"))) as server, serve.talk(server) as talker:
        assert talker.get().get("connection") is None
        assert talker.get("Connection: close").get("connection") == "close"
        assert talker.is_closed()


def test_a_last_response_arrives_whole_although_more_was_asked_for(serve_any: Serving) -> None:
    """A server that closes has its response read to the end by a client that has sent further requests already."""
    gate = Gate()
    large = b"x" * 500_000

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        list(gate(environ, lambda *_: None))
        start_response("200 OK", [("Content-Length", str(len(large))), ("Connection", "close")])
        return [large]

    with serve_any(app) as server, serve_any.talk(server) as client:
        client.request()
        gate.wait_for(1)
        # TLS reads a record ahead when it says farewell, so it takes more than one.
        client.request()
        client.request()
        gate.open.set()
        wait_for(lambda: server.connections_by_state().keys() <= {"lingering"})
        assert client.response().body == large
        assert client.is_closed()


# Responses.


@pytest.mark.parametrize(
    ("app", "length"),
    [
        (hello, "5"),
        (answering("200 OK", body=[b"hello"]), "5"),
        (answering("200 OK", ("Content-Length", "500"), body=[]), "500"),
        (answering("200 OK", body=[]), None),
        (answering("200 OK", body=[b""]), None),
        (answering("200 OK", body=lambda: iter([b"one", b"two"])), None),
    ],
)
def test_head_has_no_content(serve: Serving, app: Any, length: str | None) -> None:
    """The fields are those of GET, as far as they are known, and the connection is usable after them."""
    with serve(app) as server, serve.talk(server) as talker:
        for _ in range(2):
            talker.request(line="HEAD / HTTP/1.1")
            response = talker.response("HEAD")
            assert (response.status, response.get("content-length")) == (200, length)
            assert response.get("transfer-encoding") is None
            assert response.get("connection") is None


def test_head_does_not_wait_for_an_endless_response(serve: Serving) -> None:
    """Content that goes nowhere is not produced to its end, and the iterable is closed."""
    closed = threading.Event()

    def endless(_environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"more"
        finally:
            closed.set()

    with serve(endless) as server, serve.talk(server) as talker:
        talker.request(line="HEAD / HTTP/1.1")
        assert talker.response("HEAD").status == 200
        assert closed.wait(DEADLINE)


@pytest.mark.parametrize("body", [[], [b""], [b"content"], lambda: iter([b"con", b"tent"])])
@pytest.mark.parametrize(
    ("status", "fields", "length"),
    [
        ("204 No Content", (), None),
        ("204 No Content", (("Content-Length", "0"),), None),
        ("205 Reset Content", (), "0"),
        ("304 Not Modified", (), None),
        ("304 Not Modified", (("Content-Length", "500"),), "500"),
    ],
)
def test_statuses_without_content_have_none(
    serve: Serving, status: str, fields: tuple[tuple[str, str], ...], length: str | None, body: Any
) -> None:
    """204 has no length either, 205 has none of 0, and 304 the one of what it stands for (RFC 9110, 15)."""
    with serve(answering(status, *fields, body=body)) as server, serve.talk(server) as talker:
        for _ in range(2):
            response = talker.get()
            assert (response.status, response.get("content-length"), response.body) == (int(status[:3]), length, b"")
            assert response.get("transfer-encoding") is None


def test_content_of_unknown_length_is_chunked(serve_any: Serving) -> None:
    """Each piece that an application yields is a chunk, empty ones are none, and the connection is usable after."""
    app = answering("200 OK", body=[b"one", b"", b"two" * 10_000, b""])
    with serve_any(app) as server, serve_any.talk(server) as talker:
        for _ in range(2):
            response = talker.get()
            assert (response.get("transfer-encoding"), response.get("content-length")) == ("chunked", None)
            assert response.body == b"one" + b"two" * 10_000
        assert_usable(talker)


@pytest.mark.parametrize("body", [[], [b""], [b"", b""], lambda: iter([])])
def test_no_content_is_a_length_of_nothing(serve: Serving, body: Any) -> None:
    """An application that yields nothing gets Content-Length: 0, and the connection is usable after."""
    with serve(answering("200 OK", body=body)) as server, serve.talk(server) as talker:
        for _ in range(2):
            response = talker.get()
            assert (response.get("content-length"), response.get("transfer-encoding")) == ("0", None)


def test_pieces_arrive_as_they_are_yielded(serve_any: Serving) -> None:
    """No piece waits for the next (PEP 3333): the client has the first before the second is there."""
    received = threading.Event()

    def app(_environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "6")])
        yield b"one"
        assert received.wait(DEADLINE)
        yield b"two"

    with serve_any(app) as server, serve_any.talk(server) as talker:
        talker.request()
        file = talker._file
        while file.readline() != b"\r\n":
            pass
        assert file.read(3) == b"one"
        received.set()
        assert file.read(3) == b"two"


def test_the_server_adds_what_every_response_has(serve_tls: Serving) -> None:
    """Date and Server are added where the application has none, Strict-Transport-Security where it is configured."""
    settings = FrontSettings(hsts="max-age=60")
    with serve_tls(hello, settings=settings, server_name="here") as server, serve_tls.talk(server) as talker:
        response = talker.get()
        assert response.get("server") == "here"
        assert (response.get("date") or "").endswith(" GMT")
        assert response.get("strict-transport-security") == "max-age=60"
        talker.request("X_Y: z")
        assert talker.response().get("strict-transport-security") == "max-age=60"
    app = answering("200 OK", ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("sERVER", "there"), body=[b"x"])
    with serve_tls(app) as server, serve_tls.talk(server) as talker:
        response = talker.get()
        assert (response.get("date"), response.get("server")) == ("Thu, 01 Jan 1970 00:00:00 GMT", "there")
        assert response.get("strict-transport-security") is None


# Refusals.


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 5000, 413),
        (b"GET /" + b"a" * 1100, 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 1\r\n\r\nx", 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431),
        (b"FROBNICATE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ],
)
def test_refusals_say_why_in_one_line_and_close(serve_any: Serving, data: bytes, status: int) -> None:
    """What is refused never reaches the application; the client gets the status, one line of text, and an end."""
    settings = FrontSettings(max_request_line_size=1000, max_header_fields=20)
    limits = {"max_request_header_size": 4000, "max_request_body_size": 100}

    def never(_environ: Environ, _start_response: StartResponse) -> Iterable[bytes]:
        raise AssertionError("it reached the application")

    with serve_any(never, settings=settings, attributes=limits) as server, serve_any.talk(server) as talker:
        talker.send(data)
        response = talker.response()
        assert (response.status, response.get("connection")) == (status, "close")
        assert response.get("content-type") == "text/plain; charset=utf-8"
        assert response.body.endswith(b".\n")
        assert response.body.count(b"\n") == 1
        assert talker.is_closed()


@pytest.mark.parametrize("field", ["Host: elsewhere", "X_Y: z", "X : y"])
def test_head_is_refused_without_content(serve: Serving, field: str) -> None:
    """A refusal of HEAD has the length of its text, and not the text, whatever was wrong."""
    with serve(hello) as server, serve.talk(server) as talker:
        talker.request(field, line="HEAD / HTTP/1.1")
        response = talker.response("HEAD")
        assert response.status == 400
        assert int(response.get("content-length") or 0) > 0
        assert talker.is_closed()


def test_a_refused_body_may_still_be_on_its_way(serve_any: Serving) -> None:
    """A client that is in the middle of sending gets to read the answer, and no reset that destroys it."""
    with serve_any(hello, attributes={"max_request_body_size": 1000}) as server, serve_any.talk(server) as talker:
        talker.request("Content-Length: 500000", line="POST / HTTP/1.1", body=b"x" * 500_000)
        assert talker.response().status == 413


# Expectations (RFC 9110, 10.1.1).


def test_a_small_body_is_asked_for_before_the_application_runs(serve_any: Serving) -> None:
    """Expect: 100-continue with a body that will be gathered gets 100 at once, and then its answer."""
    with serve_any(echo) as server, serve_any.talk(server) as talker:
        for _ in range(2):
            talker.request("Expect: 100-continue", "Content-Length: 5", line="POST / HTTP/1.1")
            assert talker.response().status == 100
            talker.send(b"hello")
            assert talker.response().body == b"POST / hello"
        assert_usable(talker)


@pytest.mark.parametrize("line", ["Content-Length: 200000", "Transfer-Encoding: chunked"])
def test_a_large_body_is_asked_for_when_the_application_reads_it(serve_any: Serving, line: str) -> None:
    """The application sees the request first; 100 is sent with its first look at the body."""
    with serve_any(echo) as server, serve_any.talk(server) as talker:
        talker.request("Expect: 100-continue", line, line="POST / HTTP/1.1")
        assert talker.response().status == 100
        body = b"x" * 200_000
        talker.send(b"30d40\r\n" + body + b"\r\n0\r\n\r\n" if "chunked" in line else body)
        assert talker.response().body == b"POST / " + body
        assert talker.get("Connection: close").status == 200


@pytest.mark.parametrize("line", ["Content-Length: 200000", "Transfer-Encoding: chunked"])
def test_a_body_that_nobody_wants_is_never_asked_for(serve_any: Serving, line: str) -> None:
    """An application that answers without reading spares the client the sending; the connection then ends."""
    app = answering("403 Forbidden", body=[b"no"])
    with serve_any(app) as server, serve_any.talk(server) as talker:
        talker.request("Expect: 100-continue", line, line="POST / HTTP/1.1")
        response = talker.response()
        assert (response.status, response.body, response.get("connection")) == (403, b"no", "close")
        assert talker.is_closed()


def test_a_body_above_the_limit_is_refused_before_it_is_sent(serve: Serving) -> None:
    """413 takes the place of 100."""
    with serve(echo, attributes={"max_request_body_size": 1000}) as server, serve.talk(server) as talker:
        talker.request("Expect: 100-continue", "Content-Length: 1001", line="POST / HTTP/1.1")
        assert talker.response().status == 413
        assert talker.is_closed()


def test_who_does_not_wait_gets_no_100(serve: Serving) -> None:
    """A body that came with its head needs no invitation (RFC 9110, 10.1.1)."""
    with serve(echo) as server, serve.talk(server) as talker:
        talker.post(b"hello", "Expect: 100-continue")
        assert talker.response().body == b"POST / hello"
        assert_usable(talker)


def test_http_10_knows_no_expectations(serve: Serving) -> None:
    """Expect from an HTTP/1.0 client is ignored."""
    with serve(echo) as server, serve.talk(server) as talker:
        talker.request("Expect: 100-continue", "Content-Length: 5", line="POST / HTTP/1.0")
        talker.send(b"hello")
        assert talker.response().body == b"POST / hello"


# Upgrades.


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.2"])
def test_upgrades_are_ignored(serve: Serving, protocol: str) -> None:
    """A server may stay with HTTP/1.1, and this one does: the request is answered, body and all, and the next too."""
    with serve(echo) as server, serve.talk(server) as talker:
        talker.post(b"hello", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABk")
        assert talker.response().body == b"POST / hello"
        assert_usable(talker)


# The access log.


def test_every_response_is_logged_once(serve_tls: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """Answers of the application, its failures and refusals alike, with status, size and what TLS negotiated."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/fail":
            raise ValueError("no")
        return hello(environ, start_response)

    caplog.set_level(logging.INFO, "secureserve.access")
    with serve_tls(app, access_log=AccessLog()) as server:
        with serve_tls.talk(server) as talker:
            talker.request("User-Agent: test", "Referer: there", line="GET /a?b HTTP/1.1")
            assert talker.response().status == 200
            talker.request(line="HEAD / HTTP/1.1")
            assert talker.response("HEAD").status == 200
            talker.request(line="GET /fail HTTP/1.1")
            assert talker.response().status == 500
        with serve_tls.talk(server) as talker:
            talker.request("X_Y: z", line="POST / HTTP/1.1")
            refusal = talker.response()
            assert refusal.status == 400
        with socket.create_connection(server.bind_addr, timeout=DEADLINE) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answer = b"".join(iter(lambda: plain.recv(4096), b""))
    records: list[AccessRecord] = [
        vars(record)["access"] for record in caplog.records if record.name == "secureserve.access"
    ]
    # A response is logged when it has been sent, so the client may be at its next connection by then.
    assert sorted((record.method, record.target, record.status, record.bytes_sent) for record in records) == [
        ("", "", 400, len(answer.partition(b"\r\n\r\n")[2])),
        ("GET", "/a?b", 200, 5),
        ("GET", "/fail", 500, 42),
        ("HEAD", "/", 200, 0),
        ("POST", "/", 400, len(refusal.body)),
    ]
    first = records[0]
    assert (first.remote_addr, first.protocol, first.host) == ("127.0.0.1", "HTTP/1.1", "localhost")
    assert (first.user_agent, first.referer) == ("test", "there")
    assert first.tls is not None
    assert first.tls.version == "TLSv1.3"
