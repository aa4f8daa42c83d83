"""What is written to the logs, so that a peer can neither forge a line nor drown the rest.

Three loggers, all of the standard library's `logging`:

* ``secureserve.access``: one line for each response, in the combined format with TLS fields after it, or as JSON.
* ``secureserve.error``: what went wrong on our side or in the application.
* ``secureserve.tls``: what peers do wrong before there is a request; `rate_limit` bounds how often it is said.

Whatever a peer chose (target, header fields, server name, certificate subject) is escaped to printable ASCII and cut to
`MAX_FIELD_LENGTH` before it reaches any handler, so every handler and formatter is safe with it.
"""

from __future__ import annotations

from secureserve.logs.access import AccessLog, ConnectionLog
from secureserve.logs.lines import ACCESS_LOGGER, ERROR_LOGGER, TLS_LOGGER, LineFormatter, LogFormat, configure
from secureserve.logs.responses import AccessRecord, format_combined, format_json
from secureserve.logs.words import MAX_FIELD_LENGTH, escape

__all__ = [
    "ACCESS_LOGGER",
    "ERROR_LOGGER",
    "MAX_FIELD_LENGTH",
    "TLS_LOGGER",
    "AccessLog",
    "AccessRecord",
    "ConnectionLog",
    "LineFormatter",
    "LogFormat",
    "configure",
    "escape",
    "format_combined",
    "format_json",
]
