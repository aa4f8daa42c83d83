"""The engine: the states of a process that serves, and the channels that tell everybody of them.

One thread at a time conducts a transition; others who want one wait until it has ended. Telling the engine to exit
while it is starting does not wait for the start to succeed: whoever starts is woken, stops what had been started, and
exits.
Nothing here looks again and again: whoever waits for a state sleeps on a condition until it is reached.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import traceback as traceback_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from secureserve.errors import AlreadyStarted, SecureServeError, StartFailed
from secureserve.logs import ERROR_LOGGER
from secureserve.managed.channels import ChannelFailures, Channels
from secureserve.managed.life import Life
from secureserve.managed.own_threads import OwnThreads
from secureserve.managed.safeguard import Safeguard
from secureserve.managed.states import TRANSITIONS, State, Step

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from secureserve.front.listener import Listener

__all__ = ["TRANSITIONS", "Engine", "State", "Step"]


class Engine:
    """The bus of a process that serves.

    Listeners subscribe to channels: ``start``, ``stop``, ``exit``, ``graceful``, ``log`` and ``main`` are published
    here, and anybody may add others. Several engines may live in one process; they share nothing.

    Args:
        name: What log messages call it.

    Attributes:
        execv: Whether `block` is to execute the program again instead of returning.
        failure: What made the engine exit, where something broke while it ran; `block` raises it.
        threads: The threads that belong to the engine; `block` waits for these and no others.
        environment: What the program executed by a restart finds in its environment besides what this one found.
        heirlooms: The listeners kept open for it.
        running: What runs, whoever started it; as long as there is something, `stop` and `exit` publish ``stop``.

    Threads: every method may be called from any thread, and from listeners. `block` is for the main thread.
    """

    states: ClassVar = State

    def __init__(self, name: str = "Engine") -> None:
        self.name = name
        self.execv = False
        self.failure: BaseException | None = None
        self.threads = OwnThreads()
        self.environment: dict[str, str] = {}
        self.heirlooms: list[Listener] = []
        self.running: set[object] = set()
        self._channels = Channels(self._log_failure)
        self._life = Life(name)
        self._safeguard = Safeguard(self._describe_if_up, self.exit)
        self._announcements: list[str] = []
        self._directory = Path.cwd()
        self.subscribe("log", _write_to_logger)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.state.name}>"

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._life.state

    @property
    def exit_wanted(self) -> bool:
        """Whether it has been told to exit since it was last started."""
        return self._life.exit_wanted

    def subscribe(self, channel: str, callback: Callable[..., Any] | None = None, priority: float | None = None) -> Any:
        """Have `callback` called when `channel` is published; without one, return a decorator that does.

        Args:
            channel: The channel's name; it need not exist yet.
            callback: What to call.
            priority: Low ones are called first. None takes the callback's own ``priority``, else 50.
        """
        if callback is None:
            return functools.partial(self.subscribe, channel, priority=priority)
        self._channels.subscribe(channel, callback, priority)
        if channel == "main":
            self._life.notify()
        return callback

    def unsubscribe(self, channel: str, callback: Callable[..., Any]) -> None:
        """Call `callback` no more when `channel` is published. Harmless where it was not."""
        self._channels.unsubscribe(channel, callback)

    def listeners(self, channel: str) -> list[Callable[..., Any]]:
        """Return the listeners of `channel` in the order they are called."""
        return self._channels.listeners(channel)

    def publish(self, channel: str, *args: object, **kwargs: object) -> list[Any]:
        """Call every listener of `channel`, the others also where one fails, and return what they returned.

        Raises:
            ChannelFailures: Listeners failed; each failure has been logged.
            KeyboardInterrupt: A listener was interrupted; the remaining ones were not called.
            SystemExit: A listener asked for it; its code 0 becomes 1 where a listener failed before.
        """
        return self._channels.publish(channel, args, kwargs)

    def log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: FBT001, FBT002 - as published
        """Publish a message on the ``log`` channel.

        Args:
            msg: The message.
            level: Its level, as in `logging`.
            traceback: Whether to add the traceback of the current exception.
        """
        if traceback:
            msg += "\n" + "".join(traceback_module.format_exception(*sys.exc_info()))
        self.publish("log", msg, level)

    def announce(self, msg: str) -> None:
        """Log a message; one from a listener of ``start`` once everything has started, and never if something fails."""
        if self.state is State.STARTING:
            self._announcements.append(msg)
        else:
            self.log(msg)

    def start(self) -> None:
        """Start everything that listens to ``start``; on any failure stop it all again.

        Raises:
            AlreadyStarted: It is running.
            StartFailed: A server did not start, or the engine was told to exit meanwhile.
            ChannelFailures: Several listeners failed. What a single one raised is raised as it is.
        """
        with self._life.conducting() as nested:
            if nested or self.state is State.STARTED:
                message = f"{self.name} is {self.state.name}; stop it before starting it again."
                raise AlreadyStarted(message)
            self._life.exit_wanted = False
            self.failure = None
            self.execv = False
            self._announcements.clear()
            self._move(Step.START)
            self._safeguard.arm()
            try:
                self._publish_start()
            except BaseException as error:
                # What failed in a way of ours is told by whoever called, and told once.
                ours = isinstance(error, SecureServeError)
                level = logging.DEBUG if ours else logging.INFO if self.exit_wanted else logging.ERROR
                self.log(f"{self.name} is shutting down: {_reason(error)}", level)
                with contextlib.suppress(ChannelFailures):
                    self._wind_down()
                raise
            self._move(Step.START_DONE)
            for message in self._announcements:
                self.log(message)
            if self.exit_wanted:
                self._wind_down()

    def stop(self) -> None:
        """Stop everything that listens to ``stop``. Harmless where nothing runs.

        Raises:
            ChannelFailures: Listeners failed; the others were called all the same.
        """
        with self._life.conducting() as nested:
            if nested or not self._is_up():
                return
            try:
                self._publish_stop()
            finally:
                if self.exit_wanted:
                    self._publish_exit()

    def exit(self, failure: BaseException | None = None) -> None:
        """Stop everything and leave; while another thread is starting, make it give up. Harmless when done already.

        Called by a listener in the middle of a transition it returns at once, and the transition ends in exit.

        Args:
            failure: What makes it necessary, where something broke; `block` will raise it.

        Raises:
            ChannelFailures: Listeners failed; the others were called all the same.
        """
        if failure is not None and self.failure is None:
            self.failure = failure
        self._life.want_exit()
        if self._life.conducted_here:
            return
        with self._life.conducting():
            if self.state is State.EXITING:
                return
            try:
                self._wind_down()
            except ChannelFailures as error:
                self.failure = self.failure or error
                raise

    def restart(self) -> None:
        """Exit, and have `block` execute the program again with the listening sockets handed over.

        Listeners of ``may_restart`` are asked first: one that raises keeps everything as it is. Those of ``handover``
        then put into `environment` what the next program is to find in its own, such as the descriptors of listening
        sockets, which stay open throughout.

        Raises:
            ChannelFailures: The program would not come back, so it goes on.
        """
        self.publish("may_restart")
        self.execv = True
        with contextlib.suppress(ChannelFailures):
            self.publish("handover")
        self.exit()

    def graceful(self) -> None:
        """Have everybody who can reload what they run on, certificates first of all, without stopping.

        Raises:
            ChannelFailures: Something could not be reloaded, and goes on with what it had.
        """
        self.log(f"{self.name} graceful")
        self.publish("graceful")

    def cut(self) -> None:
        """Wait no longer for what is being stopped: the second signal of somebody in a hurry."""
        self.publish("cut")

    def wait(
        self,
        state: State | Iterable[State],
        interval: float = 0.1,
        channel: str | None = None,
        *,
        timeout: float | None = None,
    ) -> bool:
        """Wait until the engine is in one of the given states.

        Args:
            state: The state, or several.
            interval: Seconds between publishing `channel`, as long as somebody listens to it.
            channel: What to publish meanwhile.
            timeout: The longest to wait, in seconds; None waits as long as it takes.

        Returns:
            Whether the state was reached.
        """
        wanted = {state} if isinstance(state, State) else set(state)
        return self._life.wait(
            wanted,
            timeout=timeout,
            interval=interval,
            is_busy=lambda: channel is not None and bool(self.listeners(channel)),
            meanwhile=lambda: self.publish(str(channel)),
        )

    def block(self, interval: float = 0.1) -> None:
        """Wait until the engine has exited, then for its own threads.

        Listeners of ``main`` are called in this thread every `interval` seconds.

        Args:
            interval: Seconds between publishing ``main``, as long as somebody listens to it.

        Raises:
            SystemExit: A listener, or a server's thread, asked for it.
            BaseException: What made the engine exit, where something broke while it ran.
        """
        try:
            self.wait(State.EXITING, interval, "main")
        except KeyboardInterrupt:
            self.log("Keyboard interrupt: shutting down")
            self._exit_from_block()
        except SystemExit:
            self.log("SystemExit raised: shutting down")
            self._exit_from_block()
            raise
        except ChannelFailures as failures:
            self._exit_from_block(failures)
        for thread in self.threads.join():
            self.log(f"Thread {thread.name} is still running; leaving without it.", logging.WARNING)
        if self.failure is not None:
            raise self.failure
        if self.execv:
            self._execute_again()

    def _exit_from_block(self, failure: BaseException | None = None) -> None:
        # What fails is kept as the engine's failure, which block raises in the end.
        with contextlib.suppress(ChannelFailures):
            self.exit(failure)

    def start_with_callback(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> threading.Thread:
        """Start, and run `func` in a thread of its own as soon as that is done; return the thread.

        Where starting fails, the function is not run.

        Raises:
            LifecycleError: As `start`.
        """
        name = f"{self.name} callback {getattr(func, '__name__', func)}"
        with self.threads.calling_after(lambda: func(*(args or ()), **(kwargs or {})), name) as thread:
            self.start()
        return thread

    def attend(self, something: object) -> None:
        """Know that `something` runs which listens to ``stop``, be it that it was started without the engine."""
        self.running.add(something)
        self._safeguard.arm()

    def release(self, something: object) -> None:
        """Know that `something` runs no more."""
        self.running.discard(something)

    def wait_for(self, thread: threading.Thread, seconds: float) -> None:
        """Have `block` wait for a thread before it returns, for at most that many seconds."""
        self.threads.wait_for(thread, seconds)

    def woken_by_exit(self, wake: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """Within the block, have `wake` called when the engine is told to exit: for who waits while starting."""
        return self._life.woken_by_exit(wake)

    def _move(self, step: Step) -> None:
        self._life.move(step)
        self.log(f"{self.name} {self.state.name}", logging.DEBUG)

    def _publish_start(self) -> None:
        try:
            self._channels.publish("start", until=lambda: self.exit_wanted)
        except ChannelFailures as failures:
            if len(failures.exceptions) == 1:
                raise failures.exceptions[0] from None
            raise
        if self.exit_wanted:
            message = f"{self.name} was told to exit while it was starting."
            raise StartFailed(message)

    def _publish_stop(self) -> None:
        self._move(Step.STOP)
        try:
            self._channels.publish("stop", through_interrupts=True)
        finally:
            self._move(Step.STOP_DONE)
            self._safeguard.disarm()

    def _publish_exit(self) -> None:
        self._move(Step.EXIT)
        self._channels.publish("exit", through_interrupts=True)

    def _wind_down(self) -> None:
        self._life.exit_wanted = True
        try:
            if self._is_up():
                self._publish_stop()
        finally:
            self._publish_exit()

    def _log_failure(self, channel: str, listener: Callable[..., Any], error: Exception) -> None:
        if channel == "log":
            return
        if isinstance(error, SecureServeError):
            self.log(str(error), logging.DEBUG if channel == "start" else logging.ERROR)
        else:
            self.log(f"Error in {channel!r} listener {listener!r}", logging.ERROR, traceback=True)

    def _is_up(self) -> bool:
        return self.state in {State.STARTING, State.STARTED} or bool(self.running)

    def _describe_if_up(self) -> str | None:
        return f"{self.name} is {self.state.name}" if self._is_up() else None

    def _execute_again(self) -> None:
        from secureserve.managed.reexec import execute_again

        self.log("Executing the program again")
        execute_again(self._directory, self.environment)


def _write_to_logger(msg: str, level: int) -> None:
    logging.getLogger(ERROR_LOGGER).log(level, "%s", msg)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
