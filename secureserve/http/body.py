"""``wsgi.input``: what has been gathered of a request's body, and then what still comes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, NoReturn

from secureserve.errors import BodyTruncated, PeerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

    from secureserve.front.connection import Connection
    from secureserve.http.message_reader import MessageReader

__all__ = ["open_body"]

READ_AHEAD: Final = 16 * 1024
"""What is read ahead for an application that reads lines, or little at once. More than that goes straight into the
application's own buffer, past this one."""

BLOCK: Final = 256 * 1024
"""What is read at once for an application that wants all."""


def open_body(reader: MessageReader, connection: Connection, proceed: Callable[[], None]) -> io.BufferedIOBase:
    """Return a binary file with the body of the request that `reader` has in hand.

    A body that was gathered whole is in memory. A larger one is read as the application asks for it; reading then
    waits, and raises `BodyTruncated` where the body ends early, is malformed, or comes too slowly.

    Args:
        reader: Has read the head and the first part of the body.
        connection: Where the rest comes from.
        proceed: Called before each wait, so that a client which waits for 100 (Continue) is answered.
    """
    if reader.message.complete:
        return io.BytesIO(reader.take_content())
    stream = _ChunkedStream if reader.message.chunked else _DeclaredStream
    return io.BufferedReader(stream(reader, connection, proceed), READ_AHEAD)


class _Stream(io.RawIOBase):
    """The body as it comes, unbuffered.

    Threads: the worker thread that runs the request.
    """

    def __init__(self, reader: MessageReader, connection: Connection, proceed: Callable[[], None]) -> None:
        self._reader = reader
        self._message = reader.message
        self._connection = connection
        self._proceed = proceed
        self._content = memoryview(reader.take_content())
        self._error: BodyTruncated | None = None
        connection.begin_body()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        if self._content:
            return self._take(view)
        if self._error is not None:
            raise self._error
        if self._reader.message is not self._message:
            # An application that has kept it beyond its request: what comes now belongs to the next one.
            return 0
        try:
            size = self._receive(view)
        except PeerError as error:
            self._fail(str(error), error.status_hint)
        except OSError as error:
            # A reset and a silence are alike to the application: what it has is not the whole.
            self._fail(f"The connection broke before the end of the request body: {error}", None)
        if not size and not self._reader.message.complete and view:
            self._fail("The connection ended before the end of the request body.", BodyTruncated.status_hint)
        return size

    def readall(self) -> bytes:
        pieces, block = [], memoryview(bytearray(BLOCK))
        while size := self.readinto(block):
            pieces.append(bytes(block[:size]))
        return b"".join(pieces)

    def _receive(self, view: memoryview) -> int:
        """Wait for more content and put it into `view`; return its size, 0 at the end."""
        raise NotImplementedError

    def _take(self, view: memoryview) -> int:
        """Hand over what has been read already."""
        content = self._content
        taken = min(len(view), len(content))
        view[:taken] = content[:taken]
        self._content = content[taken:]
        return taken

    def _fail(self, message: str, status: int | None) -> NoReturn:
        self._error = BodyTruncated(message)
        self._error.status_hint = status
        raise self._error from None


class _DeclaredStream(_Stream):
    """A body of declared length, read straight into the application's buffer: there is nothing in it to parse."""

    def _receive(self, view: memoryview) -> int:
        missing = self._reader.missing()
        if not missing:
            return 0
        self._proceed()
        size = self._connection.read_into(view[:missing])
        self._reader.skip(size)
        return size


class _ChunkedStream(_Stream):
    """A body in chunks, which have to be parsed."""

    def _receive(self, view: memoryview) -> int:
        reader = self._reader
        while not self._content and not reader.message.complete:
            self._proceed()
            data = self._connection.read()
            if not data:
                break
            reader.feed(data)
            self._content = memoryview(reader.take_content())
        return self._take(view)
