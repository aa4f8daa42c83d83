"""What the commands that serve have in common: their configuration, and their development certificate."""

from __future__ import annotations

import logging
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from secureserve import logs
from secureserve.certificates.development import DEFAULT_NAMES, DevelopmentAuthority
from secureserve.cli.options import command_line_settings, given_settings
from secureserve.errors import ConfigurationError, SecureServeError
from secureserve.managed import logfiles
from secureserve.managed.config import Configuration, load
from secureserve.managed.descriptors import raise_limit
from secureserve.managed.quickstart import configure, make_process
from secureserve.managed.urls import url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from secureserve.certificates.credential import Credential
    from secureserve.managed.config import Source
    from secureserve.managed.server import Server

__all__ = [
    "CERTIFICATE_SETTINGS",
    "DevelopmentCertificate",
    "Given",
    "describe",
    "development_certificate",
    "given",
    "log_to_terminal",
    "run_until_told",
]

OWN_VARIABLES: Final = frozenset(
    f"SECURESERVE_{name}"
    for name in ("APP_DIR", "CONFIG", "DEBUG", "FACTORY", "INTERFACE", "SELF_SIGNED", "SELF_SIGNED_NAME")
)
"""Variables of the command line that are no settings."""

_log = logging.getLogger(logs.ERROR_LOGGER)

BEFORE_SERVERS: Final = 60
AFTER_SERVERS: Final = 75
"""Priorities: servers start at 75 and stop at 25."""

CERTIFICATE_SETTINGS: Final = (
    "ssl_certificate",
    "ssl_private_key",
    "ssl_certificate_chain",
    "ssl_private_key_password_file",
    "ssl_certificate_directory",
)
"""What says which certificate is served, and so cannot be combined with one that is made on the spot."""


PUBLIC_PORTS: Final = {"socket_port": 443, "redirect_port": 80}
"""Where an ACME authority looks (RFC 8555, 8.3; RFC 8737, 3): what is served where nobody says another port."""


@dataclass(frozen=True, slots=True)
class DevelopmentCertificate:
    """A certificate of the user's development authority.

    Attributes:
        path: The file that holds it and its key.
        ca_path: The file of the authority's certificate, for whoever is to trust it.
        credential: What is in `path`.
    """

    path: Path
    ca_path: Path
    credential: Credential


@dataclass(frozen=True, slots=True)
class Given:
    """What was configured, and how to read it again.

    Attributes:
        program: What the command line set, over everything else.
        sources: The configuration files, later ones over earlier ones.
    """

    program: Configuration
    sources: Sequence[Source | str | os.PathLike[str]]

    @property
    def whole(self) -> Configuration:
        """The command line over the environment over the files over the command line's own defaults.

        Raises:
            ConfigurationError: Something is wrong with it.
            ConfigurationErrors: Several things are.
        """
        every = command_line_settings().values()
        defaults = {
            one.key: one.default_for_command_line for one in every if one.default_for_command_line != one.default
        }
        whole = self.program.over(load(defaults, *self.sources, environ=os.environ, ignored_variables=OWN_VARIABLES))
        elsewhere = {"socket_port", "socket_file"} & whole.server.keys()
        return whole if elsewhere or not whole.server.get("acme_domain") else whole.over(configure(PUBLIC_PORTS))

    def setting(self, name: str, value: object) -> Given:
        """Return the same with one more setting from the command line."""
        return Given(configure({name: value}).over(self.program), self.sources)


def given(sources: Sequence[Source | str | os.PathLike[str]] | None, options: Mapping[str, Any]) -> Given:
    """Return what the options and files of a command say, checked as far as the options go.

    Args:
        sources: Configuration files or mappings, later ones over earlier ones.
        options: The values of the options made from settings, by name; None where one was not given.

    Raises:
        ConfigurationError: An option's value is not of its setting's kind.
    """
    return Given(load(given_settings(options)), sources or [])


