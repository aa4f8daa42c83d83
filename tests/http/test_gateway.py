"""Between the server and its application: PEP 3333 on a real server, and gateways of other kinds."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import sys
import threading
import wsgiref.validate
from typing import TYPE_CHECKING, Any

import cheroot.server
import cheroot.wsgi
import pytest

from secureserve.errors import ConfigurationError
from secureserve.front.listener import Listener
from secureserve.front.settings import FrontSettings
from secureserve.http.connection import HTTPConnection
from secureserve.http.request import HTTPRequest
from secureserve.http.server import HTTPServer
from tests.http.serving import DEADLINE, hello, running, wait_for
from tests.http.talking import Talker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.http.talking import Serving

StartResponse = Any
Environ = dict[str, Any]


class Trouble(Exception):
    """What the applications of these tests raise."""


class Closing:
    """An iterable that tells when it was closed."""

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self.pieces = pieces
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def close(self) -> None:
        """Take note; once is enough."""
        assert not self.closed.is_set()
        self.closed.set()


def reported(caplog: pytest.LogCaptureFixture) -> list[BaseException]:
    """Return what the application raised, as the log has it."""
    return [
        record.exc_info[1]
        for record in caplog.records
        if record.name == "secureserve.error" and record.exc_info and record.exc_info[1] is not None
    ]


# The environ.


def test_the_environ_says_what_was_asked(serve: Serving) -> None:
    """Paths are decoded but for slashes, queries and targets are not, and what a client cannot know is not there."""
    environs: list[Environ] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environs.append(environ)
        return hello(environ, start_response)

    with serve(app) as server, serve.talk(server) as talker:
        for target in ("/a%20b%2Fc/%C3%A9?d=%20", "http://localhost/x?y/z", "http://localhost?q/r", "/?"):
            talker.request("X-Thing: caf\xe9", line=f"GET {target} HTTP/1.1")
            assert talker.response().status == 200
        talker.request(line="OPTIONS * HTTP/1.1")
        assert talker.response().status == 200
        port = str(server.bind_addr[1])
    paths = [(environ["PATH_INFO"], environ["QUERY_STRING"]) for environ in environs]
    assert paths == [("/a b%2Fc/Ã©", "d=%20"), ("/x", "y/z"), ("/", "q/r"), ("/", ""), ("*", "")]
    environ = environs[0]
    assert environ["REQUEST_URI"] == "/a%20b%2Fc/%C3%A9?d=%20"
    assert environ["HTTP_X_THING"] == "caf\xe9"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", port)
    assert (environ["REMOTE_ADDR"], environ["SCRIPT_NAME"]) == ("127.0.0.1", "")
    assert (environ["SERVER_PROTOCOL"], environ["wsgi.url_scheme"]) == ("HTTP/1.1", "http")
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.errors"] is not None
    assert type(environ) is dict
    assert "REMOTE_HOST" not in environ
    assert "HTTP_PROXY" not in environ


def test_requests_do_not_share_an_environ(serve: Serving) -> None:
    """What an application leaves in its environ is not there for the next request of the connection."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        assert "left" not in environ
        environ["left"] = True
        environ["SCRIPT_NAME"] = "/left"
        return hello(environ, start_response)

    with serve(app) as server, serve.talk(server) as talker:
        assert [talker.get().status for _ in range(3)] == [200] * 3


