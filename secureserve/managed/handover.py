"""Handing the listening sockets of a program to the one that replaces it, so that nobody is refused in between.

Before anything stops, each server's listeners are duplicated; the duplicates stay open through the execution of the new
program, and whoever connects meanwhile waits in the backlog. They are told apart by the address that was configured, so
a server whose address has changed binds anew, and what nobody takes is closed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.front.listener import Listener
    from secureserve.managed.engine import Engine
    from secureserve.managed.listening import Address

__all__ = ["adopted", "close_unclaimed", "export"]

_lock: Final = threading.Lock()
_adopted: Final[dict[str, list[Listener]]] = {}
"""What this process was handed and no server has taken yet. It belongs to the process as its environment does."""


def export(engine: Engine, httpserver: Any, bind_addr: Address | None) -> bool:
    """Duplicate the server's listeners and name them in the engine's environment for the next program.

    Returns:
        Whether there were any: only servers that have `listeners` of ours can hand them over.
    """
    from secureserve.front.listener import export_listeners

    listeners = [each for each in getattr(httpserver, "listeners", ()) if not each.closed]
    if not listeners:
        return False
    engine.heirlooms.extend(listener.duplicate(_name(bind_addr)) for listener in listeners)
    engine.environment.update(export_listeners(engine.heirlooms))
    return True


@contextlib.contextmanager
def adopted(bind_addr: Address | None) -> Iterator[list[Listener]]:
    """Lend the listeners that the program before this one had at the configured address; none where it had none.

    Who is to go on with them duplicates them.

    Raises:
        StartFailed: What was handed over are no listening sockets.
    """
    listeners = _adopt(bind_addr)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def close_unclaimed() -> None:
    """Close what was handed over and no server of this program wants."""
    with _lock:
        for listeners in _adopted.values():
            for listener in listeners:
                listener.close()
        _adopted.clear()


def _name(bind_addr: Address | None) -> str:
    return repr(bind_addr)


def _adopt(bind_addr: Address | None) -> list[Listener]:
    from secureserve.front.listener import EXPORT_VARIABLE, adopt_exported

    with _lock:
        if EXPORT_VARIABLE in os.environ:
            for listener in adopt_exported(os.environ):
                _adopted.setdefault(listener.name, []).append(listener)
        return _adopted.pop(_name(bind_addr), [])
