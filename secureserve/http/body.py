"""``wsgi.input``: what has been gathered of a request's body, and then what still comes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from secureserve.errors import BadRequest, BodyTruncated

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

    from secureserve.front.connection import Connection
    from secureserve.http.message import MessageReader

__all__ = ["open_body"]

READ_AHEAD = 64 * 1024


def open_body(reader: MessageReader, connection: Connection, proceed: Callable[[], None]) -> io.BufferedIOBase:
    """Return a binary file with the body of the request that `reader` has in hand.

    A body that was gathered whole is in memory. A larger one is read as the application asks for it; reading then waits, and
    raises `BodyTruncated` where the body ends early, is malformed, or comes too slowly.

    Args:
        reader: Has read the head and the first part of the body.
        connection: Where the rest comes from.
        proceed: Called before the first wait, so that a client which waits for 100 (Continue) is answered.
    """
    content = reader.take_content()
    if reader.message.complete:
        return io.BytesIO(content[0] if len(content) == 1 else b"".join(content))
    return io.BufferedReader(_Stream(reader, connection, content, proceed), READ_AHEAD)


class _Stream(io.RawIOBase):
    """The body as it comes, unbuffered.

    Threads: the worker thread that runs the request.
    """

    def __init__(
        self, reader: MessageReader, connection: Connection, content: list[bytes], proceed: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._connection = connection
        self._proceed = proceed
        self._content = content
        self._offset = 0
        self._error: BodyTruncated | None = None
        connection.begin_body()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._content:
            if self._reader.message.complete:
                return 0
            self._fill()
        first = self._content[0]
        taken = min(len(view), len(first) - self._offset)
        view[:taken] = first[self._offset : self._offset + taken]
        self._offset += taken
        if self._offset == len(first):
            del self._content[0]
            self._offset = 0
        return taken

    def _fill(self) -> None:
        if self._error is not None:
            raise self._error
        self._proceed()
        try:
            data = self._connection.read()
            if not data:
                message = "The request body ended before its declared end."
                raise BodyTruncated(message)
            self._reader.feed(data)
        except BadRequest as error:
            self._fail(str(error), error.status_hint)
        except OSError as error:
            # A reset and a silence are alike to the application: what it has is not the whole.
            self._fail(str(error), getattr(error, "status_hint", None))
        self._content = self._reader.take_content()

    def _fail(self, message: str, status: int | None) -> None:
        self._error = BodyTruncated(message)
        self._error.status_hint = status
        raise self._error from None
