"""URLs of servers, from where they listen."""

from __future__ import annotations

import socket

__all__ = ["url_host", "url_of"]


def url_of(address: tuple[str | None, int], *, secure: bool) -> str:
    """Return the URL of a server.

    Args:
        address: Host and port where it listens.
        secure: Whether it speaks TLS.
    """
    host, port = address[:2]
    scheme, default = ("https", 443) if secure else ("http", 80)
    return f"{scheme}://{url_host(host)}" + ("" if port == default else f":{port}")


def url_host(host: str | None) -> str:
    """Return a host as URLs write it: IPv6 in brackets, every interface as this machine's name."""
    if not host or host in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
