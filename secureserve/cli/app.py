"""The commands, put together."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from secureserve.cli.commands import CommandGroup

__all__ = ["app"]

app = typer.Typer(
    name="secureserve",
    cls=CommandGroup,
    help="Serve Python applications over HTTPS, with certificates that rotate in place.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        typer.echo(f"secureserve {metadata.version('secureserve')}")
        raise typer.Exit


@app.callback()
def _start(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
