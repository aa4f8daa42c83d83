"""Process signals, as messages on the engine's channels.

A signal handler interrupts whatever the main thread is doing, locks held and all, so ours only notes which signal came;
a thread of its own acts on it. Each signal is a channel of its name (``SIGHUP``), to which anybody may subscribe.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import LifecycleError, SecureServeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.managed.engine import Engine

__all__ = ["SignalHandler"]

REOPEN_LOGS: Final = "reopen_logs"
"""The channel on which SIGUSR1 asks everybody to open their log files anew."""


class SignalHandler:
    """Turns the signals of the process into what the engine does.

    TERM and INT drain and exit; a second one cuts. HUP reloads, USR1 has logs opened anew, USR2 restarts with the
    listening sockets handed over.

    Args:
        engine: The engine.
        reload: What HUP does; None is the engine's ``graceful``.

    Attributes:
        actions: What is done for each signal, by its name; change it before `subscribe`.
        leaving: Whether TERM or INT has come.

    Threads: `subscribe` and `unsubscribe` by the main thread. Actions run in threads of their own.
    """

    def __init__(self, engine: Engine, reload: Callable[[], None] | None = None) -> None:
        self.engine = engine
        self.actions: dict[str, Callable[[], Any]] = {
            "SIGTERM": self.leave,
            "SIGINT": self.leave,
            "SIGHUP": reload or engine.graceful,
            "SIGUSR1": self.reopen_logs,
            "SIGUSR2": engine.restart,
        }
        self._former: dict[int, Any] = {}
        self._noted: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.leaving = False

    def subscribe(self) -> None:
        """Handle the signals from now on.

        Raises:
            LifecycleError: This is not the main thread, the only one that may.
        """
        if threading.current_thread() is not threading.main_thread():
            message = "Signals can be handled in the main thread only: subscribe there, or leave signals to it."
            raise LifecycleError(message)
        if self._thread is not None:
            return
        self.leaving = False
        self._noted = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._act, args=(self._noted,), name="signals", daemon=True)
        self._thread.start()
        for name, action in self.actions.items():
            number = getattr(signal, name, None)
            if number is None:
                continue
            self.engine.subscribe(name, action)
            self._former[number] = signal.signal(number, self._note)

    def unsubscribe(self) -> None:
        """Put the handlers back that were there before.

        Raises:
            LifecycleError: This is not the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            message = "Signal handlers can be restored in the main thread only."
            raise LifecycleError(message)
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former.clear()
        for name, action in self.actions.items():
            self.engine.unsubscribe(name, action)
        if self._thread is not None:
            self._noted.put(None)
            self._thread.join()
            self._thread = None

    def leave(self) -> None:
        """Exit, letting requests in progress finish; the second time, without."""
        if self.leaving:
            self.engine.log("Signalled again: leaving at once")
            self.engine.cut()
            return
        self.leaving = True
        self.engine.exit()

    def reopen_logs(self) -> None:
        """Have everybody who writes a log open its file anew."""
        self.engine.publish(REOPEN_LOGS)

    def _note(self, number: int, _frame: object) -> None:
        # SimpleQueue.put may be called while the same thread is in the middle of another put.
        self._noted.put(number)

    def _act(self, noted: queue.SimpleQueue[int | None]) -> None:
        while (number := noted.get()) is not None:
            name = signal.Signals(number).name
            self.engine.log(f"Signal {name}")
            # An exit takes its time, during which the second signal has to be heard.
            threading.Thread(target=self._publish, args=(name,), name=f"signal {name}", daemon=True).start()

    def _publish(self, name: str) -> None:
        try:
            self.engine.publish(name)
        except SecureServeError:
            # The engine has logged each failure, and keeps what it had.
            self.engine.log(f"Not all that {name} asks for could be done", logging.WARNING)
