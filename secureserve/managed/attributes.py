"""The attributes of a managed server, each with its type; what they are, the table of `settings` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from secureserve.errors import ConfigurationError, ConfigurationErrors
from secureserve.managed.contradictions import refuse_contradictions
from secureserve.managed.settings import SETTINGS, find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secureserve.managed.listening import Address
    from secureserve.managed.settings import Setting

__all__ = ["Attribute", "ServerAttributes"]

Value = TypeVar("Value")

Password = str | bytes | Callable[[], "str | bytes"]


class Attribute(Generic[Value]):
    """A setting as an attribute: checked when it is set, its default until then."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.setting: Setting = find(name)
        self.__doc__ = self.setting.doc

    @overload
    def __get__(self, instance: None, owner: type) -> Attribute[Value]: ...

    @overload
    def __get__(self, instance: ServerAttributes, owner: type) -> Value: ...

    def __get__(self, instance: ServerAttributes | None, owner: type) -> Attribute[Value] | Value:
        """Return what was set, or the default."""
        if instance is None:
            return self
        value: Value = instance.set_values.get(self.setting.name, self.setting.default)
        return value

    def __set__(self, instance: ServerAttributes, value: Any) -> None:
        """Set it, if it is of its kind.

        Raises:
            ConfigurationError: It is not.
        """
        instance.set_values[self.setting.name] = self.setting.parse(value)

    def __delete__(self, instance: ServerAttributes) -> None:
        """Have it be its default again."""
        instance.set_values.pop(self.setting.name, None)


