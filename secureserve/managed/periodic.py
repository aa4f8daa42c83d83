"""Work that goes on beside the servers: periodic tasks, and word of threads that come and go."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from secureserve.managed.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from secureserve.managed.engine import Engine
    from secureserve.managed.subscriber import Subscription

__all__ = ["PeriodicTask", "ThreadManager"]

PRIORITY: Final = 70
STOP_SECONDS: Final = 10.0


class PeriodicTask(Subscriber):
    """Calls a function again and again, in a thread of its own, while the engine runs.

    What it raises is logged, and it is called again all the same. ``graceful`` starts the period anew.

    Args:
        engine: The engine.
        callback: What to call.
        frequency: Seconds between the end of one call and the next.
        name: What the thread is called; None takes the function's name.

    Threads: `callback` runs in one thread, never twice at a time.
    """

    def __init__(
        self, engine: Engine, callback: Callable[[], Any], frequency: float = 60.0, name: str | None = None
    ) -> None:
        super().__init__(engine)
        self.callback = callback
        self.frequency = frequency
        self.name = name or getattr(callback, "__name__", type(callback).__name__)
        self.thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the thread. Harmless while it runs."""
        if self.thread is not None:
            return
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(self._stop,), name=self.name, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the thread, waiting for a call in progress, but not for ever. Harmless when it has ended."""
        thread, self.thread = self.thread, None
        self._stop.set()
        if thread is None or thread is threading.current_thread():
            return
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            self.engine.log(f"Thread {thread.name} still runs its task; leaving it behind.", logging.WARNING)

    def graceful(self) -> None:
        """Start the period anew."""
        self.stop()
        self.start()

    def _subscriptions(self) -> Iterable[Subscription]:
        return [("start", self.start, PRIORITY), ("stop", self.stop, None), ("graceful", self.graceful, None)]

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self.frequency):
            try:
                self.callback()
            except Exception:  # noqa: BLE001 - logged, and tried again
                self.engine.log(f"Error in periodic task {self.name}", logging.ERROR, traceback=True)


class ThreadManager(Subscriber):
    """Tells listeners of ``start_thread`` and ``stop_thread`` about each thread that works, once.

    A worker publishes ``acquire_thread`` when it begins to work and ``release_thread`` when it ends; listeners are
    given the thread's number and keep, say, a database connection for each.

    Args:
        engine: The engine.

    Threads: any.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.threads: dict[int, int] = {}
        self._lock = threading.Lock()

    def acquire_thread(self) -> None:
        """Tell of the current thread, unless that has been done."""
        identity = threading.get_ident()
        with self._lock:
            if identity in self.threads:
                return
            number = self.threads[identity] = min(set(range(1, len(self.threads) + 2)) - set(self.threads.values()))
        self.engine.publish("start_thread", number)

    def release_thread(self) -> None:
        """Tell that the current thread works no more."""
        with self._lock:
            number = self.threads.pop(threading.get_ident(), None)
        if number is not None:
            self.engine.publish("stop_thread", number)

    def stop(self) -> None:
        """Tell of all threads that they work no more."""
        with self._lock:
            numbers = list(self.threads.values())
            self.threads.clear()
        for number in numbers:
            self.engine.publish("stop_thread", number)

    graceful = stop

    def _subscriptions(self) -> Iterable[Subscription]:
        return [
            ("acquire_thread", self.acquire_thread, None),
            ("release_thread", self.release_thread, None),
            ("stop", self.stop, None),
            ("graceful", self.graceful, None),
        ]
