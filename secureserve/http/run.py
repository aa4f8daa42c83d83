"""`Run`: one run of a server, from its first answer until its last thread has ended."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

from secureserve.http.safe_event import SafeEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from secureserve.clock import Clock
    from secureserve.front.listener import Listener
    from secureserve.front.loop import Front
    from secureserve.front.reverse_dns import ReverseDNS
    from secureserve.http.workers import Workers

__all__ = ["Run"]

THREADS_SECONDS: Final = 1.0
"""What the threads have to end in once nothing is left for them to do, at least."""


class Run:
    """The Front and the worker threads of a server that answers, and how they come to an end.

    They are stopped by a thread of its own, which is there from the start: a signal handler may interrupt `stop`
    anywhere, and wait there for what the interrupted thread was about to begin. Everybody waits, and is told, with no
    lock that a signal handler could find taken by its own thread.

    Args:
        front: Has the connections.
        workers: Have the threads.
        names: Looks up clients' names; None for no look-ups.
        clock: Tells the time.
        stopping: Called first when the run is to end; returns how many seconds requests in progress have.
        ended: Called last, with the names of the threads that still run the application.

    Attributes:
        front: As given.

    Threads: `begin` by the one that starts the server; `wait` and `stop` by any, `stop` also by a signal handler or the
    application.
    """

    __slots__ = (
        "_asked_to_stop",
        "_clock",
        "_emptied",
        "_ended",
        "_is_over",
        "_names",
        "_stopping",
        "_workers",
        "front",
    )

    def __init__(
        self,
        front: Front,
        workers: Workers,
        names: ReverseDNS | None,
        *,
        clock: Clock,
        stopping: Callable[[], float],
        ended: Callable[[list[str]], None],
    ) -> None:
        self.front = front
        self._workers = workers
        self._names = names
        self._clock = clock
        self._stopping = stopping
        self._ended = ended
        self._asked_to_stop = queue.SimpleQueue[None]()
        self._emptied = emptied = queue.SimpleQueue[None]()
        self._is_over = SafeEvent()
        # It refers to nothing that refers to the Front, which is freed when the run is.
        front.registry.on_empty = lambda: emptied.put(None)

    def begin(self, listeners: Iterable[Listener], name: str) -> None:
        """Start the threads; whoever connects is answered from here on.

        Args:
            listeners: Where clients connect.
            name: What the thread is called that stops the others.
        """
        self._workers.start(self.front)
        self.front.open(listeners)
        threading.Thread(target=self._end, name=name, daemon=True).start()

    def stop(self) -> None:
        """End it. Returns when that is done; called by the application, at once."""
        self._asked_to_stop.put(None)
        if not self._workers.owns(threading.current_thread()):
            self._is_over.wait()

    def wait(self) -> None:
        """Wait until it is over."""
        self._is_over.wait()

    def _end(self) -> None:
        self._asked_to_stop.get()
        deadline = self._clock.monotonic() + self._stopping()
        self.front.drain()
        while self.front.connections:
            try:
                self._emptied.get(timeout=max(deadline - self._clock.monotonic(), 0))
            except queue.Empty:
                break
        self.front.cut()
        left = self._workers.stop(max(deadline, self._clock.monotonic() + THREADS_SECONDS))
        self.front.close()
        if self._names is not None:
            self._names.stop()
        self._ended(left)
        self._is_over.set()
