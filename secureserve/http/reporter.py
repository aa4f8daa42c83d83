"""What goes wrong, in the logs and as events: peers' faults, the application's, and our own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from secureserve.errors import HandshakeFailed
from secureserve.events import HandshakeFailedEvent
from secureserve.front.loop import Observer
from secureserve.logs import ERROR_LOGGER, TLS_LOGGER
from secureserve.rate_limit import RateLimitedLogger

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.errors import PeerError
    from secureserve.front.connection import Connection
    from secureserve.http.request import HTTPRequest

__all__ = ["Reporter"]


class Reporter(Observer):
    """Tells of faults, each kind at a bounded rate.

    Args:
        publish: Is given an event for each handshake that failed; None for nobody.

    Threads: any.
    """

    def __init__(self, publish: Callable[[object], None] | None = None) -> None:
        self._publish = publish
        self._ours = RateLimitedLogger(logging.getLogger(ERROR_LOGGER))
        self._before_requests = RateLimitedLogger(logging.getLogger(TLS_LOGGER))

    def refused(self, connection: Connection, error: PeerError) -> None:
        """Tell of a peer's fault."""
        peer = _shown(connection)
        log = self._ours if connection.admitted else self._before_requests
        told = "%s: TLS handshake failed: %s" if isinstance(error, HandshakeFailed) else "%s: %s"
        log.log(logging.INFO, error.reason, told, peer, str(error))
        if self._publish is not None and isinstance(error, HandshakeFailed):
            self._publish(
                HandshakeFailedEvent(peer, str(error), alert=error.alert, alert_sent_by_peer=error.alert_sent_by_peer)
            )

    def broken(self, connection: Connection, error: Exception) -> None:
        """Tell of a fault of our own, which cost a connection."""
        self._ours.log(
            logging.ERROR, "bug", "A connection from %s was lost to a fault.", _shown(connection), exc_info=error
        )

    def application_failed(self, request: HTTPRequest, error: BaseException) -> None:
        """Tell of what an application raised."""
        self._ours.log(
            logging.ERROR,
            "application",
            "The application raised while it answered %s %s.",
            request.method.decode("latin-1"),
            request.uri.decode("latin-1"),
            exc_info=error,
        )


def _shown(connection: Connection) -> str:
    host, port = connection.client or connection.address
    return f"{host}:{port}" if host else "a unix socket"