class ServerAttributes:
    """Every setting of a server as an attribute.

    Attributes:
        set_values: What was set, by name; everything else is its default.
    """

    application = Attribute[Any]()
    httpserverclass = Attribute[Any]()
    instance = Attribute[Any]()
    protocol_version = Attribute[str]()
    wsgi_version = Attribute[tuple[Any, int]]()
    server_name = Attribute[str | None]()

    socket_host = Attribute[str | None]()
    socket_port = Attribute[int]()
    socket_file = Attribute[str | None]()
    socket_mode = Attribute[int]()
    socket_owner = Attribute[str | None]()
    socket_queue_size = Attribute[int]()
    reuse_port = Attribute[bool]()
    nodelay = Attribute[bool]()

    ssl_certificate = Attribute[str | None]()
    ssl_private_key = Attribute[str | None]()
    ssl_certificate_chain = Attribute[str | None]()
    ssl_private_key_password = Attribute["Password | None"]()
    ssl_private_key_password_file = Attribute[str | None]()
    ssl_certificate_directory = Attribute[str | None]()
    certificate_sources = Attribute[Any]()
    certificate_watch = Attribute[bool]()
    certificate_polling_interval = Attribute[float]()
    sni_strict = Attribute[bool]()
    start_with_emergency_certificate = Attribute[bool]()
    control_socket = Attribute[str | None]()
    ssl_module = Attribute[str]()
    tls_policy = Attribute[Any]()
    tls_minimum_version = Attribute[str | None]()
    tls_maximum_version = Attribute[str | None]()
    tls_groups = Attribute[tuple[str, ...] | None]()
    tls_session_tickets = Attribute[bool]()
    tls_session_ticket_lifetime = Attribute[float]()
    tls_ocsp_staple = Attribute[str | None]()
    tls_keylog_file = Attribute[str | None]()
    ssl_ciphers = Attribute[tuple[str, ...] | None]()
    ssl_ciphersuites = Attribute[tuple[str, ...] | None]()
    ssl_client_ca = Attribute[str | None]()
    ssl_client_verify = Attribute[str]()
    ssl_client_verify_depth = Attribute[int]()
    ssl_client_crl = Attribute[str | None]()
    ssl_client_crl_expired = Attribute[str]()
    ssl_client_allow = Attribute[tuple[str, ...] | None]()
    ssl_client_remote_user = Attribute[str | None]()

    acme_domain = Attribute[tuple[tuple[str, ...], ...]]()
    acme_email = Attribute[str | None]()
    acme_accept_terms = Attribute[bool]()
    acme_directory = Attribute[tuple[str, ...]]()
    acme_ca_file = Attribute[str | None]()
    acme_storage = Attribute[Any]()
    acme_challenge = Attribute[tuple[str, ...] | None]()
    acme_dns_hook = Attribute[Any]()
    acme_dns_hook_timeout = Attribute[float]()
    acme_dns_propagation = Attribute[float]()
    acme_profile = Attribute[str | None]()
    acme_preferred_chain = Attribute[str | None]()
    acme_eab_key_id = Attribute[str | None]()
    acme_eab_hmac_key_file = Attribute[str | None]()
    acme_key_type = Attribute[str]()
    acme_wait = Attribute[float]()
    acme_on_demand = Attribute[Any]()

    max_request_header_size = Attribute[int]()
    max_request_body_size = Attribute[int]()
    max_buffered_body_size = Attribute[int]()
    max_buffered_response_size = Attribute[int]()
    max_request_line_size = Attribute[int]()
    max_header_fields = Attribute[int]()
    min_body_rate = Attribute[int]()
    min_write_rate = Attribute[int]()

    thread_pool = Attribute[int]()
    thread_pool_max = Attribute[int]()
    thread_switch_interval = Attribute[float | None]()
    accepted_queue_size = Attribute[int]()
    accepted_queue_timeout = Attribute[float]()
    shutdown_timeout = Attribute[float]()
    max_connections = Attribute[int]()
    max_connections_per_address = Attribute[int]()
    max_idle_connections = Attribute[int]()

    socket_timeout = Attribute[float]()
    handshake_timeout = Attribute[float | None]()
    read_header_timeout = Attribute[float | None]()
    keep_alive_timeout = Attribute[float | None]()
    read_body_timeout = Attribute[float | None]()
    write_timeout = Attribute[float | None]()
    linger_timeout = Attribute[float]()
    start_timeout = Attribute[float]()

    plain_http = Attribute[str]()
    redirect_port = Attribute[int | None]()
    redirect_to_port = Attribute[int | None]()
    hsts = Attribute[str | None]()
    proxy_protocol = Attribute[bool]()
    proxy_allow_ips = Attribute[tuple[str, ...]]()
    reverse_dns = Attribute[bool]()
    reverse_dns_timeout = Attribute[float]()
    peercreds = Attribute[bool]()
    peercreds_resolve = Attribute[bool]()

    log_format = Attribute[str]()
    statistics = Attribute[bool]()

    def __init__(self) -> None:
        self.set_values: dict[str, Any] = {}

    @property
    def bind_addr(self) -> Any:
        """Where it is to listen: the path of a unix socket, or host (None for every interface) and port."""
        return self.socket_file or (self.socket_host, self.socket_port)

    @bind_addr.setter
    def bind_addr(self, value: Address | None) -> None:
        for name in ("socket_file", "socket_host", "socket_port"):
            delattr(self, name)
        if isinstance(value, str):
            self.socket_file = value
        elif value is not None:
            try:
                self.socket_host, self.socket_port = value
            except (TypeError, ValueError) as error:
                if isinstance(error, ConfigurationError):
                    raise
                remedy = "Give (host, port), the path of a unix socket, or None."
                raise ConfigurationError("bind_addr", value, "is not an address", remedy) from None

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; one that looks like a misspelt setting is refused."""
        if name not in SETTINGS and not name.startswith("_") and not hasattr(type(self), name):
            _refuse_misspelling(name, self)
        super().__setattr__(name, value)

    def set(self, values: Mapping[str, Any]) -> None:
        """Set several attributes, all or none.

        Raises:
            ConfigurationError: One cannot be.
            ConfigurationErrors: Several cannot be; it lists them.
        """
        problems = []
        parsed = {}
        for name, value in values.items():
            try:
                parsed[name] = find(name).parse(value)
            except ConfigurationError as error:
                problems.append(error)
        if problems:
            raise problems[0] if len(problems) == 1 else ConfigurationErrors(problems)
        for name, value in parsed.items():
            setattr(self, name, value)

    def require_possible(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return `values` as the attributes would hold them, if they could be set over what is set now.

        Raises:
            ConfigurationError: One of them is impossible, alone or together with the others.
        """
        wanted = {name: find(name).parse(value) for name, value in values.items()}
        refuse_contradictions({**self.values(), **wanted})
        return wanted

    def values(self) -> dict[str, Any]:
        """Return every setting's value, set or default."""
        return {name: getattr(self, name) for name in SETTINGS}


def _refuse_misspelling(name: str, instance: object) -> None:
    import difflib

    if name not in vars(instance) and difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.85):
        find(name)
