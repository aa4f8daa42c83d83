"""`BuiltinConnection`: a TLS connection of the ssl module.

Theory of operation: a connection holds the object that `ssl.SSLSocket` stands on, and not one of those: their methods
do little but call the same of that object, and to make one takes as long as a tenth of the handshake.

What a ClientHello offers ssl does not tell, so it is looked at before ssl takes it from the socket. That way a client
whose protocols we do not speak is refused as RFC 7301 wants, an ACME authority is recognised, and the credential that
was shown is known where there are two. (ssl's message callback shows it too, at the price of the interpreter lock for
every message of a handshake.)
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import HandshakeFailed, PlainHTTPOnTLSPort
from secureserve.tls.alerts import (
    INTERNAL_ERROR,
    NO_APPLICATION_PROTOCOL,
    PLAIN_HTTP_REASONS,
    UNRECOGNIZED_NAME,
    alert_for_reason,
    alert_for_verification,
    refusal,
)
from secureserve.tls.client_hello import ClientHello, parse_client_hello
from secureserve.tls.engines.base import CLOSED, Presented, Want
from secureserve.tls.engines.builtin.library import (
    LIBRARY,
    TELLS_GROUP,
    connection_error,
    is_cut_off,
    is_reset,
    once_more,
    reason_of,
)
from secureserve.tls.peeking import MAX_HELLO_SIZE, peek_hello, wake
from secureserve.tls.policy import ACME_PROTOCOL

if TYPE_CHECKING:
    import socket

    from secureserve.certificates.credential import Credential
    from secureserve.tls.engines.builtin.engine import BuiltinEngine
    from secureserve.tls.info import TLSInfo

__all__ = ["BuiltinConnection", "on_server_name"]

_LOGGER: Final = logging.getLogger("secureserve.error")
_HANDSHAKE: Final = threading.local()
"""``.connection`` is what the current thread is shaking hands for."""

_DER: Final = 2
"""OpenSSL's number for the encoding; ssl keeps its name for it to itself."""

_UNRECOGNIZED_NAME_ALERT: Final = bytes([21, 3, 3, 0, 2, 2, UNRECOGNIZED_NAME])
"""A record of type alert, of two octets: fatal, and which (RFC 8446, 5.1 and 6)."""

_REFUSALS: Final = {
    INTERNAL_ERROR: "internal_error",
    NO_APPLICATION_PROTOCOL: "no_application_protocol",
    UNRECOGNIZED_NAME: "unrecognized_name",
}


