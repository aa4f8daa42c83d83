"""Serving in one call: `serve` for a program of its own, `quickstart` in the manner of CherryPy.

Who wins where several set the same: the table's defaults, configuration files in order, the environment, the program.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from secureserve.errors import ConfigurationError
from secureserve.managed import globals as own
from secureserve.managed.config import Configuration, load
from secureserve.managed.settings import ENGINE_SETTINGS, SETTINGS, find

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from secureserve.managed.config import Config, Source
    from secureserve.managed.engine import Engine
    from secureserve.managed.process import Process
    from secureserve.managed.server import Server

    server: Server
    engine: Engine
    config: Config

__all__ = ["config", "configure", "engine", "make_process", "quickstart", "run", "serve", "server"]

_SINGLETONS = {"server": own.server, "engine": own.engine, "config": own.config}


def __getattr__(name: str) -> Any:
    """Make the process's server, engine or configuration when it is first asked for (PEP 562)."""
    if name in _SINGLETONS:
        return _SINGLETONS[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def serve(
    application: Any,
    *,
    config: Collection[Source | str | os.PathLike[str]] | Source | str | os.PathLike[str] | None = None,  # noqa: A002,RUF100 - the word of the API
    environ: Mapping[str, str] | None = None,
    ready: Callable[[Server], None] | None = None,
    **settings: Any,
) -> None:
    """Serve an application until Ctrl-C or SIGTERM; requests in progress may finish.

    ```
    secureserve.serve(app, ssl_certificate="fullchain.pem", ssl_private_key="key.pem")
    ```

    Args:
        application: A WSGI callable, or its name as module:attribute.
        config: Configuration, as mappings or paths of INI and TOML files; one, or several in order.
        environ: Variables to read settings from, such as `os.environ`; None reads none.
        ready: Called with the server when it answers.
        settings: Any setting, of the server or of the process, over all others.

    Raises:
        ConfigurationError: Settings that cannot be honoured.
        CredentialError: A certificate that cannot be served.
        StartFailed: The server did not become ready.
    """
    sources = _several(config)
    program = configure({"application": application, **settings})
    run(program.over(load(*sources, environ=environ)), sources=sources, environ=environ, program=program, ready=ready)


def quickstart(
    application: Any = None,
    *,
    config: Source | str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Configure `secureserve.server`, start `secureserve.engine`, and block until Ctrl-C or SIGTERM.

    Args:
        application: What to serve; None leaves what `secureserve.server.application` says.
        config: A mapping, or the path of an INI or TOML file, over what was set before.
        environ: Variables to read settings from, over the configuration; None reads none.

    Raises:
        ConfigurationError: Settings that cannot be honoured.
        CredentialError: A certificate that cannot be served.
        StartFailed: The server did not become ready.
    """
    process = own.process()
    if config is not None:
        own.config().update(config)
    if environ is not None:
        process.apply(load(environ=environ))
    if application is not None:
        process.server.application = application
    process.run(read=lambda: load(environ=environ).over(own.config().reload()))


def run(
    configuration: Configuration,
    *,
    sources: Collection[Source | str | os.PathLike[str]] = (),
    environ: Mapping[str, str] | None = None,
    program: Configuration | None = None,
    ready: Callable[[Server], None] | None = None,
) -> None:
    """Serve what a configuration describes until the process is told to exit.

    Args:
        configuration: Everything that was set.
        sources: What to read again on SIGHUP.
        environ: What to read settings from then, over `sources`.
        program: What the program or the command line set, over both.
        ready: Called with the main server when everything answers.

    Raises:
        SecureServeError: Something did not start, or broke while it ran.
    """
    process = make_process(configuration)
    above = program or Configuration()
    process.run(
        read=lambda: above.over(load(*sources, environ=environ)),
        ready=None if ready is None else lambda: ready(process.server),
    )


def make_process(configuration: Configuration) -> Process:
    """Return an engine with the servers that a configuration describes; nothing is started.

    Raises:
        ConfigurationError: Something is wrong with it.
    """
    from secureserve.managed.engine import Engine
    from secureserve.managed.process import Process
    from secureserve.managed.server import Server

    own_engine = Engine()
    own_server = Server(engine=own_engine)
    own_server.subscribe()
    process = Process(own_engine, own_server)
    process.apply(configuration)
    return process


def configure(settings: Mapping[str, Any]) -> Configuration:
    """Return settings given by their bare names, of the server or of the process, as a checked configuration.

    Raises:
        ConfigurationError: There is no such setting, or it cannot have this value.
    """
    tables = {**SETTINGS, **ENGINE_SETTINGS}
    values: dict[str, dict[str, Any]] = {"server": {}, "engine": {}}
    for name, value in settings.items():
        setting = find(name, tables)
        values[setting.scope][name] = setting.parse(value)
    return Configuration(values["server"], {}, values["engine"])


def _several(config: Any) -> list[Any]:
    if config is None:
        return []
    if isinstance(config, (list, tuple)):
        return list(config)
    if isinstance(config, (dict, str, os.PathLike)):
        return [config]
    raise ConfigurationError("config", config, "is not a configuration", "Give a mapping, a path, or a list of them.")
