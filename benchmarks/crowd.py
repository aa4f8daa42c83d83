"""Many clients at once that are idle or hostile, in a process of their own.

Run as a program, ``python -m benchmarks.crowd KIND COUNT PORT``, it connects, says how many got in, and then does what
its kind does until its standard input ends; asked by a line there, it says how many connections are still open.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import selectors
import socket
import ssl
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Final, cast

from benchmarks.clients import tls_context
from benchmarks.environment import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Crowd", "crowd", "raise_descriptor_limit"]

HOST: Final = "127.0.0.1"
ENTER_SECONDS: Final = 15.0
"""What the crowd has to get in; a server that shakes hands one at a time lets few in."""
AT_ONCE: Final = 100
"""Handshakes under way at the same time, so that no backlog overflows."""
EVERY_SECONDS: Final = 1.0
"""Between two bytes of those that dribble."""

HELLO_PART: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
HEAD: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Dribble: " + b"x" * 1000
FIRST_WORDS: Final = {
    "idle": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a head": HEAD[:20],
    "slow body": b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
    "slow reader": b"GET /1m HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
"""What is said after the handshake."""
DRIBBLE: Final = {"half a head": HEAD[20:], "slow body": b"b" * 999}
BEFORE_TLS: Final = {"silent": b"", "half a hello": HELLO_PART}


class Crowd:
    """A crowd that is there."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.got_in = self._number()

    def count_open(self) -> int:
        """Return how many of its connections the server has not closed."""
        command = cast("IO[bytes]", self._process.stdin)
        command.write(b"open?\n")
        command.flush()
        return self._number()

    def _number(self) -> int:
        return int(cast("IO[bytes]", self._process.stdout).readline() or 0)


@contextlib.contextmanager
def crowd(kind: str, count: int, port: int) -> Iterator[Crowd]:
    """Have a crowd at a server for the length of a block."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crowd", kind, str(count), str(port)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield Crowd(process)
        finally:
            process.kill()


def raise_descriptor_limit() -> None:
    """Allow this process, and those it starts, as many descriptors as it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Member:
    """One client of the crowd, on its way in."""

    def __init__(self, kind: str, port: int, context: ssl.SSLContext) -> None:
        self.kind = kind
        self.sock: socket.socket = socket.socket()
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.sock.connect((HOST, port))
        self._context = context
        self._connected = self._shaken = False

    def step(self) -> int:
        """Go on; return what to wait for, 0 when it is in.

        Raises:
            OSError: It does not get in.
        """
        if not self._connected:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            self._connected = True
            if self.kind in BEFORE_TLS:
                self.sock.send(BEFORE_TLS[self.kind])
                return 0
            if self.kind == "slow reader":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.sock = self._context.wrap_socket(self.sock, server_hostname="localhost", do_handshake_on_connect=False)
        tls = cast("ssl.SSLSocket", self.sock)
        try:
            if not self._shaken:
                tls.do_handshake()
                self._shaken = True
                if self.kind in FIRST_WORDS:
                    tls.send(FIRST_WORDS[self.kind])
            if self.kind == "idle" and not tls.recv(4096):
                message = "closed"
                raise ConnectionError(message)
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        return 0


def _enter(kind: str, count: int, port: int) -> list[socket.socket]:
    context = tls_context()
    selector = selectors.DefaultSelector()
    inside: list[socket.socket] = []
    started = 0
    deadline = time.monotonic() + ENTER_SECONDS
    while len(inside) < count and time.monotonic() < deadline:
        while started < count and len(selector.get_map()) < AT_ONCE:
            member = _Member(kind, port, context)
            started += 1
            selector.register(member.sock, selectors.EVENT_WRITE, member)
        if not selector.get_map():
            break
        for key, _ in selector.select(0.5):
            member = key.data
            selector.unregister(key.fileobj)
            try:
                wanted = member.step()
            except OSError:
                member.sock.close()
                continue
            if wanted:
                selector.register(member.sock, wanted, member)
            else:
                inside.append(member.sock)
    # Those still outside go on knocking, as they would.
    inside_and_waiting = [*inside, *(key.data.sock for key in list(selector.get_map().values()))]
    print(len(inside), flush=True)
    return inside_and_waiting


def _is_open(sock: socket.socket) -> bool:
    try:
        readable = select.poll()
        readable.register(sock, select.POLLRDHUP | select.POLLHUP)
        return not readable.poll(0)
    except OSError:
        return False


def main() -> None:
    """Be the crowd."""
    kind, count, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    raise_descriptor_limit()
    sockets = _enter(kind, count, port)
    rest = DRIBBLE.get(kind, b"")
    place = 0
    while True:
        if select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
            if not sys.stdin.readline():
                return
            print(sum(map(_is_open, sockets)), flush=True)
            continue
        if place < len(rest):
            for sock in sockets:
                with contextlib.suppress(OSError):
                    sock.send(rest[place : place + 1])
            place += 1


if __name__ == "__main__":
    main()