class BuiltinConnection:
    """A TLS connection of the ssl module, bound to a socket.

    Threads: one thread at a time; which one may change between calls.
    """

    __slots__ = (
        "_alert",
        "_base",
        "_engine",
        "_is_over",
        "_is_resting",
        "_is_strange",
        "_library",
        "_presented",
        "_server_name",
        "close_notify_received",
        "hello",
        "sock",
        "tls",
    )

    def __init__(self, engine: BuiltinEngine, sock: socket.socket, base: ssl.SSLContext) -> None:
        self.sock = sock
        self.tls: TLSInfo | None = None
        self.close_notify_received = False
        self.hello: ClientHello | None = None
        self._engine = engine
        self._server_name: str | None = None
        self._presented: Presented | None = None
        self._alert: str | None = None
        self._is_over = False
        self._is_strange = True
        self._is_resting = False
        self._library: Any = CLOSED
        self._begin_on(base)

    def fileno(self) -> int:
        """Return the descriptor, or -1 once closed."""
        return self.sock.fileno()

    def handshake(self) -> Want | None:
        """Take the handshake as far as it goes without waiting.

        Raises:
            HandshakeFailed: It cannot succeed any more.
            PlainHTTPOnTLSPort: The peer speaks plain HTTP.
        """
        if self.tls is not None:
            return None
        if self._is_strange and not self._meet():
            return Want.READ
        _HANDSHAKE.connection = self
        try:
            self._library.do_handshake()
        except ssl.SSLWantReadError:
            return Want.READ
        except ssl.SSLWantWriteError:
            return Want.WRITE
        except OSError as error:
            raise self._handshake_error(error) from None
        finally:
            _HANDSHAKE.connection = None
        info = self._negotiated()
        self._engine.check_depth(info.peer_chain_der)
        self._is_over = info.alpn_protocol == ACME_PROTOCOL
        self.hello = None
        self.tls = info
        return None

    def receive(self, max_bytes: int) -> bytes | Want:
        """Return up to `max_bytes` of what has arrived; ``b""`` at the end of the stream.

        Raises:
            ConnectionError: The connection broke.
        """
        if self._is_over:
            return b""
        try:
            data: bytes = self._library.read(max_bytes)
        except ssl.SSLWantReadError:
            return Want.READ
        except ssl.SSLWantWriteError:
            return Want.WRITE
        except OSError as error:
            again = once_more(error, self._library, "read", max_bytes)
            if again is None:
                self._end(error)
                return b""
            if isinstance(again, Want):
                return again
            data = again
        if not data:
            self.close_notify_received = self._is_over = True
        return data

    def receive_into(self, buffer: memoryview) -> int | Want:
        """Put what has arrived into `buffer`, no more than one TLS record; return its size, 0 at the end of the stream.

        Raises:
            ConnectionError: The connection broke.
        """
        if self._is_over:
            return 0
        try:
            size: int = self._library.read(len(buffer), buffer)
        except ssl.SSLWantReadError:
            return Want.READ
        except ssl.SSLWantWriteError:
            return Want.WRITE
        except OSError as error:
            again = once_more(error, self._library, "read", len(buffer), buffer)
            if again is None:
                self._end(error)
                return 0
            if isinstance(again, Want):
                return again
            size = again
        if not size:
            self.close_notify_received = self._is_over = True
        return size

    def send(self, data: bytes | memoryview) -> int | Want:
        """Hand over as much of `data` as is taken without waiting, and return how much that was.

        Raises:
            ConnectionError: The connection broke.
        """
        if not data:
            return 0
        try:
            return self._library.write(data)  # type: ignore[no-any-return]
        except ssl.SSLWantReadError:
            return Want.READ
        except ssl.SSLWantWriteError:
            return Want.WRITE
        except OSError as error:
            again: int | Want | None = once_more(error, self._library, "write", data)
            if again is None:
                raise connection_error(error) from None
            return again

    def pending(self) -> int:
        """Return how many decrypted bytes wait inside; a selector never tells of them."""
        return self._library.pending()  # type: ignore[no-any-return]

    def close_notify(self) -> Want | None:
        """Say that nothing more will be sent. Does not wait for the peer's."""
        try:
            self._library.shutdown()
        except ssl.SSLWantWriteError:
            return Want.WRITE
        except OSError:
            return None
        # Both sides have said it.
        self._library = CLOSED
        self._is_over = True
        return None

    def close(self) -> None:
        """Close the socket, at once and without a word. Harmless when closed."""
        # It knows the descriptor by its number, which the next connection may get.
        self._library = CLOSED
        self.sock.close()

    def on_server_name(self, name: str | None) -> int | None:
        """Take note of what the client wants and switch to the context for it, or return the alert to refuse with."""
        self._server_name = None if name is None else name.removesuffix(".").lower()
        try:
            presented = self._engine.choose(self, self._server_name)
        except Exception:
            _LOGGER.exception("choosing what to present failed")
            presented = INTERNAL_ERROR
        if isinstance(presented, int):
            self._alert = _REFUSALS[presented]
            return presented
        self._presented = presented
        self._library.context = presented.context
        return None

    def _end(self, error: Exception) -> None:
        """Take note that the stream was cut off, or raise the `ConnectionError` of what else happened to it."""
        if not is_cut_off(error) or is_reset(error):
            raise connection_error(error) from None
        self._is_over = True

    def _meet(self) -> bool:
        """Look at the ClientHello; return whether the handshake can go on."""
        sock = self.sock
        message = peek_hello(sock)
        if message is None:
            self._is_resting = True
            return False
        if self._is_resting:
            wake(sock)
        if message:
            self.hello = parse_client_hello(message)
            self._require_ascii_name(sock)
        if (base := self._engine.base_for(self.hello)) is not None:
            self._begin_on(base)
        self._is_strange = False
        return True

    def _begin_on(self, base: ssl.SSLContext) -> None:
        """Put TLS on the socket.

        Raises:
            ConnectionError: The library has no room for it.
        """
        # OpenSSL asks the first context's callback again when a client retries, in whatever context it is by then, and
        # ssl does not keep that one alive for it.
        self._base = base
        context: Any = base
        try:
            # What wrap_socket() does after it has asked the system about a socket of which we know it all.
            self._library = context._wrap_socket(self.sock, True)  # noqa: SLF001 - as above
        except OSError as error:
            raise connection_error(error) from None

    def _require_ascii_name(self, sock: socket.socket) -> None:
        """Refuse a name that no host has (RFC 6066, 3). The library would print a traceback, as often as a peer likes.

        Raises:
            HandshakeFailed: The client asks for such a name.
        """
        if self.hello is None or self.hello.server_name is None or self.hello.server_name.isascii():
            return
        with contextlib.suppress(OSError):
            # What is left unread would have the alert thrown away with the connection.
            sock.recv(MAX_HELLO_SIZE)
            sock.send(_UNRECOGNIZED_NAME_ALERT)
        self._alert = _REFUSALS[UNRECOGNIZED_NAME]
        raise HandshakeFailed(refusal(self._alert, None), alert=self._alert)

    def _negotiated(self) -> TLSInfo:
        library = self._library
        presented, cipher = self._presented, library.cipher()
        if presented is None or cipher is None:
            raise HandshakeFailed("the library did not ask what to present")
        version = library.version() or ""
        return presented.negotiations.info(
            version=version,
            cipher=cipher[0],
            cipher_bits=cipher[2],
            group=library.group() if TELLS_GROUP else None,
            alpn_protocol=library.selected_alpn_protocol(),
            server_name=self._server_name,
            resumed=bool(library.session_reused),
            credential=self._shown(presented, version, cipher[0]),
            peer_chain_der=_verified_chain(library) if self._engine.asks_for_certificate else (),
            library=LIBRARY,
        )

    def _shown(self, presented: Presented, version: str, cipher: str) -> Credential:
        """Return which of two credentials OpenSSL took: it says so by the suite up to TLS 1.2, and not at all since."""
        if len(presented.credentials) == 1:
            return presented.credentials[0]
        ecdsa = "ECDSA" in cipher
        if version == "TLSv1.3":
            ecdsa = self.hello is None or self.hello.verifies_ecdsa
        wanted = "ecdsa" if ecdsa else "rsa"
        return next((one for one in presented.credentials if one.key_type == wanted), presented.credentials[0])

    def _handshake_error(self, error: Exception) -> HandshakeFailed | PlainHTTPOnTLSPort:
        if isinstance(error, ssl.SSLCertVerificationError):
            return HandshakeFailed(
                f"the client certificate was refused: {error.verify_message}",
                alert=alert_for_verification(error.verify_code),
            )
        closed = isinstance(error, ssl.SSLZeroReturnError) or is_cut_off(error)
        if closed or not isinstance(error, ssl.SSLError):
            detail = "" if isinstance(error, ssl.SSLError) else f": {getattr(error, 'strerror', None) or error}"
            return HandshakeFailed(f"the peer closed the connection during the handshake{detail}")
        reason = reason_of(error)
        if reason in PLAIN_HTTP_REASONS:
            return PlainHTTPOnTLSPort("the peer speaks plain HTTP where TLS is spoken")
        if self._alert is not None:
            return HandshakeFailed(refusal(self._alert, self._server_name), alert=self._alert)
        alert, by_peer = alert_for_reason(reason, self._engine.version_for(self.hello))
        return HandshakeFailed(reason, alert=alert, alert_sent_by_peer=by_peer)


def on_server_name(_sock: Any, name: str | None, _context: ssl.SSLContext) -> int | None:
    """Tell the connection that this thread shakes hands for what its client wants, as `SSLContext.sni_callback`."""
    connection: BuiltinConnection = _HANDSHAKE.connection
    return connection.on_server_name(name)


def _verified_chain(library: Any) -> tuple[bytes, ...]:
    """Return the client's verified chain as DER, its own certificate first; empty where it showed none."""
    if library.getpeercert(True) is None:
        return ()
    return tuple(certificate.public_bytes(_DER) for certificate in library.get_verified_chain())
