"""The process's own engine, server and configuration, made when they are first used.

This is the one place with global state in the package, since the managed-server API promises ``secureserve.server``,
``.engine`` and ``.config``. Programs that prefer not to share make their own `Engine` and `Server`.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from secureserve.managed.config import Config
    from secureserve.managed.engine import Engine
    from secureserve.managed.process import Process
    from secureserve.managed.server import Server

__all__ = ["config", "engine", "process", "server"]

_lock: Final = threading.RLock()


def engine() -> Engine:
    """Return the engine of the process."""
    return process().engine


def server() -> Server:
    """Return the managed server of the process, which its engine starts and stops."""
    return process().server


def config() -> Config:
    """Return the configuration of the process: what is set there becomes attributes of the server."""
    with _lock:
        return _config()


def process() -> Process:
    """Return the process's engine with its servers."""
    with _lock:
        return _process()


@functools.cache
def _process() -> Process:
    from secureserve.managed.engine import Engine
    from secureserve.managed.process import Process
    from secureserve.managed.server import Server

    own_engine = Engine()
    own_server = Server(engine=own_engine)
    own_server.subscribe()
    return Process(own_engine, own_server)


@functools.cache
def _config() -> Config:
    from secureserve.managed.config import Config

    return Config(process().apply)
