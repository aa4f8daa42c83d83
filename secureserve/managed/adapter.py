"""The adapter: makes any object with ``start``, ``stop`` and perhaps ``ready`` a managed server.

The server's ``start`` blocks, so it runs in a thread of its own, and whoever starts the engine sleeps until one of four
things happens: the server is ready, its ``start`` ended, the engine was told to exit, or the time is up. Each has one
outcome, and none leaves a thread or a socket behind that could have been stopped.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationError, LifecycleError, SecureServeError, StartFailed, StopTimedOut
from secureserve.managed.engine import Engine
from secureserve.managed.served_sockets import ServedSockets, are_missing, explained_bind_failure, other_listener
from secureserve.managed.server_run import ServerRun
from secureserve.managed.subscriber import Subscriber
from secureserve.managed.urls import url_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from secureserve.managed.listening import Address
    from secureserve.managed.subscriber import Subscription

__all__ = ["START_PRIORITY", "STOP_PRIORITY", "ServerAdapter"]

START_PRIORITY: Final = 75
STOP_PRIORITY: Final = 25
"""CherryPy's: a pid file and a daemon come before servers start, dropping privileges after; servers stop early."""

LOOK_SECONDS: Final = 0.01
"""How often a foreign server's ``ready`` is looked at; ours tells."""

GRACE_SECONDS: Final = 5.0
"""What a server gets to return from ``stop`` beyond its own ``shutdown_timeout``."""

DEFAULT_START_SECONDS: Final = 60.0


