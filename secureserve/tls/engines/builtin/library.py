"""The ssl module of this Python: which OpenSSL it stands on, what it has calls for, and what its errors say."""

from __future__ import annotations

import errno
import os
import ssl
from typing import Any, Final

from secureserve.tls.alerts import normalise_reason
from secureserve.tls.engines.base import Want

__all__ = [
    "LIBRARY",
    "SETS_CIPHERSUITES",
    "SETS_GROUPS",
    "TELLS_GROUP",
    "connection_error",
    "is_cut_off",
    "is_reset",
    "once_more",
    "reason_of",
]

LIBRARY: Final = ssl.OPENSSL_VERSION

SETS_GROUPS: Final = hasattr(ssl.SSLContext, "set_groups")
SETS_CIPHERSUITES: Final = hasattr(ssl.SSLContext, "set_ciphersuites")
TELLS_GROUP: Final = hasattr(ssl.SSLSocket, "group")

_MIXES_ERRORS_UP: Final = ssl.OPENSSL_VERSION_INFO < (4,)
"""From OpenSSL 4 on SSL_get_error() tells of the connection whatever else has gone wrong in the thread."""


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
    if is_cut_off(error):
        # What ssl makes, in earlier releases of Python, of a call of the system that failed.
        return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    number = error.errno if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    if number:
        translated = OSError(number, os.strerror(number))
        if isinstance(translated, ConnectionError):
            return translated
    return ConnectionAbortedError(errno.ECONNABORTED, reason_of(error))


def once_more(error: Exception, library: Any, call: str, *args: Any) -> Any:
    """Make a call again whose error need not have been its own; return what it gives, or None where it fails again.

    OpenSSL before 4.0 tells how a call ended by what lies in the thread's queue of errors, and ssl empties that neither
    before a call (python/cpython#148594) nor, in some releases, after one of the system's has failed. A connection that
    had only to wait would end by what befell another, or by what the application did in this thread.
    """
    if not _MIXES_ERRORS_UP or is_cut_off(error):
        return None
    try:
        # Nothing that ssl offers empties the queue as such, but making a connection begins with that.
        library.context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        return getattr(library, call)(*args)
    except ssl.SSLWantReadError:
        return Want.READ
    except ssl.SSLWantWriteError:
        return Want.WRITE
    except OSError:
        return None
