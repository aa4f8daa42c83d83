"""Lines of every logger, and where they go when the process is all ours."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Final

from secureserve.logs.words import iso_time, json_text, one_line, to_json

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["ACCESS_LOGGER", "ERROR_LOGGER", "TLS_LOGGER", "LineFormatter", "LogFormat", "configure"]

ACCESS_LOGGER: Final = "secureserve.access"
ERROR_LOGGER: Final = "secureserve.error"
TLS_LOGGER: Final = "secureserve.tls"


class LogFormat(str, enum.Enum):
    """How a line of the log is written."""

    COMBINED = "combined"
    """The combined log format, and the TLS fields after it."""
    JSON = "json"
    """One JSON object a line."""


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
            return to_json(
                {
                    "time": iso_time(record.created),
                    "level": record.levelname,
                    "logger": record.name,
                    "message": json_text(message),
                    "exception": trace or None,
                }
            )
        line = f"{iso_time(record.created)} {record.levelname} {record.name}: {one_line(message)}"
        return "\n".join([line, *(f"    {one_line(row)}" for row in trace.splitlines())])


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
