"""``secureserve certs``: look at certificates, check them, rotate them in a running server, make them."""

from __future__ import annotations

import difflib
import importlib
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from secureserve.certificates import pem
from secureserve.certificates.credential import Credential, password_from
from secureserve.certificates.development import DEFAULT_LIFETIME, DEFAULT_NAMES, DevelopmentAuthority
from secureserve.certificates.expiry import in_words
from secureserve.certificates.files import write_atomically
from secureserve.certificates.summary import CertificateSummary
from secureserve.cli.rotate import Place, Rotation
from secureserve.cli.targets import host_and_port, look_at
from secureserve.cli.trust import instructions
from secureserve.errors import ConfigurationError, CredentialError, Expired, SecureServeError
from secureserve.managed.control import ask

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app"]

tomllib: Final[Any] = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

app = typer.Typer(
    name="certs",
    help="Look at certificates, check them, rotate them in a running server, and make them for development.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

FAILED: Final = 1
"""The exit status when a certificate is no good, or was not taken."""

UNUSABLE: Final = 2
"""The exit status when what was asked for cannot be done, as for a wrong command line."""

_SECONDS_PER_DAY: Final = 86400.0

_PROFILE_KEYS: Final = ("names", "lifetime_days", "key_type")

Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TARGET]...", help="Files, directories, or HOST:PORT; none: the running server."),
]
ControlSocket = Annotated[
    Path | None,
    typer.Option(
        "--control-socket", envvar="SECURESERVE_CONTROL_SOCKET", help="The control socket of the running server."
    ),
]
PrivateKey = Annotated[Path | None, typer.Option("--private-key", help="The key, where it is in a file of its own.")]
PasswordFile = Annotated[Path | None, typer.Option("--password-file", help="A file with the password of the key.")]
ServerName = Annotated[str | None, typer.Option("--server-name", help="The name to ask a server for (SNI).")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Force = Annotated[
    bool, typer.Option("--force", help="Also take one that covers fewer names, or was issued before what is served.")
]
RevokeSessions = Annotated[
    bool, typer.Option("--revoke-sessions", help="Let no TLS session from before be resumed: after a key was stolen.")
]
Debug = Annotated[bool, typer.Option("--debug", hidden=True, help="Show tracebacks.")]


@app.command()
def show(
    targets: Targets = None,
    *,
    control_socket: ControlSocket = None,
    private_key: PrivateKey = None,
    password_file: PasswordFile = None,
    server_name: ServerName = None,
    as_json: AsJSON = False,
    debug: Debug = False,  # noqa: ARG001 - main looks
) -> None:
    """Show certificates: of files, of a directory, of HOST:PORT, or of the running server."""
    if not targets:
        _show_running(_required(control_socket), as_json=as_json)
        return
    found = list(look_at(targets, private_key=private_key, password=_password(password_file), server_name=server_name))
    summaries = [each for each in found if isinstance(each, CertificateSummary)]
    errors = [each for each in found if isinstance(each, CredentialError)]
    if errors and not summaries:
        raise errors[0]
    if as_json:
        _print_json([each.as_dict() for each in summaries])
    else:
        _print_table(
            [
                (each.source, each.names, each.issuer, each.days_left, each.key_type, each.fingerprint)
                for each in summaries
            ]
        )
    for error in errors:
        typer.echo(f"secureserve: {error}", err=True)
    if errors:
        raise typer.Exit(UNUSABLE)


@app.command()
def check(
    targets: Targets = None,
    *,
    control_socket: ControlSocket = None,
    private_key: PrivateKey = None,
    password_file: PasswordFile = None,
    server_name: ServerName = None,
    name: Annotated[list[str] | None, typer.Option("--name", help="A name that has to be covered.")] = None,
    min_days: Annotated[float, typer.Option("--min-days", min=0, help="Days that have to be left.")] = 0,
    as_json: AsJSON = False,
    debug: Debug = False,  # noqa: ARG001 - main looks
) -> None:
    """Check certificates in every way that a server would; list what is wrong, and exit with status 1 if any is."""
    if not targets:
        _check_running(_required(control_socket), names=name or [], min_days=min_days, as_json=as_json)
        return
    problems: list[CredentialError] = []
    for found in look_at(targets, private_key=private_key, password=_password(password_file), server_name=server_name):
        problems += [found] if isinstance(found, CredentialError) else _judge(found, name or [], min_days)
    _conclude([(type(each).__name__, str(each)) for each in problems], as_json=as_json)


@app.command()
def rotate(
    *,
    certificate: Annotated[Path, typer.Option("--certificate", help="The new certificate, with its chain.")],
    private_key: PrivateKey = None,
    chain: Annotated[Path | None, typer.Option("--chain", help="The new chain, where it is apart.")] = None,
    password_file: PasswordFile = None,
    control_socket: ControlSocket = None,
    install_certificate: Annotated[
        Path | None, typer.Option("--install-certificate", help="The file to replace; none: the running server's.")
    ] = None,
    install_private_key: Annotated[
        Path | None, typer.Option("--install-private-key", help="The key file to replace.")
    ] = None,
    connect: Annotated[
        list[str] | None, typer.Option("--connect", help="HOST:PORT that has to serve it in the end; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds until all have to serve it.")] = 30,
    force: Force = False,
    revoke_sessions: RevokeSessions = False,
    debug: Debug = False,  # noqa: ARG001 - main looks
) -> None:
    """Replace the certificate of a running server: check, install, reload, see it served; or put everything back."""
    try:
        password = _password(password_file)
        new = Credential.load(certificate, private_key, chain=chain, password=password)
        data = pem.read_key_file(certificate if private_key is None else private_key)
        key = new.private_key_pem() if pem.is_pkcs12(data) else pem.private_key_block(data)
        if install_certificate is not None:
            place = Place(install_certificate.absolute(), install_private_key and install_private_key.absolute())
        else:
            place = Place.of_server(_required(control_socket), Place(certificate, private_key, chain))
        Rotation(
            place,
            control_socket=control_socket,
            addresses=[_address(each) for each in connect or []],
            force=force,
            revoke_sessions=revoke_sessions,
            timeout=timeout,
            say=typer.echo,
        ).run(new, key)
    except (SecureServeError, OSError) as error:
        typer.echo(f"secureserve: not rotated: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(FAILED) from error
    typer.echo("Rotated.")


@app.command()
def reload(
    *,
    control_socket: ControlSocket = None,
    force: Force = False,
    revoke_sessions: RevokeSessions = False,
    as_json: AsJSON = False,
    debug: Debug = False,  # noqa: ARG001 - main looks
) -> None:
    """Have the running server look at its certificates now; exit with status 1 if it refuses what it finds."""
    outcome: dict[str, Any] = ask(
        _required(control_socket), "certificates.reload", force=force, revoke_sessions=revoke_sessions
    )
    if as_json:
        _print_json(outcome)
    else:
        for fingerprint in outcome["rotated"]:
            typer.echo(f"Now serving sha256 {fingerprint}.")
        for refused in outcome["refused"]:
            typer.echo(f"secureserve: refused {refused['source']}: {refused['message']}", err=True)
        if outcome["ok"] and not outcome["rotated"]:
            typer.echo("Nothing has changed.")
    if not outcome["ok"]:
        raise typer.Exit(FAILED)


@app.command()
def make(
    *,
    name: Annotated[list[str] | None, typer.Option("--name", help="What it is for; may be repeated.")] = None,
    profile: Annotated[Path | None, typer.Option("--profile", help="A profile as in certs/profiles.")] = None,
    directory: Annotated[Path | None, typer.Option("--directory", help="Where the authority is kept.")] = None,
    certificate: Annotated[Path | None, typer.Option("--certificate", help="Also write the certificate here.")] = None,
    private_key: Annotated[Path | None, typer.Option("--private-key", help="Also write the key here.")] = None,
    debug: Debug = False,  # noqa: ARG001 - main looks
) -> None:
    """Make a development certificate, and the authority that vouches for it where there is none yet."""
    if (certificate is None) != (private_key is None):
        missing = "--private-key" if private_key is None else "--certificate"
        raise ConfigurationError(missing, None, "is missing", "Give both, or none to have them in the state folder.")
    options = {} if profile is None else _read_profile(profile)
    if name:
        options["names"] = tuple(name)
    authority = DevelopmentAuthority(directory)
    try:
        made = authority.credential(**options)
    except ValueError as error:
        where = "--name" if name or profile is None else str(profile)
        raise ConfigurationError(where, None, f"cannot be made: {error}") from error
    if certificate is not None and private_key is not None:
        write_atomically(private_key, made.private_key_pem())
        write_atomically(certificate, made.chain_pem(), mode=0o644)
    where = made.origin if certificate is None else f"{certificate} with {private_key}"
    typer.echo(f"Certificate: {where}")
    typer.echo(f"Names:       {', '.join(made.names)}")
    typer.echo(f"Valid until: {made.not_after:%Y-%m-%d %H:%M} UTC")
    typer.echo(f"SHA-256:     {made.fingerprint}")
    typer.echo(f"Authority:   {authority.ca_certificate_path}")


@app.command()
def trust(
    *,
    directory: Annotated[Path | None, typer.Option("--directory", help="Where the authority is kept.")] = None,
    debug: Debug = False,  # noqa: ARG001 - main looks
) -> None:
    """Say how to trust the development authority on this system; nothing is changed."""
    authority = DevelopmentAuthority(directory)
    authority.ca_certificate()
    for line in instructions(authority.ca_certificate_path):
        typer.echo(line)


def _show_running(control_socket: Path, *, as_json: bool) -> None:
    view = ask(control_socket, "certificates.show")
    if as_json:
        _print_json(view)
        return
    _print_table(
        [
            (each["source"], each["names"], each["issuer"], each["days_left"], each["key_type"], each["fingerprint"])
            for each in view["served"]
        ]
    )
    typer.echo(f"Last rotation: {view['last_rotation'] or 'none since the start'}")
    if view["emergency"]:
        typer.echo("secureserve: an emergency certificate is being served", err=True)
    for each in view["refused"]:
        typer.echo(f"secureserve: refused since {each['since']}: {each['message']}", err=True)


def _check_running(control_socket: Path, *, names: Sequence[str], min_days: float, as_json: bool) -> None:
    view = ask(control_socket, "certificates.show")
    found = [(each["error"], each["message"]) for each in view["refused"]]
    found += [
        ("Expired", f"{each['source']} has {each['days_left']:.2f} days left.")
        for each in view["served"]
        if each["days_left"] < min_days or each["days_left"] <= 0
    ]
    offered = [pattern for each in view["served"] for pattern in each["names"]]
    found += [
        ("NameNotCovered", f"No certificate of the running server is for {name}.")
        for name in names
        if not any(_matches(pattern, name) for pattern in offered)
    ]
    _conclude(found, as_json=as_json)


def _judge(summary: CertificateSummary, names: Sequence[str], min_days: float) -> list[CredentialError]:
    problems = list(summary.problems)
    problems += [problem for problem in map(summary.lacks, names) if problem is not None]
    if 0 < summary.days_left < min_days:
        message = (
            f"{summary.source} has {summary.days_left:.2f} days left, less than the {min_days:g} asked for. Renew it."
        )
        problems.append(Expired(message, path=summary.source))
    return problems


def _conclude(problems: Sequence[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        _print_json({"ok": not problems, "problems": [{"kind": kind, "message": text} for kind, text in problems]})
    else:
        for kind, text in problems:
            typer.echo(f"{kind}: {text}")
        if not problems:
            typer.echo("Nothing is wrong.")
    if problems:
        raise typer.Exit(FAILED)


def _print_table(rows: Sequence[tuple[str, Sequence[str], str, float, str, str]]) -> None:
    for source, names, issuer, days_left, key_type, fingerprint in rows:
        typer.echo(source)
        typer.echo(f"  names    {', '.join(names) or '(none)'}")
        typer.echo(f"  issuer   {issuer or '(none)'}")
        span = in_words(abs(days_left) * _SECONDS_PER_DAY)
        typer.echo(f"  expires  in {span}" if days_left > 0 else f"  EXPIRED  {span} ago")
        typer.echo(f"  key      {key_type}")
        typer.echo(f"  sha256   {fingerprint}")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _required(control_socket: Path | None) -> Path:
    if control_socket is None:
        remedy = "Give --control-socket as the running server has it (or SECURESERVE_CONTROL_SOCKET), or a target."
        raise ConfigurationError("control_socket", None, "is missing", remedy)
    return control_socket


def _password(password_file: Path | None) -> bytes | None:
    return None if password_file is None else password_from(password_file)


def _address(text: str) -> tuple[str, int]:
    found = host_and_port(text)
    if found is None:
        raise ConfigurationError("--connect", text, "is not HOST:PORT", "Write localhost:8443, say.")
    return found


def _matches(pattern: str, name: str) -> bool:
    from secureserve.certificates.names import matches

    return matches(pattern, name)


def _read_profile(path: Path) -> dict[str, Any]:
    """Return the arguments for `DevelopmentAuthority.credential` that a profile stands for."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError("--profile", str(path), f"is not TOML: {error}") from error
    for key in content:
        if key not in _PROFILE_KEYS:
            near = difflib.get_close_matches(key, _PROFILE_KEYS, 1)
            remedy = f"Did you mean {near[0]}?" if near else f"It may set {', '.join(_PROFILE_KEYS)}."
            raise ConfigurationError(key, content[key], "is nothing that a profile can set", remedy, file=path)
    days = content.get("lifetime_days", DEFAULT_LIFETIME.days)
    names = content.get("names", list(DEFAULT_NAMES))
    if not isinstance(days, (int, float)) or isinstance(days, bool):
        raise ConfigurationError("lifetime_days", days, "is not a number of days", file=path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError("names", names, "is not a list of names", file=path)
    return {"names": tuple(names), "lifetime": timedelta(days=days), "key_type": content.get("key_type", "ecdsa")}
