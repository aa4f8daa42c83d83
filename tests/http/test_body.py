"""Request bodies: whole however slowly they come, and an error where they are not whole."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.errors import BodyTruncated
from secureserve.front.settings import FrontSettings
from secureserve.testing.clock import ManualClock
from tests.http.serving import DEADLINE

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable

    from tests.http.talking import Serving, Talker

StartResponse = Any
Environ = dict[str, Any]

LARGE = bytes(range(256)) * 1200
"""More than is gathered before the application runs."""


def chunks(content: bytes, size: int = 5000) -> bytes:
    """Return content in chunks."""
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Reading:
    """An application that reads its body and tells how that went.

    Args:
        read: How it reads.
    """

    def __init__(self, read: Callable[[Any], bytes] = lambda body: body.read()) -> None:
        self._read = read
        self.calls = 0
        self.started = threading.Event()
        self.errors: list[BaseException] = []
        self.bodies: list[bytes] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Read, and answer with a digest."""
        self.calls += 1
        self.started.set()
        try:
            body = self._read(environ["wsgi.input"])
        except BaseException as error:
            self.errors.append(error)
            raise
        self.bodies.append(body)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [hashlib.sha256(body).hexdigest().encode()]


def digest(body: bytes) -> bytes:
    """Return what `Reading` answers."""
    return hashlib.sha256(body).hexdigest().encode()


def post(size: int) -> bytes:
    """Return the head of a request with content of a size."""
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size


CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


# Whole bodies.


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_comes_after_a_pause_is_whole(serve_any: Serving, content: bytes, is_chunked: bool) -> None:
    """Half a body, a while in which others are served, and the other half: the application gets it all."""
    app = Reading()
    head, body = (CHUNKED, chunks(content)) if is_chunked else (post(len(content)), content)
    with serve_any(app) as server, serve_any.talk(server) as talker:
        for _ in range(2):
            talker.send(head)
            for piece in (body[: len(body) // 2], body[len(body) // 2 :]):
                with serve_any.talk(server) as other:
                    other.post(b"x")
                    assert other.response().body == digest(b"x")
                talker.send(piece)
            assert talker.response().body == digest(content)


def test_a_small_body_takes_no_thread_before_it_is_whole(serve: Serving) -> None:
    """With one worker thread, a client that pauses in a small body keeps nobody waiting."""
    app = Reading()
    with serve(app, numthreads=1) as server, serve.talk(server) as talker:
        talker.send(post(10), b"hello")
        with serve.talk(server) as other:
            other.post(b"x")
            assert other.response().body == digest(b"x")
        assert app.calls == 1
        talker.send(b"world")
        assert talker.response().body == digest(b"helloworld")


def _by_lines(body: io.BufferedReader) -> bytes:
    return b"".join(body)


def _by_line_pieces(body: io.BufferedReader) -> bytes:
    return b"".join(iter(lambda: body.readline(100), b""))


def _in_blocks(body: io.BufferedReader) -> bytes:
    return b"".join(iter(lambda: body.read(70_000), b""))


def _into_a_buffer(body: io.BufferedReader) -> bytes:
    found, buffer = b"", bytearray(9999)
    while size := body.readinto(buffer):
        found += buffer[:size]
    return found


def _lines_and_the_rest(body: io.BufferedReader) -> bytes:
    return body.readline() + b"".join(body.readlines(1000)) + body.read(1) + body.read() + body.read() + body.readline()


@pytest.mark.parametrize("read", [_by_lines, _by_line_pieces, _in_blocks, _into_a_buffer, _lines_and_the_rest])
@pytest.mark.parametrize("content", [b"one\ntwo\n\nthree", LARGE, b""], ids=["small", "large", "none"])
def test_every_way_of_reading_gives_the_whole(serve: Serving, read: Any, content: bytes) -> None:
    """wsgi.input is a file: lines, blocks and buffers all add up to the same body, and then it is at its end."""
    app = Reading(read)
    with serve(app) as server, serve.talk(server) as talker:
        talker.post(content)
        assert talker.response().body == digest(content)
        talker.send(CHUNKED, chunks(content))
        assert talker.response().body == digest(content)


def test_trailers_do_not_get_in_the_way(serve_any: Serving) -> None:
    """Trailers of small and large bodies are read, and the connection is usable after them."""
    app = Reading()
    with serve_any(app) as server, serve_any.talk(server) as talker:
        for content in (b"small", LARGE):
            body = chunks(content)[:-2] + b"X-Checksum: none\r\nX-More: yes\r\n\r\n"
            talker.send(CHUNKED, body)
            assert talker.response().body == digest(content)
        talker.post(b"next")
        assert talker.response().body == digest(b"next")


def test_requests_behind_a_large_body_are_served(serve_any: Serving) -> None:
    """What is pipelined behind a body that the application streams is the next request."""
    with serve_any(Reading()) as server, serve_any.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE, CHUNKED, chunks(LARGE), post(4), b"last")
        assert talker.response().body == digest(LARGE)
        assert talker.response().body == digest(LARGE)
        assert talker.response().body == digest(b"last")


def test_a_request_in_the_record_that_ends_a_large_body_is_served(serve_any: Serving) -> None:
    """What the body's last TLS record has behind it waits inside the library, where no selector tells of it."""
    with serve_any(Reading()) as server, serve_any.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE[:-100])
        talker.send(LARGE[-100:] + post(4) + b"last")
        assert talker.response().body == digest(LARGE)
        assert talker.response().body == digest(b"last")


