"""Every setting there is, in one table.

What `Server` has as attributes, what a configuration file may hold as ``server.X`` and ``engine.X``, what the
environment may hold as ``SECURESERVE_X``, what ``secureserve run`` takes as ``--x``, and the reference page: all of it
is this table.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError
from secureserve.managed import kinds
from secureserve.managed.acme_settings import ACME_SETTINGS
from secureserve.managed.kinds import FLAG, choice, integer, list_of, optional, seconds, size
from secureserve.managed.setting import ENVIRONMENT_PREFIX, Section, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ENGINE_SETTINGS", "ENVIRONMENT_PREFIX", "REFUSED", "SETTINGS", "Section", "Setting", "find", "nearest"]


def find(name: str, table: Mapping[str, Setting] | None = None) -> Setting:
    """Return the setting called `name`.

    Raises:
        ConfigurationError: There is none; the message names the nearest that there is.
    """
    table = SETTINGS if table is None else table
    try:
        return table[name]
    except KeyError:
        raise ConfigurationError(name, None, "is not a setting", REFUSED.get(name) or nearest(name, table)) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the sentence that suggests which of the `known` names somebody meant by `name`."""
    # Only for mistakes.
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else "The reference page of settings lists them all."


def _table(*settings: Setting) -> Mapping[str, Setting]:
    return MappingProxyType({setting.name: setting for setting in settings})


_PHASE = "None: derived from socket_timeout"

