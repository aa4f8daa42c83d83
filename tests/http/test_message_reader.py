"""Reading requests: everything that RFC 9112 has a server reject is rejected, everything else is read whole.

Each case is fed whole, byte by byte, and in two at every position, with another request behind it.
"""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureserve.errors import BadRequest
from secureserve.front.conversation import Need
from secureserve.http import first_heads, head_rules
from secureserve.http.first_heads import FirstHeads
from secureserve.http.head_rules import environ_name
from secureserve.http.message import Message, MessageLimits
from secureserve.http.message_reader import MessageReader
from secureserve.http.parser import Parser

LIMITS = MessageLimits(max_head_size=4000, max_line_size=1000, max_fields=20, max_body_size=200, max_gathered_size=100)
NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
LINE = b"POST / HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class Readers:
    """Makes readers that share what those of one server share.

    Attributes:
        parsers: The parsers that no reader has.
        first_heads: What connections began with.
    """

    def __init__(self, limits: MessageLimits = LIMITS) -> None:
        self.parsers: list[Parser] = []
        self.first_heads = FirstHeads()
        self._limits = limits

    def new(self) -> MessageReader:
        """Return a reader for one more connection."""
        return MessageReader(self._limits, self.parsers, self.first_heads)


def new_reader(limits: MessageLimits = LIMITS) -> MessageReader:
    """Return the reader of a server's first connection."""
    return Readers(limits).new()


def splits(data: bytes) -> list[list[bytes]]:
    """Return `data` whole, byte by byte, and in two at every position."""
    singles = [data[at : at + 1] for at in range(len(data))]
    return [[data], singles, *([data[:at], data[at:]] for at in range(1, len(data)))]


Requests = list[tuple[Message, bytes]]


def read(pieces: list[bytes], limits: MessageLimits = LIMITS, *, requests: int = 1) -> Requests | int | None:
    """Return up to `requests` requests with their content, the status of a refusal, or None where more is needed."""
    reader = new_reader(limits)
    found: Requests = []
    content = b""
    for piece in [*pieces, b""]:
        try:
            need = reader.feed(piece)
            while True:
                content += reader.take_content()
                if not reader.message.complete:
                    break
                assert need is Need.WORKER
                found.append((reader.message, content))
                if len(found) == requests or not reader.message.keep_alive:
                    return found
                content = b""
                reader.next()
                need = reader.feed(b"")
        except BadRequest as error:
            return error.status_hint
    return None


def request(*lines: bytes, line: bytes = LINE, body: bytes = b"") -> bytes:
    """Return a request with the given field lines, each without its end."""
    return line + HOST + b"".join(one + b"\r\n" for one in lines) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    """Return a request with `body` as its chunks."""
    return request(CHUNKED[:-2], body=body)


