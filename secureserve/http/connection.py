"""The HTTP side of a connection: cheroot's HTTPConnection for gateways, a conversation for the Front."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import cheroot.server

from secureserve.errors import BodyTruncated, PeerError, PlainHTTPOnTLSPort
from secureserve.front.conversation import Need
from secureserve.http.gateway import connection_environ
from secureserve.http.host import parse_host
from secureserve.http.message_reader import MessageReader
from secureserve.http.plain import HTTPS_PORT, answer_to_plain_http, redirect_location
from secureserve.http.request import CONTINUE, HTTPRequest, complete_response

if TYPE_CHECKING:
    from secureserve.front.connection import Connection
    from secureserve.http.message import Message
    from secureserve.http.server import HTTPServer
    from secureserve.logs import ConnectionLog

__all__ = ["HTTPConnection"]

INTERNAL_ERROR: Final = b"500 Internal Server Error"

_PROTOCOLS: Final = {(1, 0): "HTTP/1.0", (1, 1): "HTTP/1.1"}


class HTTPConnection(cheroot.server.HTTPConnection):  # type: ignore[misc]
    """What is spoken over one connection, request after request.

    Gateways find in it what cheroot's has: `remote_addr`, `remote_port`, `ssl_env`, the peer's credentials, `socket`.

    Threads: the one that has the connection.
    """

    RequestHandlerClass = HTTPRequest
    """What requests are made of; a subclass of `HTTPRequest`."""

    def __init__(self, server: HTTPServer, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        self.reader = MessageReader(server.limits, server.parsers, server.first_heads)
        self.requests_seen = 0
        self.tls = connection.transport.tls
        self.scheme = b"http" if self.tls is None else b"https"
        self.extra_lines = b"" if self.tls is None else server.hsts_line
        self.remote_addr, self.remote_port = connection.client or ("", 0)
        self.peercreds_enabled = server.peercreds_enabled
        self.peercreds_resolve_enabled = server.peercreds_resolve_enabled
        self._environ: dict[str, Any] | None = None
        self._access_log: ConnectionLog | None = None

    @property
    def socket(self) -> Any:
        """The accepted socket."""
        return self.connection.transport.sock

    @property
    def ssl_env(self) -> dict[str, str] | None:
        """What is known of TLS, by mod_ssl's names; None on a plain connection."""
        return None if self.tls is None else self.tls.environ()

    def environ(self) -> dict[str, Any]:
        """Return the part of the environ that all requests of the connection share."""
        if self._environ is None:
            self._environ = connection_environ(self.server, self)
        return self._environ

    def remote_name(self) -> str | None:
        """Return the client's forward-confirmed name; waits for the look-up no longer than ``reverse_dns_timeout``."""
        lookup = self.connection.lookup
        return None if lookup is None else lookup.result()

    def peer_environ(self) -> dict[str, str]:
        """Return who is at the other end of a unix socket, where the system tells."""
        try:
            pid, uid, gid = self.get_peer_creds()
        except (RuntimeError, NotImplementedError):
            return {}
        environ = {"X_REMOTE_PID": str(pid), "X_REMOTE_UID": str(uid), "X_REMOTE_GID": str(gid)}
        if self.peercreds_resolve_enabled:
            user, group = self.resolve_peer_creds()
            environ |= {"X_REMOTE_USER": str(user), "X_REMOTE_GROUP": str(group), "REMOTE_USER": str(user)}
        return environ

    # The conversation, as the Front knows it.

    def received(self, data: bytes) -> Need:
        """Take what arrived, and say what is needed."""
        need = self.reader.feed(data)
        if need is not Need.HEAD and self.connection.plain_on_tls:
            message = "This port speaks HTTPS, and the request came as plain HTTP."
            raise PlainHTTPOnTLSPort(message)
        return need

    def has_begun(self) -> bool:
        """Return whether part of a request has arrived."""
        return self.reader.has_begun()

    def has_rest(self) -> bool:
        """Return whether something arrived behind the last request."""
        return self.reader.has_rest()

    def interim(self) -> bytes:
        """Return the 100 (Continue) that a client waits for, once."""
        message = self.reader.message
        if not message.expects_continue:
            return b""
        message.expects_continue = False
        return CONTINUE

    def answer(self, error: PeerError) -> bytes:
        """Return the response to an error; ``b""`` where nothing can be said."""
        message = self.reader.message
        if isinstance(error, PlainHTTPOnTLSPort):
            response = self._answer_plain_http(message)
            self._log(message, response[9:12], len(response.partition(b"\r\n\r\n")[2]), time.time(), 0.0)
            return response
        if error.status_hint is None:
            return b""
        fields = (("Retry-After", "1"),) if error.status_hint == HTTPStatus.SERVICE_UNAVAILABLE else ()
        text = f"{error}\n".encode()
        self._log(message, b"%d" % error.status_hint, len(text), time.time(), 0.0)
        return complete_response(self, error.status_hint, text, head_only=message.method == b"HEAD", fields=fields)

    def run(self) -> bool:
        """Run the request that is ready."""
        log = self.server.access_log
        logs = log is not None and log.enabled
        began = time.time() if logs else 0.0
        message = self.reader.message
        self.requests_seen += 1
        request = self.RequestHandlerClass(self.server, self)
        try:
            request.respond()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an application raises costs this response, no more
            if request.lost is None:
                self._respond_to_failure(request, error)
        finally:
            if logs:
                self._log(message, request.status[:3], request.body_sent, began, time.time() - began)
        lost = request.lost
        if lost is not None:
            # There is nobody to tell, whatever the application has made of it.
            raise type(lost)(*lost.args)
        if not message.complete:
            self.connection.linger = True
            return False
        self.reader.next()
        return not request.close_connection

    def close(self) -> None:
        """Let go of what refers back here."""
        self.reader.close()

    def _answer_plain_http(self, message: Message) -> bytes:
        """Return what a plain HTTP request on the TLS port gets: 400, or a redirect to https."""
        server = self.server
        if server.settings.plain_http != "redirect":
            return answer_to_plain_http()
        try:
            host, port = parse_host(message.environ_fields.get("HTTP_HOST", ""))
            bound = server.bind_addr[1] if isinstance(server.bind_addr, tuple) else HTTPS_PORT
            default = server.redirect_to_port or bound
            target = message.target.decode("latin-1")
            serves = server.ssl_adapter.acceptor.store.covers
            location = redirect_location(host, target, serves=serves, https_port=port or default)
        except PeerError:
            return answer_to_plain_http()
        return answer_to_plain_http(location)

    def _respond_to_failure(self, request: HTTPRequest, error: BaseException) -> None:
        """Tell the client that there is no response, or no whole one, as far as it can still be told."""
        request.close_connection = True
        truncation = _find_truncation(error)
        if truncation is None:
            self.server.reporter.application_failed(request, error)
        else:
            self.server.accounting.refused(truncation.reason)
            self.server.reporter.refused(self.connection, truncation)
        if request.is_whole:
            return
        if request.head_is_out:
            raise ConnectionAbortedError("The application failed in the middle of its response.") from error
        if truncation is None:
            request.simple_response(INTERNAL_ERROR, "The server failed to answer this request.\n")
        else:
            status = HTTPStatus(truncation.status_hint or HTTPStatus.BAD_REQUEST)
            request.simple_response(f"{status.value} {status.phrase}", f"{truncation}\n")

    def _log(self, message: Message, status: bytes, size: int, began: float, seconds: float) -> None:
        log = self.server.access_log
        if log is None or not log.enabled:
            return
        if self._access_log is None:
            self._access_log = log.connection(self.remote_addr, self.tls)
        # Without a target there was no head that told a version.
        protocol = _PROTOCOLS.get(message.version) or "HTTP/{}.{}".format(*message.version) if message.target else ""
        self._access_log.write(
            began=began,
            method=message.method.decode("latin-1"),
            target=message.target.decode("latin-1"),
            protocol=protocol,
            status=int(status or b"0"),
            bytes_sent=size,
            duration=seconds,
            fields=message.environ_fields,
        )


def _find_truncation(error: BaseException | None) -> BodyTruncated | None:
    """Return the failure of the request's body that led to `error`, if that was it: frameworks wrap it in their own."""
    while error is not None and not isinstance(error, BodyTruncated):
        error = error.__cause__ or error.__context__
    return error