SETTINGS: Final[Mapping[str, Setting]] = _table(
    Setting(
        "application",
        kinds.OBJECT,
        None,
        "The WSGI callable to serve, or its name as module:attribute.",
        Section.APPLICATION,
        on_command_line=False,
    ),
    Setting(
        "httpserverclass",
        kinds.OBJECT,
        None,
        "The class of HTTP server to build instead of ours, or its dotted name; it is called with the managing server.",
        Section.APPLICATION,
        on_command_line=False,
    ),
    Setting(
        "instance",
        kinds.OBJECT,
        None,
        "An HTTP server made by you, to be managed as it is; the attributes that build one then have no effect.",
        Section.APPLICATION,
        on_command_line=False,
    ),
    Setting(
        "protocol_version",
        choice("HTTP/1.1", "HTTP/1.0"),
        "HTTP/1.1",
        "The version of the status line, which also limits the features used.",
        Section.APPLICATION,
    ),
    Setting(
        "wsgi_version",
        kinds.WSGI_VERSION,
        (1, 0),
        "The version of WSGI that the application is called with.",
        Section.APPLICATION,
        on_command_line=False,
    ),
    Setting(
        "server_name",
        optional(kinds.TEXT),
        None,
        "The text of the Server response header; None: the package's name without a version.",
        Section.APPLICATION,
    ),
    Setting(
        "socket_host",
        optional(kinds.HOST),
        None,
        "The address or host name to listen on; None: every interface, IPv4 and IPv6.",
        Section.ADDRESS,
    ),
    Setting("socket_port", kinds.PORT, 8080, "The TCP port; 0 asks the system for a free one.", Section.ADDRESS),
    Setting(
        "socket_file",
        optional(kinds.UNIX_PATH),
        None,
        "The path of a unix socket to listen on instead; socket_host and socket_port are then ignored.",
        Section.ADDRESS,
    ),
    Setting(
        "socket_mode",
        kinds.MODE,
        0o600,
        "The permissions of the unix socket, an octal number.",
        Section.ADDRESS,
    ),
    Setting(
        "socket_owner",
        optional(kinds.TEXT),
        None,
        "The owner of the unix socket as user, user:group or :group; None: whoever runs the server.",
        Section.ADDRESS,
    ),
    Setting(
        "socket_queue_size",
        integer(minimum=1, maximum=65_535),
        5,
        "The listen backlog: how many connections the system keeps for us to accept.",
        Section.ADDRESS,
        command_line_default=1024,
    ),
    Setting(
        "reuse_port",
        FLAG,
        False,
        "Set SO_REUSEPORT, so that several processes may listen on the port.",
        Section.ADDRESS,
    ),
    Setting("nodelay", FLAG, True, "Set TCP_NODELAY on every connection.", Section.ADDRESS),
    Setting(
        "ssl_certificate",
        optional(kinds.PATH),
        None,
        "The path of the certificate with its chain (PEM, or PKCS#12 with its key).",
        Section.TLS,
    ),
    Setting(
        "ssl_private_key",
        optional(kinds.PATH),
        None,
        "The path of the certificate's private key; None: it is in the certificate's file.",
        Section.TLS,
    ),
    Setting(
        "ssl_certificate_chain",
        optional(kinds.PATH),
        None,
        "The path of the intermediate certificates, where ssl_certificate holds the leaf alone.",
        Section.TLS,
    ),
    Setting(
        "ssl_private_key_password",
        optional(kinds.PASSWORD),
        None,
        "The password of the private key, or a callable that returns it.",
        Section.TLS,
        on_command_line=False,
        secret=True,
    ),
    Setting(
        "ssl_private_key_password_file",
        optional(kinds.PATH),
        None,
        "The path of a file whose first line is the password of the private key.",
        Section.TLS,
    ),
    Setting(
        "ssl_certificate_directory",
        optional(kinds.PATH),
        None,
        "A directory of certificates with their keys, one of which is chosen for each client by the name it asks for.",
        Section.TLS,
    ),
    Setting(
        "certificate_sources",
        kinds.OBJECT,
        (),
        "Further certificates: a list of credentials and of sources that give some.",
        Section.TLS,
        on_command_line=False,
    ),
    Setting(
        "certificate_watch",
        FLAG,
        True,
        "Whether replaced certificate files are noticed and taken into use.",
        Section.TLS,
    ),
    Setting(
        "certificate_polling_interval",
        seconds(),
        0,
        "The seconds between looks at the certificate files where the system tells no changes (NFS); 0: it tells.",
        Section.TLS,
    ),
    Setting(
        "sni_strict",
        FLAG,
        False,
        "Refuse clients that ask for a name no certificate covers, instead of presenting the default one.",
        Section.TLS,
    ),
    Setting(
        "start_with_emergency_certificate",
        FLAG,
        False,
        "Serve a self-signed certificate, loudly, where the configured one cannot be loaded at the start.",
        Section.TLS,
    ),
    Setting(
        "control_socket",
        optional(kinds.PATH),
        None,
        "The path of a unix socket through which `secureserve certs` reaches the running server; None: there is none.",
        Section.TLS,
    ),
    Setting(
        "ssl_module",
        choice("pyopenssl", "builtin"),
        "pyopenssl",
        "The TLS engine: pyopenssl brings its own OpenSSL, builtin is the standard library's.",
        Section.TLS,
    ),
    Setting(
        "tls_policy",
        kinds.TLS_POLICY,
        "intermediate",
        "The TLS policy: intermediate is TLS 1.2 and 1.3, modern is TLS 1.3 alone; in Python also a TLSPolicy.",
        Section.TLS,
    ),
    Setting(
        "tls_minimum_version",
        optional(choice("TLSv1.2", "TLSv1.3")),
        None,
        "The oldest TLS version that is spoken; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "tls_maximum_version",
        optional(choice("TLSv1.2", "TLSv1.3")),
        None,
        "The newest TLS version that is spoken; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "tls_groups",
        optional(list_of(kinds.TEXT, "groups", separators=",:")),
        None,
        "The key exchange groups to allow, best first; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "tls_session_tickets",
        FLAG,
        True,
        "Whether sessions may be resumed; where clients are verified they never are.",
        Section.TLS,
    ),
    Setting(
        "tls_session_ticket_lifetime",
        seconds(minimum=1, maximum=604_800),
        7200.0,
        "The seconds for which a session can be resumed.",
        Section.TLS,
    ),
    Setting(
        "tls_ocsp_staple",
        optional(kinds.TEXT),
        None,
        "The path of an OCSP response to staple, or 'fetch' to ask the certificate's own responder.",
        Section.TLS,
    ),
    Setting(
        "tls_keylog_file",
        optional(kinds.PATH),
        None,
        "The path of a file to write every connection's secrets to, for debugging: who reads it can read the traffic.",
        Section.TLS,
    ),
    Setting(
        "ssl_ciphers",
        optional(list_of(kinds.TEXT, "TLS 1.2 cipher suites", separators=",:")),
        None,
        "The TLS 1.2 cipher suites to allow, best first, separated by commas or colons; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "ssl_ciphersuites",
        optional(list_of(kinds.TEXT, "TLS 1.3 cipher suites", separators=",:")),
        None,
        "The TLS 1.3 cipher suites to allow, best first, separated by commas or colons; None: the policy's.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_ca",
        optional(kinds.PATH),
        None,
        "The path of the CA certificates that client certificates are verified against.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_verify",
        choice("none", "optional", "required"),
        "none",
        "Whether clients are asked for a certificate, and whether they must have one.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_verify_depth",
        integer(minimum=0, maximum=100),
        3,
        "How many intermediate authorities may stand between a client's certificate and one of ssl_client_ca.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_crl",
        optional(kinds.PATH),
        None,
        "The path of revocation lists that client certificates are checked against.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_crl_expired",
        choice("refuse", "accept"),
        "refuse",
        "What happens to client certificates while their issuer's revocation list is out of date.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_allow",
        optional(list_of(kinds.TEXT, "rules", separators=",")),
        None,
        "Rules of which a client's certificate has to match one, such as email:*@example.test, or the answer is 403.",
        Section.TLS,
    ),
    Setting(
        "ssl_client_remote_user",
        optional(kinds.TEXT),
        None,
        "The variable that REMOTE_USER is set from for verified clients, such as SSL_CLIENT_S_DN_CN.",
        Section.TLS,
    ),
    *ACME_SETTINGS,
    Setting(
        "max_request_header_size",
        size(),
        500 * 1024,
        "The largest request head in bytes, beyond which the answer is 413; 0: no limit.",
        Section.LIMITS,
        reloadable=True,
    ),
    Setting(
        "max_request_body_size",
        size(),
        100 * 1024 * 1024,
        "The largest request body in bytes, beyond which the answer is 413; 0: no limit.",
        Section.LIMITS,
        reloadable=True,
    ),
    Setting(
        "max_buffered_body_size",
        size(minimum=1),
        128 * 1024,
        "The largest request body in bytes that is gathered before a worker thread is given the request.",
        Section.LIMITS,
    ),
    Setting(
        "max_buffered_response_size",
        size(),
        1024 * 1024,
        "The bytes of a response that are held for a slow reader before its worker thread waits.",
        Section.LIMITS,
    ),
    Setting(
        "max_request_line_size",
        size(minimum=1),
        16 * 1024,
        "The largest request line in bytes, beyond which the answer is 414.",
        Section.LIMITS,
    ),
    Setting(
        "max_header_fields",
        integer(minimum=1),
        200,
        "The number of fields in a request head, beyond which the answer is 431.",
        Section.LIMITS,
    ),
    Setting(
        "min_body_rate",
        integer(minimum=0),
        500,
        "The bytes per second that a request body must reach after read_body_timeout; 0 asks nothing.",
        Section.LIMITS,
    ),
    Setting(
        "min_write_rate",
        integer(minimum=0),
        500,
        "The bytes per second that a peer must read after write_timeout; 0 asks nothing.",
        Section.LIMITS,
    ),
    Setting(
        "thread_pool",
        integer(minimum=1, maximum=10_000),
        10,
        "The number of worker threads.",
        Section.THREADS,
        reloadable=True,
    ),
    Setting(
        "thread_pool_max",
        integer(minimum=1, maximum=10_000, also=(-1,)),
        -1,
        "The number of worker threads that thread_pool may grow to under load; -1: it does not grow.",
        Section.THREADS,
        reloadable=True,
    ),
    Setting(
        "thread_switch_interval",
        optional(seconds(minimum=0.0001, maximum=1)),
        None,
        "The seconds after which a thread that computes lets others have the interpreter, for the whole process; "
        "None: as the interpreter has it.",
        Section.THREADS,
        command_line_default=0.001,
    ),
    Setting(
        "accepted_queue_size",
        integer(minimum=1, also=(-1,)),
        -1,
        "How many complete requests may wait for a worker thread; -1: any number, which connections bound.",
        Section.THREADS,
        reloadable=True,
    ),
    Setting(
        "accepted_queue_timeout",
        seconds(),
        10,
        "The seconds that the queue may stay full before requests are answered 503.",
        Section.THREADS,
        reloadable=True,
    ),
    Setting(
        "shutdown_timeout",
        seconds(),
        5,
        "The seconds that requests in progress get to finish when the server stops.",
        Section.THREADS,
        command_line_default=30,
        reloadable=True,
    ),
    Setting(
        "max_connections",
        integer(minimum=1),
        20_000,
        "The number of connections that may be open at once; beyond it the longest idle is closed.",
        Section.THREADS,
    ),
    Setting(
        "max_connections_per_address",
        integer(minimum=0),
        0,
        "The number of connections that one client address (IPv6: one /64) may have open; 0: no limit of its own.",
        Section.THREADS,
    ),
    Setting(
        "max_idle_connections",
        integer(minimum=0),
        10_000,
        "The number of idle keep-alive connections to keep; beyond it the longest idle is closed.",
        Section.THREADS,
    ),
    Setting(
        "socket_timeout",
        seconds(minimum=0.001),
        10,
        "The seconds from which each phase of a connection takes its own deadline, unless that is set.",
        Section.TIMEOUTS,
    ),
    Setting(
        "handshake_timeout",
        optional(seconds(minimum=0.001)),
        None,
        f"The seconds for a whole TLS handshake; {_PHASE}.",
        Section.TIMEOUTS,
    ),
    Setting(
        "read_header_timeout",
        optional(seconds(minimum=0.001)),
        None,
        f"The seconds for a whole request head; {_PHASE}.",
        Section.TIMEOUTS,
    ),
    Setting(
        "keep_alive_timeout",
        optional(seconds(minimum=0.001)),
        None,
        f"The seconds that a connection may stay idle between requests; {_PHASE}.",
        Section.TIMEOUTS,
    ),
    Setting(
        "read_body_timeout",
        optional(seconds(minimum=0.001)),
        None,
        f"The seconds a request body may take before min_body_rate is asked of it; {_PHASE}.",
        Section.TIMEOUTS,
    ),
    Setting(
        "write_timeout",
        optional(seconds(minimum=0.001)),
        None,
        f"The seconds a response may take to flush before min_write_rate is asked of the peer; {_PHASE}.",
        Section.TIMEOUTS,
    ),
    Setting(
        "linger_timeout",
        seconds(minimum=0.001),
        2.0,
        "The seconds between our last byte and the close, while what the peer still sends is thrown away.",
        Section.TIMEOUTS,
    ),
    Setting(
        "start_timeout",
        seconds(minimum=0.001),
        60,
        "The seconds that the HTTP server may take to become ready.",
        Section.TIMEOUTS,
    ),
    Setting(
        "plain_http",
        choice("reject", "redirect"),
        "reject",
        "What plain HTTP on the TLS port is answered with: 400, or a redirect to https.",
        Section.PEERS,
    ),
    Setting(
        "redirect_port",
        optional(kinds.PORT),
        None,
        "A second port, spoken to in plain HTTP, that only redirects to https; None: there is none.",
        Section.PEERS,
    ),
    Setting(
        "hsts",
        optional(kinds.TEXT),
        None,
        "The value of the Strict-Transport-Security header to send with every response over TLS.",
        Section.PEERS,
    ),
    Setting(
        "proxy_protocol",
        FLAG,
        False,
        "Expect a PROXY protocol header (version 1 or 2) before everything else.",
        Section.PEERS,
    ),
    Setting(
        "proxy_allow_ips",
        list_of(kinds.NETWORK, "networks"),
        ("127.0.0.1", "::1"),
        "The networks from which a PROXY protocol header is believed.",
        Section.PEERS,
    ),
    Setting(
        "reverse_dns",
        FLAG,
        False,
        "Set REMOTE_HOST by looking up the client's address, confirmed forward.",
        Section.PEERS,
    ),
    Setting(
        "reverse_dns_timeout",
        seconds(minimum=0.001),
        1.0,
        "The seconds that a request waits for its client's name at most.",
        Section.PEERS,
    ),
    Setting(
        "peercreds",
        FLAG,
        False,
        "Put the peer's process, user and group numbers into the environ (unix sockets only).",
        Section.PEERS,
    ),
    Setting(
        "peercreds_resolve",
        FLAG,
        False,
        "Put the names of the peer's user and group into the environ as well.",
        Section.PEERS,
    ),
    Setting(
        "log_format",
        choice("combined", "json"),
        "combined",
        "How a line of the logs is written: combined with TLS fields, or one JSON object.",
        Section.LOGS,
    ),
    Setting("statistics", FLAG, False, "Count requests and bytes for each worker thread.", Section.LOGS),
)
"""The settings of one server, by name, in the order of the reference page."""

