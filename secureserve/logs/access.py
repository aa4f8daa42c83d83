"""The access log: one line for each response."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast

from secureserve.logs.direct import DirectWriter
from secureserve.logs.lines import ACCESS_LOGGER, LineFormatter, LogFormat
from secureserve.logs.responses import FORMATS, AccessRecord, format_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from secureserve.logs.responses import ResponseFormat
    from secureserve.tls.info import TLSInfo

__all__ = ["AccessLog", "ConnectionLog"]

MAX_KEPT_LENGTH: Final = 1024
"""Characters of the fields that a connection remembers for its next request."""

_STREAM_HANDLERS: Final = (logging.StreamHandler, logging.FileHandler)


class AccessLog:
    """Writes responses to a logger, each as one line.

    A handler finds the `AccessRecord` itself as the attribute ``access`` of the `logging.LogRecord`. Where the only
    handler is one of the standard library's own stream or file handlers with a `LineFormatter`, nobody would see either
    of them: the line is written as that handler would, and neither is made.

    Threads: any.

    Args:
        logger: Where to; by default ``secureserve.access``.
        log_format: How.
    """

    __slots__ = ("_format", "_writer", "logger")

    def __init__(
        self,
        logger: logging.Logger | None = None,
        log_format: LogFormat | str = LogFormat.COMBINED,
    ) -> None:
        self.logger = logging.getLogger(ACCESS_LOGGER) if logger is None else logger
        self._format = FORMATS[LogFormat(log_format)]
        self._writer = DirectWriter()

    @property
    def enabled(self) -> bool:
        """Whether anything is written at all; ask before making a record."""
        return self.logger.isEnabledFor(logging.INFO)

    def connection(self, remote_addr: str, tls: TLSInfo | None) -> ConnectionLog:
        """Return what writes the responses of one connection.

        Args:
            remote_addr: The client's address.
            tls: What was negotiated; None for plain HTTP.
        """
        return ConnectionLog(self, self._format, remote_addr, tls)

    def write(self, record: AccessRecord) -> None:
        """Write `record`, unless the logger is disabled."""
        if self.enabled:
            self.hand_on(record, format_record(self._format, record))

    def hand_on(self, record: AccessRecord, line: str) -> None:
        """Give the logger's handlers a record, and the line that it makes."""
        self.logger.handle(self._make_record(line, access=record))

    def write_line(self, handler: logging.StreamHandler[TextIO], line: str) -> None:
        """Write a line at once and whole, as `handler` would."""
        text = line + handler.terminator
        if self._writer.write(handler.stream, text):
            return
        handler.acquire()
        try:
            handler.stream.write(text)
            handler.stream.flush()
        except Exception:  # noqa: BLE001 - as in the handler itself
            handler.handleError(self._make_record(line))
        finally:
            handler.release()

    def sole_stream_handler(self) -> logging.StreamHandler[TextIO] | None:
        """Return the handler that would do nothing with a record but write its line; None where there is more to do."""
        logger = self.logger
        handlers = logger.handlers
        if len(handlers) != 1 or logger.propagate or logger.filters:
            return None
        handler: Any = handlers[0]
        if (
            type(handler) in _STREAM_HANDLERS
            and type(handler.formatter) is LineFormatter
            and not handler.filters
            and handler.level <= logging.INFO
            and handler.stream is not None
        ):
            return cast("logging.StreamHandler[TextIO]", handler)
        return None

    def _make_record(self, line: str, **extra: object) -> logging.LogRecord:
        # Not logger.info(): the caller's place says nothing here, and finding it is half the cost.
        logger = self.logger
        return logger.makeRecord(logger.name, logging.INFO, __file__, 0, line, (), None, "write", extra)


class ConnectionLog:
    """The access log as one connection writes to it: what its requests have in common is put into words once.

    Threads: the one that has the connection.

    Args:
        log: The log.
        log_format: How lines are written.
        remote_addr: The client's address.
        tls: What was negotiated; None for plain HTTP.
    """

    __slots__ = ("_agent", "_agent_words", "_client_words", "_format", "_log", "_remote_addr", "_tls")

    def __init__(self, log: AccessLog, log_format: type[ResponseFormat], remote_addr: str, tls: TLSInfo | None) -> None:
        self._log = log
        self._format = log_format
        self._remote_addr = remote_addr
        self._tls = tls
        self._client_words = log_format.client(remote_addr, "", tls)
        self._agent = ("", "", "")
        self._agent_words = log_format.agent(*self._agent)

    def write(
        self,
        *,
        began: float,
        method: str,
        target: str,
        protocol: str,
        status: int,
        bytes_sent: int,
        duration: float,
        fields: Mapping[str, str],
    ) -> None:
        """Write a response. Whether the log is enabled is for the caller to ask.

        Args:
            began: When the request arrived, in seconds since the epoch (wall time).
            method: The request's method.
            target: The request's target as it was sent.
            protocol: The request's version, such as ``HTTP/1.1``.
            status: The status that was sent.
            bytes_sent: Bytes of the response body that were sent.
            duration: Seconds from the request's arrival to the response's end.
            fields: The request's fields, by their names in a WSGI environ.
        """
        get = fields.get
        agent = (get("HTTP_HOST", ""), get("HTTP_REFERER", ""), get("HTTP_USER_AGENT", ""))
        if agent == self._agent:
            agent_words = self._agent_words
        else:
            agent_words = self._format.agent(*agent)
            if sum(map(len, agent)) <= MAX_KEPT_LENGTH:
                self._agent, self._agent_words = agent, agent_words
        line = self._format.line(
            began,
            self._client_words,
            agent_words,
            self._format.request(method, target, protocol),
            status=status,
            bytes_sent=bytes_sent,
            duration=duration,
        )
        handler = self._log.sole_stream_handler()
        if handler is not None:
            self._log.write_line(handler, line)
            return
        self._log.hand_on(
            AccessRecord(
                remote_addr=self._remote_addr,
                time=began,
                method=method,
                target=target,
                protocol=protocol,
                status=status,
                bytes_sent=bytes_sent,
                duration=duration,
                host=agent[0],
                referer=agent[1],
                user_agent=agent[2],
                tls=self._tls,
            ),
            line,
        )