def test_errors_go_where_they_go_at_the_time_of_the_request(serve_any: Serving) -> None:
    """A stream that stood in for standard error, and was closed since, is given to nobody any more."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.errors"].write(environ["PATH_INFO"])
        return hello(environ, start_response)

    with serve_any(app) as server, serve_any.talk(server) as kept:
        for _ in range(2):
            with io.StringIO() as stream, contextlib.redirect_stderr(stream), serve_any.talk(server) as talker:
                assert [kept.get().status, talker.get().status] == [200, 200]
                assert stream.getvalue() == "//"


def test_the_validator_finds_nothing_to_complain_about(serve_tls: Serving) -> None:
    """Every rule of PEP 3333 that wsgiref.validate knows is kept over TLS, for all that a server may be asked."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        body = environ["wsgi.input"]
        lines = [body.readline(), *body, body.read(1)]
        assert body.readlines() == []
        strings = [value for name, value in environ.items() if name.isupper() and "." not in name]
        assert all(type(value) is str for value in strings)
        assert environ["wsgi.url_scheme"] == "https"
        assert environ["SSL_PROTOCOL"].startswith("TLSv1.")
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"".join(lines)

    with serve_tls(wsgiref.validate.validator(app)) as server, serve_tls.talk(server) as talker:
        assert talker.get().body == b""
        talker.post(b"one\ntwo\nthree")
        assert talker.response().body == b"one\ntwo\nthree"
        large = b"line\n" * 50_000
        talker.post(large)
        assert talker.response().body == large
        talker.request("Transfer-Encoding: chunked", line="PUT / HTTP/1.1", body=b"3\r\na\nb\r\n0\r\n\r\n")
        assert talker.response().body == b"a\nb"
        talker.request(line="HEAD / HTTP/1.1")
        assert talker.response("HEAD").status == 200
        talker.request("Connection: keep-alive", line="GET / HTTP/1.0")
        assert talker.response().status == 200


def test_a_write_kept_beyond_its_response_writes_nothing(serve_any: Serving) -> None:
    """Nothing gets between the responses of a connection, or into the next one, and the application is told."""
    kept: list[Any] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if not kept:
            kept.append(start_response("200 OK", []))
            return [b"one", b"two"]
        with pytest.raises(ValueError, match="4 bytes more than it declared"):
            kept[0](b"late")
        return hello(environ, start_response)

    with serve_any(app) as server, serve_any.talk(server) as talker:
        assert [talker.get().body, talker.get().body] == [b"onetwo", b"hello"]


# Applications that fail.


def fails_before(_environ: Environ, _start_response: StartResponse) -> Iterable[bytes]:
    """Raise before start_response."""
    raise Trouble


