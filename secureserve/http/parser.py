"""llhttp, and what it calls while it reads a message. Pure.

A parser takes about a kilobyte, and few connections need one at any time: most heads come again, and one that is parsed
has arrived whole. So a parser is borrowed for a head, and kept only for content in chunks; an idle connection has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import httptools

from secureserve.http.head_rules import NAMES, environ_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.http.message import Message

__all__ = ["Borrower", "Parser"]


class Borrower(Protocol):
    """Who has a message to be read."""

    message: Message

    def add_trailer(self, name: str, value: str) -> None:
        """Take a field that came after chunked content."""

    def begin_chunk(self) -> None:
        """Take the beginning of a chunk."""

    def add_content(self, content: bytes) -> None:
        """Take content."""


class Parser:
    """llhttp, without any of its lenient flags, which fills the message of whoever has borrowed it.

    Attributes:
        borrower: Who that is; only while there is one.
        feed: Reads more of the message. Raises `httptools.HttpParserUpgrade` where it asks for another protocol, and
            `httptools.HttpParserError` where it is malformed or the borrower does not take it.

    Threads: the one that has the borrower.
    """

    __slots__ = ("_llhttp", "borrower", "feed")

    borrower: Borrower

    def __init__(self) -> None:
        self._llhttp: Any = httptools.HttpRequestParser(self)
        self.feed: Callable[[bytes], None] = self._llhttp.feed_data

    def close(self) -> None:
        """Let go of llhttp, which refers back to this object."""
        del self._llhttp, self.feed

    # What llhttp calls.

    def on_url(self, url: bytes) -> None:
        """Take the request target."""
        self.borrower.message.target += url

    def on_header(self, field: bytes, value: bytes) -> None:
        """Take a field of the head, or of the trailers."""
        try:
            name = NAMES[field]
        except KeyError:
            name = environ_name(field)
        text = value.decode("latin-1").rstrip(" \t")
        message = self.borrower.message
        if message.method:
            self.borrower.add_trailer(name, text)
            return
        fields = message.environ_fields
        if name in fields:
            # RFC 9110, 5.2; cookies are the exception (RFC 6265, 5.4).
            text = f"{fields[name]}{'; ' if name == 'HTTP_COOKIE' else ', '}{text}"
        fields[name] = text

    def on_headers_complete(self) -> None:
        """Take what llhttp knows of the head now, and forgets with the end of the message."""
        message, llhttp = self.borrower.message, self._llhttp
        message.method = llhttp.get_method()
        message.keep_alive = llhttp.should_keep_alive()

    def on_chunk_header(self) -> None:
        """Take the beginning of a chunk."""
        self.borrower.begin_chunk()

    def on_body(self, body: bytes) -> None:
        """Take content."""
        self.borrower.add_content(body)

    def on_message_complete(self) -> None:
        """Take the end of the message."""
        self.borrower.message.complete = True
