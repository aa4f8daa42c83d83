"""What a response's status and fields may be, and the lines they make. Pure.

An application's fields are often built from what a client sent, so each is checked for everything that would end its
line or its name (RFC 9110, 5.5). Most fields are the same on every response, so those found good are remembered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ResponseFields", "status_bytes"]

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ILLEGAL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS: Final = re.compile(r"[2-5][0-9][0-9] [\t\x20-\x7e\x80-\xff]*")

_OURS: Final = frozenset({"transfer-encoding", "keep-alive", "upgrade", "te", "trailer", "proxy-connection"})
"""Fields of the connection, or of the framing, both of which are the server's (RFC 9110, 7.6.1; PEP 3333)."""

_KEPT: Final = 1024
_KEPT_SIZE: Final = 256
_lines: Final[dict[tuple[str, str], bytes]] = {}
"""Fields that need no second look, and their lines: a cache of up to `_KEPT` short ones."""
_statuses: Final[dict[str, bytes]] = {}
"""Statuses that were found valid, as they are sent: another."""


def status_bytes(status: str) -> bytes:
    """Check the status of a final response, such as ``200 OK``, and return it as it is sent.

    Raises:
        ValueError: It is none.
    """
    known = _statuses.get(status)
    if known is not None:
        return known
    if not _STATUS.fullmatch(status):
        raise ValueError(f"{status!r} is not the status of a final response, such as '200 OK'.")
    sent = status.encode("latin-1")
    if len(status) <= _KEPT_SIZE:
        if len(_statuses) >= _KEPT:
            _statuses.clear()
        _statuses[status] = sent
    return sent


class ResponseFields:
    """The fields of one response.

    Attributes:
        count: How many were given.
        lines: Their lines, but for Content-Length and Connection, which the server writes itself.
        content_length: As declared, or None.
        close: Whether the connection is to be closed after the response.
        has_date: Whether Date is among them.
        has_server: Whether Server is among them.

    Args:
        fields: Name and value of each.

    Raises:
        ValueError: A field that would break the response apart, or that is the server's to set.
        TypeError: A name or value that is not of type str.
    """

    __slots__ = ("close", "content_length", "count", "has_date", "has_server", "lines")

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self.content_length: int | None = None
        self.close = self.has_date = self.has_server = False
        self.count = len(fields)
        self.lines: list[bytes] = []
        for name, value in fields:
            line = _lines.get((name, value))
            if line is None:
                line = self._take(name, value)
            if line:
                self.lines.append(line)

    def _take(self, name: str, value: str) -> bytes:
        lower = name.lower()
        if lower == "content-length":
            self._declare(value)
            return b""
        if not _NAME.fullmatch(name) or _ILLEGAL.search(value):
            raise ValueError(f"The response field {name!r} has a character that a field must not have.")
        if lower == "connection":
            self.close = self.close or "close" in value.lower()
            return b""
        if lower in _OURS:
            raise ValueError(f"The response field {name!r} is the server's to set (PEP 3333).")
        line = f"{name}: {value}\r\n".encode("latin-1")
        if lower == "date":
            self.has_date = True
        elif lower == "server":
            self.has_server = True
        elif len(line) <= _KEPT_SIZE:
            if len(_lines) >= _KEPT:
                _lines.clear()
            _lines[name, value] = line
        return line

    def _declare(self, value: str) -> None:
        length = int(value) if value.isascii() and value.strip(" \t").isdigit() else None
        if length is None or (self.content_length is not None and self.content_length != length):
            raise ValueError(f"The response declares the content length {value!r}.")
        self.content_length = length
