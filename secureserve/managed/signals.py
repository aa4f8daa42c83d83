"""Process signals, as messages on the engine's channels.

A signal handler interrupts whatever the main thread is doing, locks held and all, so ours does nothing; a thread of its
own reads from Python's wake-up descriptor which signal came, and acts on it. The handler alone would not do: Python
runs it when the main thread gets round to it, and one about to wait on a lock does not until the lock is free.
Each signal is a channel of its name (``SIGHUP``), to which anybody may subscribe.

A process that the application forks off (`multiprocessing` does) would share handlers and descriptor: its SIGTERM would
end its parent, and not itself. So it gets back what was there before.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import LifecycleError, SecureServeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.managed.engine import Engine

__all__ = ["SignalHandler"]

REOPEN_LOGS: Final = "reopen_logs"
"""The channel on which SIGUSR1 asks everybody to open their log files anew."""

_subscribed: Final[list[SignalHandler]] = []
"""Those that a forked process has to forget, the latest one last."""


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
        self._former_descriptor = -1
        self._wake: socket.socket | None = None
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
        noted, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._thread = threading.Thread(target=self._act, args=(noted,), name="signals", daemon=True)
        self._thread.start()
        self._former_descriptor = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for name, action in self.actions.items():
            number = getattr(signal, name, None)
            if number is None:
                continue
            self.engine.subscribe(name, action)
            self._former[number] = signal.signal(number, _do_nothing)
        _subscribed.append(self)
        _see_to_forked_processes()

    def unsubscribe(self) -> None:
        """Put the handlers back that were there before.

        Raises:
            LifecycleError: This is not the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            message = "Signal handlers can be restored in the main thread only."
            raise LifecycleError(message)
        if self in _subscribed:
            _subscribed.remove(self)
            self.restore()
        for name, action in self.actions.items():
            self.engine.unsubscribe(name, action)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def restore(self) -> None:
        """Put back what was there before: in this process, or in one that was forked off it."""
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former.clear()
        signal.set_wakeup_fd(self._former_descriptor)
        if self._wake is not None:
            self._wake.close()
            self._wake = None

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

    def _act(self, noted: socket.socket) -> None:
        with noted:
            while numbers := noted.recv(64):
                for name in (signal.Signals(number).name for number in numbers):
                    if name not in self.actions:
                        continue
                    self.engine.log(f"Signal {name}")
                    # An exit takes its time, during which the second signal has to be heard.
                    threading.Thread(target=self._publish, args=(name,), name=f"signal {name}", daemon=True).start()

    def _publish(self, name: str) -> None:
        try:
            self.engine.publish(name)
        except SecureServeError:
            # The engine has logged each failure, and keeps what it had.
            self.engine.log(f"Not all that {name} asks for could be done", logging.WARNING)


@lru_cache(maxsize=1)
def _see_to_forked_processes() -> None:
    """Have each process that is forked off handle signals as this one did before; there is no way to undo it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    while _subscribed:
        _subscribed.pop().restore()


def _do_nothing(_number: int, _frame: object) -> None:
    return