ENGINE_SETTINGS: Final[Mapping[str, Setting]] = _table(
    Setting(
        "pid_file",
        optional(kinds.PATH),
        None,
        "The path of a file to keep the process number in, locked while it runs.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "user",
        optional(kinds.USER),
        None,
        "The user to become once the sockets are bound and the keys read.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "group",
        optional(kinds.GROUP),
        None,
        "The group to become with user; None: the user's own.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "umask",
        optional(kinds.MODE),
        None,
        "The permissions that files made from then on do not get, an octal number.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "access_log",
        optional(kinds.PATH),
        None,
        "The path of a file to log every response in; - is standard output, None is nowhere.",
        Section.LOGS,
        command_line_default="-",
        scope="engine",
    ),
    Setting(
        "error_log",
        optional(kinds.PATH),
        None,
        "The path of a file to log everything else in; - and None are standard error.",
        Section.LOGS,
        scope="engine",
    ),
    Setting(
        "autoreload",
        FLAG,
        False,
        "Restart when a file of the program changes, for development.",
        Section.PROCESS,
        scope="engine",
    ),
    Setting(
        "autoreload_files",
        list_of(kinds.PATH, "paths"),
        (),
        "Further files and directories whose change restarts.",
        Section.PROCESS,
        scope="engine",
    ),
)
"""The settings of the process, by name: config keys ``engine.X``."""

REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ssl_context": "A context made elsewhere can be neither checked nor rotated: set ssl_certificate and "
        "ssl_private_key, tls_policy, and the ssl_client_ settings instead.",
    }
)
"""Names of CherryPy's that are not settings here, and what to use instead."""
