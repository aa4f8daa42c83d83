"""Heads that connections began with: clients that are alike say the same, which is read and kept once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from secureserve.http.message import Message

__all__ = ["FirstHeads"]

MOST: Final = 64
_PERSONAL: Final = frozenset({"HTTP_AUTHORIZATION", "HTTP_COOKIE"})
"""Fields with which a head is one client's own, and is not kept beyond its connection."""


class FirstHeads:
    """Messages by the heads that they were read from, `MOST` at a time.

    Threads: any.
    """

    __slots__ = ("_messages",)

    def __init__(self) -> None:
        self._messages: dict[bytes, Message] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def find(self, head: bytes) -> Message | None:
        """Return what was read of the same head before; not to be changed, since others have it too."""
        return self._messages.get(head)

    def add(self, message: Message) -> None:
        """Let others find a message that means the same on every connection."""
        if not _PERSONAL.isdisjoint(message.environ_fields):
            return
        if len(self._messages) >= MOST:
            self._messages.clear()
        self._messages[message.head] = message
