"""`MessageReader`: reads HTTP/1.1 requests with llhttp, and refuses what RFC 9112 says must be refused. Pure.

llhttp has the grammar, and is run without any of its lenient flags. What it leaves to its users is checked here: that
the request line has single spaces and an HTTP version, the transfer codings, Host, fields whose names would collide in
a WSGI environ, and the size of everything that is not content.

Every message ends with an empty line or with content of a known length, so the bytes are handed to llhttp in pieces
that end where a message may end. That way it never sees the bytes of the next request (pipelining, RFC 9112, 9.3.2),
which are still ours when this one has been answered.

Clients say nearly the same with every request on a connection. Fields that come again byte for byte mean the same, so
of a head that has those of the last one only the request line is read, and nothing of one that is all the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import httptools

from secureserve.errors import BadRequest, BodyTooLarge, HeadTooLarge
from secureserve.front.conversation import Need
from secureserve.front.head import HeadCutter
from secureserve.http.head_rules import REQUEST_LINE, VERSIONS, check_codings, check_host, check_target, refusal
from secureserve.http.message import Message
from secureserve.http.parser import Parser

if TYPE_CHECKING:
    from secureserve.http.first_heads import FirstHeads
    from secureserve.http.message import MessageLimits

__all__ = ["MessageReader"]

_END: Final = b"\r\n\r\n"
_VERSION_SIZE: Final = len(b"HTTP/1.1")
_SPACES: Final = 2
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)

FRAMING_ALLOWANCE: Final = 8 * 1024
"""Bytes of chunk extensions, padding and trailers that a chunked body may have besides its content."""
FRAMING_PER_CHUNK: Final = 24
"""Bytes of a chunk's own framing: a size of up to 16 digits and two line ends, and some."""

_OF_THE_HEAD: Final = frozenset({"HTTP_CONNECTION", "HTTP_EXPECT", "HTTP_HOST", "HTTP_UPGRADE"})
"""Fields that come too late in trailers: they say what to do with the request, or its connection (RFC 9110, 6.5.1)."""

_KEPT_HEAD_SIZE: Final = 2048
"""Bytes of a head that a connection remembers until the next one; larger ones it forgets."""

_NOTHING_READ: Final = Message()
"""Stands for the message where there is none; never changed."""