def test_megabytes_arrive_bit_for_bit(serve_any: Serving) -> None:
    """A body of 8 MB is the same on both sides, there and back."""
    content = hashlib.shake_128(b"body").digest(8_000_000)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        pieces = list(iter(lambda: environ["wsgi.input"].read(65_536), b""))
        start_response("200 OK", [("Content-Length", environ["CONTENT_LENGTH"])])
        return pieces

    with serve_any(app) as server, serve_any.talk(server) as talker:
        for _ in range(2):
            talker.post(content)
            assert talker.response().body == content


def test_an_application_may_take_its_time(serve: Serving) -> None:
    """What the application does between two reads is not held against the client."""
    clock = ManualClock()
    has_paused = threading.Event()

    def read(body: io.BufferedReader) -> bytes:
        first = body.read(10)
        clock.advance(10_000)
        has_paused.set()
        return first + body.read()

    settings = FrontSettings(read_body_timeout=DEADLINE, min_body_rate=0)
    with serve(Reading(read), settings=settings, clock=clock) as server, serve.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE[:200_000])
        assert has_paused.wait(DEADLINE)
        talker.send(LARGE[200_000:])
        assert talker.response().body == digest(LARGE)


# Bodies that are not whole.


def _end(talker: Talker) -> None:
    talker.sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("data", [post(10) + b"hello", CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhel"])
def test_a_small_body_that_ends_early_never_reaches_the_application(serve: Serving, data: bytes) -> None:
    """What was announced and did not come is no request."""
    app = Reading()
    with serve(app) as server, serve.talk(server) as talker:
        talker.send(data)
        _end(talker)
        assert talker.is_closed()
        assert app.calls == 0


@pytest.mark.parametrize(
    "data", [post(len(LARGE) + 1) + LARGE, CHUNKED + chunks(LARGE)[:-5], CHUNKED + chunks(LARGE)[:-100]]
)
@pytest.mark.parametrize("read", [lambda body: body.read(), _by_lines, _in_blocks, _lines_and_the_rest])
def test_a_large_body_that_ends_early_is_an_error(serve: Serving, data: bytes, read: Any) -> None:
    """However the application reads, it gets an OSError and never a clean, shorter body; the client gets 400."""
    app = Reading(read)
    with serve(app) as server, serve.talk(server) as talker:
        talker.send(data)
        _end(talker)
        response = talker.response()
        assert (response.status, response.get("connection")) == (400, "close")
        assert talker.is_closed()
    assert app.bodies == []
    assert isinstance(app.errors[0], BodyTruncated)
    assert isinstance(app.errors[0], OSError)


def test_a_large_body_that_breaks_off_is_an_error(serve_any: Serving) -> None:
    """A connection that is reset in the middle of a body is an error to the application too."""
    app = Reading()
    with serve_any(app) as server:
        with serve_any.talk(server) as talker:
            talker.send(post(len(LARGE) + 1), LARGE)
            assert app.started.wait(DEADLINE)
            talker.reset()
        server.stop()
    assert app.bodies == []
    assert isinstance(app.errors[0], BodyTruncated)


def test_a_truncated_stream_is_no_end_of_a_body(serve_tls: Serving) -> None:
    """Under TLS the end of TCP without close_notify is an error as well, and close_notify is no end of a body."""
    app = Reading()
    with serve_tls(app) as server:
        for say_goodbye in (False, True):
            app.started.clear()
            with serve_tls.talk(server) as talker:
                talker.send(post(len(LARGE) + 1), LARGE)
                assert app.started.wait(DEADLINE)
                if say_goodbye:
                    with contextlib.suppress(OSError):
                        # The server's answer comes before its own close_notify.
                        talker.sock.unwrap()  # type: ignore[attr-defined]
        server.stop()
    assert app.bodies == []
    assert [type(error) for error in app.errors] == [BodyTruncated] * 2


@pytest.mark.parametrize(
    "end", [b"nonsense\r\n", b"5\r\nhello!\r\n", b"\r\n", b"0\r\nX\r\n\r\n", b"0\r\nX_Y: z\r\n\r\n", b"-1\r\n"]
)
def test_a_large_body_that_is_malformed_is_an_error(serve_any: Serving, end: bytes) -> None:
    """Chunks that make no sense are an error to the application, and 400 to the client."""
    app = Reading()
    with serve_any(app) as server, serve_any.talk(server) as talker:
        talker.send(CHUNKED, chunks(LARGE)[:-5])
        assert app.started.wait(DEADLINE)
        talker.send(end)
        response = talker.response()
        assert (response.status, response.get("connection")) == (400, "close")
        assert talker.is_closed()
    assert app.bodies == []
    assert type(app.errors[0]) is BodyTruncated


def test_chunks_above_the_limit_are_413(serve: Serving) -> None:
    """A body whose size nobody declared is refused when it has become too large."""
    app = Reading()
    with serve(app, attributes={"max_request_body_size": 200_000}) as server, serve.talk(server) as talker:
        talker.send(CHUNKED, chunks(LARGE))
        assert talker.response().status == 413
    assert type(app.errors[0]) is BodyTruncated


def test_a_large_body_that_comes_too_slowly_is_408(serve_any: Serving) -> None:
    """A client that stops sending has the time that it is granted, and no more."""
    app = Reading()
    settings = FrontSettings(read_body_timeout=0.1, min_body_rate=1_000_000)
    with serve_any(app, settings=settings) as server, serve_any.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE[:200_000])
        response = talker.response()
        assert (response.status, response.get("connection")) == (408, "close")
        assert talker.is_closed()
    assert type(app.errors[0]) is BodyTruncated


def test_a_small_body_that_comes_too_slowly_is_408(serve_any: Serving) -> None:
    """The same holds before the application runs, which it then never does."""
    app = Reading()
    settings = FrontSettings(read_body_timeout=0.1)
    with serve_any(app, settings=settings) as server, serve_any.talk(server) as talker:
        talker.send(post(10), b"hello")
        assert talker.response().status == 408
        assert talker.is_closed()
    assert app.calls == 0


def test_an_error_stays_an_error(serve: Serving) -> None:
    """An application that reads again after the error gets the error again, and no end of the file."""

    def read(body: io.BufferedReader) -> bytes:
        for _ in range(3):
            with pytest.raises(BodyTruncated):
                body.read()
            with pytest.raises(BodyTruncated):
                body.readline()
        return body.read()

    app = Reading(read)
    with serve(app) as server, serve.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE[:-1])
        _end(talker)
        assert talker.response().status == 400
    assert type(app.errors[0]) is BodyTruncated


