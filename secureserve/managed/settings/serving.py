"""What a server serves, and where it listens: the first two chapters of the table of settings."""

from __future__ import annotations

from typing import Final

from secureserve.managed.settings import kinds
from secureserve.managed.settings.kinds import FLAG, choice, integer, optional
from secureserve.managed.settings.setting import Section, Setting

__all__ = ["SERVING_SETTINGS"]

SERVING_SETTINGS: Final = (
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
)
"""In the order of the reference page."""
