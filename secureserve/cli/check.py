"""``secureserve check``: would this configuration serve?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from secureserve.cli.loading import load_application
from secureserve.cli.options import with_settings
from secureserve.cli.serving import given, log_to_terminal
from secureserve.managed.quickstart import make_process

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
    configuration = given(config, settings).whole
    sys.path.insert(0, str(app_dir.resolve()))
    process = make_process(configuration)
    if application is not None:
        process.server.application = load_application(application, directory=app_dir)
    problems = process.problems()
    for problem in problems:
        typer.echo(f"secureserve: {' '.join(str(problem).split())}", err=True)
    if problems:
        raise typer.Exit(2)
    typer.echo("Nothing is wrong.")
