"""The configuration: settings from files, the environment and programs, checked as a whole before any of it counts.

Who wins, from the weakest: the table's defaults, configuration files in the order they are read, the environment
(``SECURESERVE_X``), what the program or the command line sets. Everything that is wrong is reported at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationError, ConfigurationErrors
from secureserve.managed.settings import ENGINE_SETTINGS, ENVIRONMENT_PREFIX, REFUSED, SETTINGS, nearest
from secureserve.managed.sources import Item, read

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator

    from secureserve.managed.settings import Setting

__all__ = ["Config", "Configuration", "Source", "load"]

Source = Mapping[str, Any]
"""A mapping of keys to values, flat (``server.socket_port``) or nested; files are given by their path."""

SWITCH: Final = "on"
"""``server.NAME.on = False`` removes the further server NAME."""

OWN_VARIABLES: Final = frozenset({"SECURESERVE_LISTENERS"})
"""Variables with our prefix that are no settings: a program leaves them to the one that replaces it."""

_CHERRYPY_NAMES: Final = MappingProxyType({"autoreload.on": "autoreload", "autoreload.files": "autoreload_files"})


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was set, checked. What was not set is not in it.

    Attributes:
        server: Settings of the main server.
        servers: Settings of each further server, by its name; None where it is switched off.
        engine: Settings of the process.
    """

    server: Mapping[str, Any] = field(default_factory=dict)
    servers: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)

    def over(self, below: Configuration) -> Configuration:
        """Return the two as one; where both set something, this one's counts."""
        servers: dict[str, Mapping[str, Any] | None] = dict(below.servers)
        for name, values in self.servers.items():
            servers[name] = None if values is None else {**(servers.get(name) or {}), **values}
        return Configuration({**below.server, **self.server}, servers, {**below.engine, **self.engine})

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield each dotted key with its value."""
        for name, value in self.server.items():
            yield f"server.{name}", value
        for server, values in self.servers.items():
            if values is None:
                yield f"server.{server}.{SWITCH}", False
            else:
                for name, value in values.items():
                    yield f"server.{server}.{name}", value
        for name, value in self.engine.items():
            yield f"engine.{name}", value


def load(
    *sources: Source | str | os.PathLike[str],
    environ: Mapping[str, str] | None = None,
    ignored_variables: Collection[str] = (),
) -> Configuration:
    """Read and check configurations, later ones over earlier ones, and the environment over all.

    Args:
        sources: Mappings, or paths of INI or TOML files.
        environ: Variables such as `os.environ`; None looks at none.
        ignored_variables: Variables with our prefix that belong to somebody else.

    Raises:
        ConfigurationError: Something is wrong with it.
        ConfigurationErrors: Several things are; it lists them all.
    """
    problems: list[ConfigurationError] = []
    result = Configuration()
    for source in sources:
        with _gathering(problems):
            result = _checked(read(source), problems).over(result)
    if environ is not None:
        result = _from_environment(environ, {*OWN_VARIABLES, *ignored_variables}, problems).over(result)
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigurationErrors(problems)
    return result


class Config(Mapping[str, Any]):
    """The configuration of a program: what `secureserve.config` is.

    Reading it gives what was set, by dotted key. `update` takes more, all or nothing, and hands it on.

    Args:
        apply: Is given what was checked, and may refuse it; nothing counts before it has returned.

    Threads: any, but updates are made one after the other by one thread.
    """

    def __init__(self, apply: Any = None) -> None:
        self._apply = apply
        self._configuration = Configuration()
        self._sources: list[Source | str | os.PathLike[str]] = []

    def update(self, source: Source | str | os.PathLike[str]) -> None:
        """Take the settings of a mapping or a file (INI or TOML) over what was set before.

        Raises:
            ConfigurationError: Something is wrong with it; nothing has changed.
        """
        self._take(load(source))
        self._sources.append(source)

    def reload(self) -> Configuration:
        """Read all sources again, and return what they say now; nothing has changed yet.

        Raises:
            ConfigurationError: Something is wrong with them.
        """
        return load(*self._sources)

    def reset(self) -> None:
        """Forget everything that was set. What it was applied to keeps it."""
        self._configuration = Configuration()
        self._sources.clear()

    @property
    def configuration(self) -> Configuration:
        """What was set."""
        return self._configuration

    def _take(self, configuration: Configuration) -> None:
        if self._apply is not None:
            self._apply(configuration)
        self._configuration = configuration.over(self._configuration)

    def __getitem__(self, key: str) -> Any:
        return dict(self._configuration.items())[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._configuration.items())

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextlib.contextmanager
def _gathering(problems: list[ConfigurationError]) -> Iterator[None]:
    """Keep what is wrong within the block, and go on."""
    try:
        yield
    except ConfigurationError as error:
        problems.append(error)


def _checked(items: Iterable[Item], problems: list[ConfigurationError]) -> Configuration:
    """Return what `items` set, and add to `problems` what is wrong with them."""
    server: dict[str, Any] = {}
    servers: dict[str, Any] = {}
    engine: dict[str, Any] = {}
    for item in items:
        with _gathering(problems):
            _take(item, server, servers, engine)
    return Configuration(server, servers, engine)


def _take(item: Item, server: dict[str, Any], servers: dict[str, Any], engine: dict[str, Any]) -> None:
    scope, _, rest = item.key.partition(".")
    if scope == "engine" and rest:
        name = _CHERRYPY_NAMES.get(rest, rest)
        engine[name] = _parsed(item, name, ENGINE_SETTINGS)
        return
    if scope != "server" or not rest:
        raise _unknown(item)
    further, _, name = rest.rpartition(".")
    if not further:
        server[name] = _parsed(item, name, SETTINGS)
        return
    if not further.isidentifier() or further in SETTINGS:
        remedy = "Write server.NAME.X, where NAME is a name of your own for a further server."
        raise ConfigurationError(item.key, None, "names no server", remedy, file=item.file, line=item.line)
    if name == SWITCH:
        _switch(item, further, servers)
    elif servers.setdefault(further, {}) is not None:
        servers[further][name] = _parsed(item, name, SETTINGS)


def _switch(item: Item, name: str, servers: dict[str, Any]) -> None:
    if not isinstance(item.value, bool):
        raise ConfigurationError(item.key, item.value, "is neither True nor False", file=item.file, line=item.line)
    if item.value:
        servers.setdefault(name, {})
    else:
        servers[name] = None


def _parsed(item: Item, name: str, table: Mapping[str, Setting]) -> Any:
    try:
        setting = table[name]
    except KeyError:
        raise _unknown(item, name) from None
    return setting.parse(item.value, file=item.file, line=item.line, key=item.key)


def _unknown(item: Item, name: str | None = None) -> ConfigurationError:
    known = [each.key for each in (*SETTINGS.values(), *ENGINE_SETTINGS.values())]
    if name is not None and name in REFUSED:
        remedy = REFUSED[name]
    elif name is not None and item.key.count(".") > 1:
        remedy = nearest(name, SETTINGS)
    elif item.key.startswith("["):
        remedy = "Settings stand in [global], as server.X and engine.X."
    else:
        remedy = nearest(item.key, known)
    return ConfigurationError(item.key, None, "is not a setting", remedy, file=item.file, line=item.line)


def _from_environment(
    environ: Mapping[str, str], ignored: Collection[str], problems: list[ConfigurationError]
) -> Configuration:
    settings = {each.environment_variable: each for each in (*SETTINGS.values(), *ENGINE_SETTINGS.values())}
    values: dict[str, dict[str, Any]] = {"server": {}, "engine": {}}
    for variable in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in ignored):
        setting = settings.get(variable)
        if setting is None:
            problems.append(ConfigurationError(variable, None, "is not a setting", nearest(variable, settings)))
            continue
        with _gathering(problems):
            values[setting.scope][setting.name] = setting.parse_text(environ[variable], key=variable)
    return Configuration(values["server"], {}, values["engine"])
