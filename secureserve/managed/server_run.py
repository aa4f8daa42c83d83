"""One run of an HTTP server: the thread in which its ``start`` blocks, what comes out of it, and how it is ended."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from secureserve.errors import StopTimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ServerRun"]


class ServerRun:
    """A run of a server, from `begin` to `join`.

    Args:
        httpserver: The server.
        on_end: Called in the server's thread when its ``start`` ends although somebody relies on it.

    Attributes:
        thread: The thread that it runs in; None before it has begun.
        failure: What came out of its ``start``.
        has_ended: Whether its ``start`` has ended.
        handed_over: Whether its sockets outlive it, for another program.

    Threads: any. `sleep` is for one at a time.
    """

    def __init__(self, httpserver: Any, on_end: Callable[[BaseException | None], None]) -> None:
        self.thread: threading.Thread | None = None
        self.failure: BaseException | None = None
        self.has_ended = False
        self.handed_over = False
        self._httpserver = httpserver
        self._on_end = on_end
        self._end = threading.Lock()
        self._is_relied_on = False
        self._is_cut = False
        self._news = threading.Event()

    def begin(self, name: str) -> None:
        """Call the server's ``start`` in a thread of that name."""
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self.thread.start()

    def rely(self) -> bool:
        """Have its end be told from now on; return whether it has not ended already."""
        with self._end:
            self._is_relied_on = not self.has_ended
            return self._is_relied_on

    def expect_end(self) -> None:
        """Have its end be told no more: it is wanted."""
        self._is_relied_on = False

    def cut(self) -> None:
        """Let a `stop` in progress wait no longer."""
        self._is_cut = True
        self._news.set()

    def wake(self) -> None:
        """Wake who sleeps."""
        self._news.set()

    def sleep(self, seconds: float) -> None:
        """Sleep until something happens, for that many seconds at most."""
        self._news.wait(seconds)
        self._news.clear()

    @contextlib.contextmanager
    def woken_by_readiness(self) -> Iterator[bool]:
        """Have `sleep` end when the server is ready, where it can tell; yields whether it can."""
        when_ready = getattr(self._httpserver, "when_ready", None)
        if when_ready is not None:
            when_ready(self._news.set)
        yield when_ready is not None

    def owns_current_thread(self) -> bool:
        """Return whether this is a worker thread of the server: cheroot's say whose they are, ours is asked."""
        thread = threading.current_thread()
        if self._httpserver is not None and getattr(thread, "server", None) is self._httpserver:
            return True
        owns = getattr(getattr(self._httpserver, "requests", None), "owns", None)
        return callable(owns) and bool(owns(thread))

    def stop(self, description: str, seconds: float) -> None:
        """Call the server's ``stop``, and wait for it.

        Args:
            description: What an error calls the server.
            seconds: How long to wait at the most.

        Raises:
            StopTimedOut: It did not return in time, or was cut.
            BaseException: What came out of it.
        """
        outcome: list[BaseException | None] = []

        def stop() -> None:
            try:
                self._httpserver.stop()
                outcome.append(None)
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                outcome.append(error)
            self._news.set()

        helper = threading.Thread(target=stop, name=f"stop {description}", daemon=True)
        helper.start()
        deadline = time.monotonic() + seconds
        while not outcome:
            left = deadline - time.monotonic()
            if left <= 0 or self._is_cut:
                how = "was cut short" if self._is_cut else f"did not return from stop() within {seconds:g} seconds"
                message = f"{description} {how}. Thread {helper.name!r} is left behind."
                raise StopTimedOut(message)
            self.sleep(left)
        if outcome[0] is not None:
            raise outcome[0]

    def join(self, description: str, seconds: float) -> None:
        """Wait for the server's thread to end.

        Args:
            description: What an error calls the server.
            seconds: How long to wait at the most.

        Raises:
            StopTimedOut: It still runs.
        """
        thread = self.thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(seconds)
        if thread.is_alive():
            message = (
                f"{description} returned from stop() but its start() still runs after {seconds:g} seconds: "
                f"thread {thread.name!r} is left behind."
            )
            raise StopTimedOut(message)
        # Whoever keeps the run does not keep the server.
        self._httpserver = None

    def _serve(self) -> None:
        try:
            self._httpserver.start()
        except BaseException as error:  # noqa: BLE001 - told to whoever starts, or to the engine
            self.failure = error
        with self._end:
            self.has_ended = True
            is_relied_on = self._is_relied_on
        self._news.set()
        if is_relied_on:
            self._on_end(self.failure)
