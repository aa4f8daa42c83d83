"""Building HTTP servers from the attributes of the server that manages them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from secureserve.errors import ConfigurationError
from secureserve.managed.accounts import owner
from secureserve.managed.importing import resolve
from secureserve.managed.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from secureserve.front.listener import Listener
    from secureserve.front.settings import FrontSettings
    from secureserve.http.server import HTTPServer
    from secureserve.managed.attributes import ServerAttributes
    from secureserve.managed.listening import Address
    from secureserve.managed.tls import TLSLayer

__all__ = [
    "application_of",
    "authorising",
    "change_httpserver",
    "check_tls",
    "given_server",
    "is_recipe",
    "make_httpserver",
    "make_redirector",
    "unix_owner_of",
]


def make_httpserver(
    attributes: ServerAttributes,
    address: Address,
    *,
    make_tls: Callable[[], TLSLayer | None],
    listeners: Sequence[Listener],
    publish: Callable[[object], None],
) -> HTTPServer:
    """Build the HTTP server that the attributes describe. It listens nowhere yet.

    Args:
        attributes: What describes it.
        address: Where it is to listen.
        make_tls: Loads certificates and policy, once everything that is cheaper to check has been; None for plain HTTP.
        listeners: Sockets to serve instead of binding the address.
        publish: Is given what happens.

    Raises:
        ConfigurationError: Attributes that cannot be honoured.
        CredentialError: A certificate that cannot be served.
    """
    from secureserve.http.gateway import registered_gateways
    from secureserve.http.server import HTTPServer
    from secureserve.logs import AccessLog

    application = authorising(attributes, application_of(attributes))
    unix_owner = unix_owner_of(attributes)
    gateways = registered_gateways()
    if attributes.wsgi_version not in gateways:
        remedy = f"There is one for {', '.join(map(str, gateways))}."
        raise ConfigurationError("wsgi_version", attributes.wsgi_version, "has no gateway", remedy)
    tls = make_tls()
    httpserver = HTTPServer(
        address,
        application,
        numthreads=attributes.thread_pool,
        server_name=attributes.server_name,
        max=attributes.thread_pool_max,
        request_queue_size=attributes.socket_queue_size,
        timeout=attributes.socket_timeout,
        shutdown_timeout=attributes.shutdown_timeout,
        accepted_queue_size=attributes.accepted_queue_size,
        accepted_queue_timeout=attributes.accepted_queue_timeout,
        peercreds_enabled=attributes.peercreds,
        peercreds_resolve_enabled=attributes.peercreds_resolve,
        reuse_port=attributes.reuse_port,
        settings=_front_settings(attributes),
        listeners=listeners,
        unix_mode=attributes.socket_mode,
        unix_owner=unix_owner,
        access_log=AccessLog(log_format=attributes.log_format),
        publish=publish,
    )
    httpserver.protocol = attributes.protocol_version
    httpserver.nodelay = attributes.nodelay
    httpserver.redirect_to_port = attributes.redirect_to_port
    httpserver.max_request_header_size = attributes.max_request_header_size
    httpserver.max_request_body_size = attributes.max_request_body_size
    httpserver.wsgi_version = attributes.wsgi_version
    httpserver.gateway = gateways[attributes.wsgi_version]
    httpserver.stats["Enabled"] = attributes.statistics
    if tls is not None:
        from secureserve.http.ssl_adapter import SSLAdapter

        httpserver.ssl_adapter = SSLAdapter(acceptor=tls.acceptor)
    return httpserver


def change_httpserver(httpserver: HTTPServer, changed: Mapping[str, Any]) -> None:
    """Have a running server of ours do what reloadable attributes say now.

    Args:
        httpserver: The server.
        changed: The new values by the attribute's name.
    """
    for name in ("shutdown_timeout", "max_request_header_size", "max_request_body_size"):
        if name in changed:
            setattr(httpserver, name, changed[name])
    for name, attribute in (
        ("thread_pool", "min"),
        ("thread_pool_max", "max"),
        ("accepted_queue_size", "accepted_queue_size"),
        ("accepted_queue_timeout", "accepted_queue_timeout"),
    ):
        if name in changed:
            setattr(httpserver.requests, attribute, changed[name])
    httpserver.settle()


def make_redirector(
    attributes: ServerAttributes,
    address: Address,
    https_port: int,
    serves: Callable[[str], bool],
    *,
    challenges: Mapping[str, str],
    listeners: Sequence[Listener],
) -> HTTPServer:
    """Build the plain HTTP server that redirects to https and answers ACME challenges.

    Its clients are those of the server beside it, and come the same way: what that grants a peer holds here too.

    Args:
        attributes: What describes the server that speaks https.
        address: Where it is to listen.
        https_port: Where https is served, unless the attributes say where clients reach it.
        serves: Tells whether a host is served there.
        challenges: Proofs by token.
        listeners: Sockets to serve instead of binding the address.
    """
    from secureserve.http.plain import RedirectApp
    from secureserve.http.server import HTTPServer
    from secureserve.logs import AccessLog

    redirector = HTTPServer(
        address,
        RedirectApp(attributes.redirect_to_port or https_port, serves, challenges),
        numthreads=1,
        server_name=attributes.server_name,
        request_queue_size=attributes.socket_queue_size,
        timeout=attributes.socket_timeout,
        shutdown_timeout=attributes.shutdown_timeout,
        reuse_port=attributes.reuse_port,
        # Nobody would see the name.
        settings=replace(_front_settings(attributes), reverse_dns=False),
        listeners=listeners,
        access_log=AccessLog(log_format=attributes.log_format),
    )
    redirector.max_request_header_size = attributes.max_request_header_size
    return redirector


def given_server(attributes: ServerAttributes) -> Any:
    """Return the HTTP server, or the recipe for one, that was given; None where ours is to be built.

    Raises:
        ConfigurationError: What was given is neither, or its name leads nowhere.
    """
    for key in ("instance", "httpserverclass"):
        value = resolve(key, getattr(attributes, key))
        if value is None:
            continue
        missing = [name for name in ("start", "stop") if not callable(getattr(value, name, None))]
        if missing and (isinstance(value, type) or not callable(value)):
            remedy = "Give an HTTP server, a class of one, or the name of either."
            raise ConfigurationError(key, value, f"has no {' and no '.join(missing)}", remedy)
        return value
    return None


def is_recipe(given: Any) -> bool:
    """Return whether what was given makes an HTTP server when it is called with the managing one."""
    return isinstance(given, type) or not callable(getattr(given, "start", None))


def application_of(attributes: ServerAttributes) -> Any:
    """Return the application that is to be served.

    Raises:
        ConfigurationError: There is none, or it cannot be called.
    """
    application = resolve("application", attributes.application)
    if application is None:
        raise ConfigurationError("application", None, "is missing", "Set it to a WSGI callable or module:attribute.")
    if not callable(application):
        raise ConfigurationError("application", attributes.application, "cannot be called", "Give a WSGI callable.")
    return application


def authorising(attributes: ServerAttributes, application: Any) -> Any:
    """Return the application behind the rules about clients, where there are any.

    Raises:
        ConfigurationError: A rule is none.
    """
    allow, field = attributes.ssl_client_allow, attributes.ssl_client_remote_user
    if allow is None and field is None:
        return application
    from secureserve.http.client_authorisation import AuthoriseClients

    return AuthoriseClients(application, allow, remote_user_field=field)


def check_tls(attributes: ServerAttributes) -> None:
    """Load the certificates and the policy that the attributes ask for, and let go of them again.

    Raises:
        ConfigurationError: Attributes that do not go together, or that the engine cannot do.
        CredentialError: A certificate or key that cannot be served.
    """
    from secureserve.managed import tls

    values = attributes.values()
    if tls.is_wanted(values):
        tls.build(values).close()


def unix_owner_of(attributes: ServerAttributes) -> tuple[int, int] | None:
    """Return the user and group number that the unix socket is to have.

    Raises:
        ConfigurationError: This system has no such user or group.
    """
    if attributes.socket_owner is None or attributes.socket_file is None:
        return None
    return owner("socket_owner", attributes.socket_owner)


def _front_settings(attributes: ServerAttributes) -> FrontSettings:
    from secureserve.front.settings import FrontSettings

    return FrontSettings(
        **{each.name: getattr(attributes, each.name) for each in fields(FrontSettings) if each.name in SETTINGS}
    )
