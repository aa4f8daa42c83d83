"""What is written to the logs, so that a peer can neither forge a line nor drown the rest.

Three loggers, all of the standard library's `logging`:

* ``secureserve.access``: one line for each response, in the combined format with TLS fields after it, or as JSON.
* ``secureserve.error``: what went wrong on our side or in the application.
* ``secureserve.tls``: what peers do wrong before there is a request; `rate_limit` bounds how often it is said.

Whatever a peer chose (target, header fields, server name, certificate subject) is escaped to printable ASCII and cut to
`MAX_FIELD_LENGTH` before it reaches any handler, so every handler and formatter is safe with it.
"""

from __future__ import annotations

import enum
import json
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from secureserve.tls.info import TLSInfo

__all__ = [
    "ACCESS_LOGGER",
    "ERROR_LOGGER",
    "TLS_LOGGER",
    "AccessLog",
    "AccessRecord",
    "LineFormatter",
    "LogFormat",
    "configure",
    "escape",
    "format_combined",
    "format_json",
]

ACCESS_LOGGER: Final = "secureserve.access"
ERROR_LOGGER: Final = "secureserve.error"
TLS_LOGGER: Final = "secureserve.tls"

MAX_FIELD_LENGTH: Final = 2048
"""Characters of a field chosen by a peer; longer ones end in ``...``."""

_UNSAFE: Final = re.compile(r'[^\x20-\x7e]|["\\]')
_UNSAFE_OR_SPACE: Final = re.compile(r'[^\x21-\x7e]|["\\]')
_ESCAPES: Final = {'"': '\\"', " ": "\\x20"}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class LogFormat(str, enum.Enum):
    """How a line of the log is written."""

    COMBINED = "combined"
    """The combined log format, and the TLS fields after it."""
    JSON = "json"
    """One JSON object a line."""


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


def escape(text: str, *, spaces: bool = False) -> str:
    """Return `text` as printable ASCII without quotes or line ends, cut to `MAX_FIELD_LENGTH`.

    Args:
        text: What a peer sent.
        spaces: Escape spaces as well, for fields that stand without quotes.
    """
    if len(text) > MAX_FIELD_LENGTH:
        text = text[:MAX_FIELD_LENGTH] + "..."
    return (_UNSAFE_OR_SPACE if spaces else _UNSAFE).sub(_escape_character, text)


def format_combined(record: AccessRecord) -> str:
    """Return `record` in the combined log format, followed by the TLS fields.

    The fields after the user agent are: TLS version, cipher suite, key exchange group, server name in quotes, client
    identity in quotes. What there is not is a ``-``. Times are UTC.
    """
    tls = record.tls
    negotiated = (
        '- - - "-" "-"'
        if tls is None
        else f"{_bare(tls.version)} {_bare(tls.cipher)} {_bare(tls.group)}"
        f' "{_quoted(tls.server_name)}" "{_quoted(client_identity(tls))}"'
    )
    return (
        f"{_bare(record.remote_addr)} - {_bare(record.remote_user)} [{_common_time(int(record.time))}]"
        f' "{_request_line(record)}"'
        f" {record.status} {record.bytes_sent}"
        f' "{_quoted(record.referer)}" "{_quoted(record.user_agent)}" {negotiated}'
    )


def _request_line(record: AccessRecord) -> str:
    """Return what was asked, as far as it was understood before it was refused."""
    if not record.method:
        return "-"
    return f"{escape(record.method)} {escape(record.target) or '-'} {escape(record.protocol) or '-'}"


def format_json(record: AccessRecord) -> str:
    """Return `record` as one line of JSON. Absent values are null; ``tls`` is null for plain HTTP."""
    tls = record.tls
    return _dump(
        {
            "time": _iso_time(record.time),
            "remote_addr": _text(record.remote_addr),
            "remote_user": _text(record.remote_user),
            "host": _text(record.host),
            "method": _text(record.method),
            "target": _text(record.target),
            "protocol": _text(record.protocol),
            "status": record.status,
            "bytes_sent": record.bytes_sent,
            "duration": round(record.duration, 6),
            "referer": _text(record.referer),
            "user_agent": _text(record.user_agent),
            "tls": None
            if tls is None
            else {
                "version": _text(tls.version),
                "cipher": _text(tls.cipher),
                "group": _text(tls.group),
                "server_name": _text(tls.server_name),
                "alpn_protocol": _text(tls.alpn_protocol),
                "resumed": tls.resumed,
                "client": _text(client_identity(tls)),
            },
        }
    )


def client_identity(tls: TLSInfo) -> str | None:
    """Return the subject of the client's certificate (RFC 4514); None when there is none or it was not verified."""
    if not tls.verified or not tls.peer_chain:
        return None
    return tls.peer_chain[0].subject.rfc4514_string()


_FORMATS: Final[Mapping[LogFormat, Callable[[AccessRecord], str]]] = {
    LogFormat.COMBINED: format_combined,
    LogFormat.JSON: format_json,
}


