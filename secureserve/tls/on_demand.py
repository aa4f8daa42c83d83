"""A handshake that waits for somebody's decision without keeping a thread.

The ClientHello is looked at while it is still in the socket's buffer. Then the handshake rests until the answer is
there: with the low-water mark of the socket (SO_RCVLOWAT, socket(7)) one above what has arrived, no selector reports
it; lowering the mark again, from whichever thread has the answer, wakes the selector (Linux, since 4.18). Elsewhere,
and on unix sockets, `waits_without_thread` is False, and the thread that shakes hands waits for the answer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from secureserve.tls.client_hello import parse_client_hello
from secureserve.tls.engines.base import Want

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from secureserve.certificates.credential import Credential
    from secureserve.tls.client_hello import ClientHello
    from secureserve.tls.engines.base import TLSConnection

__all__ = ["DecidedConnection", "client_hello_message", "waits_without_thread"]

_MAX_HELLO_SIZE: Final = 16 * 1024
"""Bytes. Clients send one or two thousand; whoever sends more gets what the store decides."""

_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4


def waits_without_thread(sock: socket.socket) -> bool:
    """Return whether a handshake on this socket can rest until it is decided."""
    return sys.platform == "linux" and sock.family in {socket.AF_INET, socket.AF_INET6}


def client_hello_message(received: bytes) -> bytes | None:
    """Return the ClientHello message at the start of a connection, or None while it is not all there.

    What is no ClientHello gives the empty string. It may be spread over several records (RFC 8446, 5.1).
    """
    message, offset = b"", 0
    while True:
        if received[offset : offset + 1] not in {b"", bytes([_HANDSHAKE_RECORD])}:
            return b""
        if len(received) < offset + _RECORD_HEADER:
            return None
        size = int.from_bytes(received[offset + 3 : offset + _RECORD_HEADER], "big")
        message += received[offset + _RECORD_HEADER : offset + _RECORD_HEADER + size]
        offset += _RECORD_HEADER + size
        if message[:1] not in {b"", bytes([_CLIENT_HELLO])}:
            return b""
        whole = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER], "big")
        if len(message) >= _MESSAGE_HEADER and len(message) >= whole:
            return message[:whole]
        if len(received) < offset:
            return None


class DecidedConnection:
    """A TLS connection whose credential is decided elsewhere once its ClientHello is known; in all else the engine's.

    Args:
        connection: The engine's, on a socket from which nothing has been read.
        ask: Is given the ClientHello, and returns what the answer will be in.
        present: Called with the answer around each step of the engine's handshake.

    Threads: as `Transport`.
    """

    def __init__(
        self,
        connection: TLSConnection,
        ask: Callable[[ClientHello], Future[Credential | None]],
        present: Callable[[Credential | None], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._connection = connection
        self._ask = ask
        self._present = present
        self._answer: Future[Credential | None] | None = None
        self._is_awaited = False
        self._is_decided = False
        self._credential: Credential | None = None
        self.receive, self.receive_into = connection.receive, connection.receive_into
        self.send, self.pending = connection.send, connection.pending
        self.fileno, self.close, self.close_notify = connection.fileno, connection.close, connection.close_notify

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def handshake(self) -> Want | None:
        """Take the handshake as far as it goes without waiting.

        Raises:
            HandshakeFailed: It cannot succeed any more.
            PlainHTTPOnTLSPort: The peer speaks plain HTTP.
        """
        if not self._is_decided and not self._decide():
            return Want.READ
        with self._present(self._credential):
            return self._connection.handshake()

    def _decide(self) -> bool:
        """Go on towards a decision, and return whether there is one."""
        sock = self._connection.sock
        try:
            # A TLS socket of the standard library forbids peeking; the socket that it is as well does not.
            received = socket.socket.recv(sock, _MAX_HELLO_SIZE, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        # A socket whose end has been reached is readable for ever: there is nothing more to wait for then.
        is_over = len(received) in {0, _MAX_HELLO_SIZE} or _has_ended(sock)
        if self._answer is None and not self._begin(received, is_over=is_over):
            _rest(sock, len(received))
            return False
        answer = self._answer
        if answer is not None and not answer.done() and not is_over:
            _rest(sock, len(received))
            if not self._is_awaited:
                self._is_awaited = True
                answer.add_done_callback(lambda _answer: _wake(sock))
            elif answer.done():
                # It came just before the mark was set, and lowered what was raised only then.
                _wake(sock)
            return False
        self._credential = answer.result() if answer is not None and answer.done() else None
        self._is_decided = True
        _wake(sock)
        return True

    def _begin(self, received: bytes, *, is_over: bool) -> bool:
        """Ask, if the ClientHello is there; return whether it is, or will never be."""
        message = client_hello_message(received) if received else b""
        hello = parse_client_hello(message) if message else None
        if hello is not None:
            self._answer = self._ask(hello)
        return hello is not None or message is not None or is_over


def _rest(sock: socket.socket, arrived: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, arrived + 1)


def _has_ended(sock: socket.socket) -> bool:
    """Return whether the peer has sent its last."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def _wake(sock: socket.socket) -> None:
    # It may have been closed meanwhile, for being too slow.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
