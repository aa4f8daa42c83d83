"""One response as the access log tells it: the record that handlers see, and the line of each format.

A line is put together from words about the client, which are the same for a whole connection, words about what the
client sends with every request, and the request itself, so that a connection finds the first two only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from secureserve.logs.lines import LogFormat
from secureserve.logs.words import bare, common_time, escape, is_plain, iso_time, json_text, members, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secureserve.tls.info import TLSInfo

__all__ = ["FORMATS", "AccessRecord", "ResponseFormat", "format_combined", "format_json", "format_record"]


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One response, as the access log tells it.

    Attributes:
        remote_addr: The client's address.
        time: When the request arrived, in seconds since the epoch (wall time).
        method: The request's method.
        target: The request's target as it was sent.
        protocol: The request's version, such as ``HTTP/1.1``.
        status: The status that was sent.
        bytes_sent: Bytes of the response body that were sent.
        duration: Seconds from the request's arrival to the response's end.
        host: The request's Host field.
        referer: The request's Referer field.
        user_agent: The request's User-Agent field.
        remote_user: Who the application or an authenticating layer says it was.
        tls: What was negotiated; None for plain HTTP.
    """

    remote_addr: str
    time: float
    method: str
    target: str
    protocol: str
    status: int
    bytes_sent: int
    duration: float = 0.0
    host: str = ""
    referer: str = ""
    user_agent: str = ""
    remote_user: str = ""
    tls: TLSInfo | None = None


def format_combined(record: AccessRecord) -> str:
    """Return `record` in the combined log format, followed by the TLS fields.

    The fields after the user agent are: TLS version, cipher suite, key exchange group, server name in quotes, client
    identity in quotes. What there is not is a ``-``. Times are UTC.
    """
    return format_record(_Combined, record)


def format_json(record: AccessRecord) -> str:
    """Return `record` as one line of JSON. Absent values are null; ``tls`` is null for plain HTTP."""
    return format_record(_JSON, record)


class ResponseFormat(Protocol):
    """How a line is put together, from words of which most stay the same from request to request."""

    @staticmethod
    def client(remote_addr: str, remote_user: str, tls: TLSInfo | None) -> tuple[str, str]:
        """Return words about the client, and about what was negotiated: they are the same for a whole connection."""

    @staticmethod
    def agent(host: str, referer: str, user_agent: str) -> tuple[str, str]:
        """Return words about the host, and about where the client comes from: they are mostly the same."""

    @staticmethod
    def request(method: str, target: str, protocol: str) -> str:
        """Return words about the request itself."""

    @staticmethod
    def line(
        began: float,
        client: tuple[str, str],
        agent: tuple[str, str],
        request: str,
        *,
        status: int,
        bytes_sent: int,
        duration: float,
    ) -> str:
        """Return the whole line, without its end."""


class _Combined:
    """The combined log format."""

    @staticmethod
    def client(remote_addr: str, remote_user: str, tls: TLSInfo | None) -> tuple[str, str]:
        who = f"{bare(remote_addr)} - {bare(remote_user)}"
        if tls is None:
            return who, '- - - "-" "-"'
        names = f'"{quoted(tls.server_name)}" "{quoted(_client_identity(tls))}"'
        return who, f"{bare(tls.version)} {bare(tls.cipher)} {bare(tls.group)} {names}"

    @staticmethod
    def agent(host: str, referer: str, user_agent: str) -> tuple[str, str]:  # noqa: ARG004 - this format has no host
        return "", f'"{quoted(referer)}" "{quoted(user_agent)}"'

    @staticmethod
    def request(method: str, target: str, protocol: str) -> str:
        if target and protocol:
            line = f"{method} {target} {protocol}"
            if is_plain(line):
                return line
        elif not method:
            # It was refused before it was understood.
            return "-"
        return f"{escape(method)} {escape(target) or '-'} {escape(protocol) or '-'}"

    @staticmethod
    def line(
        began: float,
        client: tuple[str, str],
        agent: tuple[str, str],
        request: str,
        *,
        status: int,
        bytes_sent: int,
        duration: float,  # noqa: ARG004 - this format does not tell it
    ) -> str:
        return f'{client[0]} [{common_time(int(began))}] "{request}" {status} {bytes_sent} {agent[1]} {client[1]}'


class _JSON:
    """One JSON object a line."""

    @staticmethod
    def client(remote_addr: str, remote_user: str, tls: TLSInfo | None) -> tuple[str, str]:
        negotiated = (
            None
            if tls is None
            else {
                "version": json_text(tls.version),
                "cipher": json_text(tls.cipher),
                "group": json_text(tls.group),
                "server_name": json_text(tls.server_name),
                "alpn_protocol": json_text(tls.alpn_protocol),
                "resumed": tls.resumed,
                "client": json_text(_client_identity(tls)),
            }
        )
        return members(remote_addr=json_text(remote_addr), remote_user=json_text(remote_user)), members(tls=negotiated)

    @staticmethod
    def agent(host: str, referer: str, user_agent: str) -> tuple[str, str]:
        return members(host=json_text(host)), members(referer=json_text(referer), user_agent=json_text(user_agent))

    @staticmethod
    def request(method: str, target: str, protocol: str) -> str:
        if method and target and protocol and is_plain(method + target + protocol):
            return f'"method":"{method}","target":"{target}","protocol":"{protocol}"'
        return members(method=json_text(method), target=json_text(target), protocol=json_text(protocol))

    @staticmethod
    def line(
        began: float,
        client: tuple[str, str],
        agent: tuple[str, str],
        request: str,
        *,
        status: int,
        bytes_sent: int,
        duration: float,
    ) -> str:
        return (
            f'{{"time":"{iso_time(began)}",{client[0]},{agent[0]},{request},"status":{status},'
            f'"bytes_sent":{bytes_sent},"duration":{round(duration, 6)},{agent[1]},{client[1]}}}'
        )


FORMATS: Final[Mapping[LogFormat, type[ResponseFormat]]] = {LogFormat.COMBINED: _Combined, LogFormat.JSON: _JSON}


def format_record(log_format: type[ResponseFormat], record: AccessRecord) -> str:
    """Return the line of one record."""
    return log_format.line(
        record.time,
        log_format.client(record.remote_addr, record.remote_user, record.tls),
        log_format.agent(record.host, record.referer, record.user_agent),
        log_format.request(record.method, record.target, record.protocol),
        status=record.status,
        bytes_sent=record.bytes_sent,
        duration=record.duration,
    )


def _client_identity(tls: TLSInfo) -> str | None:
    """Return the subject of the client's certificate (RFC 4514); None when there is none or it was not verified."""
    if not tls.verified or not tls.peer_chain:
        return None
    return tls.peer_chain[0].subject.rfc4514_string()
