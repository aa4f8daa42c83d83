"""The request head: where it ends, and how large it may grow. Pure.

The grammar of a head is llhttp's business; this module only cuts the head out of the byte stream, so that a peer who
sends it in any number of pieces costs no more than one who sends it at once, and so that what can be refused early is
refused early.
"""

from __future__ import annotations

import re
from typing import Final

from secureserve.errors import BadRequest, HeadTooLarge

__all__ = ["HeadCutter"]

END: Final = b"\r\n\r\n"
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_NOT_HTTP: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_LONGEST_METHOD: Final = 32


class HeadCutter:
    """Cuts request heads out of a byte stream.

    Args:
        max_size: Bytes that a head may have, its empty last line included; 0 sets no limit.
        max_line_size: Bytes that its request line may have.
    """

    __slots__ = ("_buffer", "_max_line_size", "_max_size", "_searched")

    def __init__(self, max_size: int, max_line_size: int) -> None:
        self._max_size = max_size
        self._max_line_size = max_line_size
        self._buffer = bytearray()
        self._searched = 0

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
            BadRequest: It can become no request any more.
        """
        if not self._buffer:
            if data[:1] in b"\r\n":
                data = data.lstrip(b"\r\n")
                if not data:
                    return None
            end = data.find(END)
            if end >= 0:
                return self._cut(data, end + len(END))
        buffer = self._buffer
        buffer += data
        # The end, or a bare LF, may begin in the bytes that were searched last.
        start = max(0, self._searched - len(END) + 1)
        end = buffer.find(END, start)
        if end >= 0:
            whole = bytes(buffer)
            buffer.clear()
            self._searched = 0
            return self._cut(whole, end + len(END))
        self._refuse_early(start)
        self._searched = len(buffer)
        return None

    def _cut(self, data: bytes, end: int) -> tuple[bytes, bytes]:
        if self._max_size and end > self._max_size:
            raise self._too_large()
        if end > self._max_line_size and data.find(b"\r\n") > self._max_line_size:
            raise self._line_too_long()
        if end == len(data):
            return data, b""
        return data[:end], data[end:]

    def _refuse_early(self, start: int) -> None:
        buffer = self._buffer
        if self._max_size and len(buffer) > self._max_size:
            raise self._too_large()
        if len(buffer) > self._max_line_size and buffer.find(b"\r\n", 0, self._max_line_size + 2) < 0:
            raise self._line_too_long()
        if _BARE_LF.search(buffer, start):
            message = "Lines of a request head end with CRLF, and this one does not."
            raise BadRequest(message)
        method = bytes(buffer[: _LONGEST_METHOD + 1]).partition(b" ")[0]
        if len(method) > _LONGEST_METHOD or _NOT_HTTP.search(method):
            message = "The first line is not an HTTP request line."
            raise BadRequest(message)

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"The request head is larger than {self._max_size} bytes.")

    def _line_too_long(self) -> HeadTooLarge:
        return HeadTooLarge(f"The request line is longer than {self._max_line_size} bytes.", status=414)
