"""`Subscriber`: what listens to an engine, on the channels and with the priorities of one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from secureserve.managed.engine import Engine

    Subscription: TypeAlias = "tuple[str, Callable[..., Any], float | None]"

__all__ = ["Subscriber"]


class Subscriber:
    """What listens to an engine.

    Args:
        engine: The engine; where it says so, anybody's bus.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def subscribe(self) -> None:
        """Have the engine call it from now on."""
        for channel, callback, priority in self._subscriptions():
            self.engine.subscribe(channel, callback, priority)

    def unsubscribe(self) -> None:
        """Have the engine leave it alone. What has been started goes on."""
        for channel, callback, _ in self._subscriptions():
            self.engine.unsubscribe(channel, callback)

    def _subscriptions(self) -> Iterable[Subscription]:
        """Return channel, listener and priority of each subscription; None for the usual priority."""
        raise NotImplementedError