class ServerAdapter(Subscriber):
    """One HTTP server, anybody's, started and stopped with an engine.

    Args:
        engine: The engine.
        httpserver: The server: ``start()`` blocks while it serves, ``stop()`` returns when it has stopped, ``ready`` is
            true while it listens. One without ``ready`` is taken to be ready at once.
        bind_addr: Where it listens: host and port, or the path of a unix socket; None where that is nobody's business.
        start_timeout: The seconds it may take to become ready.
        stop_timeout: The seconds it may take to stop; None takes its ``shutdown_timeout`` and a few more.

    Attributes:
        running: Whether it has been started and not yet stopped.
        interrupt: The KeyboardInterrupt or SystemExit that came out of the server, if one did.

    Threads: every method may be called from any thread, the server's own included.
    """

    engine: Any
    """Ours, or CherryPy's bus."""

    def __init__(
        self,
        engine: Any,
        httpserver: Any = None,
        bind_addr: Address | None = None,
        *,
        start_timeout: float = DEFAULT_START_SECONDS,
        stop_timeout: float | None = None,
    ) -> None:
        super().__init__(engine)
        self.httpserver: Any = httpserver
        self.bind_addr = bind_addr
        self.start_timeout = start_timeout
        self.stop_timeout = stop_timeout
        self.interrupt: BaseException | None = None
        self.running = False
        self._lifecycle = threading.RLock()
        self._run = ServerRun(httpserver, self._report_end)
        self._sockets = ServedSockets()

    def __repr__(self) -> str:
        state = "running" if self.running else "not running"
        return f"<{type(self).__name__} of {self.httpserver!r} at {self.bind_addr!r}, {state}>"

    @property
    def bus(self) -> Any:
        """The engine, under CherryPy's name for it."""
        return self.engine

    @property
    def description(self) -> str:
        """Where the server is bound, for people."""
        address = self.bound_addr
        if address is None:
            return f"{type(self.httpserver).__name__} (at an address of its own)"
        if isinstance(address, str):
            return f"unix:{address}"
        return url_of(address, secure=bool(getattr(self.httpserver, "ssl_adapter", None)))

    @property
    def bound_addr(self) -> Any:
        """Where it listens; with the real port where 0 was asked for and the server is bound."""
        httpserver = self.httpserver
        told = getattr(httpserver, "bound_addr", None)
        if told is not None:
            return told
        for listener in getattr(httpserver, "listeners", None) or ():
            return listener.bound_addr
        address = self._asked_for()
        if isinstance(address, tuple) and not address[1]:
            with contextlib.suppress(OSError, AttributeError):
                return address[0], httpserver.socket.getsockname()[1]
        return address

    def start(self) -> None:
        """Start the server in a thread of its own, and return when it is ready. Harmless while it runs.

        Raises:
            ConfigurationError: There is no server to start.
            StartFailed: It did not become ready in time, returned, could not have its address, or the engine was told
                to exit meanwhile.
            BaseException: What came out of the server's ``start`` before it was ready.
        """
        with self._lifecycle:
            if self.running:
                self.engine.log(f"Already serving on {self.description}")
                return
            if self.httpserver is None:
                raise ConfigurationError("httpserver", None, "has not been given", "Pass the server to be managed.")
            self.interrupt = None
            sockets = ServedSockets(self.bound_addr)
            self._run = run = ServerRun(self.httpserver, self._report_end)
            run.begin(f"HTTPServer {self.description}")
            try:
                self.wait()
                self._verify_listening()
            except BaseException:
                self._abandon()
                raise
            sockets.take(self.bound_addr)
            self._sockets = sockets
            self.running = run.rely()
            self._raise_if_ended()
            if isinstance(self.engine, Engine):
                self.engine.attend(self)
        # Whoever reads this line may act on it at once, with a signal too: the engine says it when all is started.
        announce = getattr(self.engine, "announce", self.engine.log)
        announce(f"Serving on {self.description}")

    def wait(self) -> None:
        """Return when the server is ready.

        Raises:
            StartFailed: It did not become ready in time, or returned before, or the engine was told to exit.
            BaseException: What came out of the server's ``start``.
        """
        deadline = time.monotonic() + self.start_timeout
        with self._woken_by_exit(), self._run.woken_by_readiness() as told:
            while not self._is_ready():
                self._raise_if_ended()
                if getattr(self.engine, "exit_wanted", False):
                    message = f"{self.description} was not started: the engine was told to exit."
                    raise StartFailed(message)
                left = deadline - time.monotonic()
                if left <= 0:
                    message = (
                        f"{self.description} did not become ready within {self.start_timeout:g} seconds. "
                        "Raise start_timeout, or see what its start() waits for."
                    )
                    raise StartFailed(message)
                self._run.sleep(left if told else min(left, LOOK_SECONDS))

    def stop(self) -> None:
        """Stop the server, and return when it has stopped. Harmless when it has.

        Raises:
            StopTimedOut: It did not return from ``stop``, its thread still runs, or it still listens.
            Exception: What came out of its ``stop``.
        """
        with self._lifecycle:
            if not self.running:
                return
            self._run.expect_end()
            description, address = self.description, self.bound_addr
            if self._run.owns_current_thread():
                self._stop_from_within()
                return
            try:
                self._run.stop(description, self._stop_seconds())
                self._run.join(description, self._stop_seconds())
                self._verify_released(description, address)
            finally:
                self._not_running()
        self.engine.log(f"Stopped serving on {description}")

    def restart(self) -> None:
        """Stop the server and start it again.

        Raises:
            LifecycleError: As `stop` and `start`.
        """
        self.stop()
        self.start()

    def cut(self) -> None:
        """Let a `stop` in progress wait no longer."""
        self._run.cut()

    def hand_over(self) -> None:
        """Put the server's listening sockets into the engine's environment for the program to come."""
        from secureserve.managed.handover import export

        if self.running and export(self.engine, self.httpserver, self.bind_addr):
            self._run.handed_over = True

    def _asked_for(self) -> Any:
        """Return the address that the server is to listen at, as far as anybody said."""
        return self.bind_addr

    def _subscriptions(self) -> Iterable[Subscription]:
        return [
            ("start", self.start, START_PRIORITY),
            ("stop", self.stop, STOP_PRIORITY),
            ("cut", self.cut, STOP_PRIORITY),
            ("handover", self.hand_over, STOP_PRIORITY),
        ]

    def _report_end(self, failure: BaseException | None) -> None:
        """Shut the engine down, since a server that should be serving does not."""
        if isinstance(failure, KeyboardInterrupt):
            self.interrupt = failure
            self.engine.log(f"Keyboard interrupt in {self.description}: shutting down")
            self._exit_engine(None)
        elif isinstance(failure, SystemExit):
            self.interrupt = failure
            self.engine.log(f"SystemExit in {self.description}: shutting down")
            self._exit_engine(failure)
        elif failure is not None:
            self._log_failure(failure)
            self._exit_engine(failure)
        else:
            message = f"{self.description} stopped serving by itself; shutting down."
            self.engine.log(message, logging.ERROR)
            self._exit_engine(LifecycleError(message))

    def _exit_engine(self, failure: BaseException | None) -> None:
        # Whatever fails while everything is being stopped has been logged by the engine.
        with contextlib.suppress(SecureServeError):
            if isinstance(self.engine, Engine):
                self.engine.exit(failure)
            else:
                self.engine.exit()

    def _log_failure(self, failure: BaseException) -> None:
        text = "".join(traceback.format_exception(type(failure), failure, failure.__traceback__))
        self.engine.log(f"Error in {self.description}: shutting down\n{text}", logging.ERROR)

    def _is_ready(self) -> bool:
        return not self._run.has_ended and bool(getattr(self.httpserver, "ready", True))

    def _raise_if_ended(self) -> None:
        if not self._run.has_ended:
            return
        failure = self._run.failure
        if failure is None:
            message = f"{self.description}: start() returned before the server was ready."
            raise StartFailed(message)
        if isinstance(failure, (KeyboardInterrupt, SystemExit)):
            self.interrupt = failure
            raise failure
        if isinstance(failure, SecureServeError):
            raise failure
        self._log_failure(failure)
        explained = explained_bind_failure(failure, self.bind_addr, self.description)
        if explained is not None:
            raise explained from failure
        raise failure

    def _woken_by_exit(self) -> contextlib.AbstractContextManager[None]:
        woken_by_exit = getattr(self.engine, "woken_by_exit", None)
        return contextlib.nullcontext() if woken_by_exit is None else woken_by_exit(self._run.wake)

    def _verify_listening(self) -> None:
        """Wait until the system's tables show the server's socket, which for ours they do by now.

        Raises:
            StartFailed: They do not, within the time of a start.
        """
        deadline = time.monotonic() + min(self.start_timeout, GRACE_SECONDS)
        address = self.bound_addr
        while are_missing(address):
            self._raise_if_ended()
            if time.monotonic() >= deadline or getattr(self.engine, "exit_wanted", False):
                message = f"{self.description} says that it is ready, but this process does not listen there."
                other = other_listener(address)
                raise StartFailed(message if other is None else f"{message} Another does{other}.")
            self._run.sleep(LOOK_SECONDS)

    def _abandon(self) -> None:
        """Stop a server whose start failed, as far as it can be."""
        if self._run.has_ended and not getattr(self.httpserver, "ready", False):
            return
        with contextlib.suppress(Exception):
            self._run.stop(self.description, self._stop_seconds())
            self._run.join(self.description, self._stop_seconds())

    def _not_running(self) -> None:
        self.running = False
        if isinstance(self.engine, Engine):
            self.engine.release(self)

    def _stop_from_within(self) -> None:
        """Stop the server for one of its own worker threads, whose request cannot finish before this returns.

        Whoever blocks on the engine waits for the rest.
        """
        thread = self._run.thread
        self.httpserver.stop()
        self._not_running()
        if thread is not None and isinstance(self.engine, Engine):
            self.engine.wait_for(thread, self._stop_seconds())

    def _stop_seconds(self) -> float:
        if self.stop_timeout is not None:
            return self.stop_timeout
        own = getattr(self.httpserver, "shutdown_timeout", None)
        return GRACE_SECONDS + (float(own) if own else GRACE_SECONDS)

    def _verify_released(self, description: str, address: Address | None) -> None:
        """See that no socket of the server listens any more. Another process's at the address is no failure.

        Raises:
            StopTimedOut: One does.
        """
        if address is None or self._run.handed_over:
            return
        if self._sockets.are_left(address):
            message = f"{description} has stopped, but its socket still listens there. Its stop() has to close it."
            raise StopTimedOut(message)
        other = other_listener(address)
        if other is not None:
            self.engine.log(f"{description} is served by another process now{other}", logging.WARNING)
