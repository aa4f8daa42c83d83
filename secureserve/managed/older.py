"""The older spellings of the managed-server API: they work, and point to the newer ones."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from secureserve.managed.adapter import ServerAdapter
from secureserve.managed.attributes import ServerAttributes
from secureserve.managed.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.managed.engine import Engine
    from secureserve.managed.listening import Address

__all__ = ["HTTPServers", "OlderSpellings", "deprecated"]


class OlderSpellings(ServerAttributes, ServerAdapter):
    """What is spelt in an older way about a managed server.

    Args:
        engine: The engine to start and stop with.

    Attributes:
        blocking: Whether an older spelling was asked to block.

    Threads: as `ServerAdapter`.
    """

    def __init__(self, engine: Engine) -> None:
        ServerAttributes.__init__(self)
        ServerAdapter.__init__(self, engine)
        # What the adapter has set are defaults.
        self.set_values.clear()
        self.blocking = False
        self._httpservers = HTTPServers(engine)

    @property
    def httpservers(self) -> HTTPServers:
        """The older way to have further servers; the modern one is `ServerAdapter`."""
        return self._httpservers

    def start_with_callback(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        serverclass: Any = None,
    ) -> None:
        """Start, run `func` in a thread of its own once that is done, and block: an older spelling.

        The modern one is a ``with Server(...)`` block, or `Engine.start_with_callback`.

        Args:
            func: What to run.
            args: Its arguments.
            kwargs: Its keyword arguments.
            serverclass: The class of HTTP server to build.

        Raises:
            ConfigurationError: Settings that cannot be honoured.
            StartFailed: It did not become ready.
        """
        deprecated("server.start_with_callback(...)", "`with Server(...)` or engine.start_with_callback(...)")
        if serverclass is not None:
            self.set({"instance": serverclass})
        self.blocking = True
        self.subscribe()
        self.engine.start_with_callback(func, args, kwargs)
        self.engine.block()

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; the older ones point to the newer."""
        if name == "httpserverclass" and value is not None:
            deprecated("server.httpserverclass", "server.instance, which takes a class or its name as well")
        super().__setattr__(name, value)

    def _start_as_of_old(self, *, init_only: bool) -> None:
        """Start as ``start(init_only=...)`` does: with the engine, and unless `init_only` block until it exits."""
        self.blocking = not init_only
        self.subscribe()
        if init_only or self.engine.state is State.STARTED:
            self.start()
        else:
            self.engine.start()
        if not init_only:
            self.engine.block()


class HTTPServers(dict[Any, Any]):
    """``server.httpservers[myserver] = (host, port)``: an older spelling of ``ServerAdapter(...).subscribe()``."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._adapters: dict[Any, ServerAdapter] = {}

    def __setitem__(self, httpserver: Any, address: Address) -> None:
        """Have the engine start and stop one more server."""
        deprecated("server.httpservers[...] = ...", "ServerAdapter(engine, httpserver, bind_addr).subscribe()")
        if httpserver in self:
            del self[httpserver]
        adapter = self._adapters[httpserver] = ServerAdapter(self._engine, httpserver, address)
        adapter.subscribe()
        super().__setitem__(httpserver, address)

    def __delitem__(self, httpserver: Any) -> None:
        """Have it be started no more."""
        super().__delitem__(httpserver)
        self._adapters.pop(httpserver).unsubscribe()


def deprecated(older: str, newer: str) -> None:
    """Warn, at the place that called our caller, that `older` is spelt `newer` now."""
    warnings.warn(f"{older} is an older spelling of {newer}.", DeprecationWarning, stacklevel=3)
