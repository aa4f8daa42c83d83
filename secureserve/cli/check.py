"""``secureserve check``: would this configuration serve?"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secureserve.cli.loading import load_application
from secureserve.cli.options import with_settings
from secureserve.cli.serving import given, log_to_terminal
from secureserve.errors import ConfigurationErrors, SecureServeError
from secureserve.managed.quickstart import make_process

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check"]


@with_settings()
def check(
    *,
    application: Annotated[
        str | None, typer.Argument(metavar="MODULE:APP", help="What would be served.", show_default=False)
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", metavar="FILE", help="A configuration file, INI or TOML; may be repeated."),
    ] = None,
    app_dir: Annotated[
        Path, typer.Option("--app-dir", metavar="DIRECTORY", help="Where the application's module is.")
    ] = Path(),
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    **settings: Any,
) -> None:
    """Say what is wrong with a configuration, its certificates and its application, without serving."""
    log_to_terminal(debug=debug)
    problems: list[SecureServeError] = []
    sys.path.insert(0, str(app_dir.resolve()))
    loaded = None
    with _gathering(problems):
        loaded = None if application is None else load_application(application, directory=app_dir)
    with _gathering(problems):
        process = make_process(given(config, settings).whole)
        if application is not None:
            # One that does not load has been told of, so it is not missed again.
            process.server.application = loaded or bool
        problems.extend(process.problems())
    for problem in problems:
        typer.echo(f"secureserve: {' '.join(str(problem).split())}", err=True)
    if problems:
        raise typer.Exit(2)
    typer.echo("Nothing is wrong.")


@contextlib.contextmanager
def _gathering(problems: list[SecureServeError]) -> Iterator[None]:
    """Keep what is wrong within the block, each problem by itself, and go on."""
    try:
        yield
    except ConfigurationErrors as error:
        problems.extend(error.problems)
    except SecureServeError as error:
        problems.append(error)
