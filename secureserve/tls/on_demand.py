"""A handshake that waits for somebody's decision without keeping a thread.

The ClientHello is looked at while it is still in the socket's buffer. Then the handshake rests until the answer is
there: with the low-water mark of the socket (SO_RCVLOWAT, socket(7)) one above what has arrived, no selector reports
it; lowering the mark again, from whichever thread has the answer, wakes the selector (Linux, since 4.18). Elsewhere,
and on unix sockets, `waits_without_thread` is False, and the thread that shakes hands waits for the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secureserve.tls.client_hello import parse_client_hello
from secureserve.tls.engines.base import Want
from secureserve.tls.peeking import MAX_HELLO_SIZE, client_hello_message, has_ended, peek, rest, wake

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable
    from concurrent.futures import Future

    from secureserve.certificates.credential import Credential
    from secureserve.tls.client_hello import ClientHello
    from secureserve.tls.engines.base import TLSConnection

__all__ = ["DecidedConnection"]


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
            received = peek(sock)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        # A socket whose end has been reached is readable for ever: there is nothing more to wait for then.
        is_over = len(received) in {0, MAX_HELLO_SIZE} or has_ended(sock)
        if self._answer is None and not self._begin(received, is_over=is_over):
            rest(sock, len(received))
            return False
        answer = self._answer
        if answer is not None and not answer.done() and not is_over:
            rest(sock, len(received))
            if not self._is_awaited:
                self._is_awaited = True
                answer.add_done_callback(lambda _answer: wake(sock))
            elif answer.done():
                # It came just before the mark was set, and lowered what was raised only then.
                wake(sock)
            return False
        self._credential = answer.result() if answer is not None and answer.done() else None
        self._is_decided = True
        wake(sock)
        return True

    def _begin(self, received: bytes, *, is_over: bool) -> bool:
        """Ask, if the ClientHello is there; return whether it is, or will never be."""
        message = client_hello_message(received) if received else b""
        hello = parse_client_hello(message) if message else None
        if hello is not None:
            self._answer = self._ask(hello)
        return hello is not None or message is not None or is_over
