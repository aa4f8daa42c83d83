"""``secureserve demo``: the demo application over HTTPS, on a certificate made on the spot."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from secureserve import demo as demo_module
from secureserve.cli.options import with_settings
from secureserve.cli.serving import (
    CERTIFICATE_SETTINGS,
    describe,
    development_certificate,
    given,
    log_to_terminal,
    run_until_told,
)
from secureserve.managed.settings.acme import ACME_SETTINGS

__all__ = ["demo"]

DEFAULTS: Final = {"socket_host": "127.0.0.1", "socket_port": 8443}


@with_settings(
    leave_out=(*CERTIFICATE_SETTINGS, *(setting.name for setting in ACME_SETTINGS)),
    defaults=DEFAULTS,
)
def demo(
    *,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="SECURESERVE_DEBUG", help="Log more, and show tracebacks.")
    ] = False,
    **settings: Any,
) -> None:
    """Serve a demo application over HTTPS on a development certificate, and say how to fetch from it."""
    log_to_terminal(debug=debug)
    configured = given([{f"server.{name}": value for name, value in DEFAULTS.items()}], settings)
    certificate = development_certificate(configured.whole, ())
    configured = configured.setting("ssl_certificate", str(certificate.path))
    typer.echo("The demo of secureserve. Ctrl-C ends it.")
    run_until_told(
        configured,
        demo_module.application,
        ready=lambda server: describe(certificate, server.bound_addr, path="text"),
    )
