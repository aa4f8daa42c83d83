"""A process that serves: an engine, the servers a configuration describes, and what a daemon needs around them."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import SecureServeError, StartFailed
from secureserve.managed import logfiles
from secureserve.managed.config import Configuration
from secureserve.managed.handover import close_unclaimed
from secureserve.managed.notify import SystemdNotifier
from secureserve.managed.pid_file import PIDFile
from secureserve.managed.privileges import DropPrivileges
from secureserve.managed.server import Server
from secureserve.managed.signals import REOPEN_LOGS, SignalHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from secureserve.managed.engine import Engine
    from secureserve.managed.subscriber import Subscriber

__all__ = ["Process"]

AFTER_SERVERS: Final = 76

FILES: Final = (
    "ssl_certificate",
    "ssl_private_key",
    "ssl_certificate_chain",
    "ssl_private_key_password_file",
    "ssl_certificate_directory",
    "ssl_client_ca",
    "ssl_client_crl",
    "acme_ca_file",
)
"""Settings that name files which are read again while the process runs."""


class Process:
    """What runs: the main server, further ones by name, and the settings of the process.

    Args:
        engine: The engine of all.
        server: The main server, on that engine.

    Attributes:
        servers: The further servers, by name.
        settings: The settings of the process that were set.

    Threads: `run` by the main thread if signals are to be handled.
    """

    def __init__(self, engine: Engine, server: Server) -> None:
        self.engine = engine
        self.server = server
        self.servers: dict[str, Server] = {}
        self.settings: dict[str, Any] = {}

    @property
    def every_server(self) -> tuple[Server, ...]:
        """The main server and the further ones."""
        return (self.server, *self.servers.values())

    def apply(self, configuration: Configuration) -> None:
        """Set what a configuration says; further servers are made, subscribed, or taken away.

        A further server serves the main one's application unless it has its own.

        Raises:
            ConfigurationError: Something is wrong with it; nothing has changed.
        """
        self.server.set(configuration.server)
        self.settings.update(configuration.engine)
        for name, values in configuration.servers.items():
            if values is None:
                self._remove(name)
                continue
            if name not in self.servers:
                self.servers[name] = Server(engine=self.engine)
                self.servers[name].subscribe()
            self.servers[name].set(values)

    def problems(self) -> tuple[SecureServeError, ...]:
        """Return everything that would keep it from starting, as far as that shows without starting."""
        found = list(self.server.problems())
        self._lend_application()
        for server in self.servers.values():
            found.extend(server.problems())
        return tuple(dict.fromkeys(found))

    def run(self, *, read: Callable[[], Configuration] | None = None, ready: Callable[[], None] | None = None) -> None:
        """Start everything, block until it is told to exit, and leave nothing behind.

        Signals are handled if this is the main thread.

        Args:
            read: Reads the configuration again, for HUP; None where there is none to read.
            ready: Called when everything answers.

        Raises:
            SecureServeError: Something did not start, or broke while it ran.
        """
        self._lend_application()
        logfiles.open_logs(self.settings, self.server.log_format)
        signals = None
        with contextlib.ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():
                signals = SignalHandler(self.engine, functools.partial(self.reload, read))
                signals.subscribe()
                stack.callback(signals.unsubscribe)
            for companion in self._companions():
                companion.subscribe()
                stack.callback(companion.unsubscribe)
            subscriptions: list[tuple[str, Callable[[], Any], int | None]] = [
                (REOPEN_LOGS, logfiles.reopen, None),
                ("start", close_unclaimed, AFTER_SERVERS),
                ("may_restart", functools.partial(self._require_possible, read), None),
            ]
            for channel, callback, priority in subscriptions:
                self.engine.subscribe(channel, callback, priority)
                stack.callback(self.engine.unsubscribe, channel, callback)
            try:
                self.engine.start()
            except StartFailed:
                if signals is not None and signals.leaving:
                    return
                raise
            if ready is not None:
                self._call(ready)
            self.engine.block()

    def _call(self, ready: Callable[[], None]) -> None:
        try:
            ready()
        except BaseException:
            with contextlib.suppress(SecureServeError):
                self.engine.exit()
            raise

    def reload(self, read: Callable[[], Configuration] | None = None) -> None:
        """Take new certificates and what can change of the configuration into use, all or nothing.

        Args:
            read: Reads the configuration again; None where there is none to read.

        Raises:
            ConfigurationError: The configuration is wrong; nothing has changed.
            ChannelFailures: Certificates were refused; nothing has changed.
        """
        configuration = self._require_possible(read)
        self.engine.graceful()
        waiting = [key for server, values in self._changes(configuration) for key in server.change(values)]
        waiting += [name for name, value in configuration.engine.items() if self.settings.get(name) != value]
        waiting += [
            name for name, values in configuration.servers.items() if (name in self.servers) == (values is None)
        ]
        if waiting:
            self.engine.log(f"These wait for a restart: {', '.join(dict.fromkeys(waiting))}", logging.WARNING)

    def _require_possible(self, read: Callable[[], Configuration] | None) -> Configuration:
        """Read the configuration again, and return it if the servers could have it.

        Raises:
            ConfigurationError: They could not.
        """
        configuration = Configuration() if read is None else read()
        for server, values in self._changes(configuration):
            server.require_possible(values)
        return configuration

    def _changes(self, configuration: Configuration) -> Iterator[tuple[Server, Mapping[str, Any]]]:
        yield self.server, configuration.server
        for name, server in self.servers.items():
            values = configuration.servers.get(name)
            if values is not None:
                yield server, values

    def _remove(self, name: str) -> None:
        server = self.servers.pop(name, None)
        if server is not None:
            server.unsubscribe()
            server.stop()

    def _lend_application(self) -> None:
        for server in self.servers.values():
            if server.application is None and server.instance is None:
                server.application = self.server.application

    def _companions(self) -> Iterator[Subscriber]:
        settings = self.settings
        yield SystemdNotifier(self.engine)
        if settings.get("pid_file") is not None:
            yield PIDFile(self.engine, settings["pid_file"])
        identity = [settings.get(name) for name in ("user", "group", "umask")]
        if any(each is not None for each in identity):
            yield DropPrivileges(self.engine, *identity, rereads=self._files_read_again, hands_over=self._hand_over)
        if settings.get("autoreload"):
            from secureserve.managed.autoreload import Autoreloader

            yield Autoreloader(self.engine, settings.get("autoreload_files", ()))

    def _hand_over(self, user: int, group: int) -> None:
        for server in self.every_server:
            server.give_control_to(user, group)

    def _files_read_again(self) -> list[str]:
        values = [getattr(server, name) for server in self.every_server for name in FILES]
        return [path for path in values if path is not None]
