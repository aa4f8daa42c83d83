"""The request as gateways know it, and the head of its response."""

from __future__ import annotations

import itertools
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import cheroot.server
import pytest

from secureserve.front.connection import Connection
from secureserve.http import fields as fields_module
from secureserve.http.fields import ResponseFields, status_bytes
from tests.http.serving import hello

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.http.request import HTTPRequest
    from tests.http.talking import Serving


def gateway(respond: Callable[[HTTPRequest], None]) -> type:
    """Return a native gateway that responds so."""

    class Gateway(cheroot.server.Gateway):  # type: ignore[misc]
        def respond(self) -> None:
            respond(self.req)

    return Gateway


def said(request: HTTPRequest) -> None:
    """Answer with nothing."""
    request.status = b"204 No Content"


def test_a_gateway_reads_what_it_reads_from_cheroot(serve_any: Serving) -> None:
    """Every attribute that cheroot's request has is there, with the same type and meaning."""
    seen: list[dict[str, Any]] = []
    names = ("method", "uri", "path", "qs", "authority", "scheme", "request_protocol", "response_protocol", "inheaders")
    more = (
        "chunked_read",
        "close_connection",
        "ready",
        "started_request",
        "sent_headers",
        "chunked_write",
        "outheaders",
    )

    def respond(request: HTTPRequest) -> None:
        assert isinstance(request, cheroot.server.HTTPRequest)
        assert isinstance(request.conn, cheroot.server.HTTPConnection)
        seen.append({name: getattr(request, name) for name in (*names, *more)})
        seen[-1]["ssl_env"] = request.conn.ssl_env
        said(request)

    with serve_any(None, attributes={"gateway": gateway(respond)}) as server, serve_any.talk(server) as talker:
        talker.request("x-one: 1", "X-ONE: 2", "content-type: text/plain", line="GET /a%20b?c=%20d HTTP/1.1")
        assert talker.response().status == 204
        talker.request("Transfer-Encoding: chunked", line="PUT http://localhost/x HTTP/1.1", body=b"0\r\n\r\n")
        assert talker.response().status == 204
        talker.request(line="GET / HTTP/1.0")
        assert talker.response().status == 204
    first, second, third = seen
    assert (first["method"], first["uri"]) == (b"GET", b"/a%20b?c=%20d")
    assert (first["path"], first["qs"], first["authority"]) == (b"/a b", b"c=%20d", b"")
    assert first["scheme"] == (b"http" if first["ssl_env"] is None else b"https")
    assert (first["request_protocol"], first["response_protocol"]) == (b"HTTP/1.1", "HTTP/1.1")
    assert first["inheaders"] == {b"Host": b"localhost", b"X-One": b"1, 2", b"Content-Type": b"text/plain"}
    assert (first["chunked_read"], first["close_connection"], first["outheaders"]) == (False, False, [])
    assert (first["ready"], first["started_request"], first["sent_headers"]) == (True, True, False)
    assert first["chunked_write"] is False
    assert (second["authority"], second["path"], second["chunked_read"]) == (b"localhost", b"/x", True)
    assert (third["request_protocol"], third["response_protocol"], third["close_connection"]) == (
        b"HTTP/1.0",
        "HTTP/1.0",
        True,
    )


def test_a_gateway_may_end_the_connection(serve: Serving) -> None:
    """Setting `close_connection` ends it after the response."""

    def respond(request: HTTPRequest) -> None:
        request.close_connection = True
        said(request)

    with serve(None, attributes={"gateway": gateway(respond)}) as server, serve.talk(server) as talker:
        assert talker.get().get("connection") == "close"
        assert talker.is_closed()


def test_a_gateway_may_read_trailers(serve: Serving) -> None:
    """Once the body has been read, its trailers are in the message."""
    trailers = []

    def respond(request: HTTPRequest) -> None:
        assert request.rfile.read() == b"hello"
        trailers.extend(request.message.trailers)
        said(request)

    with serve(None, attributes={"gateway": gateway(respond)}) as server, serve.talk(server) as talker:
        body = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
        talker.request("Transfer-Encoding: chunked", line="PUT / HTTP/1.1", body=body)
        assert talker.response().status == 204
    assert trailers == [("HTTP_X_SUM", "1")]


