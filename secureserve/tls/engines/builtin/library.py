"""The ssl module of this Python: which OpenSSL it stands on, what it has calls for, and what its errors say."""

from __future__ import annotations

import errno
import os
import ssl
from typing import Final

from secureserve.tls.alerts import normalise_reason

__all__ = [
    "LIBRARY",
    "SETS_CIPHERSUITES",
    "SETS_GROUPS",
    "TELLS_GROUP",
    "connection_error",
    "is_cut_off",
    "is_reset",
    "reason_of",
]

LIBRARY: Final = ssl.OPENSSL_VERSION

SETS_GROUPS: Final = hasattr(ssl.SSLContext, "set_groups")
SETS_CIPHERSUITES: Final = hasattr(ssl.SSLContext, "set_ciphersuites")
TELLS_GROUP: Final = hasattr(ssl.SSLSocket, "group")


def is_cut_off(error: Exception) -> bool:
    """Say whether the stream ended without close_notify; early releases of Python 3.11 tell it by the reason alone."""
    return isinstance(error, ssl.SSLEOFError) or getattr(error, "reason", None) == "UNEXPECTED_EOF_WHILE_READING"


def is_reset(error: Exception) -> bool:
    """Say whether it was a reset that cut a stream off: from OpenSSL 3 on, anything else has a reason of its own."""
    return ssl.OPENSSL_VERSION_INFO >= (3,) and getattr(error, "reason", None) is None


def reason_of(error: Exception) -> str:
    """Return in words what an error says."""
    reason = getattr(error, "reason", None)
    return normalise_reason(reason) if isinstance(reason, str) else str(error)


def connection_error(error: Exception) -> ConnectionError:
    """Return what an error of a connection is to those who know nothing of ssl."""
    if isinstance(error, ConnectionError):
        return error
    number = error.errno if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    if number:
        translated = OSError(number, os.strerror(number))
        if isinstance(translated, ConnectionError):
            return translated
    return ConnectionAbortedError(errno.ECONNABORTED, reason_of(error))
