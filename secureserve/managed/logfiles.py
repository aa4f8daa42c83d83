"""The process's log files: where the loggers write, and opening the files anew when they were rotated away."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from secureserve import logs
from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["note", "open_logs", "reopen"]

STANDARD: Final = "-"


def open_logs(values: Mapping[str, Any], log_format: str) -> None:
    """Send the loggers where the settings say; where they say nothing, leave logging as it is.

    Args:
        values: The settings of the process; ``access_log`` and ``error_log`` are looked at.
        log_format: ``combined`` or ``json``.

    Raises:
        ConfigurationError: A file cannot be written.
    """
    access, errors = values.get("access_log"), values.get("error_log")
    if access is None and errors is None:
        return
    logs.configure(log_format, access=sys.stdout if access == STANDARD else None)
    for key, path, name in (("access_log", access, logs.ACCESS_LOGGER), ("error_log", errors, "secureserve")):
        if path is not None and path != STANDARD:
            _use_file(key, path, logging.getLogger(name), log_format)


def reopen() -> None:
    """Close the file of every handler of our loggers, so that the next line opens it anew."""
    for name in ("secureserve", logs.ACCESS_LOGGER, logs.ERROR_LOGGER, logs.TLS_LOGGER, ""):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.FileHandler):
                _reopen(handler)


def note(message: str) -> None:
    """Write an error to the log files alone, where it is told on the terminal in other words."""
    record = logging.LogRecord(logs.ERROR_LOGGER, logging.ERROR, __file__, 0, message, None, None)
    for handler in logging.getLogger("secureserve").handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _use_file(key: str, path: str, logger: logging.Logger, log_format: str) -> None:
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        remedy = "Choose a directory that exists and that this user may write to."
        raise ConfigurationError(key, path, f"cannot be written ({error.strerror})", remedy) from error
    handler.setFormatter(logs.LineFormatter(log_format))
    handler.set_name(f"configured:{logger.name}")
    for other in [each for each in logger.handlers if each.get_name() == handler.get_name()]:
        logger.removeHandler(other)
        other.close()
    logger.addHandler(handler)
    if logger.level > logging.INFO or logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def _reopen(handler: logging.FileHandler) -> None:
    handler.acquire()
    try:
        stream: Any = handler._open()  # noqa: SLF001 - as logging's own WatchedFileHandler does
        former, handler.stream = handler.stream, stream
        if former is not None:
            former.close()
    except OSError:
        # Better to write to the old file than to none.
        logging.getLogger(logs.ERROR_LOGGER).exception("The log %s cannot be opened anew", handler.baseFilename)
    finally:
        handler.release()
