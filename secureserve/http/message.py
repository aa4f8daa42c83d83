"""Reading HTTP/1.1 requests with llhttp, and refusing what RFC 9112 says must be refused. Pure.

llhttp has the grammar, and is run without any of its lenient flags. What it leaves to its users is checked here: that the
request line has single spaces and an HTTP version, the transfer codings, Host, fields whose names would collide in a
WSGI environ, and the size of everything that is not content.

Every message ends with an empty line or with content of a known length, so the bytes are handed to llhttp in pieces that
end where a message may end. That way it never sees the bytes of the next request (pipelining, RFC 9112, 9.3.2), which are still
ours when this one has been answered.
"""

from __future__ import annotations

import contextlib
import re
from typing import Final

import httptools

from secureserve.errors import BadRequest, BodyTooLarge, HeadTooLarge
from secureserve.front.connection import Need
from secureserve.front.head import HeadCutter
from secureserve.http.host import parse_host

__all__ = ["Limits", "Message", "MessageReader", "environ_name"]

_END: Final = b"\r\n\r\n"
_VERSIONS: Final = {"1.0": (1, 0), "1.1": (1, 1)}
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^ ]+ HTTP/(?P<version>[0-9]\.[0-9])")

FRAMING_ALLOWANCE: Final = 8 * 1024
"""Bytes of chunk extensions, padding and trailers that a chunked body may have besides its content."""
FRAMING_PER_CHUNK: Final = 24
"""Bytes of a chunk's own framing: a size of up to 16 digits and two line ends, and some."""

_REFUSED_NAMES: Final = frozenset({"PROXY"})
"""``HTTP_PROXY`` configures clients in the environment ("httpoxy"), and no client has a use for the field."""

_NAMES_KEPT: Final = 1024
_names: Final[dict[bytes, str]] = {}
"""Field names as they were sent, and what a WSGI environ calls them: a cache of up to `_NAMES_KEPT`."""
_hosts: Final[set[str]] = set()
"""Host values that were found valid: a cache of up to `_NAMES_KEPT`."""


class Limits:
    """What a message may have.

    Args:
        max_head_size: Bytes of the head; 0 sets no limit.
        max_line_size: Bytes of the request line.
        max_fields: Fields in the head.
        max_body_size: Bytes of content; 0 sets no limit.
        max_gathered_size: Bytes of content gathered before the request may run.
    """

    __slots__ = ("max_body_size", "max_fields", "max_gathered_size", "max_head_size", "max_line_size")

    def __init__(
        self, *, max_head_size: int, max_line_size: int, max_fields: int, max_body_size: int, max_gathered_size: int
    ) -> None:
        self.max_head_size = max_head_size
        self.max_line_size = max_line_size
        self.max_fields = max_fields
        self.max_body_size = max_body_size
        self.max_gathered_size = max_gathered_size