def run_until_told(configured: Given, application: Any, *, ready: Callable[[Server], None] | None = None) -> None:
    """Serve until a signal says to stop.

    Args:
        configured: What was configured.
        application: A WSGI callable; an `ASGIAdapter` is started before the servers and shut down after them.
        ready: Called with the main server when everything answers.

    Raises:
        SecureServeError: Something did not start, or broke while it ran.
    """
    configured = configured.setting("application", application)
    process = make_process(configured.whole)
    if hasattr(application, "startup"):
        process.engine.subscribe("start", application.startup, BEFORE_SERVERS)
        process.engine.subscribe("stop", application.shutdown, AFTER_SERVERS)
    wanted = sum(server.max_connections for server in process.every_server)
    possible = raise_limit(wanted)

    def tell() -> None:
        if possible < wanted:
            _tell_of_little_room(process.every_server, possible, wanted)
        for server in process.every_server:
            _warn_of_plain_http(server)
        if ready is not None:
            ready(process.server)

    try:
        process.run(read=lambda: configured.whole, ready=tell)
    except SecureServeError as error:
        logfiles.note(str(error))
        raise


def development_certificate(configuration: Configuration, names: Sequence[str]) -> DevelopmentCertificate:
    """Make, or find again, a development certificate for a server and return where it is.

    Args:
        configuration: Must not name another certificate.
        names: What it is for; none for this machine and the configured `socket_host`.

    Raises:
        ConfigurationError: A certificate is configured already.
        CredentialError: The development authority may not vouch for one of the names.
    """
    for name in CERTIFICATE_SETTINGS:
        if configuration.server.get(name) is not None:
            remedy = f"Leave out --self-signed, or {name}."
            raise ConfigurationError(name, configuration.server[name], "is set beside --self-signed", remedy)
    host = configuration.server.get("socket_host")
    wanted = tuple(names) or (
        *DEFAULT_NAMES,
        *([host] if host and host not in DEFAULT_NAMES and not _is_any(host) else ()),
    )
    authority = DevelopmentAuthority()
    try:
        credential = authority.credential(wanted)
    except ValueError as error:
        raise ConfigurationError("--self-signed-name", ", ".join(wanted), f"is not possible: {error}") from error
    return DevelopmentCertificate(authority.credential_path(wanted), authority.ca_certificate_path, credential)


def describe(certificate: DevelopmentCertificate, bound_addr: Any, *, path: str = "") -> None:
    """Tell people about a development certificate: the URL, what it is, and how to fetch with it verified.

    Args:
        certificate: What is served.
        bound_addr: Where: host and port, or the path of a unix socket.
        path: What to fetch, after the URL.
    """
    credential = certificate.credential
    host = credential.names[0]
    unix_socket = bound_addr if isinstance(bound_addr, str) else None
    # A client that comes by a unix socket is told so beside the URL, which then has no port.
    url = url_of((host, 443 if unix_socket else bound_addr[1]), secure=True) + "/"
    through = f" --unix-socket {shlex.quote(unix_socket)}" if unix_socket else ""
    fingerprint = ":".join(credential.fingerprint[at : at + 2] for at in range(0, len(credential.fingerprint), 2))
    for label, value in (
        ("URL", url),
        ("Names", ", ".join(credential.names)),
        ("Fingerprint", f"SHA-256 {fingerprint.upper()}"),
        ("Expires", f"{credential.not_after:%Y-%m-%d %H:%M} UTC"),
        ("Authority", str(certificate.ca_path)),
        ("Fetch", f"curl --cacert {shlex.quote(str(certificate.ca_path))}{through} {url}{path}"),
    ):
        typer.echo(f"{label + ':':<13}{value}")


def log_to_terminal(*, debug: bool) -> None:
    """Send the logs to standard error, until the settings send them elsewhere."""
    logs.configure(level=logging.DEBUG if debug else logging.INFO)


def _tell_of_little_room(servers: Sequence[Server], possible: int, wanted: int) -> None:
    """Say that the system lets fewer connections be open than there may be: a warning to who asked for so many."""
    chosen = any("max_connections" in server.set_values for server in servers)
    _log.log(
        logging.WARNING if chosen else logging.INFO,
        "The system's limit of open files leaves room for %s connections, not max_connections = %s. "
        "Raise the hard limit (LimitNOFILE= of a systemd unit, ulimit -Hn), or lower max_connections.",
        possible,
        wanted,
    )


def _warn_of_plain_http(server: Server) -> None:
    """Warn of a TCP port at which everybody on the way can read and change what is said."""
    if not isinstance(server.bound_addr, str) and server.base().startswith("http:"):
        _log.warning(
            "%s is plain HTTP: nothing is encrypted, since no certificate is set. "
            "Set ssl_certificate and ssl_private_key, or for development --self-signed.",
            server.base(),
        )


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
