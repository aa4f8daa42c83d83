"""The Front's own settings: how long each phase may last, and how much each peer may take."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final, Literal

from secureserve.errors import ConfigurationError

__all__ = ["FrontSettings", "Timeouts"]

KIBI: Final = 1024
MEBI: Final = 1024 * KIBI

_HSTS: Final = re.compile(r"max-age=[0-9]+(; ?(includeSubDomains|preload))*")

LINGER_SECONDS: Final = 2.0
"""Long enough for a peer to read an answer that crosses its own bytes (RFC 9112, 9.6), short enough to be no burden."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The deadline of each phase, in seconds from the start of the phase."""

    handshake: float
    read_header: float
    read_body: float
    keep_alive: float
    write: float
    linger: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSettings:
    """What the Front grants a peer. Times are seconds; None derives a time from the server's ``timeout``.

    Args:
        handshake_timeout: From the first byte to the end of the TLS handshake; the first byte has as long.
        read_header_timeout: From the first byte of a request to the end of its head.
        read_body_timeout: What a body may take before `min_body_rate` is asked of it.
        keep_alive_timeout: From the end of a response to the first byte of the next request.
        write_timeout: What flushing a response may take before `min_write_rate` is asked of the peer.
        linger_timeout: From our last byte to the close, while what the peer still sends is thrown away.
        min_body_rate: Bytes per second that a body must reach after `read_body_timeout`; 0 asks nothing.
        min_write_rate: Bytes per second that a peer must read after `write_timeout`; 0 asks nothing.
        max_buffered_body_size: Bytes of a body gathered before a worker thread takes the request.
        max_buffered_response_size: Bytes of a response held for a slow reader before its worker thread waits.
        max_request_line_size: Bytes of the request line; beyond it the answer is 414.
        max_header_fields: Fields in a request head; beyond it the answer is 431.
        max_idle_connections: Keep-alive connections kept waiting; beyond it the longest idle is closed.
        max_connections: Connections at once; beyond it the longest idle is closed, or the new one if none is idle.
        max_connections_per_address: Connections of one client (IPv6: of one /64); 0 sets no limit.
        proxy_protocol: Whether a PROXY protocol header, version 1 or 2, precedes each connection.
        proxy_allow_ips: Addresses and networks that may send one; all others are closed.
        plain_http: What a plain HTTP request on the TLS port gets: "reject" (400) or "redirect" (to https).
        hsts: The value of Strict-Transport-Security on responses over TLS (RFC 6797); None sends none.
        reverse_dns: Whether REMOTE_HOST is looked up.
        reverse_dns_timeout: The longest that a request waits for its look-up.

    Raises:
        ConfigurationError: A value that cannot be honoured.
    """

    handshake_timeout: float | None = None
    read_header_timeout: float | None = None
    read_body_timeout: float | None = None
    keep_alive_timeout: float | None = None
    write_timeout: float | None = None
    linger_timeout: float = LINGER_SECONDS
    min_body_rate: int = 500
    min_write_rate: int = 500
    max_buffered_body_size: int = 128 * KIBI
    max_buffered_response_size: int = 1 * MEBI
    max_request_line_size: int = 16 * KIBI
    max_header_fields: int = 200
    max_idle_connections: int = 10_000
    max_connections: int = 20_000
    max_connections_per_address: int = 0
    proxy_protocol: bool = False
    proxy_allow_ips: tuple[str, ...] = ("127.0.0.1", "::1")
    plain_http: Literal["reject", "redirect"] = "reject"
    hsts: str | None = None
    reverse_dns: bool = False
    reverse_dns_timeout: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_timeout") and value is not None and not value > 0:
                raise ConfigurationError(field.name, value, "is not a positive number of seconds")
            if field.name.startswith(("max_", "min_")) and value < 0:
                raise ConfigurationError(field.name, value, "is negative", "Use 0 or more.")
        for name in ("max_connections", "max_buffered_body_size", "max_request_line_size", "max_header_fields"):
            if getattr(self, name) == 0:
                raise ConfigurationError(name, 0, "would refuse every request", "Use 1 or more.")
        if self.hsts is not None and not _HSTS.fullmatch(self.hsts):
            remedy = "Write, for instance, 'max-age=63072000; includeSubDomains'."
            raise ConfigurationError("hsts", self.hsts, "is not a Strict-Transport-Security value (RFC 6797)", remedy)
        if self.plain_http not in {"reject", "redirect"}:
            raise ConfigurationError("plain_http", self.plain_http, "is unknown", "Use 'reject' or 'redirect'.")

    def timeouts(self, base: float) -> Timeouts:
        """Return the deadline of each phase; those that are not set are `base` seconds."""

        def chosen(value: float | None) -> float:
            return base if value is None else value

        return Timeouts(
            handshake=chosen(self.handshake_timeout),
            read_header=chosen(self.read_header_timeout),
            read_body=chosen(self.read_body_timeout),
            keep_alive=chosen(self.keep_alive_timeout),
            write=chosen(self.write_timeout),
            linger=self.linger_timeout,
        )