class Message:
    """One request as it was read.

    Attributes:
        method: As sent.
        target: As sent.
        version: ``(1, 0)`` or ``(1, 1)``.
        fields: Name and value of each field of the head, in order, names as sent, values without white space around.
        environ_fields: The same for a WSGI environ: ``HTTP_*``, `CONTENT_TYPE` and `CONTENT_LENGTH`; repeated ones joined.
        keep_alive: Whether the client wants the connection kept.
        content_length: As declared, or None.
        chunked: Whether the content comes in chunks.
        expects_continue: Whether the client waits for 100 (Continue) before it sends content (RFC 9110, 10.1.1).
        complete: Whether all of the content has arrived.
        trailers: Fields that came after chunked content.
    """

    __slots__ = (
        "chunked",
        "complete",
        "content_length",
        "environ_fields",
        "expects_continue",
        "fields",
        "keep_alive",
        "method",
        "target",
        "trailers",
        "version",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.version = (1, 1)
        self.fields: list[tuple[bytes, bytes]] = []
        self.environ_fields: dict[str, str] = {}
        self.trailers: list[tuple[bytes, bytes]] = []
        self.keep_alive = False
        self.content_length: int | None = None
        self.chunked = False
        self.expects_continue = False
        self.complete = False


class MessageReader:
    """Reads one request after the other out of a connection's bytes.

    After `Need.WORKER` the request is in `message` and the content gathered so far in `content`; `feed` then reads the
    rest of a large body, and `next` goes on to the following request once that is complete.

    Args:
        limits: What a message may have.

    Threads: the one that has the connection.
    """

    __slots__ = (
        "_cutter",
        "_framing",
        "_head_done",
        "_limits",
        "_overlap",
        "_parser",
        "_rest",
        "content",
        "gathered",
        "message",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._cutter = HeadCutter(limits.max_head_size, limits.max_line_size)
        self._parser = httptools.HttpRequestParser(self)
        self._rest = b""
        self._begin()

    def _begin(self) -> None:
        self.message = Message()
        self.content: list[bytes] = []
        self.gathered = 0
        self._framing = FRAMING_ALLOWANCE
        self._overlap = b""
        self._head_done = False

    def has_begun(self) -> bool:
        """Return whether part of a request has arrived."""
        return self._head_done or bool(self._cutter)

    def next(self) -> None:
        """Forget the request that is complete, and make ready for the next."""
        self._begin()

    def feed(self, data: bytes) -> Need:
        """Take what arrived, and what had arrived behind the last request.

        Returns:
            What is needed next.

        Raises:
            BadRequest: The peer broke a rule; the status to answer with is in it.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not self._head_done:
            if not data:
                return Need.HEAD
            cut = self._cutter.feed(data)
            if cut is None:
                return Need.HEAD
            head, data = cut
            self._read_head(head)
        if self.message.complete:
            self._rest = data
            return Need.WORKER
        if data:
            self._read_content(data)
        return self._needed()

    def close(self) -> None:
        """Let go of the parser, which refers back to this object."""
        self._parser = None

    def take_content(self) -> list[bytes]:
        """Return the content gathered since the last call."""
        content = self.content
        self.content = []
        return content

    def _needed(self) -> Need:
        message, limits = self.message, self._limits
        if message.complete or self.gathered >= limits.max_gathered_size:
            return Need.WORKER
        if message.expects_continue and (
            message.content_length is None or message.content_length > limits.max_gathered_size
        ):
            # A large body that is announced first: the application may want to refuse it before it is sent.
            return Need.WORKER
        return Need.BODY

    # The head.

    def _read_head(self, head: bytes) -> None:
        parser, message = self._parser, self.message
        self._head_done = True
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._read_head_as_if_no_upgrade(head)
        except httptools.HttpParserError as error:
            raise _refusal(head, error) from None
        parser = self._parser
        message.method = parser.get_method()
        if message.method == b"CONNECT":
            text = "This is not a proxy: CONNECT is not served."
            raise BadRequest(text, status=501)
        # llhttp lets more than one space pass, and a request line without a version.
        if not head.startswith(b"%b %b HTTP/" % (message.method, message.target)):
            raise _refusal(head, None)
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise _refusal(head, None)
        message.version = _VERSIONS[version]
        message.keep_alive = parser.should_keep_alive()
        self._check_head(message)

    def _read_head_as_if_no_upgrade(self, head: bytes) -> None:
        """Read it again without the Upgrade field, which a server may ignore (RFC 9110, 7.8) and this one does."""
        message = self.message
        fields, message.fields, message.target, message.complete = message.fields, [], b"", False
        lines = [head.partition(b"\r\n")[0]]
        lines += [b"%b: %b" % field for field in fields if field[0].lower() != b"upgrade"]
        self._parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(httptools.HttpParserUpgrade):
            self._parser.feed_data(b"\r\n".join(lines) + _END)
        message.fields = fields

    def _check_head(self, message: Message) -> None:
        fields = _environ_fields(message.fields)
        message.environ_fields = fields
        host = fields.get("HTTP_HOST")
        if host is not None:
            _check_host(host)
        elif message.version != (1, 0):
            text = "An HTTP/1.1 request has a Host field."
            raise BadRequest(text)
        if not message.target.startswith(b"/"):
            _check_target(message, host)
        elif b"#" in message.target:
            text = "A request target has no fragment."
            raise BadRequest(text)
        if "HTTP_TRANSFER_ENCODING" in fields:
            _check_codings(fields["HTTP_TRANSFER_ENCODING"], message.version)
            message.chunked = True
        elif (length := fields.get("CONTENT_LENGTH")) is not None:
            message.content_length = int(length)
            self._check_size(message.content_length)
        if "HTTP_EXPECT" in fields and message.version != (1, 0):
            if fields["HTTP_EXPECT"].lower() != "100-continue":
                text = "The only expectation met here is 100-continue."
                raise BadRequest(text, status=417)
            message.expects_continue = not message.complete

    def on_url(self, url: bytes) -> None:
        """Take (part of) the request target from llhttp."""
        self.message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field from llhttp: of the head, or of the trailers."""
        message = self.message
        fields = message.trailers if message.method else message.fields
        fields.append((name, value.rstrip(b" \t")))
        if len(fields) > self._limits.max_fields:
            text = f"The request has more than {self._limits.max_fields} header fields."
            raise HeadTooLarge(text, status=431)

    # The content.

    def on_chunk_header(self) -> None:
        """Take the begin of a chunk from llhttp."""
        self._framing += FRAMING_PER_CHUNK

    def on_body(self, body: bytes) -> None:
        """Take content from llhttp."""
        self.content.append(body)
        self.gathered += len(body)
        self._framing += len(body)
        self._check_size(self.gathered)

    def on_message_complete(self) -> None:
        """Take the end of the message from llhttp."""
        self.message.complete = True

    def _check_size(self, size: int) -> None:
        limit = self._limits.max_body_size
        if limit and size > limit:
            text = f"The request body is larger than {limit} bytes."
            raise BodyTooLarge(text)

    def _read_content(self, data: bytes) -> None:
        length = self.message.content_length
        if length is not None:
            remaining = length - self.gathered
            self._rest = data[remaining:]
            self._parse(data[:remaining])
            return
        # The end of chunked content is an empty line, which may have begun in what was read before.
        joined = self._overlap + data
        read, searched = len(self._overlap), 0
        while read < len(joined):
            found = joined.find(_END, searched)
            stop = len(joined) if found < 0 else found + len(_END)
            if stop > read:
                self._parse(joined[read:stop])
                self._framing -= stop - read
                read = stop
                if self._framing < 0:
                    text = "The chunk extensions or trailers are larger than the server takes."
                    raise BadRequest(text)
            if self.message.complete:
                self._rest = joined[read:]
                return
            searched = found + 2
        self._overlap = joined[-(len(_END) - 1) :]

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, BadRequest):
                raise error.__context__ from None
            text = f"The request body is malformed: {error}."
            raise BadRequest(text) from None


def environ_name(field: bytes) -> str:
    """Return what a WSGI environ calls a field.

    Raises:
        BadRequest: The name could be mistaken for another in an environ, where ``-`` and ``_`` are one, or means something
            else there.
    """
    known = _names.get(field)
    if known is not None:
        return known
    name = field.upper().decode("latin-1")
    if "_" in name or name in _REFUSED_NAMES:
        text = f"A field named {name} is refused: a WSGI environ could not tell it from another."
        raise BadRequest(text)
    name = name.replace("-", "_")
    if name not in {"CONTENT_LENGTH", "CONTENT_TYPE"}:
        name = f"HTTP_{name}"
    if len(_names) < _NAMES_KEPT:
        _names[field] = name
    return name


def _environ_fields(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    environ: dict[str, str] = {}
    names = _names
    for field, value in fields:
        name = names.get(field) or environ_name(field)
        text = value.decode("latin-1")
        if name in environ:
            # RFC 9110, 5.2; cookies are the exception (RFC 6265, 5.4).
            text = f"{environ[name]}{'; ' if name == 'HTTP_COOKIE' else ', '}{text}"
        environ[name] = text
    return environ


def _check_host(host: str) -> None:
    if host not in _hosts:
        parse_host(host)
        if len(_hosts) < _NAMES_KEPT:
            _hosts.add(host)


def _check_target(message: Message, host: str | None) -> None:
    """Refuse a target in a form that does not go with the method, or that contradicts Host (RFC 9112, 3.2)."""
    if message.target == b"*":
        if message.method != b"OPTIONS":
            text = "The target * goes with OPTIONS only."
            raise BadRequest(text)
        return
    scheme, separator, rest = message.target.partition(b"://")
    authority = re.split(rb"[/?]", rest, maxsplit=1)[0].decode("latin-1")
    if not separator or scheme.lower() not in {b"http", b"https"} or b"#" in rest:
        text = "The request target is neither a path nor an http(s) URL."
        raise BadRequest(text)
    _check_host(authority)
    if host is not None and host.lower() != authority.lower():
        text = "The request target names another host than the Host field does."
        raise BadRequest(text)


def _check_codings(value: str, version: tuple[int, int]) -> None:
    codings = [coding.strip().lower() for coding in value.split(",")]
    if version == (1, 0):
        text = "HTTP/1.0 has no transfer codings."
        raise BadRequest(text)
    if codings[-1] != "chunked" or codings.count("chunked") > 1:
        text = "The last transfer coding of a request is chunked, once."
        raise BadRequest(text)
    if len(codings) > 1:
        text = "The only transfer coding known here is chunked."
        raise BadRequest(text, status=501)


def _refusal(head: bytes, error: httptools.HttpParserError | None) -> BadRequest:
    """Return what to answer to a head that llhttp, or the rules it leaves to us, refused."""
    if error is not None and isinstance(error.__context__, BadRequest):
        return error.__context__
    line = head.partition(b"\r\n")[0]
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        return BadRequest("The first line is not an HTTP/1.1 request line.")
    if found["version"] not in {b"1.0", b"1.1"}:
        return BadRequest("This version of HTTP is not spoken here; use HTTP/1.1.", status=505)
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return BadRequest("The request method is not known here.", status=501)
    return BadRequest(f"The request head is malformed: {error}.")