def test_a_field_added_after_the_check_is_checked_too(serve: Serving) -> None:
    """A gateway may append to `outheaders` until there is content, and can break nothing with it."""

    def respond(request: HTTPRequest) -> None:
        request.status = b"200 OK"
        request.check_response()
        request.outheaders.append((b"X", b"y\r\nX-Injected: yes" if request.path == b"/bad" else b"y"))
        request.write(b"content")

    with serve(None, attributes={"gateway": gateway(respond)}) as server, serve.talk(server) as talker:
        assert talker.get().get("x") == "y"
        talker.request(line="GET /bad HTTP/1.1")
        response = talker.response()
        assert (response.status, response.get("x-injected")) == (500, None)


def test_the_date_is_the_one_of_the_response(serve: Serving) -> None:
    """Date has the form of RFC 9110, 5.6.7, and the second in which the response was made."""
    with serve(hello) as server, serve.talk(server) as talker:
        date = talker.get().get("date") or ""
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert parsedate_to_datetime(date).tzinfo is not None


def test_a_small_response_leaves_in_one_piece(serve: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and content are one write where they fit a TLS record."""
    writes: list[int] = []
    write = Connection.write

    def counted(connection: Connection, data: bytes) -> None:
        writes.append(len(data))
        write(connection, data)

    def respond(request: HTTPRequest) -> None:
        request.status = b"200 OK"
        request.outheaders.append((b"Content-Length", request.qs))
        request.write(b"x" * int(request.qs))

    monkeypatch.setattr(Connection, "write", counted)
    with serve(None, attributes={"gateway": gateway(respond)}) as server, serve.talk(server) as talker:
        for size, expected in ((5, 1), (14_000, 1), (16_000, 2)):
            writes.clear()
            talker.request(line=f"GET /?{size} HTTP/1.1")
            assert len(talker.response().body) == size
            assert len(writes) == expected


# Fields, apart from any connection.


@pytest.mark.parametrize("status", ["200 OK", "200 ", "299 Caf\xe9", "599 x\ty"])
def test_final_statuses_pass(status: str) -> None:
    """A code from 200 to 599, a space, and any text or none."""
    assert status_bytes(status) == status.encode("latin-1")
    assert status_bytes(status) == status.encode("latin-1")


@pytest.mark.parametrize("byte", [*range(9), *range(10, 32), 127])
def test_no_control_byte_passes(byte: int) -> None:
    """In a status, a name or a value, none but the tab."""
    with pytest.raises(ValueError, match="status"):
        status_bytes(f"200 O{chr(byte)}K")
    with pytest.raises(ValueError, match="character"):
        ResponseFields([("X", f"y{chr(byte)}z")])
    with pytest.raises(ValueError, match="character"):
        ResponseFields([(f"X{chr(byte)}", "y")])


def test_fields_are_lines_in_order_but_for_the_servers_own() -> None:
    """Content-Length and Connection are understood and left out, Date and Server are noticed."""
    fields = ResponseFields([("B", "2"), ("Content-Length", " 5 "), ("A", "1"), ("connection", "Close"), ("DATE", "x")])
    assert fields.lines == [b"B: 2\r\n", b"A: 1\r\n", b"DATE: x\r\n"]
    assert (fields.count, fields.content_length, fields.close) == (5, 5, True)
    assert (fields.has_date, fields.has_server) == (True, False)


def test_what_is_remembered_of_fields_is_bounded() -> None:
    """However many different fields and statuses there are, only so many are kept, and no long ones."""
    for number in range(3 * fields_module._KEPT):
        ResponseFields([("X-Number", str(number))])
    for number in range(3 * fields_module._KEPT):
        status_bytes(f"200 Number {number}")
    ResponseFields([("X", "y" * 1000)])
    kept = itertools.chain(fields_module._lines.values(), fields_module._statuses.values())
    assert max(map(len, kept)) <= fields_module._KEPT_SIZE
    assert len(fields_module._lines) <= fields_module._KEPT
    assert len(fields_module._statuses) <= fields_module._KEPT
