"""The commands by name, each loaded when it is asked for: a server's process keeps nothing of the others."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from secureserve.cli.help import CommandOfSettings

__all__ = ["CommandGroup"]

COMMANDS: Final = {
    "run": "secureserve.cli.run:run",
    "demo": "secureserve.cli.demo:demo",
    "check": "secureserve.cli.check:check",
    "certs": "secureserve.cli.certs:app",
    "acme": "secureserve.cli.acme:app",
}
"""Where each is, in the order in which help tells them: a function, or a group of further commands."""


class CommandGroup(TyperGroup):
    """All commands of the program."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Commands()


class _Commands(Mapping[str, Any]):
    """The commands, made of the modules that they are in on first use."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, attribute = COMMANDS[name].partition(":")
            self._made[name] = _make(getattr(importlib.import_module(module), attribute))
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _make(found: Any) -> Any:
    if isinstance(found, typer.Typer):
        return get_group(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(cls=CommandOfSettings)(found)
    return get_command(alone)
