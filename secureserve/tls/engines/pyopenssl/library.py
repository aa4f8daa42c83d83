"""The OpenSSL that pyOpenSSL brings: which it is, and what its errors say."""

from __future__ import annotations

import errno
import os
from typing import Final

from OpenSSL import SSL

from secureserve.tls.alerts import normalise_reason

__all__ = ["LIBRARY", "connection_error", "reason_of"]

LIBRARY: Final = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()

_END_OF_STREAM: Final = -1
"""What pyOpenSSL has in the place of an error's number where the stream ended."""


def reason_of(error: Exception) -> str:
    """Return the reason of the first error in OpenSSL's queue, which is the cause of the others."""
    queue = error.args[0] if error.args else ()
    if isinstance(queue, list):
        return normalise_reason(queue[0][-1]) if queue else "the connection is broken"
    return "the peer closed the connection" if queue == _END_OF_STREAM else str(error)


def connection_error(error: Exception) -> ConnectionError:
    """Return what an error of a connection is to those who know nothing of pyOpenSSL."""
    number = error.args[0] if error.args else None
    if isinstance(number, int) and number > 0:
        translated = OSError(number, os.strerror(number))
        if isinstance(translated, ConnectionError):
            return translated
    return ConnectionAbortedError(errno.ECONNABORTED, reason_of(error))
