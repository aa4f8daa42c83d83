"""``secureserve acme``: obtain and renew certificates from an ACME authority, list and revoke them, mind accounts."""

from __future__ import annotations

import contextlib
import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from secureserve.cli.acme_outcomes import exit_status, failure_status
from secureserve.cli.help import CommandOfSettings
from secureserve.cli.options import with_settings
from secureserve.cli.progress import Progress
from secureserve.cli.serving import given, log_to_terminal
from secureserve.errors import ConfigurationError, IssuanceError, LifecycleError, StorageError
from secureserve.managed.settings import SETTINGS
from secureserve.managed.settings.acme import ACME_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from secureserve.cli.acme_outcomes import Outcome

__all__ = ["app"]

app = typer.Typer(
    name="acme",
    help="Obtain and renew certificates from an ACME authority, list and revoke them, and mind the account.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class Reason(str, enum.Enum):
    """Why a certificate is revoked (RFC 5280, 5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    AFFILIATION_CHANGED = "affiliation-changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation-of-operation"


_CODES: Final = {
    Reason.UNSPECIFIED: 0,
    Reason.KEY_COMPROMISE: 1,
    Reason.AFFILIATION_CHANGED: 3,
    Reason.SUPERSEDED: 4,
    Reason.CESSATION_OF_OPERATION: 5,
}

_OF_SERVERS: Final = {"acme_domain", "acme_wait", "acme_on_demand"}
_ACME: Final = [setting.name for setting in ACME_SETTINGS if setting.name not in _OF_SERVERS]
ORDERING: Final = (*_ACME, "socket_host", "socket_port", "redirect_port")
"""The settings that obtaining takes: what to ask for, and where challenges are answered."""

ASKING: Final = ("acme_directory", "acme_ca_file", "acme_storage")
"""Those that asking an authority about what there is takes."""

ACCOUNT: Final = (*ASKING, "acme_email", "acme_accept_terms", "acme_eab_key_id", "acme_eab_hmac_key_file")

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        help="Host names or addresses, one certificate for each; those joined by a comma share one.",
        show_default="acme_domain",
    ),
]
ControlSocket = Annotated[
    Path | None,
    typer.Option(
        "--control-socket",
        envvar="SECURESERVE_CONTROL_SOCKET",
        metavar="PATH",
        help="The control socket of a running server, which then does it.",
        show_default="control_socket of the files, if a server answers there",
    ),
]
Config = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        envvar="SECURESERVE_CONFIG",
        metavar="FILE",
        help="A configuration file of the server, INI or TOML; may be repeated.",
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Debug = Annotated[bool, typer.Option("--debug", hidden=True, help="Log more, and show tracebacks.")]


@app.command(cls=CommandOfSettings)
@with_settings(only=ORDERING)
def obtain(
    *,
    names: Names = None,
    control_socket: ControlSocket = None,
    config: Config = None,
    as_json: AsJSON = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Obtain certificates that are missing or due, and store them; answers challenges itself where no server runs."""
    _log(debug=debug)
    values = _values(config, settings, names)
    server = _server_at(control_socket, values)
    if server is not None:
        _conclude(_by_server(server, names, force=False), as_json=as_json)
        return
    if not values["acme_domain"]:
        raise ConfigurationError(
            "NAME", None, "is missing", "Say what to obtain a certificate for, or set acme_domain."
        )
    _conclude(_by_ourselves(values, values["acme_domain"], force=False), as_json=as_json)


@app.command(cls=CommandOfSettings)
@with_settings(only=ORDERING)
def renew(
    *,
    names: Names = None,
    force: Annotated[bool, typer.Option("--force", help="Renew what has time to spare as well.")] = False,
    control_socket: ControlSocket = None,
    config: Config = None,
    as_json: AsJSON = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Renew certificates that are due: the named ones, those of acme_domain, or all that are stored."""
    _log(debug=debug)
    values = _values(config, settings, names)
    server = _server_at(control_socket, values)
    if server is not None:
        _conclude(_by_server(server, names, force=force), as_json=as_json)
        return
    if not values["acme_domain"]:
        values = _values(config, settings, [",".join(stored) for stored in _stored_names(values)])
    _conclude(_by_ourselves(values, values["acme_domain"], force=force), as_json=as_json)


@app.command(name="list", cls=CommandOfSettings)
@with_settings(only=("acme_storage",))
def list_(
    *,
    control_socket: ControlSocket = None,
    config: Config = None,
    as_json: AsJSON = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """List the certificates that are stored; of a running server, also what it is about to do."""
    from secureserve.cli.acme_listing import as_lines, of_server, of_storage

    _log(debug=debug)
    values = _values(config, settings)
    server = _server_at(control_socket, values)
    with _failing():
        listed = of_storage(values) if server is None else of_server(server)
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    for line in as_lines(listed):
        typer.echo(line)


@app.command(cls=CommandOfSettings)
@with_settings(only=ASKING)
def revoke(
    *,
    target: Annotated[str, typer.Argument(metavar="NAME", help="A name of a stored certificate, or a file with one.")],
    reason: Annotated[Reason, typer.Option("--reason", help="Why.")] = Reason.UNSPECIFIED,
    private_key: Annotated[
        Path | None, typer.Option("--private-key", help="The key, where the file has the certificate alone.")
    ] = None,
    control_socket: ControlSocket = None,
    config: Config = None,
    as_json: AsJSON = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Revoke a certificate, and store it no longer; a running server gets itself another one first."""
    from secureserve.cli.acme_revoking import Revocation

    _log(debug=debug)
    values = _values(config, settings)
    server = _server_at(control_socket, values)
    revocation = Revocation.of(values, target, private_key)
    if server is not None:
        replaced = _by_server(server, [",".join(revocation.order)], force=True)
        if exit_status(replaced):
            _conclude(replaced, as_json=as_json)
    with _failing(), Progress(f"revoking {', '.join(revocation.credential.names)}"):
        revocation.run(_CODES[reason], is_replaced=server is not None)
    if as_json:
        typer.echo(json.dumps(revocation.as_dict(), indent=2))
    else:
        typer.echo(f"Revoked {', '.join(revocation.credential.names)}: sha256 {revocation.credential.fingerprint}.")


@app.command(cls=CommandOfSettings)
@with_settings(only=ACCOUNT)
def account(
    *,
    create: Annotated[bool, typer.Option("--create", help="Make it, where there is none.")] = False,
    update_contact: Annotated[bool, typer.Option("--update-contact", help="Set its address to --acme-email.")] = False,
    roll_over: Annotated[bool, typer.Option("--roll-over", help="Give it a new key.")] = False,
    deactivate: Annotated[bool, typer.Option("--deactivate", help="Give it up for ever.")] = False,
    config: Config = None,
    as_json: AsJSON = False,
    debug: Debug = False,
    **settings: Any,
) -> None:
    """Show the account at each authority; make, change or give it up. Certificates stay as they are."""
    from secureserve.cli.acme_accounts import Wish, mind_accounts

    _log(debug=debug)
    options = {
        Wish.CREATE: create,
        Wish.UPDATE_CONTACT: update_contact,
        Wish.ROLL_OVER: roll_over,
        Wish.DEACTIVATE: deactivate,
    }
    wishes = [wish for wish, is_wanted in options.items() if is_wanted]
    with _failing(), Progress("asking for the account") as progress:
        accounts = mind_accounts(_values(config, settings), wishes, say=progress.say)
    if as_json:
        typer.echo(json.dumps([each.as_dict() for each in accounts], indent=2))
        return
    for each in accounts:
        for line in each.as_lines():
            typer.echo(line)


def _log(*, debug: bool) -> None:
    """Have warnings and errors be said; what is being done, progress says."""
    import logging

    log_to_terminal(debug=debug)
    if not debug:
        logging.getLogger("secureserve").setLevel(logging.WARNING)


def _values(
    config: Sequence[Path] | None, options: Mapping[str, Any], names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return every setting as the command line, the environment and the files have it.

    Raises:
        ConfigurationError: Something is wrong with them.
    """
    configured = given(config, options)
    if names:
        configured = configured.setting("acme_domain", list(names))
    return {**{name: setting.default for name, setting in SETTINGS.items()}, **configured.whole.server}


def _server_at(control_socket: Path | None, values: Mapping[str, Any]) -> Path | None:
    """Return the control socket of the running server; None where nobody named one and the configured one is silent."""
    from secureserve.managed.control import ask

    if control_socket is not None or values["control_socket"] is None:
        return control_socket
    with contextlib.suppress(LifecycleError):
        ask(values["control_socket"], "status")
        return Path(values["control_socket"])
    return None


def _stored_names(values: Mapping[str, Any]) -> list[tuple[str, ...]]:
    from secureserve.acme.stored import StoredCertificates
    from secureserve.managed.acme import storage_from

    with _failing():
        return list(dict.fromkeys(one.names for one in StoredCertificates(storage_from(values))))


def _by_ourselves(values: Mapping[str, Any], wanted: Sequence[Sequence[str]], *, force: bool) -> list[Outcome]:
    from secureserve.cli.acme_orders import Orders
    from secureserve.managed.contradictions import refuse_contradictions

    if not wanted:
        return []
    refuse_contradictions(values)
    with _failing(), Progress("acme") as progress:
        return Orders(values).renew(wanted, force=force, say=progress.say_of)


def _by_server(control_socket: Path, names: Sequence[str] | None, *, force: bool) -> list[Outcome]:
    from secureserve.cli.acme_running import renew_running

    wanted = SETTINGS["acme_domain"].parse(list(names or ()), key="NAME")
    with Progress("acme") as progress:
        return renew_running(control_socket, wanted, force=force, say=progress.say_of)


def _conclude(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Say what came of it, and end with the status that it has.

    Raises:
        Exit: Always where something did not succeed.
    """
    if as_json:
        ok = all(outcome.ok for outcome in outcomes)
        typer.echo(json.dumps({"ok": ok, "certificates": [outcome.as_dict() for outcome in outcomes]}, indent=2))
    else:
        for outcome in outcomes:
            typer.echo(outcome.as_line(), err=not outcome.ok)
        if not outcomes:
            typer.echo("There is nothing to renew.")
    if exit_status(outcomes):
        raise typer.Exit(exit_status(outcomes))


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Say what an authority or the storage refused within the block, and end with the status that tells of it."""
    try:
        yield
    except (IssuanceError, StorageError) as error:
        typer.echo(f"secureserve: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(failure_status(error)) from error
