"""A ClientHello that is looked at while it is still in the socket's buffer, before the TLS library takes it from there.

One that is not all there yet must not be reported again and again: with the low-water mark of the socket (SO_RCVLOWAT,
socket(7)) one above what has arrived, no selector reports it before there is more (Linux, since 4.18). Elsewhere, and
on unix sockets, `can_rest` is False.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final

__all__ = ["MAX_HELLO_SIZE", "can_rest", "client_hello_message", "has_ended", "peek", "peek_hello", "rest", "wake"]

MAX_HELLO_SIZE: Final = 16 * 1024
"""Bytes. Clients send one or two thousand; of whoever sends more nothing is looked at."""

_ENDED: Final = frozenset({7, 8})
"""Linux's TCP_CLOSE and TCP_CLOSE_WAIT."""
_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4


def peek_hello(sock: socket.socket) -> bytes | None:
    """Return the ClientHello message that waits in a non-blocking socket, and leave it there.

    None while it is not all there: the socket rests then, and the caller wakes it when there is a message. What is no
    ClientHello, or will never be a whole one, gives the empty string.
    """
    try:
        received = peek(sock)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    message = client_hello_message(received)
    if message is None:
        if len(received) in {0, MAX_HELLO_SIZE} or not can_rest(sock) or has_ended(sock):
            return b""
        rest(sock, len(received))
    return message


def peek(sock: socket.socket) -> bytes:
    """Return what has arrived, and leave it there."""
    return sock.recv(MAX_HELLO_SIZE, socket.MSG_PEEK)


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


def can_rest(sock: socket.socket) -> bool:
    """Return whether a socket can rest until there is more than it has."""
    return sys.platform == "linux" and sock.family in {socket.AF_INET, socket.AF_INET6}


def rest(sock: socket.socket, arrived: int) -> None:
    """Let no selector report a socket before it has more than `arrived` bytes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, arrived + 1)


def wake(sock: socket.socket) -> None:
    """Have a socket that rests be reported as always, from whichever thread."""
    # It may have been closed meanwhile, for being too slow.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def has_ended(sock: socket.socket) -> bool:
    """Return whether the peer of a socket that can rest has sent its last: such a socket is readable for ever."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _ENDED
