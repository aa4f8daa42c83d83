"""cheroot's request, filled from what llhttp read, and its response, framed and sent as RFC 9112 says."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import cheroot.server

from secureserve.errors import PeerError
from secureserve.http.body import open_body
from secureserve.http.fields import ResponseFields, status_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secureserve.front.conversation import Supply
    from secureserve.http.connection import HTTPConnection
    from secureserve.http.server import HTTPServer

__all__ = ["CONTINUE", "HTTPRequest", "complete_response"]

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
RESET_CONTENT: Final = b"205"
NOT_MODIFIED: Final = b"304"

JOINED_AT_MOST: Final = 15 * 1024
"""Head and body up to this size leave as one TLS record, whose 16 KiB they must fit (RFC 8446, 5.1)."""

_AUTHORITY_END: Final = re.compile(rb"[/?]")
_QUOTED_SLASH: Final = re.compile(rb"(?i)(%2f)")
_WITHOUT_CONTENT: Final = frozenset({b"204", RESET_CONTENT, NOT_MODIFIED})

_date_line = b""
_date_second = 0


class HTTPRequest(cheroot.server.HTTPRequest):  # type: ignore[misc]
    """One request and its response, as gateways know it from cheroot.

    A gateway reads `method`, `uri`, `path`, `qs`, `inheaders`, `rfile` and so on; sets `status` (bytes) and appends to
    `outheaders` (pairs of bytes); then calls `write` as often as it has something. The head is sent with the first of
    the content, in one piece where it fits.

    Attributes:
        message: The request as it was read.
        declared: The length of the response's content, as it was declared; None where it was not.
        lost: What broke the connection while the response was sent, or None.

    Threads: the worker thread that runs the request.
    """

    # Defaults belong to the class: a request changes few of them.
    ready = True
    started_request = True
    proxy_mode = False
    strict_mode = True
    authority = b""
    status = b""
    sent_headers = False
    chunked_write = False
    body_sent = 0
    declared: int | None = None
    lost: ConnectionError | None = None
    _head = b""
    _fields: ResponseFields | None = None
    _given: Sequence[tuple[str, str]] = ()
    _outheaders: list[tuple[bytes, bytes]] | None = None
    _inheaders: dict[bytes, bytes] | None = None

    def __init__(self, server: HTTPServer, conn: HTTPConnection) -> None:
        self.message = message = conn.reader.message
        self.server = server
        self.conn = conn
        self.method = message.method
        self.uri = message.target
        self.path, _, self.qs = message.target.partition(b"?")
        if b"%" in self.path or not self.path.startswith(b"/"):
            self.authority, self.path, self.qs = _split_target(message.target)
        self.rfile = open_body(conn.reader, conn.connection, self._continue)
        self.close_connection = not message.keep_alive
        self._without_content = message.method == b"HEAD"

    @property
    def scheme(self) -> bytes:
        """``b"https"`` or ``b"http"``."""
        return self.conn.scheme

    @property
    def request_protocol(self) -> bytes:
        """The version that the client speaks."""
        return b"HTTP/1.1" if self.message.version == (1, 1) else b"HTTP/1.0"

    @property
    def response_protocol(self) -> str:
        """The version whose features the response may use: the lower of the client's and the server's."""
        return "HTTP/1.1" if self.message.version == (1, 1) and self.server.protocol != "HTTP/1.0" else "HTTP/1.0"

    @property
    def chunked_read(self) -> bool:
        """Whether the request's body came in chunks."""
        return self.message.chunked

    @property
    def outheaders(self) -> list[tuple[bytes, bytes]]:
        """The response's fields as pairs of bytes; a gateway may change them until there is content."""
        if self._outheaders is None:
            self._outheaders = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._given]
        return self._outheaders

    @outheaders.setter
    def outheaders(self, fields: list[tuple[bytes, bytes]]) -> None:
        self._outheaders = fields
        self._fields = None

    @property
    def inheaders(self) -> dict[bytes, bytes]:
        """The request's fields by their names in Title-Case; repeated ones joined."""
        if self._inheaders is None:
            self._inheaders = {
                name.removeprefix("HTTP_").replace("_", "-").title().encode("ascii"): value.encode("latin-1")
                for name, value in self.message.environ_fields.items()
            }
        return self._inheaders

    @property
    def head_is_out(self) -> bool:
        """Whether the response has begun, so that no other can take its place."""
        return self.sent_headers and not self._head

    @property
    def is_whole(self) -> bool:
        """Whether all of a response whose length was declared has been sent."""
        return self.head_is_out and (self._without_content or self.body_sent == self.declared)

    @property
    def takes_content(self) -> bool:
        """Whether content given to `write` goes anywhere: not in answer to HEAD, nor with 204, 205 and 304."""
        return not self._without_content

    def respond(self) -> None:
        """Let the gateway answer, and complete its response."""
        self.server.gateway(self).respond()
        self.finish()

    def finish(self) -> None:
        """Send what is still due: a head without content, the last chunk.

        Raises:
            ValueError: The content was shorter than its declared length.
            ConnectionError: The connection broke.
        """
        if not self.sent_headers:
            if not self._without_content:
                self.declare(0)
            self.ensure_headers_sent()
        if self.declared is not None and self.body_sent < self.declared and not self._without_content:
            raise ValueError(f"The response had {self.body_sent} of the {self.declared} bytes that it declared.")
        if self.chunked_write:
            self._send(LAST_CHUNK)
            # Whatever is written later, by an application that has kept `write`, is more than there was to be.
            self.declared = self.body_sent
        elif self._head:
            self._send(b"")

    def begin_response(self, status: str, fields: Sequence[tuple[str, str]]) -> None:
        """Take `status` and fields as text, in the place of `status` and `outheaders`.

        Raises:
            ValueError: A status or field that would break the response apart, or that is the server's to set.
            TypeError: A status or field that is not text.
        """
        self.status = status_bytes(status)
        self._fields = checked = ResponseFields(fields)
        self._given = fields
        self._outheaders = None
        self.declared = checked.content_length

    def check_response(self) -> None:
        """Check `status` and `outheaders`.

        Raises:
            ValueError: A status or field that would break the response apart, or that is the server's to set.
        """
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.outheaders]
        status_bytes(self.status.decode("latin-1"))
        self._fields = checked = ResponseFields(fields)
        self.declared = checked.content_length

    def declare(self, length: int) -> None:
        """Declare how much content there is, where the application did not and the status allows any."""
        if not self.sent_headers:
            self._checked_fields()
            if self.declared is None and self.status[:3] not in _WITHOUT_CONTENT:
                self.declared = length

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
        server = self.server
        fields = self._checked_fields()
        if fields.close or not self.message.complete or server.draining:
            self.close_connection = True
        framing = self._framing()
        self._head = b"".join(
            (
                server.status_line_start,
                self.status,
                b"\r\n",
                *fields.lines,
                framing,
                b"" if fields.has_date else _date(),
                b"" if fields.has_server else server.server_line,
                self.conn.extra_lines,
                b"\r\n",
            )
        )

    def _framing(self) -> bytes:
        """Decide how the end of the content is told (RFC 9112, 6.3), and whether the connection stays."""
        http11 = self.message.version == (1, 1) and self.server.protocol != "HTTP/1.0"
        code = self.status[:3]
        if code in _WITHOUT_CONTENT:
            self._without_content = True
            if code != NOT_MODIFIED:
                self.declared = 0 if code == RESET_CONTENT else None
        elif self.declared is None and not self._without_content:
            if http11:
                self.chunked_write = True
            else:
                # An HTTP/1.0 client takes the end of the connection for the end of the content.
                self.close_connection = True
        length = b"" if self.declared is None else b"Content-Length: %d\r\n" % self.declared
        if self.chunked_write:
            length = b"Transfer-Encoding: chunked\r\n"
        if self.close_connection:
            return length + b"Connection: close\r\n"
        return length if http11 else length + b"Connection: keep-alive\r\n"

    def write(self, chunk: bytes) -> None:
        """Send content.

        Raises:
            ValueError: It is more than was declared. If the head was out, what was declared has been sent.
            ConnectionError: The connection broke.
        """
        if not self.sent_headers:
            self.ensure_headers_sent()
        if self._without_content or not chunk:
            return
        size = len(chunk)
        if self.declared is not None and self.body_sent + size > self.declared:
            excess = self.body_sent + size - self.declared
            if self.head_is_out:
                self.body_sent = self.declared
                self._send(chunk[:-excess])
            raise ValueError(f"The response has {excess} bytes more than it declared.")
        self.body_sent += size
        self._send(b"%x\r\n%b\r\n" % (size, chunk) if self.chunked_write else chunk)

    def restart_response(self) -> None:
        """Forget a head that was made and has not left, so that another can take its place."""
        self.sent_headers, self._head, self.chunked_write = False, b"", False
        self.declared = self._fields = None
        self._without_content = self.method == b"HEAD"
        self.close_connection = not self.message.keep_alive

    def leave_to_front(self, supply: Supply) -> bool:
        """Leave content of the declared length to the Front, which draws it as the peer takes it.

        Returns:
            Whether it was taken, and closing `supply` is the Front's from now on.
        """
        self.ensure_headers_sent()
        if self._without_content or self.declared is None or self.body_sent:
            return False
        self._send(b"")
        self.body_sent = self.declared
        self.conn.connection.supply = supply
        return True

    def simple_response(self, status: str | bytes, msg: str | bytes = "") -> None:
        """Send a whole response of plain text, and keep the connection for no other."""
        self.status = status.encode("latin-1") if isinstance(status, str) else status
        body = msg.encode() if isinstance(msg, str) else msg
        head_only = self.method == b"HEAD"
        self.close_connection = self.sent_headers = self._without_content = True
        self._head, self.chunked_write, self.declared = b"", False, None
        self.body_sent = 0 if head_only else len(body)
        self._send(complete_response(self.conn, self.status, body, head_only=head_only))

    def _checked_fields(self) -> ResponseFields:
        fields, changed = self._fields, self._outheaders
        if fields is None or (changed is not None and fields.count != len(changed)):
            self.check_response()
            fields = self._fields
            assert fields is not None  # noqa: S101 - made by the check
        return fields

    def _send(self, data: bytes) -> None:
        write = self.conn.connection.write
        head = self._head
        try:
            if head:
                self._head = b""
                if len(data) <= JOINED_AT_MOST - len(head):
                    data = head + data
                else:
                    write(head)
            if data:
                write(data)
        except ConnectionError as error:
            # Not this one, whose traceback leads back here: together they would stay until the collector comes by.
            self.lost = type(error)(*error.args)
            raise
        except PeerError as error:
            if self.lost is None:
                self.server.accounting.refused("slow_reader")
            self.lost = ConnectionAbortedError(str(error))
            raise ConnectionAbortedError(str(error)) from error

    def _continue(self) -> None:
        """Answer a client that waits for 100 (Continue), once, and unless the final response has begun."""
        message = self.message
        if message.expects_continue:
            message.expects_continue = False
            if not self.head_is_out:
                self.conn.connection.write(CONTINUE)


def complete_response(
    conn: HTTPConnection,
    status: bytes | int,
    body: bytes,
    *,
    head_only: bool = False,
    fields: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Return a response of plain text after which the connection is closed."""
    if isinstance(status, int):
        status = f"{status} {HTTPStatus(status).phrase}".encode("ascii")
    server: Any = conn.server
    return b"".join(
        (
            server.status_line_start,
            status,
            b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n" % len(body),
            "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1"),
            b"Connection: close\r\n",
            _date(),
            server.server_line,
            conn.extra_lines,
            b"\r\n",
            b"" if head_only else body,
        )
    )


def _split_target(target: bytes) -> tuple[bytes, bytes, bytes]:
    """Return authority, decoded path and query of a request target that was found well-formed."""
    authority = b""
    if not target.startswith(b"/"):
        if target == b"*":
            return b"", b"*", b""
        rest = target.partition(b"://")[2]
        authority = _AUTHORITY_END.split(rest, maxsplit=1)[0]
        target = rest[len(authority) :]
        if not target.startswith(b"/"):
            target = b"/" + target
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