class AccessLog:
    """Writes access records to a logger, each as one line.

    A handler finds the record itself as the attribute ``access`` of the `logging.LogRecord`.

    Threads: any.

    Args:
        logger: Where to; by default ``secureserve.access``.
        log_format: How.
    """

    __slots__ = ("_format", "logger")

    def __init__(
        self,
        logger: logging.Logger | None = None,
        log_format: LogFormat | str = LogFormat.COMBINED,
    ) -> None:
        self.logger = logging.getLogger(ACCESS_LOGGER) if logger is None else logger
        self._format = _FORMATS[LogFormat(log_format)]

    @property
    def enabled(self) -> bool:
        """Whether anything is written at all; ask before making a record."""
        return self.logger.isEnabledFor(logging.INFO)

    def write(self, record: AccessRecord) -> None:
        """Write `record`, unless the logger is disabled."""
        logger = self.logger
        if not logger.isEnabledFor(logging.INFO):
            return
        # makeRecord and handle, not info(): the caller's place says nothing here, and finding it is half the cost.
        logger.handle(
            logger.makeRecord(
                logger.name, logging.INFO, __file__, 0, self._format(record), (), None, "write", {"access": record}
            )
        )


class LineFormatter(logging.Formatter):
    """Formats every record as one line, with a traceback, if any, indented below it.

    Args:
        log_format: JSON puts the traceback inside the object. An access record's line is passed through as it is.
    """

    def __init__(self, log_format: LogFormat | str = LogFormat.COMBINED) -> None:
        super().__init__()
        self._json = LogFormat(log_format) is LogFormat.JSON

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines of `record`."""
        message = record.getMessage()
        if hasattr(record, "access"):
            return message
        trace = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        if self._json:
            return _dump(
                {
                    "time": _iso_time(record.created),
                    "level": record.levelname,
                    "logger": record.name,
                    "message": _text(message),
                    "exception": trace or None,
                }
            )
        line = f"{_iso_time(record.created)} {record.levelname} {record.name}: {_one_line(message)}"
        return "\n".join([line, *(f"    {_one_line(row)}" for row in trace.splitlines())])


def configure(
    log_format: LogFormat | str = LogFormat.COMBINED,
    *,
    level: int | None = None,
    access: TextIO | None = None,
    errors: TextIO | None = None,
) -> None:
    """Send our three loggers to streams, for a process that is all ours (the command line).

    A library leaves this to the application. Calling it again replaces what it did before.

    Args:
        log_format: How lines are written.
        level: The lowest level that is written; None leaves the one that was set, and is INFO where none was.
        access: Where access lines go; None for nowhere.
        errors: Where everything else goes; None for standard error.
    """
    package = logging.getLogger("secureserve")
    _replace_handler(package, logging.StreamHandler(errors), log_format)
    package.setLevel(level if level is not None else package.level or logging.INFO)
    access_logger = logging.getLogger(ACCESS_LOGGER)
    access_logger.propagate = False
    access_logger.setLevel(logging.INFO if access is not None else logging.CRITICAL + 1)
    _replace_handler(
        access_logger, logging.NullHandler() if access is None else logging.StreamHandler(access), log_format
    )


def _replace_handler(logger: logging.Logger, handler: logging.Handler, log_format: LogFormat | str) -> None:
    """Make `handler` the one that `configure` put on `logger`."""
    handler.setFormatter(LineFormatter(log_format))
    handler.set_name(f"configured:{logger.name}")
    for other in [other for other in logger.handlers if other.get_name() == handler.get_name()]:
        logger.removeHandler(other)
    logger.addHandler(handler)


def _escape_character(match: re.Match[str]) -> str:
    character = match.group()
    return _ESCAPES.get(character) or character.encode("unicode_escape").decode("ascii")


def _one_line(text: str) -> str:
    """Escape what would end a line or move a terminal's cursor, and nothing else."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _bare(value: str | None) -> str:
    """Return a field that stands without quotes."""
    return escape(value, spaces=True) if value else "-"


def _quoted(value: str | None) -> str:
    """Return a field that stands in quotes, without them."""
    return escape(value) if value else "-"


def _text(value: str | None) -> str | None:
    """Return a JSON value: null when empty, cut to length, without lone surrogates."""
    if not value:
        return None
    if len(value) > MAX_FIELD_LENGTH:
        value = value[:MAX_FIELD_LENGTH] + "..."
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _dump(value: Mapping[str, object]) -> str:
    # ensure_ascii (the default) also escapes U+2028 and U+2029, which some readers take for line ends.
    return json.dumps(value, separators=(",", ":"))


def _common_time(seconds: int) -> str:
    """Return ``22/Nov/2026:23:20:00 +0000``; strftime would translate the month."""
    t = time.gmtime(seconds)
    return f"{t.tm_mday:02d}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}:{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"


def _iso_time(seconds: float) -> str:
    t = time.gmtime(seconds)
    milliseconds = int(seconds % 1 * 1000)
    return (
        f"{t.tm_year}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{milliseconds:03d}Z"
    )
