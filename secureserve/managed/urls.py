"""URLs of servers, from where they listen."""

from __future__ import annotations

import socket

__all__ = ["port_suffix", "url_host"]


def url_host(host: str | None) -> str:
    """Return a host as URLs write it: IPv6 in brackets, every interface as this machine's name."""
    if not host or host in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def port_suffix(scheme: str, port: int) -> str:
    """Return ``:port``, or nothing where it is the scheme's own."""
    return "" if port == {"https": 443, "http": 80}[scheme] else f":{port}"
