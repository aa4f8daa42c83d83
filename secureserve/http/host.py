"""The host and port that a request is for: the grammar of the Host field (RFC 9110, 7.2; RFC 3986, 3.2.2)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from secureserve.errors import BadRequest

__all__ = ["authority", "parse_host"]

_MAX_HOST_SIZE: Final = 255
"""Longer than any name in the DNS (RFC 1035, 2.3.4) and any address."""

_MAX_PORT: Final = 0xFFFF

_HOST: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>(?:[a-z0-9\-._~!$&'()*+,;=]|%[0-9a-f]{2})+))(?::(?P<port>[0-9]{0,5}))?",
    re.ASCII | re.IGNORECASE,
)
"""An IPv6 address in brackets, or a reg-name, which an IPv4 address is one of; then perhaps a port. A future version's
literal (``[v1.x]``) is of no use to anybody yet, and a zone (RFC 6874) never leaves the client."""


def parse_host(value: str | bytes) -> tuple[str, int | None]:
    """Return the host and port in the value of a Host field, or in the authority of a request target.

    Args:
        value: The value, without surrounding white space.

    Returns:
        The host in lower case, an IPv6 address without its brackets and compressed; and the port, None where there is
        none.

    Raises:
        BadRequest: It is not a host, or empty: an http(s) URL must have one (RFC 9110, 4.2.1).
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    found = _HOST.fullmatch(text) if len(text) <= _MAX_HOST_SIZE + 1 + len(str(_MAX_PORT)) else None
    if found is None:
        raise BadRequest("The Host field is not a host with an optional port.")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port <= _MAX_PORT:
        raise BadRequest("The Host field has a port that does not exist.")
    if found["name"] is not None:
        return found["name"].lower(), port
    try:
        return str(ipaddress.IPv6Address(found["ipv6"])), port
    except ValueError as error:
        raise BadRequest("The Host field has an IPv6 address that is none.") from error


def authority(host: str, port: int, *, default_port: int) -> str:
    """Return the authority of a URL: the host, in brackets if it is an IPv6 address, and the port if it is not usual.

    Args:
        host: The host as `parse_host` returns it.
        port: The port.
        default_port: The scheme's own port, which is left out.
    """
    shown = f"[{host}]" if ":" in host else host
    return shown if port == default_port else f"{shown}:{port}"
