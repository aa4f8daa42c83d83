"""The older spellings of the managed-server API: they work, and point to the newer ones."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from secureserve.managed.adapter import ServerAdapter

if TYPE_CHECKING:
    from secureserve.managed.engine import Engine
    from secureserve.managed.listening import Address

__all__ = ["HTTPServers", "deprecated"]


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