def test_an_application_may_answer_a_truncated_body_itself(serve: Serving) -> None:
    """What it says is sent, and the connection then ends."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            start_response("400 Bad Request", [])
            return [str(error).encode()]
        raise AssertionError("the body was whole")

    with serve(app) as server, serve.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE[:-1])
        _end(talker)
        response = talker.response()
        assert (response.status, response.get("connection")) == (400, "close")
        assert response.body == b"The connection ended before the end of the request body."


def test_a_framework_may_wrap_the_error(serve: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the application's own that came of the truncated body is the peer's fault still: 400, no log."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raise ValueError("unreadable post") from error
        raise AssertionError("the body was whole")

    with serve(app) as server, serve.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE[:-1])
        _end(talker)
        assert talker.response().status == 400
    assert not [record for record in caplog.records if record.name == "secureserve.error"]


def test_a_truncated_body_in_the_middle_of_a_response_breaks_it(serve: Serving) -> None:
    """Once the response has begun there is no telling the client but by breaking off."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield environ["wsgi.input"].read(1000)
        yield environ["wsgi.input"].read()

    with serve(app) as server, serve.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE[:-1])
        _end(talker)
        with pytest.raises((EOFError, OSError)):
            talker.response()


# Bodies that nobody reads.


@pytest.mark.parametrize("content", [b"small", LARGE * 2], ids=["small", "large"])
def test_a_body_that_nobody_reads_does_not_become_a_request(serve_any: Serving, content: bytes) -> None:
    """A small one is passed over; a large one ends the connection, after the client has got its answer."""
    small = len(content) < 1000

    def app(_environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with serve_any(app) as server, serve_any.talk(server) as talker:
        talker.post(content)
        response = talker.response()
        assert (response.status, response.body) == (200, b"ok")
        assert response.get("connection") == (None if small else "close")
        if small:
            assert talker.get().body == b"ok"


@pytest.mark.parametrize("data", [post(len(LARGE)) + LARGE, CHUNKED + chunks(LARGE)])
def test_a_body_kept_beyond_its_request_gets_nothing_of_the_next(serve_any: Serving, data: bytes) -> None:
    """Reading on, where all was read, finds the end there, and the next request has all of its own."""
    kept: list[io.BufferedIOBase] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        kept.append(environ["wsgi.input"])
        bodies = [body.read() for body in kept]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [" ".join(str(len(body)) for body in bodies).encode()]

    with serve_any(app) as server, serve_any.talk(server) as talker:
        for expected in (b"%d" % len(LARGE), b"0 %d" % len(LARGE)):
            talker.send(data)
            assert talker.response().body == expected


def test_closing_the_body_is_no_end_of_it(serve: Serving) -> None:
    """An application that closes wsgi.input without reading gets its response through, and the connection ends."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].close()
        start_response("200 OK", [])
        return [b"ok"]

    with serve(app) as server, serve.talk(server) as talker:
        talker.send(post(len(LARGE)), LARGE)
        response = talker.response()
        assert (response.body, response.get("connection")) == (b"ok", "close")