REFUSED: dict[str, tuple[int, bytes]] = {
    # The request line.
    "no version": (400, b"GET /\r\n\r\n"),
    "no target": (400, b"GET HTTP/1.1\r\n" + HOST + b"\r\n"),
    "lower-case version": (400, request(line=b"GET / http/1.1\r\n")),
    "two spaces before the target": (400, request(line=b"GET  / HTTP/1.1\r\n")),
    "two spaces before the version": (400, request(line=b"GET /  HTTP/1.1\r\n")),
    "tab for a space": (400, request(line=b"GET\t/ HTTP/1.1\r\n")),
    "space after the version": (400, request(line=b"GET / HTTP/1.1 \r\n")),
    "more after the version": (400, request(line=b"GET / HTTP/1.1 more\r\n")),
    "two-digit version": (400, request(line=b"GET / HTTP/1.10\r\n")),
    "another protocol": (400, request(line=b"OPTIONS / RTSP/1.0\r\n")),
    "a third protocol": (400, request(line=b"SOURCE / ICE/1.0\r\n")),
    "HTTP/0.9": (505, request(line=b"GET / HTTP/0.9\r\n")),
    "HTTP/1.2": (505, request(line=b"GET / HTTP/1.2\r\n")),
    "HTTP/2.0": (505, request(line=b"GET / HTTP/2.0\r\n")),
    "HTTP/2's preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/3.0": (505, request(line=b"GET / HTTP/3.0\r\n")),
    "unknown method": (501, request(line=b"FROBNICATE / HTTP/1.1\r\n")),
    "lower-case method": (501, request(line=b"get / HTTP/1.1\r\n")),
    "CONNECT": (501, b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n"),
    "control byte in the method": (400, request(line=b"G\x01T / HTTP/1.1\r\n")),
    "line without end": (414, b"GET /" + b"a" * 1100),
    "line too long": (414, request(line=b"GET /" + b"a" * 990 + b" HTTP/1.1\r\n")),
    # The target.
    "relative target": (400, request(line=b"GET index.html HTTP/1.1\r\n")),
    "bare query": (400, request(line=b"GET ?q HTTP/1.1\r\n")),
    "asterisk for GET": (400, request(line=b"GET * HTTP/1.1\r\n")),
    "authority for GET": (400, request(line=b"GET localhost:443 HTTP/1.1\r\n")),
    "fragment": (400, request(line=b"GET /#top HTTP/1.1\r\n")),
    "fragment of a URL": (400, request(line=b"GET http://localhost/#top HTTP/1.1\r\n")),
    "NUL in the target": (400, request(line=b"GET /\x00 HTTP/1.1\r\n")),
    "control byte in the target": (400, request(line=b"GET /\x1f HTTP/1.1\r\n")),
    "DEL in the target": (400, request(line=b"GET /\x7f HTTP/1.1\r\n")),
    "byte outside ASCII in the target": (400, request(line=b"GET /\xe9 HTTP/1.1\r\n")),
    "URL of another scheme": (400, request(line=b"GET ftp://localhost/ HTTP/1.1\r\n")),
    "URL without a host": (400, request(line=b"GET http:/// HTTP/1.1\r\n")),
    "URL of another host": (400, request(line=b"GET http://elsewhere/ HTTP/1.1\r\n")),
    "URL of another port": (400, request(line=b"GET http://localhost:81/ HTTP/1.1\r\n")),
    "URL with a user": (400, b"GET http://me@localhost/ HTTP/1.1\r\nHost: me@localhost\r\n\r\n"),
    # Line ends and white space.
    "bare LF after the request line": (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "bare CR after the request line": (400, b"GET / HTTP/1.1\r" + HOST + b"\r\n"),
    "bare LF after a field": (400, request(b"X: y\nZ: w")),
    "bare LF at the end": (400, LINE + b"Host: localhost\n\nGET / HTTP/1.1\r\n\r\n"),
    "bare CR in a value": (400, request(b"X: y\rz")),
    "two CR at the end of a line": (400, request(b"X: y\r")),
    "bare CR in a name": (400, request(b"X\rY: z")),
    "bare LF before the request": (400, b"\n" + request()),
    "bare CR before the request": (400, b"\r" + request()),
    "obs-fold": (400, request(b"X: y\r\n z")),
    "obs-fold with a tab": (400, request(b"X: y\r\n\tz")),
    "space before the first field": (400, LINE + b" " + HOST + b"\r\n"),
    "space before a colon": (400, request(b"X : y")),
    "tab before a colon": (400, request(b"X\t: y")),
    "space in a name": (400, request(b"X Y: z")),
    "empty name": (400, request(b": y")),
    "no colon": (400, request(b"X")),
    # Fields.
    "NUL in a value": (400, request(b"X: y\x00z")),
    "control byte in a value": (400, request(b"X: y\x01z")),
    "DEL in a value": (400, request(b"X: y\x7fz")),
    "NUL in a name": (400, request(b"X\x00: y")),
    "delimiter in a name": (400, request(b"X(y): z")),
    "byte outside ASCII in a name": (400, request(b"X\xe9: y")),
    "underscore in a name": (400, request(b"X_Forwarded-For: 127.0.0.1")),
    "underscore that spells Content-Length": (400, request(b"Content_Length: 5")),
    "underscore that spells an SSL variable": (400, request(b"SSL_CLIENT_VERIFY: SUCCESS")),
    "Proxy": (400, request(b"Proxy: http://elsewhere/")),
    "proxy in small letters": (400, request(b"proxy: http://elsewhere/")),
    "too many fields": (431, request(*(b"X-%d: y" % number for number in range(20)))),
    "head too large": (413, request(b"X: " + b"y" * 4000)),
    "endless head": (413, LINE + b"X: y\r\n" * 1000),
    # Host.
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, request(b"Host: elsewhere")),
    "the same Host twice": (400, request(b"Host: localhost")),
    "empty Host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "Host with a path": (400, b"GET / HTTP/1.1\r\nHost: localhost/path\r\n\r\n"),
    "Host with a user": (400, b"GET / HTTP/1.1\r\nHost: me@localhost\r\n\r\n"),
    "Host with a space": (400, b"GET / HTTP/1.1\r\nHost: local host\r\n\r\n"),
    "Host without a usable port": (400, b"GET / HTTP/1.1\r\nHost: localhost:http\r\n\r\n"),
    "Host with too large a port": (400, b"GET / HTTP/1.1\r\nHost: localhost:65536\r\n\r\n"),
    "Host with half an address": (400, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    "bad Host in HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"),
    # Content-Length.
    "empty length": (400, request(b"Content-Length:")),
    "signed length": (400, request(b"Content-Length: +5", body=b"hello")),
    "negative length": (400, request(b"Content-Length: -5", body=b"hello")),
    "length padded with zeros": (400, request(b"Content-Length: 05", body=b"hello")),
    "length of zeros": (400, request(b"Content-Length: 00")),
    "hexadecimal length": (400, request(b"Content-Length: 0x5", body=b"hello")),
    "fractional length": (400, request(b"Content-Length: 5.0", body=b"hello")),
    "length with an underscore": (400, request(b"Content-Length: 1_0", body=b"0123456789")),
    "length in other digits": (400, request(b"Content-Length: \xd9\xa5", body=b"hello")),
    "list of lengths": (400, request(b"Content-Length: 5, 5", body=b"hello")),
    "two numbers": (400, request(b"Content-Length: 5 5", body=b"hello")),
    "length twice": (400, request(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    "different lengths": (400, request(b"Content-Length: 5", b"Content-Length: 6", body=b"hello")),
    "length beyond 64 bits": (400, request(b"Content-Length: 18446744073709551616")),
    "length of many digits": (400, request(b"Content-Length: " + b"9" * 500)),
    "length above the limit": (413, request(b"Content-Length: 201")),
    # Transfer-Encoding.
    "length and coding": (400, request(b"Content-Length: 5", CHUNKED[:-2], body=b"0\r\n\r\n")),
    "coding and length": (400, request(CHUNKED[:-2], b"Content-Length: 5", body=b"0\r\n\r\n")),
    "empty coding": (400, request(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "coding other than chunked": (400, request(b"Transfer-Encoding: gzip")),
    "identity": (400, request(b"Transfer-Encoding: identity")),
    "coding that ends like chunked": (400, request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "coding that begins like chunked": (400, request(b"Transfer-Encoding: chunkedx", body=b"0\r\n\r\n")),
    "chunked before another": (400, request(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n")),
    "chunked in a list twice": (400, request(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "chunked in two fields": (400, request(CHUNKED[:-2], CHUNKED[:-2], body=b"0\r\n\r\n")),
    "chunked, and gzip in another field": (400, request(CHUNKED[:-2], b"Transfer-Encoding: gzip", body=b"0\r\n\r\n")),
    "chunked with a parameter": (400, request(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")),
    "chunked behind a vertical tab": (400, request(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "chunked in quotes": (400, request(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "gzip under chunked": (501, request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "coding in HTTP/1.0": (400, request(CHUNKED[:-2], line=b"POST / HTTP/1.0\r\n", body=b"0\r\n\r\n")),
    # Chunks.
    "empty chunk size": (400, chunked(b"\r\n\r\n")),
    "chunk size in other letters": (400, chunked(b"g\r\n")),
    "chunk size with a prefix": (400, chunked(b"0x5\r\nhello\r\n")),
    "signed chunk size": (400, chunked(b"+5\r\nhello\r\n")),
    "negative chunk size": (400, chunked(b"-5\r\nhello\r\n")),
    "chunk size with an underscore": (400, chunked(b"0_5\r\nhello\r\n")),
    "chunk size beyond 64 bits": (400, chunked(b"10000000000000005\r\nhello\r\n")),
    "space before a chunk size": (400, chunked(b" 5\r\nhello\r\n")),
    "space after a chunk size": (400, chunked(b"5 \r\nhello\r\n")),
    "bare LF after a chunk size": (400, chunked(b"5\nhello\r\n0\r\n\r\n")),
    "bare CR after a chunk size": (400, chunked(b"5\rhello\r\n0\r\n\r\n")),
    "bare LF after a chunk": (400, chunked(b"5\r\nhello\n0\r\n\r\n")),
    "chunk longer than its size": (400, chunked(b"5\r\nhello!\r\n0\r\n\r\n")),
    "chunk shorter than its size": (400, chunked(b"6\r\nhello\r\n0\r\n\r\n")),
    "bare LF at the end of chunks": (400, chunked(b"0\r\n\n")),
    "extension without a name": (400, chunked(b"5;\r\nhello\r\n0\r\n\r\n")),
    "control byte in an extension": (400, chunked(b"5;a\x00\r\nhello\r\n0\r\n\r\n")),
    "bare LF after an extension": (400, chunked(b"5;a\nhello\r\n0\r\n\r\n")),
    "bare CR in an extension": (400, chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    "chunks above the limit": (413, chunked(b"64\r\n" + b"a" * 100 + b"\r\n65\r\n" + b"a" * 101 + b"\r\n0\r\n\r\n")),
    # Trailers.
    "Content-Length in trailers": (400, chunked(b"0\r\nContent-Length: 5\r\n\r\n")),
    "Transfer-Encoding in trailers": (400, chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    "Host in trailers": (400, chunked(b"0\r\nHost: elsewhere\r\n\r\n")),
    "Connection in trailers": (400, chunked(b"0\r\nConnection: close\r\n\r\n")),
    "Upgrade in trailers": (400, chunked(b"0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")),
    "underscore in trailers": (400, chunked(b"0\r\nX_Y: z\r\n\r\n")),
    "no colon in trailers": (400, chunked(b"0\r\nX\r\n\r\n")),
    "obs-fold in trailers": (400, chunked(b"0\r\nX: y\r\n z\r\n\r\n")),
    "NUL in trailers": (400, chunked(b"0\r\nX: y\x00\r\n\r\n")),
    "bare LF in trailers": (400, chunked(b"0\r\nX: y\n\r\n")),
    "too many trailers": (431, chunked(b"0\r\n" + b"X: y\r\n" * 21 + b"\r\n")),
    # Expect.
    "unknown expectation": (417, request(b"Expect: 200-ok")),
    "two expectations": (417, request(b"Expect: 100-continue, more", b"Content-Length: 5")),
    # Behind an Upgrade, which is ignored, the same rules hold.
    "Upgrade without Host": (400, LINE + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "Upgrade with another coding": (
        400,
        request(b"Connection: upgrade", b"Upgrade: h2c", b"Transfer-Encoding: gzip"),
    ),
    "Upgrade with a bad length": (400, request(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: +5")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_server_must_reject_is_rejected(name: str) -> None:
    """However the bytes arrive, the answer is the same, and no request comes of them."""
    status, data = REFUSED[name]
    for pieces in splits(data + NEXT) if len(data) < 400 else [[data + NEXT], splits(data + NEXT)[1]]:
        assert read(pieces) == status, pieces


ACCEPTED: dict[str, tuple[bytes, bytes, dict[str, Any]]] = {
    "nothing special": (request(line=b"GET / HTTP/1.1\r\n"), b"", {"method": b"GET", "keep_alive": True}),
    "empty lines before": (b"\r\n\r\n" + request(), b"", {"target": b"/"}),
    "every common method": (request(line=b"PATCH /a HTTP/1.1\r\n"), b"", {"method": b"PATCH", "target": b"/a"}),
    "QUERY": (request(b"Content-Length: 1", line=b"QUERY / HTTP/1.1\r\n", body=b"q"), b"q", {"method": b"QUERY"}),
    "query": (request(line=b'GET /?a="b"&c={d}|e^`\\ HTTP/1.1\r\n'), b"", {"target": b'/?a="b"&c={d}|e^`\\'}),
    "encoded target": (request(line=b"GET /%2F%00 HTTP/1.1\r\n"), b"", {"target": b"/%2F%00"}),
    "asterisk": (request(line=b"OPTIONS * HTTP/1.1\r\n"), b"", {"target": b"*"}),
    "URL": (request(line=b"GET http://LOCALHOST/a?b HTTP/1.1\r\n"), b"", {"target": b"http://LOCALHOST/a?b"}),
    "URL and nothing more": (
        request(line=b"GET https://localhost HTTP/1.1\r\n"),
        b"",
        {"target": b"https://localhost"},
    ),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", b"", {"version": (1, 0), "keep_alive": False}),
    "HTTP/1.0 kept": (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", b"", {"keep_alive": True}),
    "closing": (request(b"Connection: close"), b"", {"keep_alive": False}),
    "closing in a list": (request(b"Connection: foo, CLOSE"), b"", {"keep_alive": False}),
    "closing in a second field": (request(b"Connection: foo", b"Connection: close"), b"", {"keep_alive": False}),
    "empty value": (request(b"X:"), b"", {}),
    "white space around a value": (request(b"Content-Length: \t 5 \t ", body=b"hello"), b"hello", {}),
    "tab and obs-text in a value": (request(b"X: a\tb\xe9"), b"", {}),
    "no content": (request(b"Content-Length: 0"), b"", {"content_length": 0}),
    "content": (request(b"Content-Length: 5", body=b"hello"), b"hello", {"content_length": 5, "chunked": False}),
    "content like a head": (request(b"Content-Length: 8", body=b"\r\n\r\n\r\n\r\n"), b"\r\n\r\n\r\n\r\n", {}),
    "content of GET": (request(b"Content-Length: 5", line=b"GET / HTTP/1.1\r\n", body=b"hello"), b"hello", {}),
    "as much as is allowed": (request(b"Content-Length: 200", body=b"a" * 200), b"a" * 200, {}),
    "chunks": (chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), b"hello world", {"chunked": True}),
    "no chunks": (chunked(b"0\r\n\r\n"), b"", {"chunked": True}),
    "chunk sizes with zeros": (chunked(b"005\r\nhello\r\n000\r\n\r\n"), b"hello", {}),
    "chunk sizes in any letters": (chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), b"0123456789" * 2, {}),
    "chunks of line ends": (chunked(b"4\r\n\r\n\r\n\r\n2\r\n\r\n\r\n0\r\n\r\n"), b"\r\n\r\n\r\n", {}),
    "chunk like an end": (chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), b"0\r\n\r\n", {}),
    "extensions": (chunked(b'5;a;b=c;d="e;\\"f"\r\nhello\r\n0;last\r\n\r\n'), b"hello", {}),
    "coding in capitals": (request(b"Transfer-Encoding: Chunked", body=b"0\r\n\r\n"), b"", {"chunked": True}),
    "trailers": (chunked(b"0\r\nX: y\r\nZ: w \r\n\r\n"), b"", {"trailers": [("HTTP_X", "y"), ("HTTP_Z", "w")]}),
    "expectation": (request(b"Expect: 100-Continue", b"Content-Length: 1", body=b"a"), b"a", {}),
    "expectation of nothing": (request(b"Expect: 100-continue"), b"", {"expects_continue": False}),
    "expectation in HTTP/1.0": (request(b"Expect: more", line=b"GET / HTTP/1.0\r\n"), b"", {"expects_continue": False}),
    "Upgrade": (request(b"Connection: upgrade", b"Upgrade: h2c"), b"", {"keep_alive": True}),
    "Upgrade with content": (
        request(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 5", body=b"hello"),
        b"hello",
        {},
    ),
    "Upgrade with chunks": (
        request(b"Upgrade: websocket", b"Connection: upgrade", CHUNKED[:-2], body=b"5\r\nhello\r\n0\r\n\r\n"),
        b"hello",
        {},
    ),
    "as many fields as are allowed": (request(*(b"X-%d: y" % number for number in range(19))), b"", {}),
    "address for a Host": (b"GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", b"", {}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_well_formed_is_read_and_what_follows_it_too(name: str) -> None:
    """However the bytes arrive, the request is whole, and the next request on the connection is untouched."""
    data, content, attributes = ACCEPTED[name]
    for pieces in splits(data + NEXT):
        found = read(pieces, requests=2)
        assert isinstance(found, list), (found, pieces)
        first, first_content = found[0]
        assert first_content == content
        for attribute, value in attributes.items():
            assert getattr(first, attribute) == value
        if not first.keep_alive:
            continue
        second, second_content = found[1]
        assert (second.method, second.target, second_content) == (b"GET", b"/next", b"")
        assert second.environ_fields == {"HTTP_HOST": "next"}


def test_fields_get_their_names_in_an_environ() -> None:
    """Names lose their case, repeated fields are joined, cookies with a semicolon (RFC 9110, 5.2; RFC 6265, 5.4)."""
    data = request(
        b"content-TYPE: text/plain",
        b"content-length: 0",
        b"X-Forwarded-For: 192.0.2.1",
        b"x-forwarded-for: 192.0.2.2",
        b"Cookie: a=b",
        b"Cookie: c=d",
        b"X: caf\xe9\t ",
        b"Upgrade: h2c",
        b"Connection: upgrade",
    )
    found = read([data])
    assert isinstance(found, list)
    assert found[0][0].environ_fields == {
        "HTTP_HOST": "localhost",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "0",
        "HTTP_X_FORWARDED_FOR": "192.0.2.1, 192.0.2.2",
        "HTTP_COOKIE": "a=b; c=d",
        "HTTP_X": "caf\xe9",
        "HTTP_UPGRADE": "h2c",
        "HTTP_CONNECTION": "upgrade",
    }


def test_a_url_names_the_host_where_no_field_does() -> None:
    """HTTP/1.0 needs no Host, and a URL as target has one (RFC 9112, 3.2.2)."""
    found = read([b"GET http://localhost:81?q HTTP/1.0\r\n\r\n"])
    assert isinstance(found, list)
    assert found[0][0].environ_fields == {"HTTP_HOST": "localhost:81"}


def test_a_large_body_runs_before_it_is_whole() -> None:
    """Once as much is gathered as may be, the request is for a worker thread, and reading goes on in its hands."""
    reader = new_reader()
    assert reader.feed(request(b"Content-Length: 150", body=b"a" * 99)) is Need.BODY
    assert reader.feed(b"b") is Need.WORKER
    first = reader.message
    assert reader.take_content() == b"a" * 99 + b"b"
    reader.feed(b"c" * 49)
    assert first.complete is False
    reader.feed(b"c" + NEXT)
    assert reader.message.complete
    assert reader.take_content() == b"c" * 50
    reader.next()
    assert reader.feed(b"") is Need.WORKER
    assert reader.message.target == b"/next"


@pytest.mark.parametrize(
    ("field", "need"),
    [
        (b"Content-Length: 100", Need.BODY),
        (b"Content-Length: 101", Need.WORKER),
        (b"Transfer-Encoding: chunked", Need.WORKER),
    ],
)
def test_an_announced_body_is_asked_for_by_whoever_wants_it(field: bytes, need: Need) -> None:
    """A small announced body is gathered; whether to take a large one, or one of unknown size, the application says."""
    reader = new_reader()
    assert reader.feed(request(b"Expect: 100-continue", field)) is need
    assert reader.message.expects_continue


@pytest.mark.parametrize("body", [b"5" + b";a=b" * 4000 + b"\r\n", b"0" * 10_000, b"0\r\nX: " + b"y" * 10_000])
def test_framing_without_bound_is_refused(body: bytes) -> None:
    """Extensions, sizes padded with zeros and trailers may not be much larger than the content that they frame."""
    for pieces in ([chunked(body)], [chunked(b""), *(body[at : at + 7] for at in range(0, len(body), 7))]):
        assert read(pieces) == 400


def test_many_small_extensions_are_refused_too() -> None:
    """A body of tiny chunks with an extension each is more framing than content."""
    limits = MessageLimits(max_head_size=0, max_line_size=1000, max_fields=20, max_body_size=0, max_gathered_size=10**9)
    assert read([chunked(b"1;" + b"x" * 60 + b"\r\na\r\n")] + [b"1;" + b"x" * 60 + b"\r\na\r\n"] * 300, limits) == 400
    assert read([chunked(b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n")], limits) is not None


class CountingParser:
    """Stands between a parser and llhttp, and knows what that was given."""

    def __init__(self, parser: Parser) -> None:
        self.seen: list[bytes] = []
        self._feed = parser.feed
        parser.feed = self.feed

    def feed(self, data: bytes) -> None:
        """Take note, and parse."""
        self.seen.append(data)
        self._feed(data)


@pytest.mark.parametrize("content", [b"x" * 20_000, b"\r\n\r\n" * 5_000])
@pytest.mark.parametrize("step", [1, 1000, 30_000])
def test_a_dribbled_body_costs_no_more_than_its_length(content: bytes, step: int) -> None:
    """Each byte of a body is parsed once, in however many pieces it arrives, and whatever it looks like."""
    limits = MessageLimits(max_head_size=0, max_line_size=1000, max_fields=20, max_body_size=0, max_gathered_size=10**9)
    reader = new_reader(limits)
    reader.feed(chunked(b""))
    assert reader._parser is not None
    counting = CountingParser(reader._parser)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    for at in range(0, len(body), step):
        reader.feed(body[at : at + step])
    assert reader.message.complete
    assert reader.take_content() == content
    assert b"".join(counting.seen) == body
    assert len(counting.seen) <= max(len(body) / step, len(body) / 2) + 2


def test_memory_is_bounded_by_the_limits() -> None:
    """A body in tiny chunks, and names that nobody repeats, do not take a multiple of their size."""
    limits = MessageLimits(max_head_size=0, max_line_size=1000, max_fields=20, max_body_size=0, max_gathered_size=10**9)
    reader = new_reader(limits)
    reader.feed(chunked(b""))
    piece = b"2\r\nab\r\n" * 1000
    tracemalloc.start()
    try:
        for _ in range(100):
            reader.feed(piece)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 3 * 200_000


def test_names_are_remembered_within_bounds() -> None:
    """However many different names and hosts are sent, only so many are kept, and no long ones."""
    for number in range(3 * head_rules._KEPT):
        environ_name(b"X-Invented-%d" % number)
    assert environ_name(b"X-" + b"y" * 1000) == "HTTP_X_" + "Y" * 1000
    for number in range(3 * head_rules._KEPT):
        read([b"GET / HTTP/1.1\r\nHost: host-%d\r\n\r\n" % number])
    assert len(head_rules.NAMES) <= head_rules._KEPT
    assert len(head_rules._hosts) <= head_rules._KEPT
    assert max(map(len, head_rules.NAMES)) <= head_rules._KEPT_SIZE


def test_a_reader_knows_whether_a_request_has_begun() -> None:
    """Between two requests it has not; with the first byte of one it has."""
    reader = new_reader()
    assert not reader.has_begun()
    reader.feed(b"G")
    assert reader.has_begun()
    reader.feed(NEXT[1:])
    reader.next()
    assert not reader.has_begun()


pieces_of = st.lists(st.integers(0, 400), max_size=10)


@settings(deadline=None)
@given(st.sampled_from(sorted(ACCEPTED)), pieces_of)
def test_random_splits_make_no_difference(name: str, positions: list[int]) -> None:
    """Pieces of any size, empty ones too, give the same requests."""
    data, content, _ = ACCEPTED[name]
    data += NEXT
    edges = sorted({0, *(position % len(data) for position in positions), len(data)})
    found = read([data[start:end] for start, end in itertools.pairwise(edges)], requests=2)
    assert isinstance(found, list)
    assert found[0][1] == content


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from([LINE, HOST, CHUNKED, b"\r\n", b"\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n", b"X: y\r\n"]),
            st.sampled_from([data for _, data in REFUSED.values() if len(data) < 200]),
        ),
        max_size=12,
    )
)
def test_random_bytes_never_raise_anything_else(pieces: list[bytes]) -> None:
    """Whatever arrives is a request, or needs more, or is refused with a status that says why."""
    outcome = read(pieces, requests=3)
    if not isinstance(outcome, list):
        assert outcome in {None, 400, 413, 414, 417, 431, 501, 505}
    whole = read([b"".join(pieces)], requests=3)
    assert isinstance(whole, list) == isinstance(outcome, list)


# What is remembered from one head to the next.

LINES = (
    b"GET / HTTP/1.1\r\n",
    b"HEAD /other?x=1 HTTP/1.1\r\n",
    b"POST / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"GET http://localhost/ HTTP/1.1\r\n",
    b"GET http://elsewhere/ HTTP/1.1\r\n",
    b"CONNECT localhost:443 HTTP/1.1\r\n",
    b"GET /#fragment HTTP/1.1\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"GET /\x01 HTTP/1.1\r\n",
    b"NONSENSE / HTTP/1.1\r\n",
    b"GET / HTTP/2.0\r\n",
    b"GET /\nX: HTTP/1.1\r\n",
    b"GET /\nTransfer-Encoding: HTTP/1.1\r\n",
    b"GET /\rX: HTTP/1.1\r\n",
    b"GET / HTTP/1.1\nX: HTTP/1.1\r\n",
)
FIELDS = (
    HOST,
    HOST + b"Accept: */*\r\nCookie: a=b\r\nCookie: c=d\r\n",
    HOST + b"Connection: keep-alive\r\n",
    HOST + b"Connection: close\r\n",
    HOST + b"Upgrade: other\r\nConnection: upgrade\r\n",
    HOST + b"Content-Length: 0\r\n",
    HOST + b"Content-Length: 3\r\n",
    HOST + b"Expect: 100-continue\r\n",
    HOST + CHUNKED,
    HOST + b"X_Y: z\r\n",
    HOST + b"Long: " + b"x" * 3000 + b"\r\n",
    b"",
)


def outcome(reader: MessageReader, head: bytes) -> Any:
    """Return all that a reader makes of a head."""
    try:
        need = reader.feed(head)
    except BadRequest as error:
        return error.status_hint, str(error), reader.message.method
    message = reader.message
    return need, *(getattr(message, name) for name in PARTS)


PARTS = (
    "method",
    "target",
    "version",
    "environ_fields",
    "keep_alive",
    "content_length",
    "chunked",
    "expects_continue",
    "complete",
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(LINES), st.sampled_from(FIELDS)), min_size=2, max_size=9))
def test_what_came_before_changes_nothing(heads: list[tuple[int, bytes, bytes]]) -> None:
    """A head means what it means on the first connection, whatever this one and others have had before."""
    readers = Readers()
    connections = [readers.new() for _ in range(3)]
    for number, line, fields in heads:
        reader = connections[number]
        head = line + fields + b"\r\n"
        expected = outcome(new_reader(), head)
        assert outcome(reader, head) == expected
        if reader.message.complete and reader.message.keep_alive:
            reader.next()
        else:
            # The connection ends, in the middle of a message perhaps.
            reader.close()
            connections[number] = readers.new()


def test_fields_that_come_again_are_not_read_again() -> None:
    """The parser sees the request line of a head with the last one's fields, and nothing of one all the same."""
    readers = Readers()
    readers.parsers.append(Parser())
    counting = CountingParser(readers.parsers[0])
    reader = readers.new()
    fields = HOST + b"Accept: */*\r\n\r\n"
    for line in (b"GET /a HTTP/1.1\r\n", b"GET /b HTTP/1.1\r\n", b"GET /b HTTP/1.1\r\n"):
        assert reader.feed(line + fields) is Need.WORKER
        assert (reader.message.target, reader.message.environ_fields["HTTP_ACCEPT"]) == (line[4:6], "*/*")
        reader.next()
    assert counting.seen == [b"GET /a HTTP/1.1\r\n" + fields, b"GET /b HTTP/1.1\r\n\r\n"]


def test_fields_come_again_only_if_all_of_them_do() -> None:
    """A head with the last fields of the one before does not get the others with them."""
    reader = new_reader()
    reader.feed(b"GET / HTTP/1.1\r\nX: y\r\n" + HOST + b"\r\n")
    reader.next()
    reader.feed(b"GET /other HTTP/1.1\r\n" + HOST + b"\r\n")
    assert reader.message.environ_fields == {"HTTP_HOST": "localhost"}


# What connections have in common.


def test_an_idle_connection_has_no_parser() -> None:
    """One parser is enough for any number of connections whose heads are read one after the other."""
    readers = Readers()
    connections = [readers.new() for _ in range(10)]
    for turn in range(3):
        for number, reader in enumerate(connections):
            reader.feed(b"GET /%d/%d HT" % (turn, number))
            assert reader.has_begun()
        for number, reader in enumerate(connections):
            assert reader.feed(b"TP/1.1\r\nHost: localhost\r\nX: %d\r\n\r\n" % number) is Need.WORKER
            assert (reader.message.target, reader.message.environ_fields["HTTP_X"]) == (
                b"/%d/%d" % (turn, number),
                str(number),
            )
            reader.next()
    assert len(readers.parsers) == 1


def test_a_parser_in_the_middle_of_content_is_for_nobody_else() -> None:
    """While content in chunks arrives, heads of other connections are read, and each gets what is its own."""
    readers = Readers()
    reader, other = readers.new(), readers.new()
    assert reader.feed(chunked(b"5\r\nhe")) is Need.BODY
    assert other.feed(NEXT) is Need.WORKER
    assert reader.feed(b"llo\r\n0\r\nX: y\r\n\r\n" + NEXT) is Need.WORKER
    assert (reader.take_content(), reader.message.trailers) == (b"hello", [("HTTP_X", "y")])
    assert (other.message.target, other.message.trailers, other.take_content()) == (b"/next", (), b"")
    reader.next()
    assert reader.feed(b"") is Need.WORKER
    assert reader.message.target == b"/next"


@pytest.mark.parametrize(
    "data",
    [
        LINE + HOST + b"Content-Length: 5\r\n\r\nhello",
        LINE + HOST + b"Content-Length: 5\r\n\r\nhe",
        LINE + HOST + CHUNKED + b"\r\n2\r\nhe",
        LINE + HOST + b"Connection: close\r\n\r\n",
        LINE + HOST + b"Upgrade: other\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhe",
        b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        LINE + HOST + b"Host\r\n\r\n",
        LINE + HOST + b"X_Y: z\r\n\r\n",
    ],
)
def test_a_parser_that_takes_no_other_message_is_let_go(data: bytes) -> None:
    """Nobody else gets one that was left in a message, has read a connection's last one, or refused one."""
    readers = Readers()
    reader = readers.new()
    outcome(reader, data)
    reader.close()
    assert readers.parsers == []
    assert outcome(readers.new(), NEXT) == outcome(new_reader(), NEXT)


def test_connections_that_begin_alike_share_what_was_read() -> None:
    """The first head of a connection is not read again where another began with it, and is kept once."""
    readers = Readers()
    readers.parsers.append(Parser())
    counting = CountingParser(readers.parsers[0])
    connections = [readers.new() for _ in range(5)]
    for reader in connections:
        assert reader.feed(NEXT) is Need.WORKER
    assert counting.seen == [NEXT]
    assert {id(reader.message) for reader in connections} == {id(connections[0].message)}
    for number, reader in enumerate(connections):
        reader.next()
        reader.feed(b"GET /%d HTTP/1.1\r\nHost: next\r\n\r\n" % number)
    assert [reader.message.target for reader in connections] == [b"/%d" % number for number in range(5)]


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_first_heads_of_other_kinds_are_shared_too(head: bytes, *, keeps: bool) -> None:
    """Whoever comes for one request says the same each time as well; what follows on a connection is read afresh."""
    readers, seen = Readers(), []
    for _ in range(3):
        readers.parsers[:] = [Parser()]
        counting = CountingParser(readers.parsers[0])
        reader = readers.new()
        assert reader.feed(head) is Need.WORKER
        assert reader.message.keep_alive is keeps
        assert reader.message.version == (1, int(head[13:14]))
        seen += counting.seen
    assert seen == [head]
    reader.next()
    with pytest.raises(BadRequest, match="Host"):
        reader.feed(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n")


@pytest.mark.parametrize("field", [b"Cookie: session=1\r\n", b"Authorization: Basic eDp5\r\n"])
def test_what_is_a_clients_own_is_not_kept_beyond_its_connection(field: bytes) -> None:
    """A head with credentials is remembered by its own connection alone."""
    readers = Readers()
    reader = readers.new()
    reader.feed(LINE + HOST + field + b"\r\n")
    assert reader.message.head
    assert len(readers.first_heads) == 0


@pytest.mark.parametrize("line", [b"GET /\nCookie: a=b; HTTP/1.1\r\n", b"GET /\nTransfer-Encoding: HTTP/1.1\r\n"])
def test_a_refused_line_leaves_nothing_in_the_fields_that_others_share(line: bytes) -> None:
    """A bare LF in a request line makes a field of what follows, in the eyes of llhttp."""
    readers = Readers()
    reader, fields = readers.new(), HOST + b"\r\n"
    reader.feed(b"GET / HTTP/1.1\r\n" + fields)
    reader.next()
    with pytest.raises(BadRequest):
        reader.feed(line + fields)
    other = readers.new()
    other.feed(b"GET / HTTP/1.1\r\n" + fields)
    assert other.message.environ_fields == {"HTTP_HOST": "localhost"}


def test_first_heads_are_remembered_within_bounds() -> None:
    """However many connections begin differently, only so many heads are kept, and no long ones."""
    readers = Readers()
    readers.new().feed(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 3000 + b"\r\n\r\n")
    assert len(readers.first_heads) == 0
    for number in range(3 * first_heads.MOST):
        reader = readers.new()
        reader.feed(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
        assert 0 < len(readers.first_heads) <= first_heads.MOST


def test_declared_content_may_be_read_past_the_reader() -> None:
    """How much of it is missing is known, and when that has been read elsewhere the next request follows."""
    reader = new_reader()
    assert reader.feed(LINE + HOST + b"Content-Length: 150\r\n\r\n" + b"x" * 120) is Need.WORKER
    assert (reader.missing(), reader.take_content(), reader.message.complete) == (30, b"x" * 120, False)
    reader.skip(10)
    assert (reader.missing(), reader.message.complete) == (20, False)
    reader.skip(20)
    assert (reader.missing(), reader.message.complete) == (0, True)
    reader.next()
    assert reader.feed(NEXT) is Need.WORKER
    assert reader.message.target == b"/next"
