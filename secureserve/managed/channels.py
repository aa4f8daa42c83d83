"""Channels: who is called when something is published, in which order, and what becomes of their failures."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import LifecycleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["DEFAULT_PRIORITY", "ChannelFailures", "Channels"]

DEFAULT_PRIORITY: Final = 50


class ChannelFailures(LifecycleError):
    """What the listeners of one channel raised, all together.

    Args:
        channel: The channel.
        exceptions: What was raised, in the order of the listeners.
    """

    def __init__(self, channel: str, exceptions: Sequence[BaseException]) -> None:
        self.channel = channel
        self.exceptions = tuple(exceptions)
        several = "" if len(self.exceptions) == 1 else f"{len(self.exceptions)} listeners failed: "
        super().__init__(several + "; ".join(f"{error}" or repr(error) for error in self.exceptions))

    def get_instances(self) -> list[BaseException]:
        """Return the exceptions as a list, as CherryPy's namesake does."""
        return list(self.exceptions)


@dataclass(frozen=True, slots=True)
class _Subscription:
    priority: float
    sequence: int
    listener: Callable[..., Any]


class Channels:
    """Named channels with prioritised listeners.

    Args:
        on_failure: Told of each failure as it happens, while it is the current exception: the channel, the listener,
            and what it raised.

    Threads: every method may be called from any thread. A listener runs in the thread that publishes, and may subscribe
    and unsubscribe; a round in progress goes on with those it began with.
    """

    def __init__(self, on_failure: Callable[[str, Callable[..., Any], Exception], None]) -> None:
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._sequence = itertools.count()
        self._subscriptions: dict[str, dict[Callable[..., Any], _Subscription]] = {}

    def subscribe(self, channel: str, listener: Callable[..., Any], priority: float | None = None) -> None:
        """Have `listener` called for `channel`; once, however often it is subscribed.

        Args:
            channel: The channel's name; it need not exist yet.
            listener: What to call.
            priority: Low ones are called first. None takes the listener's own ``priority``, else 50.
        """
        if priority is None:
            priority = getattr(listener, "priority", DEFAULT_PRIORITY)
        with self._lock:
            listeners = self._subscriptions.setdefault(channel, {})
            listeners[listener] = _Subscription(priority, next(self._sequence), listener)

    def unsubscribe(self, channel: str, listener: Callable[..., Any]) -> None:
        """Call `listener` no more for `channel`. Harmless where it was not."""
        with self._lock:
            self._subscriptions.get(channel, {}).pop(listener, None)

    def listeners(self, channel: str) -> list[Callable[..., Any]]:
        """Return the listeners of `channel` in the order they are called."""
        with self._lock:
            subscriptions = list(self._subscriptions.get(channel, {}).values())
        subscriptions.sort(key=lambda each: (each.priority, each.sequence))
        return [each.listener for each in subscriptions]

    def publish(
        self,
        channel: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        until: Callable[[], bool] | None = None,
        through_interrupts: bool = False,
    ) -> list[Any]:
        """Call every listener of `channel`, the others also where one fails.

        Args:
            channel: The channel; one that nobody listens to is silent.
            args: What the listeners are called with.
            kwargs: What they are called with by name.
            until: Asked before each listener; true ends the round.
            through_interrupts: Call the remaining listeners even after KeyboardInterrupt or SystemExit, and raise that
                at the end; for channels that let go of things.

        Returns:
            What the listeners returned.

        Raises:
            ChannelFailures: Listeners failed.
            KeyboardInterrupt: A listener was interrupted.
            SystemExit: A listener asked for it; its code 0 becomes 1 where a listener failed before.
        """
        output: list[Any] = []
        failures: list[Exception] = []
        interrupt: BaseException | None = None
        for listener in self.listeners(channel):
            if until is not None and until():
                break
            try:
                output.append(listener(*args, **(kwargs or {})))
            except (KeyboardInterrupt, SystemExit) as error:
                if isinstance(error, SystemExit) and failures and not error.code:
                    error.code = 1
                interrupt = interrupt or error
                if not through_interrupts:
                    break
            except Exception as error:  # noqa: BLE001 - gathered, and raised together below
                failures.append(error)
                self._on_failure(channel, listener, error)
        if interrupt is not None:
            raise interrupt
        if failures:
            raise ChannelFailures(channel, failures) from failures[0]
        return output
