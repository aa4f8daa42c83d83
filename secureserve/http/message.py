"""`Message`: one request as it was read, and the limits on what it may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Message", "MessageLimits"]


class MessageLimits:
    """What a message may have.

    Args:
        max_head_size: Bytes of the head; 0 sets no limit.
        max_line_size: Bytes of the request line.
        max_fields: Fields in the head, and in the trailers.
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
        environ_fields: The fields of the head by their names in a WSGI environ: ``HTTP_*``, ``CONTENT_TYPE`` and
            ``CONTENT_LENGTH``. Repeated ones are joined.
        trailers: Name and value of each field that came after chunked content, names as in a WSGI environ.
        keep_alive: Whether the client wants the connection kept.
        content_length: As declared, or None.
        chunked: Whether the content comes in chunks.
        expects_continue: Whether the client waits for 100 (Continue) before it sends content (RFC 9110, 10.1.1).
        complete: Whether all of the content has arrived.
        head: What it was read from, where the same head may come again; else empty.
        line_size: How much of that is the request line.
    """

    # Defaults belong to the class: most requests change few of them.
    trailers: Sequence[tuple[str, str]] = ()
    method = b""
    target = b""
    version = (1, 1)
    keep_alive = False
    content_length: int | None = None
    chunked = False
    expects_continue = False
    complete = False
    head = b""
    line_size = 0

    def __init__(self) -> None:
        self.environ_fields: dict[str, str] = {}
