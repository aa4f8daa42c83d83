"""``wsgi.input``: what has been gathered of a request's body, and then what still comes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, NoReturn

from secureserve.errors import BodyTruncated, PeerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

    from secureserve.front.connection import Connection
    from secureserve.http.message import MessageReader

__all__ = ["open_body"]

READ_AHEAD: Final = 64 * 1024
_NOTHING: Final = memoryview(b"")


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
    return io.BufferedReader(_Stream(reader, connection, proceed), READ_AHEAD)


class _Stream(io.RawIOBase):
    """The body as it comes, unbuffered.

    Threads: the worker thread that runs the request.
    """

    def __init__(self, reader: MessageReader, connection: Connection, proceed: Callable[[], None]) -> None:
        self._reader = reader
        self._connection = connection
        self._proceed = proceed
        self._content = _NOTHING
        self._error: BodyTruncated | None = None
        connection.begin_body()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._content and not self._fill():
            return 0
        view, content = memoryview(buffer), self._content
        taken = min(len(view), len(content))
        view[:taken] = content[:taken]
        self._content = content[taken:]
        return taken

    def readall(self) -> bytes:
        pieces = []
        while self._content or self._fill():
            pieces.append(self._content)
            self._content = _NOTHING
        return b"".join(pieces)

    def _fill(self) -> bool:
        """Wait for more content; return whether there is some."""
        reader = self._reader
        while True:
            if self._error is not None:
                raise self._error
            content = reader.take_content()
            if content:
                self._content = memoryview(content)
                return True
            if reader.message.complete:
                return False
            self._read()

    def _read(self) -> None:
        try:
            self._proceed()
            data = self._connection.read()
            if data:
                self._reader.feed(data)
                return
        except PeerError as error:
            self._fail(str(error), error.status_hint)
        except OSError as error:
            # A reset and a silence are alike to the application: what it has is not the whole.
            self._fail(f"The connection broke before the end of the request body: {error}", None)
        self._fail("The connection ended before the end of the request body.", BodyTruncated.status_hint)

    def _fail(self, message: str, status: int | None) -> NoReturn:
        self._error = BodyTruncated(message)
        self._error.status_hint = status
        raise self._error from None