class MessageReader:
    """Reads one request after the other out of a connection's bytes.

    After `Need.WORKER` the request is in `message`, and `take_content` has the content gathered so far; `feed` then
    reads the rest of a large body, and `next` goes on to the following request once that is complete.

    Args:
        limits: What a message may have.
        parsers: Those that nobody has at the moment, of any thread: one is taken out while it is needed. So there are
            no more than threads have read heads at the same moment.
        first_heads: What other connections began with.

    Threads: the one that has the connection.
    """

    __slots__ = (
        "_content",
        "_cutter",
        "_first_heads",
        "_framing",
        "_head_done",
        "_last",
        "_limits",
        "_overlap",
        "_parser",
        "_parsers",
        "_rest",
        "gathered",
        "message",
    )

    def __init__(self, limits: MessageLimits, parsers: list[Parser], first_heads: FirstHeads) -> None:
        self._limits = limits
        self._parsers = parsers
        self._first_heads = first_heads
        self._cutter = HeadCutter(limits.max_head_size, limits.max_line_size)
        self._parser: Parser | None = None
        self._rest = b""
        # The last one whose head may come again.
        self._last = _NOTHING_READ
        self.next()

    def next(self) -> None:
        """Forget the request that is complete, and make ready for the next."""
        self.message = _NOTHING_READ
        self.gathered = 0
        self._content: bytes | bytearray = b""
        self._framing = FRAMING_ALLOWANCE
        self._overlap = b""
        self._head_done = False

    def has_begun(self) -> bool:
        """Return whether part of a request has arrived."""
        return self._head_done or bool(self._cutter)

    def has_rest(self) -> bool:
        """Return whether something arrived behind the last request, and waits for `feed` to look at it."""
        return bool(self._rest)

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
        """Let go of what is half read."""
        self._drop_parser()

    def take_content(self) -> bytes | bytearray:
        """Return the content gathered since the last call."""
        content = self._content
        self._content = b""
        return content

    def missing(self) -> int:
        """Return how much of content of declared length has not arrived, which may be read past this reader."""
        length = self.message.content_length
        return 0 if length is None else length - self.gathered

    def skip(self, size: int) -> None:
        """Take note that so much of the `missing` content has been read past this reader."""
        self.gathered += size
        self._end_declared()

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
        self._head_done = True
        last = self._last
        if head == last.head:
            self.message = last
            return
        if last is _NOTHING_READ and (known := self._first_heads.find(head)) is not None:
            self.message = known
            if known.keep_alive and known.version == (1, 1):
                self._last = known
            return
        message = self.message = Message()
        line_end = head.find(b"\r\n")
        version = VERSIONS.get(head[line_end - _VERSION_SIZE : line_end])
        fields = head[line_end:]
        unread = head
        if version == (1, 1) and len(fields) == len(last.head) - last.line_size and last.head.endswith(fields):
            unread = head[:line_end] + _END
        elif head.count(b"\n") - 2 > self._limits.max_fields:
            raise HeadTooLarge(f"The request has more than {self._limits.max_fields} header fields.", status=431)
        self._parse_head(head, unread)
        message = self.message
        # llhttp lets more than one space pass, other protocols, and a line without any.
        if version is None or line_end != len(message.method) + len(message.target) + _SPACES + _VERSION_SIZE:
            raise refusal(head, None)
        # Not before the line is known to be nothing else: llhttp finds a field in one that has a bare LF, and the last
        # fields are other connections' too.
        message.environ_fields = message.environ_fields if unread is head else last.environ_fields
        message.version = version
        self._check_head(message)
        if (
            message.complete
            and message.content_length is None
            and "HTTP_UPGRADE" not in message.environ_fields
            and len(head) <= _KEPT_HEAD_SIZE
        ):
            message.head, message.line_size = head, line_end
            if message.keep_alive and version == (1, 1):
                self._last = message
            if last is _NOTHING_READ:
                self._first_heads.add(message)

    def _parse_head(self, head: bytes, unread: bytes) -> None:
        """Let llhttp read what is not known of a head."""
        try:
            parser = self._parsers.pop()
        except IndexError:
            parser = Parser()
        parser.borrower = self
        try:
            parser.feed(unread)
        except httptools.HttpParserUpgrade:
            parser.close()
            self._read_head_without_upgrade(head)
            return
        except httptools.HttpParserError as error:
            parser.close()
            if found := REQUEST_LINE.match(head):
                # For whoever answers: a refused HEAD gets no text either.
                self.message.method = found["method"]
            raise refusal(head, error) from None
        if self.message.complete and self.message.keep_alive:
            del parser.borrower
            self._parsers.append(parser)
        else:
            self._parser = parser

    def _read_head_without_upgrade(self, head: bytes) -> None:
        """Read it again without the Upgrade field, which a server may ignore (RFC 9110, 7.8) and this one does."""
        if self.message.method == b"CONNECT":
            raise BadRequest("This is not a proxy: CONNECT is not served.", status=501)
        upgrade = self.message.environ_fields["HTTP_UPGRADE"]
        lines = head.split(b"\r\n")
        self.message = Message()
        self._parse_head(head, b"\r\n".join(line for line in lines if line[:8].lower() != b"upgrade:"))
        self.message.environ_fields["HTTP_UPGRADE"] = upgrade

    def _drop_parser(self) -> None:
        """Part with the parser for good: it waits for the rest of a message, or takes no other."""
        parser, self._parser = self._parser, None
        if parser is not None:
            parser.close()

    def _check_head(self, message: Message) -> None:
        fields = message.environ_fields
        host = fields.get("HTTP_HOST")
        if host is None:
            if message.version != (1, 0):
                raise BadRequest("An HTTP/1.1 request has a Host field.")
        else:
            check_host(host)
        if not message.target.startswith(b"/"):
            check_target(message.method, message.target, fields)
        elif b"#" in message.target:
            raise BadRequest("A request target has no fragment.")
        if "HTTP_TRANSFER_ENCODING" in fields:
            check_codings(fields["HTTP_TRANSFER_ENCODING"], message.version)
            message.chunked = True
        elif "CONTENT_LENGTH" in fields:
            self._check_length(fields["CONTENT_LENGTH"])
        if "HTTP_EXPECT" in fields and message.version != (1, 0):
            if fields["HTTP_EXPECT"].lower() != "100-continue":
                raise BadRequest("The only expectation met here is 100-continue.", status=417)
            message.expects_continue = not message.complete

    def _check_length(self, value: str) -> None:
        if not _LENGTH.fullmatch(value):
            raise BadRequest("The Content-Length is not a plain decimal number.")
        self.message.content_length = length = int(value)
        self._check_size(length)

    # What the parser calls.

    def add_trailer(self, name: str, value: str) -> None:
        """Take a field that came after chunked content."""
        message = self.message
        if name in _OF_THE_HEAD:
            raise BadRequest("The trailers have a field that belongs in the head.")
        if len(message.trailers) == self._limits.max_fields:
            raise HeadTooLarge(f"The request has more than {self._limits.max_fields} trailer fields.", status=431)
        message.trailers = [*message.trailers, (name, value)]

    def begin_chunk(self) -> None:
        """Take the beginning of a chunk."""
        self._framing += FRAMING_PER_CHUNK

    def add_content(self, content: bytes) -> None:
        """Take content."""
        gathered = self._content
        if not gathered:
            self._content = content
        elif isinstance(gathered, bytearray):
            gathered += content
        else:
            self._content = bytearray().join((gathered, content))
        self.gathered += len(content)
        self._framing += len(content)
        self._check_size(self.gathered)

    # The content.

    def _check_size(self, size: int) -> None:
        limit = self._limits.max_body_size
        if limit and size > limit:
            raise BodyTooLarge(f"The request body is larger than {limit} bytes.")

    def _read_content(self, data: bytes) -> None:
        length = self.message.content_length
        if length is not None:
            remaining = length - self.gathered
            self._rest = data[remaining:]
            self.add_content(data[:remaining])
            self._end_declared()
            return
        # The end of chunked content is an empty line, which may have begun in what was read before.
        joined = self._overlap + data
        read, searched = len(self._overlap), 0
        while read < len(joined):
            found = joined.find(_END, searched)
            stop = len(joined) if found < 0 else found + len(_END)
            self._parse(joined[read:stop])
            self._framing -= stop - read
            if self._framing < 0:
                raise BadRequest("The chunk extensions or trailers are larger than the server takes.")
            if self.message.complete:
                self._rest = joined[stop:]
                self._drop_parser()
                return
            read, searched = stop, found + 2
        self._overlap = joined[1 - len(_END) :]

    def _end_declared(self) -> None:
        if self.gathered == self.message.content_length:
            self.message.complete = True
            # It was not shown the content, and still waits for it.
            self._drop_parser()

    def _parse(self, piece: bytes) -> None:
        assert self._parser is not None  # noqa: S101 - it has read the head, and the content goes on
        try:
            self._parser.feed(piece)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, BadRequest):
                raise error.__context__ from None
            raise BadRequest(f"The request body is malformed: {error}.") from None
