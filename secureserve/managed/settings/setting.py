"""What a setting is: its name, its kind, its default, and how a value that somebody wrote is read."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationError
from secureserve.managed.settings.kinds import Unacceptable

if TYPE_CHECKING:
    import os

    from secureserve.managed.settings.kinds import Kind

__all__ = ["ENVIRONMENT_PREFIX", "Section", "Setting"]

ENVIRONMENT_PREFIX: Final = "SECURESERVE_"


class Section(enum.Enum):
    """The chapters of the reference page and of ``--help``."""

    APPLICATION = "What is served"
    ADDRESS = "Where it listens"
    TLS = "TLS and certificates"
    ACME = "Certificates from an ACME authority"
    LIMITS = "Limits on requests"
    THREADS = "Threads and overload"
    TIMEOUTS = "Timeouts"
    PEERS = "Proxies and peers"
    LOGS = "Logs and statistics"
    PROCESS = "The process"


class _SameAsDefault(enum.Enum):
    """The mark of a setting whose command-line default is the API's."""

    SAME = "same"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: Its one name: attribute, config key after ``server.``, and in upper case the environment variable.
        kind: What values it may have.
        default: What it is when nobody sets it through the Python API.
        doc: What it does, in one sentence that names the unit.
        section: The chapter it is in.
        on_command_line: Whether ``secureserve run`` has an option for it.
        command_line_default: What it is when ``secureserve run`` is not told; see `default_for_command_line`.
        reloadable: Whether SIGHUP may change it in a running server.
        secret: Whether its value must never be shown.
        scope: ``server`` or ``engine``, the first word of its config key.
    """

    name: str
    kind: Kind
    default: Any
    doc: str
    section: Section
    on_command_line: bool = True
    command_line_default: Any = _SameAsDefault.SAME
    reloadable: bool = False
    secret: bool = False
    scope: str = "server"

    @property
    def key(self) -> str:
        """The name in a configuration file: ``server.socket_port``."""
        return f"{self.scope}.{self.name}"

    @property
    def environment_variable(self) -> str:
        """The name in the environment: ``SECURESERVE_SOCKET_PORT``."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        """The name on the command line: ``--socket-port``."""
        return "--" + self.name.replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values, where they can be listed."""
        return self.kind.choices

    @property
    def default_for_command_line(self) -> Any:
        """The value `secureserve run` uses when it is not told another."""
        return self.default if self.command_line_default is _SameAsDefault.SAME else self.command_line_default

    def parse(
        self,
        value: object,
        *,
        file: str | os.PathLike[str] | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> Any:
        """Return `value`, a Python object, as what the setting holds.

        Args:
            value: What somebody set.
            file: The configuration file it came from.
            line: Its line there, counted from 1.
            key: What to call the setting in an error, where that is not its name.

        Raises:
            ConfigurationError: It is not of the setting's kind.
        """
        try:
            return self.kind.accept(value)
        except Unacceptable as error:
            raise self._refusal(value, error, file, line, key) from None

    def parse_text(
        self, text: str, *, file: str | os.PathLike[str] | None = None, line: int | None = None, key: str | None = None
    ) -> Any:
        """Return `text`, from the environment or a command line, as what the setting holds.

        Raises:
            ConfigurationError: It cannot be read as the setting's kind.
        """
        try:
            return self.kind.read(text)
        except Unacceptable as error:
            raise self._refusal(text, error, file, line, key) from None

    def _refusal(
        self,
        value: object,
        error: Unacceptable,
        file: str | os.PathLike[str] | None,
        line: int | None,
        key: str | None,
    ) -> ConfigurationError:
        shown = None if self.secret else value
        return ConfigurationError(key or self.name, shown, error.problem, error.remedy, file=file, line=line)
