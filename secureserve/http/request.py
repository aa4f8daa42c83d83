"""cheroot's request, filled from what llhttp read, and its response, framed and sent as RFC 9112 says."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import cheroot.server

from secureserve.http.body import open_body

if TYPE_CHECKING:
    from collections.abc import Generator

    from secureserve.http.connection import HTTPConnection
    from secureserve.http.server import HTTPServer

__all__ = ["HTTPRequest", "complete_response"]

JOINED_AT_MOST: Final = 15 * 1024
"""Head and body up to this size leave as one TLS record, whose 16 KiB they must fit (RFC 8446, 5.1)."""

_ILLEGAL_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS: Final = re.compile(rb"[2-5][0-9][0-9] [\t\x20-\x7e\x80-\xff]*|[2-5][0-9][0-9]")
_QUOTED_SLASH: Final = re.compile(rb"(?i)(%2f)")
_HOP_BY_HOP: Final = frozenset({b"transfer-encoding", b"keep-alive", b"upgrade", b"te", b"trailer", b"proxy-authenticate"})
_WITHOUT_CONTENT: Final = frozenset({b"204", b"304"})

_date_line = b""
_date_second = 0


class HTTPRequest(cheroot.server.HTTPRequest):  # type: ignore[misc]
    """One request and its response, as gateways know it from cheroot.

    A gateway reads `method`, `uri`, `path`, `qs`, `inheaders`, `rfile` and so on; sets `status` (bytes) and appends to
    `outheaders` (pairs of bytes); then calls `write` as often as it has something. The head is sent with the first of the
    content, in one piece where it fits.

    Threads: the worker thread that runs the request.
    """

    def __init__(self, server: HTTPServer, conn: HTTPConnection) -> None:
        message = conn.reader.message
        self.server = server
        self.conn = conn
        self.message = message
        self.ready = True
        self.started_request = True
        self.method = message.method
        self.uri = message.target
        self.scheme = conn.scheme
        self.authority, self.path, self.qs = _split_target(message.target)
        self.request_protocol = b"HTTP/1.1" if message.version == (1, 1) else b"HTTP/1.0"
        self.response_protocol = "HTTP/1.1" if message.version == (1, 1) and server.protocol != "HTTP/1.0" else "HTTP/1.0"
        self.rfile = open_body(conn.reader, conn.connection, self._continue)
        self.chunked_read = message.chunked
        self.close_connection = not message.keep_alive
        self.outheaders: list[tuple[bytes, bytes]] = []
        self.status = b""
        self.sent_headers = False
        self.chunked_write = False
        self.body_sent = 0
        self._head = b""
        self._without_content = message.method == b"HEAD"
        self._declared: int | None = None
        self._inheaders: dict[bytes, bytes] | None = None

    @property
    def inheaders(self) -> dict[bytes, bytes]:
        """The request's fields by their names in Title-Case; repeated ones joined."""
        if self._inheaders is None:
            self._inheaders = fields = {}
            for name, value in self.message.fields:
                key = name.title()
                fields[key] = fields[key] + b", " + value if key in fields else value
        return self._inheaders

    @property
    def head_is_out(self) -> bool:
        """Whether the response has begun, so that no other can take its place."""
        return self.sent_headers and not self._head

    def respond(self) -> None:
        """Let the gateway answer, and complete its response."""
        self.server.gateway(self).respond()
        self.finish()

    def finish(self) -> None:
        """Send what is still due: a head without content, the last chunk.

        Raises:
            ConnectionAbortedError: The content was shorter than its declared length.
        """
        self.ensure_headers_sent()
        if self.chunked_write and not self._without_content:
            self._send(b"0\r\n\r\n")
        elif self._head:
            self._send(b"")
        if self._declared is not None and self.body_sent < self._declared and not self._without_content:
            message = f"the response had {self.body_sent} of the {self._declared} bytes that it declared"
            raise ConnectionAbortedError(message)

    def ensure_headers_sent(self) -> None:
        """Make the head, if that was not done."""
        if not self.sent_headers:
            self.send_headers()
            self.sent_headers = True

    def send_headers(self) -> None:
        """Make the head from `status` and `outheaders`; it leaves with the first of the content.

        Raises:
            ValueError: A status or field that would break the response apart, or that is the server's to set.
        """
        status = self.status
        if not _STATUS.fullmatch(status):
            message = f"{status!r} is not the status of a final response"
            raise ValueError(message)
        names = self._check_fields()
        code = status[:3]
        http11 = self.response_protocol == "HTTP/1.1"
        lines = [self.server.status_line_start, status, b"\r\n"]
        if code in _WITHOUT_CONTENT:
            self._without_content = True
        elif self._declared is None:
            if not http11:
                # An HTTP/1.0 client takes the end of the connection for the end of the content.
                self.close_connection = self.close_connection or not self._without_content
            elif self.method != b"HEAD":
                self.chunked_write = True
                lines.append(b"Transfer-Encoding: chunked\r\n")
        if not self.message.complete or self.conn.must_close():
            self.close_connection = True
        for name, value in self.outheaders:
            if code == b"204" and name.lower() == b"content-length":
                continue
            lines += (name, b": ", value, b"\r\n")
        if b"connection" not in names:
            if self.close_connection:
                lines.append(b"Connection: close\r\n")
            elif not http11:
                lines.append(b"Connection: keep-alive\r\n")
        if b"date" not in names:
            lines.append(_date())
        if b"server" not in names:
            lines.append(self.server.server_line)
        lines.append(self.conn.extra_lines)
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def write(self, chunk: bytes) -> None:
        """Send content.

        Raises:
            ValueError: It is more than was declared; what was declared has been sent.
        """
        self.ensure_headers_sent()
        if self._without_content or not chunk:
            return
        excess = 0 if self._declared is None else self.body_sent + len(chunk) - self._declared
        if excess > 0:
            chunk = chunk[:-excess]
        self.body_sent += len(chunk)
        if self.chunked_write:
            self._send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        else:
            self._send(chunk)
        if excess > 0:
            message = f"the response has {excess} bytes more than it declared"
            raise ValueError(message)

    def restart_response(self) -> None:
        """Forget a head that was made and has not left, so that another can take its place."""
        self.sent_headers, self._head, self.chunked_write, self._declared = False, b"", False, None
        self._without_content = self.method == b"HEAD"
        self.close_connection = not self.message.keep_alive

    def write_blocks(self, blocks: Generator[bytes, None, None]) -> None:
        """Leave content of the declared length to the Front, which draws it as the peer takes it."""
        self.ensure_headers_sent()
        if self._without_content:
            return
        self._send(b"")
        self.body_sent = self._declared or 0
        self.conn.connection.source = blocks

    def simple_response(self, status: str | bytes, msg: str | bytes = "") -> None:
        """Send a whole response of plain text, and keep the connection for no other."""
        self.close_connection = True
        text = status.encode("latin-1") if isinstance(status, str) else bytes(status)
        body = msg.encode() if isinstance(msg, str) else msg
        self.status, self.sent_headers, self._head = text, True, b""
        self.chunked_write, self._declared = False, None
        self.body_sent = 0 if self.method == b"HEAD" else len(body)
        self.conn.connection.write(complete_response(self.server, text, body, bodyless=self.method == b"HEAD"))

    def _check_fields(self) -> set[bytes]:
        names = set()
        for name, value in self.outheaders:
            if not _FIELD_NAME.fullmatch(name) or _ILLEGAL_VALUE.search(value):
                message = f"the response field {name!r} has a character that a field must not have"
                raise ValueError(message)
            lower = name.lower()
            names.add(lower)
            if lower == b"content-length":
                self._declare(value)
            elif lower == b"connection":
                self.close_connection = self.close_connection or b"close" in value.lower()
            elif lower in _HOP_BY_HOP:
                message = f"the response field {name!r} is the server's to set (PEP 3333)"
                raise ValueError(message)
        return names

    def _declare(self, value: bytes) -> None:
        if not value.isdigit() or (self._declared is not None and self._declared != int(value)):
            message = f"the response declares the content length {value!r}"
            raise ValueError(message)
        self._declared = int(value)

    def _send(self, data: bytes) -> None:
        head = self._head
        if head:
            self._head = b""
            if len(head) + len(data) <= JOINED_AT_MOST:
                data = head + data
            else:
                self.conn.connection.write(head)
        if data:
            self.conn.connection.write(data)

    def _continue(self) -> None:
        """Answer a client that waits for 100 (Continue), once, and unless the final response has begun."""
        message = self.message
        if message.expects_continue:
            message.expects_continue = False
            if not self.head_is_out:
                self.conn.connection.write(CONTINUE)


CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def complete_response(
    server: HTTPServer,
    status: bytes | int,
    body: bytes,
    *,
    bodyless: bool = False,
    fields: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Return a response of plain text after which the connection is closed."""
    if isinstance(status, int):
        status = f"{status} {HTTPStatus(status).phrase}".encode("ascii")
    more = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
    return b"".join(
        (
            server.status_line_start,
            status,
            b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n" % len(body),
            more,
            b"Connection: close\r\n",
            _date(),
            server.server_line,
            b"\r\n",
            b"" if bodyless else body,
        )
    )


def _split_target(target: bytes) -> tuple[bytes, bytes, bytes]:
    """Return authority, decoded path and query of a request target that was found well-formed."""
    authority = b""
    if not target.startswith(b"/"):
        if target == b"*":
            return b"", b"*", b""
        authority, slash, rest = target.partition(b"://")[2].partition(b"/")
        authority, mark, query = authority.partition(b"?")
        target = slash + rest if slash else b"/" + mark + query
    path, _, query = target.partition(b"?")
    if b"%" in path:
        # An encoded slash is data, not a separator: it stays as it is (RFC 3986, 2.2).
        path = b"".join(
            part if index % 2 else unquote_to_bytes(part) for index, part in enumerate(_QUOTED_SLASH.split(path))
        )
    return authority, path, query


def _date() -> bytes:
    """Return the Date field for this second (RFC 9110, 6.6.1)."""
    global _date_line, _date_second  # noqa: PLW0603 - one line for all, remade once a second
    second = int(time.time())
    if second != _date_second:
        _date_line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")
        _date_second = second
    return _date_line


