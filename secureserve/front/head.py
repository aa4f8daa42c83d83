"""The request head: where it ends, and how large it may grow. Pure.

The grammar of a head is llhttp's business; this module only cuts the head out of the byte stream, so that a peer who
sends it in any number of pieces costs no more than one who sends it at once, and so that what can be refused early is
refused early.
"""

from __future__ import annotations

import re
import sys
from typing import Final

from secureserve.errors import BadRequest, HeadTooLarge

__all__ = ["HeadCutter"]

END: Final = b"\r\n\r\n"
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_NOT_A_METHOD: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_LONGEST_METHOD: Final = 32


class HeadCutter:
    """Cuts request heads out of a byte stream.

    Args:
        max_size: Bytes that a head may have, its empty last line included; 0 sets no limit.
        max_line_size: Bytes that its request line may have.

    Threads: the one that has the connection.
    """

    __slots__ = ("_buffer", "_line_ended", "_max_line_size", "_max_size", "_searched")

    def __init__(self, max_size: int, max_line_size: int) -> None:
        self._max_size = max_size or sys.maxsize
        # Where the head's own limit is the smaller one, it is the one to name, however the bytes arrive.
        self._max_line_size = max_line_size if max_line_size < self._max_size else sys.maxsize
        # Most heads arrive whole, and never get here.
        self._buffer: bytes | bytearray = b""
        self._searched = 0
        self._line_ended = False

    def __bool__(self) -> bool:
        """Return whether part of a head has arrived."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Add what arrived.

        Returns:
            The head, up to and with its empty line, and what came after it; None while it is not complete. Empty lines
            before a request line are dropped (RFC 9112, 2.2).

        Raises:
            HeadTooLarge: It is over its limit, complete or not (413; 414 for the request line).
            BadRequest: It can become no request any more, or none that is served here (501).
        """
        buffer = self._buffer
        if not buffer or buffer == b"\r":
            if buffer:
                data = b"\r" + data
                self._buffer = b""
            if data.startswith(b"\r"):
                data = _without_empty_lines(data)
            end = data.find(END)
            if end >= 0:
                return self._cut(data, end + len(END))
            if not data:
                return None
        if self._buffer:
            self._buffer += data
        else:
            self._buffer = bytearray(data)
        buffer = self._buffer
        # The end, or a line's, may begin in the bytes that were searched last.
        start = max(0, self._searched - len(END) + 1)
        end = buffer.find(END, start)
        if end >= 0:
            whole = bytes(buffer)
            self._buffer = b""
            self._searched, self._line_ended = 0, False
            return self._cut(whole, end + len(END))
        self._refuse_early(start)
        self._searched = len(buffer)
        return None

    def _cut(self, data: bytes, end: int) -> tuple[bytes, bytes]:
        if end > self._max_line_size and data.find(b"\r\n") > self._max_line_size:
            raise self._line_too_long()
        if end > self._max_size:
            raise self._too_large()
        if end == len(data):
            return data, b""
        return data[:end], data[end:]

    def _refuse_early(self, start: int) -> None:
        buffer = self._buffer
        if not self._line_ended:
            self._refuse_line_early(buffer.find(b"\r\n", start))
        if len(buffer) > self._max_size:
            raise self._too_large()
        if _BARE_LF.search(buffer, start):
            raise BadRequest("Lines of a request head end with CRLF, and this one does not.")

    def _refuse_line_early(self, end: int) -> None:
        buffer = self._buffer
        self._line_ended = end >= 0
        # Its CR may have arrived, and is not part of it.
        if (end if end >= 0 else len(buffer) - 1) > self._max_line_size:
            raise self._line_too_long()
        if buffer == b"\r":
            return
        method = bytes(buffer[: _LONGEST_METHOD + 1]).partition(b" ")[0]
        if not method or _NOT_A_METHOD.search(method):
            raise BadRequest("The first line is not an HTTP request line.")
        if len(method) > _LONGEST_METHOD:
            raise BadRequest("The request method is longer than any known here.", status=501)

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"The request head is larger than {self._max_size} bytes.")

    def _line_too_long(self) -> HeadTooLarge:
        return HeadTooLarge(f"The request line is longer than {self._max_line_size} bytes.", status=414)


def _without_empty_lines(data: bytes) -> bytes:
    found = _EMPTY_LINES.match(data)
    return data if found is None else data[found.end() :]
