"""Clients that ask a little, all the time: a few kept connections, and new ones."""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import TYPE_CHECKING, Final

from benchmarks import clients

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["light_load"]

KEPT: Final = 4
"""Connections that are kept."""
INTERVAL: Final = 0.020
"""Seconds from one request of a client to its next."""


class light_load:  # noqa: N801 - used as a verb
    """Load a server lightly for the length of a block.

    Args:
        port: Of the server, on loopback.

    Attributes:
        answered: Requests that were answered.
        closed: Kept connections that the server had closed when they were to be used again.
        failed_handshakes: Connections that could not be made.
        failed_requests: Requests that were not answered as they should be, on connections just made or in use.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._keep) for _ in range(KEPT)]
        self._threads.append(threading.Thread(target=self._come))
        self.answered = self.closed = self.failed_handshakes = self.failed_requests = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _come(self) -> None:
        while not self._ending.wait(INTERVAL):
            sock = self._ask(None, keep=False)
            assert sock is None

    def _keep(self) -> None:
        sock: ssl.SSLSocket | None = None
        while not self._ending.wait(INTERVAL):
            if sock is not None and _is_closed(sock):
                sock.close()
                sock = None
                self._count("closed")
            sock = self._ask(sock, keep=True)
        if sock is not None:
            sock.close()

    def _ask(self, sock: ssl.SSLSocket | None, *, keep: bool) -> ssl.SSLSocket | None:
        """Make one request; return the connection if it is kept."""
        if sock is None:
            try:
                sock = clients.connect(self._port, timeout=clients.TIMEOUT)
            except OSError:
                self._count("failed_handshakes")
                return None
        try:
            clients.ask(sock, keep=keep)
        except (OSError, ValueError):
            self._count("failed_requests")
            keep = False
        else:
            self._count("answered")
        if keep:
            return sock
        sock.close()
        return None

    def _count(self, what: str) -> None:
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)


def _is_closed(sock: ssl.SSLSocket) -> bool:
    """Return whether the peer has closed a connection on which nothing is awaited."""
    sock.settimeout(0)
    try:
        return not sock.recv(1)
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            sock.settimeout(clients.TIMEOUT)