def fails_after(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Raise after start_response."""
    start_response("200 OK", [("Content-Length", "5")])
    raise Trouble


def fails_at_first(_environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Raise before there is content."""
    start_response("200 OK", [("X-Lost", "yes")])
    yield b""
    raise Trouble


def says_nothing(_environ: Environ, _start_response: StartResponse) -> Iterable[bytes]:
    """Return without start_response."""
    return []


def yields_first(_environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Yield content before start_response."""
    yield b"content"
    start_response("200 OK", [])


def yields_text(_environ: Environ, start_response: StartResponse) -> Iterable[Any]:
    """Yield what is not bytes."""
    start_response("200 OK", [])
    return ["text"]


def yields_nothing_iterable(_environ: Environ, start_response: StartResponse) -> Any:
    """Return what cannot be iterated."""
    start_response("200 OK", [])


def starts_twice(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Call start_response twice, for no reason."""
    start_response("200 OK", [])
    start_response("201 Created", [])
    return [b"content"]


def says_too_little(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Declare content and have none."""
    start_response("200 OK", [("Content-Length", "5")])
    return []


def says_too_much(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Have more content than declared."""
    start_response("200 OK", [("Content-Length", "5")])
    return [b"too much"]


def has_bytes_for_status(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Give a status that is no str."""
    start_response(b"200 OK", [])
    return []


def has_bytes_for_fields(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Give a field that is no str."""
    start_response("200 OK", [(b"X", b"y")])
    return []


def is_interrupted(_environ: Environ, _start_response: StartResponse) -> Iterable[bytes]:
    """Raise what is no Exception."""
    raise GeneratorExit


def loses_its_own_connection(_environ: Environ, _start_response: StartResponse) -> Iterable[bytes]:
    """Raise an error of a connection which is not the client's."""
    raise ConnectionRefusedError("the database")


def runs_out(_environ: Environ, _start_response: StartResponse) -> Iterable[bytes]:
    """Raise what means the end of an iteration."""
    raise StopIteration


FAILURES = [
    fails_before,
    fails_after,
    fails_at_first,
    says_nothing,
    yields_first,
    yields_text,
    yields_nothing_iterable,
    starts_twice,
    says_too_little,
    says_too_much,
    has_bytes_for_status,
    has_bytes_for_fields,
    is_interrupted,
    loses_its_own_connection,
    runs_out,
]


@pytest.mark.parametrize("app", FAILURES)
def test_an_application_that_fails_before_its_response_begins_is_a_500(
    serve: Serving, app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is told, nothing of the failed response leaks into the answer, and the log has the traceback."""
    with serve(app) as server:
        with serve.talk(server) as talker:
            response = talker.get()
            assert (response.status, response.get("connection")) == (500, "close")
            assert response.get("x-lost") is None
            assert response.body == b"The server failed to answer this request.\n"
            assert talker.is_closed()
        with serve.talk(server) as talker:
            assert talker.get().status == 500, "it cost the next client something"
        assert len(reported(caplog)) >= 1


def test_an_application_that_fails_in_the_middle_breaks_the_connection(
    serve_any: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """A client cannot take half a response for a whole one, with chunks, with a length, and without either."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "10")] if environ["PATH_INFO"] == "/length" else [])
        yield b"half"
        raise Trouble

    lines = ("GET / HTTP/1.1", "GET /length HTTP/1.1", "GET / HTTP/1.0")
    with serve_any(app) as server:
        for line in lines:
            with serve_any.talk(server) as talker:
                talker.request(line=line)
                with pytest.raises((EOFError, OSError)):
                    talker.response()
    assert [type(error) for error in reported(caplog)] == [Trouble] * len(lines)


def test_content_that_ends_too_early_breaks_the_connection(serve: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """Less content than declared is the application's failure, and the client is not left waiting for the rest."""

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        return [b"half", b""]

    with serve(app) as server, serve.talk(server) as talker:
        talker.request()
        with pytest.raises((EOFError, OSError)):
            talker.response()
    assert "4 of the 10 bytes" in str(reported(caplog)[0])


def test_content_beyond_the_declared_length_is_not_sent(serve: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets the whole that was declared and an orderly end; the excess is the application's failure."""

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hel", b"lo, world", b"!"]

    with serve(app) as server, serve.talk(server) as talker:
        assert talker.get().body == b"hello"
        assert talker.is_closed()
    assert "7 bytes more" in str(reported(caplog)[0])


def test_what_close_raises_does_not_hurt_the_response(serve: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """The response is whole, the connection usable, and the log has the error."""

    class Troubled(Closing):
        def close(self) -> None:
            raise Trouble

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Troubled([b"one", b"two"])

    with serve(app) as server, serve.talk(server) as talker:
        assert talker.get().body == b"onetwo"
        assert talker.get().body == b"onetwo"
    assert {type(error) for error in reported(caplog)} == {Trouble}


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "HEAD / HTTP/1.1", "GET /fail HTTP/1.1"])
def test_the_iterable_is_closed_in_every_case(serve: Serving, line: str) -> None:
    """Whether the content was sent, not wanted or failed, close() is called once."""
    responses: list[Closing] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        def pieces() -> Iterator[bytes]:
            yield b"content"
            if environ["PATH_INFO"] == "/fail":
                raise Trouble

        start_response("200 OK", [("Content-Length", "7")])
        responses.append(Closing(pieces()))
        return responses[-1]

    with serve(app) as server, serve.talk(server) as talker:
        talker.request(line=line)
        talker.response(line.partition(" ")[0])
        assert responses[0].closed.wait(DEADLINE)


def test_the_iterable_is_closed_when_the_client_goes_away(serve_any: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """Sending to a client that is gone fails in the application's hands, ends the response, and is nobody's error."""
    response = Closing(b"x" * 65536 for _ in range(10_000))

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return response

    with serve_any(app) as server:
        with serve_any.talk(server) as talker:
            talker.request()
            talker.sock.recv(1000)
            talker.reset()
        assert response.closed.wait(DEADLINE)
    assert reported(caplog) == []


def test_a_reader_that_is_too_slow_is_broken_off(serve_any: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """More than is held for a slow reader waits for it at a minimum rate; then the response ends, and is counted."""
    response = Closing(b"x" * 65536 for _ in range(10_000))

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return response

    settings = FrontSettings(max_buffered_response_size=65536, write_timeout=0.1, min_write_rate=10**9)
    with serve_any(app, settings=settings) as server, serve_any.talk(server) as talker:
        talker.request()
        assert response.closed.wait(DEADLINE)
        with pytest.raises((EOFError, OSError)):
            talker.response()
        wait_for(lambda: server.totals().refused.get("slow_reader") == 1)
    assert reported(caplog) == []


# start_response and write.


def test_an_error_page_may_replace_a_response_that_has_not_begun(serve: Serving) -> None:
    """With exc_info, a second start_response takes the place of the first, its fields and all."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("X-First", "yes"), ("Content-Length", "500")])
        try:
            fails_before(environ, start_response)
        except Trouble:
            start_response("503 Service Unavailable", [("X-Second", "yes")], sys.exc_info())
        return [b"later"]

    with serve(app) as server, serve.talk(server) as talker:
        for _ in range(2):
            response = talker.get()
            assert (response.status, response.body) == (503, b"later")
            assert (response.get("x-first"), response.get("x-second")) == (None, "yes")


def test_an_error_page_may_not_replace_a_response_that_has_begun(
    serve: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """With exc_info after content was sent, start_response raises that very error."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"content"
        try:
            fails_before(environ, start_response)
        except Trouble:
            start_response("500 Internal Server Error", [], sys.exc_info())
        yield b"more"

    with serve(app) as server, serve.talk(server) as talker:
        talker.request()
        with pytest.raises((EOFError, OSError)):
            talker.response()
    assert type(reported(caplog)[0]) is Trouble


def test_content_may_be_written_as_well_as_yielded(serve: Serving) -> None:
    """write() comes first, and what the application returns comes after."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        fields = [("Content-Length", "11")] if environ["PATH_INFO"] == "/length" else []
        write = start_response("200 OK", fields)
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"end"]

    with serve(app) as server, serve.talk(server) as talker:
        for path in ("/", "/length"):
            talker.request(line=f"GET {path} HTTP/1.1")
            assert talker.response().body == b"one two end"


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("200 OK\r\nX-Injected: yes", []),
        ("200 OK\nX-Injected: yes", []),
        ("200", []),
        ("200OK", []),
        ("", []),
        ("100 Continue", []),
        ("101 Switching Protocols", []),
        ("999 Odd", []),
        ("200 \u20ac", []),
        ("200 OK", [("X", "y\r\nX-Injected: yes")]),
        ("200 OK", [("X", "y\nX-Injected: yes")]),
        ("200 OK", [("X", "y\rX-Injected: yes")]),
        ("200 OK", [("X", "y\x00")]),
        ("200 OK", [("X", "\u20ac")]),
        ("200 OK", [("X: y\r\nX-Injected", "yes")]),
        ("200 OK", [("X-Injected : x", "y")]),
        ("200 OK", [("", "y")]),
        ("200 OK", [("X\xe9", "y")]),
        ("200 OK", [("Transfer-Encoding", "chunked")]),
        ("200 OK", [("transfer-encoding", "gzip")]),
        ("200 OK", [("Upgrade", "websocket")]),
        ("200 OK", [("Keep-Alive", "timeout=1000")]),
        ("200 OK", [("Content-Length", "+5")]),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "five")]),
        ("200 OK", [("Content-Length", "5"), ("Content-Length", "6")]),
    ],
)
def test_a_head_that_would_break_the_response_is_refused(serve: Serving, status: str, fields: Any) -> None:
    """start_response raises while the application runs (PEP 3333), and the client sees 500 and nothing injected."""
    raised = []

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            start_response(status, [("X-Good", "yes"), *fields])
        except ValueError as error:
            raised.append(error)
            raise
        return [b"hello"]

    with serve(app) as server, serve.talk(server) as talker:
        response = talker.get()
        assert response.status == 500
        assert response.get("x-injected") is None
        assert talker.is_closed()
    assert len(raised) == 1


def test_fields_may_have_what_fields_may_have(serve: Serving) -> None:
    """Repeated fields stay apart and in order, obs-text and tabs pass, and equal lengths are one."""
    fields = [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("X", "caf\xe9\tau lait"), ("content-length", "5")]
    fields.append(("Content-Length", "5"))

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("299 Any thing goes", fields)
        return [b"hello"]

    with serve(app) as server, serve.talk(server) as talker:
        for _ in range(2):
            response = talker.get()
            assert response.status == 299
            assert response.all("set-cookie") == ["a=b", "c=d"]
            assert response.get("x") == "caf\xe9\tau lait"
            assert response.get("content-length") == "5"


# Files.


class File(io.BytesIO):
    """A file that tells when it was closed."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.was_closed = threading.Event()

    def close(self) -> None:
        """Take note."""
        super().close()
        self.was_closed.set()


def serving_file(files: list[File], content: bytes, *fields: tuple[str, str]) -> Callable[..., Iterable[bytes]]:
    """Return an application that answers with a file of its own each time."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/hello":
            return hello(environ, start_response)
        files.append(File(content))
        start_response("200 OK", list(fields))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](files[-1], 8192)
        return wrapped

    return app


CONTENT = bytes(range(256)) * 4000
LENGTH = ("Content-Length", str(len(CONTENT)))


@pytest.mark.parametrize("fields", [(LENGTH,), ()])
def test_a_file_is_sent_and_closed(serve_any: Serving, fields: tuple[tuple[str, str], ...]) -> None:
    """With a length and without, every byte arrives, the file is closed, and the connection is usable after."""
    files: list[File] = []
    with serve_any(serving_file(files, CONTENT, *fields)) as server, serve_any.talk(server) as talker:
        for number in range(2):
            assert talker.get().body == CONTENT
            assert files[number].was_closed.wait(DEADLINE)


@pytest.mark.parametrize("fields", [(LENGTH,), ()])
def test_a_file_that_nobody_wants_is_closed(serve: Serving, fields: tuple[tuple[str, str], ...]) -> None:
    """HEAD gets the fields, and the file is closed."""
    files: list[File] = []
    with serve(serving_file(files, CONTENT, *fields)) as server, serve.talk(server) as talker:
        talker.request(line="HEAD / HTTP/1.1")
        assert talker.response("HEAD").get("content-length") == (str(len(CONTENT)) if fields else None)
        assert files[0].was_closed.wait(DEADLINE)
        assert talker.get("Connection: close").body == CONTENT


def test_a_file_is_closed_when_the_client_goes_away(serve_any: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """A client that takes only the beginning costs no open file, and is nobody's error."""
    files: list[File] = []
    large = CONTENT * 20
    app = serving_file(files, large, ("Content-Length", str(len(large))))
    with serve_any(app) as server:
        with serve_any.talk(server) as talker:
            talker.request()
            assert talker.sock.recv(1000)
            talker.reset()
        assert files[0].was_closed.wait(DEADLINE)
    assert reported(caplog) == []


def test_a_file_is_closed_when_the_server_stops(serve: Serving) -> None:
    """A file whose peer never reads does not outlive the server."""
    files: list[File] = []
    large = CONTENT * 20
    app = serving_file(files, large, ("Content-Length", str(len(large))))
    with serve(app, shutdown_timeout=0.1) as server, serve.talk(server) as talker:
        talker.request()
        assert talker.sock.recv(1000)
        server.stop()
        assert files[0].was_closed.is_set()


def test_a_slow_reader_of_a_file_holds_no_worker_thread(serve_any: Serving) -> None:
    """With one worker thread and a peer that does not read its file, others are served."""
    files: list[File] = []
    large = CONTENT * 20
    app = serving_file(files, large, ("Content-Length", str(len(large))))
    with serve_any(app, numthreads=1) as server, serve_any.talk(server) as slow:
        slow.request()
        assert slow.sock.recv(1)
        with serve_any.talk(server) as talker:
            talker.request(line="GET /hello HTTP/1.1")
            assert talker.response().body == b"hello"
        assert not files[0].was_closed.is_set()


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_file_that_fails_breaks_the_connection(
    serve: Serving, caplog: pytest.LogCaptureFixture, is_closed: bool
) -> None:
    """A file that is shorter than declared, or cannot be read, is the application's failure."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        file = io.BytesIO(b"short")
        if is_closed:
            file.close()
        start_response("200 OK", [("Content-Length", "10")])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped

    with serve(app) as server:
        with serve.talk(server) as talker:
            talker.request()
            with pytest.raises((EOFError, OSError)):
                talker.response()
        wait_for(lambda: len(reported(caplog)) == 1)


def test_a_file_may_be_wrapped_by_middleware(serve: Serving) -> None:
    """Wrapped in an iterable of another kind, a file is sent all the same, and closed."""
    files: list[File] = []
    inner = serving_file(files, CONTENT, LENGTH)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        wrapped = inner(environ, start_response)
        closing = Closing(wrapped)
        closing.close = wrapped.close  # type: ignore[method-assign, attr-defined]
        return closing

    with serve(app) as server, serve.talk(server) as talker:
        assert talker.get().body == CONTENT
        assert files[0].was_closed.wait(DEADLINE)


# Gateways and extension points.


class NativeGateway(cheroot.server.Gateway):  # type: ignore[misc]
    """A gateway as it is written for cheroot, with no WSGI in it."""

    def respond(self) -> None:
        """Answer with what was asked."""
        request = self.req
        if request.path == b"/fail":
            raise Trouble
        body = request.rfile.read()
        request.status = b"200 OK"
        request.outheaders.append((b"Content-Type", b"text/plain"))
        if request.qs == b"length":
            request.outheaders.append((b"Content-Length", str(len(body) + 5).encode()))
        request.ensure_headers_sent()
        assert request.conn.remote_addr == "127.0.0.1"
        assert request.inheaders[b"X-Thing"] == b"one, two"
        request.write(request.method + b" ")
        request.write(body)


def test_a_native_gateway_works_unchanged(serve_any: Serving) -> None:
    """A gateway written for cheroot reads our request and writes its response, with chunks or a length."""
    lines = ("X-Thing: one", "x-thing: two")
    with serve_any(None, attributes={"gateway": NativeGateway}) as server, serve_any.talk(server) as talker:
        talker.request("Content-Length: 5", *lines, line="POST / HTTP/1.1", body=b"hello")
        response = talker.response()
        assert (response.body, response.get("transfer-encoding")) == (b"POST hello", "chunked")
        talker.request("Content-Length: 5", *lines, line="POST /?length HTTP/1.1", body=b"hello")
        assert talker.response().get("content-length") == "10"
        talker.request(line="GET /fail HTTP/1.1")
        assert talker.response().status == 500
        assert talker.is_closed()


def test_a_native_gateway_may_answer_in_one_call(serve: Serving) -> None:
    """simple_response sends a whole response, after which the connection ends."""

    class Simple(cheroot.server.Gateway):  # type: ignore[misc]
        def respond(self) -> None:
            self.req.simple_response("418 I'm a Teapot", "short and stout\n")
            self.req.write(b"and nothing more")

    with serve(None, attributes={"gateway": Simple}) as server, serve.talk(server) as talker:
        response = talker.get()
        assert (response.status, response.body, response.get("connection")) == (418, b"short and stout\n", "close")
        assert talker.is_closed()


def test_a_native_gateway_that_says_nothing_is_a_500(serve: Serving) -> None:
    """A response without a status is none."""

    class Silent(cheroot.server.Gateway):  # type: ignore[misc]
        def respond(self) -> None:
            return

    with serve(None, attributes={"gateway": Silent}) as server, serve.talk(server) as talker:
        assert talker.get().status == 500


def test_cheroots_own_gateways_work(serve: Serving) -> None:
    """Gateway_u0, which makes its own environ and writes in its own way, works on our request."""
    environs: list[Environ] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environs.append(environ)
        if environ["PATH_INFO"] == "/fail":
            raise Trouble
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hel", b"lo"]

    gateway = cheroot.wsgi.Gateway_u0
    with serve(app, attributes={"gateway": gateway}) as server, serve.talk(server) as talker:
        for _ in range(2):
            talker.request("X-Thing: one", line="GET /%C3%A9 HTTP/1.1")
            assert talker.response().body == b"hello"
        assert environs[0]["PATH_INFO"] == "/é"
        assert environs[0]["HTTP_X_THING"] == "one"
        talker.request(line="GET /fail HTTP/1.1")
        assert talker.response().status == 500


def test_several_applications_share_a_server(serve: Serving) -> None:
    """The PathInfoDispatcher of cheroot is a WSGI application like any other."""

    def where(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()]

    with serve(cheroot.wsgi.PathInfoDispatcher({"/blog": where})) as server, serve.talk(server) as talker:
        talker.request(line="GET /blog/post HTTP/1.1")
        assert talker.response().body == b"/blog|/post"
        assert talker.get().status == 404
        assert talker.get("Connection: close").status == 404


def test_requests_and_connections_may_be_of_derived_classes(serve: Serving) -> None:
    """A server takes subclasses of our connection and request, and no other server is affected."""

    class Request(HTTPRequest):
        def respond(self) -> None:
            self.server.seen.append(self.uri)
            super().respond()

    class Connection(HTTPConnection):
        RequestHandlerClass = Request

    seen: list[bytes] = []
    attributes = {"ConnectionClass": Connection, "seen": seen}
    with serve(hello, attributes=attributes) as server, serve.talk(server) as talker:
        assert talker.get().body == b"hello"
    assert seen == [b"/"]
    assert HTTPConnection.RequestHandlerClass is HTTPRequest


def test_classes_of_cheroots_own_are_refused() -> None:
    """A connection or request class that reads sockets itself cannot work here, and the start says so."""
    server = HTTPServer(("127.0.0.1", 0), hello)
    server.ConnectionClass = cheroot.server.HTTPConnection
    with pytest.raises(ConfigurationError, match=r"ConnectionClass.*Derive it from .*HTTPConnection"):
        server.prepare()

    class Connection(HTTPConnection):
        RequestHandlerClass = cheroot.server.HTTPRequest

    server.ConnectionClass = Connection
    with pytest.raises(ConfigurationError, match=r"RequestHandlerClass.*Derive it from .*HTTPRequest"):
        server.prepare()


def test_failures_are_logged_at_error_level(serve: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """The log says which request it was, with the application's traceback."""
    with serve(fails_before) as server, serve.talk(server) as talker:
        assert talker.get().status == 500
    (record,) = [record for record in caplog.records if record.name == "secureserve.error"]
    assert record.levelno == logging.ERROR
    assert "GET /" in record.getMessage()
    assert "fails_before" in caplog.text


def test_the_port_is_the_one_that_the_client_came_to() -> None:
    """With several listeners, SERVER_PORT is that of the connection's own."""

    def tell(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["SERVER_PORT"].encode()]

    listeners = [listener for _ in range(2) for listener in Listener.bind(("127.0.0.1", 0))]
    with running(tell, listeners=listeners) as server:
        for listener in server.listeners:
            address = listener.sock.getsockname()
            with socket.create_connection(address, DEADLINE) as sock:
                talker = Talker(sock)
                assert talker.get().body == str(address[1]).encode()
    for listener in listeners:
        listener.close()
