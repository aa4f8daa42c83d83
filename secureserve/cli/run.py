"""``secureserve run``: an application over HTTPS in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from secureserve.cli.loading import Interface, as_wsgi, load_application
from secureserve.cli.options import with_settings
from secureserve.cli.serving import describe, development_certificate, given, log_to_terminal, run_until_told
from secureserve.errors import ConfigurationError

__all__ = ["run"]


@with_settings()
def run(
    *,
    application: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:APP", help="The application; without :APP, application or app is taken."),
    ] = None,
    factory: Annotated[
        bool, typer.Option("--factory", envvar="SECURESERVE_FACTORY", help="MODULE:APP is called to make it.")
    ] = False,
    interface: Annotated[
        Interface,
        typer.Option(
            "--interface",
            envvar="SECURESERVE_INTERFACE",
            metavar="wsgi|asgi",
            help="How the application is called.",
        ),
    ] = Interface.WSGI,
    app_dir: Annotated[
        Path,
        typer.Option(
            "--app-dir",
            envvar="SECURESERVE_APP_DIR",
            metavar="DIRECTORY",
            help="Where the application's module is.",
        ),
    ] = Path(),
    self_signed: Annotated[
        bool,
        typer.Option(
            "--self-signed",
            envvar="SECURESERVE_SELF_SIGNED",
            help="Use a certificate of a development authority of this user's own, made on first use.",
        ),
    ] = False,
    self_signed_name: Annotated[
        list[str] | None,
        typer.Option(
            "--self-signed-name",
            envvar="SECURESERVE_SELF_SIGNED_NAME",
            metavar="NAME",
            help="A name or address that certificate is to be for; may be repeated.",
            show_default="this machine",
        ),
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            "-c",
            envvar="SECURESERVE_CONFIG",
            metavar="FILE",
            help="A configuration file, INI or TOML; may be repeated.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="SECURESERVE_DEBUG", help="Log more, and show tracebacks.")
    ] = False,
    **settings: Any,
) -> None:
    """Serve an application over HTTPS until Ctrl-C or SIGTERM."""
    log_to_terminal(debug=debug)
    configured = given(config, settings)
    name = application or configured.whole.server.get("application")
    if not isinstance(name, str):
        raise ConfigurationError("APPLICATION", None, "is missing", "Name it as MODULE:APP, or as server.application.")
    loaded = as_wsgi(load_application(name, directory=app_dir, factory=factory), interface, name)
    if not (self_signed or self_signed_name):
        run_until_told(configured, loaded)
        return
    certificate = development_certificate(configured.whole, self_signed_name or ())
    configured = configured.setting("ssl_certificate", str(certificate.path))
    run_until_told(configured, loaded, ready=lambda server: describe(certificate, server.bound_addr))
