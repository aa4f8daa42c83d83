"""`PyOpenSSLConnection`: a TLS connection of pyOpenSSL."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from OpenSSL import SSL

from secureserve.errors import HandshakeFailed, PlainHTTPOnTLSPort
from secureserve.tls.alerts import (
    INTERNAL_ERROR,
    PLAIN_HTTP_REASONS,
    UNRECOGNIZED_NAME,
    alert_for_reason,
    alert_for_verification,
    refusal,
)
from secureserve.tls.client_hello import parse_client_hello
from secureserve.tls.engines.base import CLOSED, Presented, Want
from secureserve.tls.engines.pyopenssl import binding
from secureserve.tls.engines.pyopenssl.library import LIBRARY, connection_error, reason_of
from secureserve.tls.policy import ACME_PROTOCOL

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from secureserve.certificates.credential import Credential
    from secureserve.tls.engines.pyopenssl.engine import PyOpenSSLEngine
    from secureserve.tls.info import TLSInfo

__all__ = ["PyOpenSSLConnection", "on_client_hello", "on_server_name", "shown_credential"]

_LOGGER: Final = logging.getLogger("secureserve.error")

_GROUP_NAMES: Final = {"x25519": "X25519", "secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


class PyOpenSSLConnection:
    """A TLS connection of pyOpenSSL, bound to a socket.

    Threads: one thread at a time; which one may change between calls.
    """

    __slots__ = (
        "_context",
        "_engine",
        "_is_over",
        "alert",
        "close_notify_received",
        "hello",
        "library_connection",
        "must_verify",
        "presented",
        "refused",
        "server_name",
        "sock",
        "tls",
    )

    def __init__(self, engine: PyOpenSSLEngine, context: SSL.Context, sock: socket.socket) -> None:
        self.sock = sock
        self.tls: TLSInfo | None = None
        self.close_notify_received = False
        self.server_name: str | None = None
        self.presented: Presented | None = None
        self.hello: Any = None
        self.alert: str | None = None
        self.refused: tuple[bytes, int, int] | None = None
        self.must_verify = engine.requires_certificate
        self._engine = engine
        # OpenSSL asks the first context's callbacks again when a client retries, in whatever context it is by then.
        self._context = context
        self._is_over = False
        self.library_connection: Any = SSL.Connection(context, sock)
        self.library_connection.set_accept_state()
        binding.read_one_message_at_a_time(self.library_connection)

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
        local = binding.HANDSHAKE
        local.connection = self
        try:
            self.library_connection.do_handshake()
        except SSL.WantReadError:
            return Want.READ
        except SSL.WantWriteError:
            return Want.WRITE
        except (SSL.Error, OSError) as error:
            binding.forget_errors()
            raise self._handshake_error(error) from None
        finally:
            local.connection = None
        info = self._negotiated()
        if self.must_verify and not info.peer_chain_der and info.alpn_protocol != ACME_PROTOCOL:
            # A session from a server name that asks for no certificate must not open one that does.
            raise HandshakeFailed("a session without a client certificate was resumed where one is required")
        self._is_over = info.alpn_protocol == ACME_PROTOCOL
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
            return binding.read(self.library_connection, max_bytes)
        except SSL.WantReadError:
            return Want.READ
        except SSL.WantWriteError:
            return Want.WRITE
        except (SSL.Error, OSError) as error:
            self._end(error)
            return b""

    def receive_into(self, buffer: memoryview) -> int | Want:
        """Put what has arrived into `buffer`, no more than one TLS record; return its size, 0 at the end of the stream.

        Raises:
            ConnectionError: The connection broke.
        """
        if self._is_over:
            return 0
        try:
            return binding.read_into(self.library_connection, buffer)
        except SSL.WantReadError:
            return Want.READ
        except SSL.WantWriteError:
            return Want.WRITE
        except (SSL.Error, OSError) as error:
            self._end(error)
            return 0

    def send(self, data: bytes | memoryview) -> int | Want:
        """Hand over as much of `data` as is taken without waiting, and return how much that was.

        Raises:
            ConnectionError: The connection broke.
        """
        if not data:
            return 0
        try:
            return binding.write(self.library_connection, data)
        except SSL.WantReadError:
            return Want.READ
        except SSL.WantWriteError:
            return Want.WRITE
        except (SSL.Error, OSError) as error:
            binding.forget_errors()
            raise connection_error(error) from None

    def pending(self) -> int:
        """Return how many decrypted bytes wait inside; a selector never tells of them."""
        return self.library_connection.pending()  # type: ignore[no-any-return]

    def close_notify(self) -> Want | None:
        """Say that nothing more will be sent. Does not wait for the peer's."""
        try:
            self.library_connection.shutdown()
        except SSL.WantWriteError:
            return Want.WRITE
        except (SSL.Error, OSError):
            binding.forget_errors()
        return None

    def close(self) -> None:
        """Close the socket, at once and without a word. Harmless when closed."""
        # OpenSSL knows the descriptor by its number, which the next connection may get.
        self.library_connection = CLOSED
        self.sock.close()

    def on_server_name(self, name: bytes | None) -> int | None:
        """Take note of what the client wants and switch to the context for it, or return the alert to refuse with."""
        try:
            self.server_name = None if name is None else name.decode("ascii").removesuffix(".").lower()
        except UnicodeDecodeError:
            self.alert = "unrecognized_name"
            return UNRECOGNIZED_NAME
        try:
            presented = self._engine.choose(self, self.server_name)
        except Exception:
            self.alert = "internal_error"
            _LOGGER.exception("choosing what to present failed")
            return INTERNAL_ERROR
        if presented is None:
            self.alert = "unrecognized_name"
            return UNRECOGNIZED_NAME
        self.presented = presented
        self.library_connection.set_context(presented.context)
        return None

    def on_unverified(self, certificate: bytes, code: int, depth: int) -> bool:
        """Take note of a certificate, as DER, that did not verify; return whether it will do all the same."""
        if self._engine.accepts(code):
            return True
        self.refused = (certificate, code, depth)
        return False

    def _end(self, error: Exception) -> None:
        """Take note that the stream ended, or raise the `ConnectionError` of what else happened to it."""
        binding.forget_errors()
        if isinstance(error, SSL.ZeroReturnError):
            self.close_notify_received = True
        elif not error.args or error.args[0] != -1:
            raise connection_error(error) from None
        self._is_over = True

    def _negotiated(self) -> TLSInfo:
        library = self.library_connection
        presented = self.presented
        if presented is None:
            raise HandshakeFailed("the library did not ask what to present")
        resumed = binding.session_reused(library)
        return presented.negotiations.info(
            version=library.get_protocol_version_name(),
            cipher=library.get_cipher_name(),
            cipher_bits=library.get_cipher_bits(),
            group=_group_name(library),
            alpn_protocol=library.get_alpn_proto_negotiated().decode("latin-1") or None,
            server_name=self.server_name,
            resumed=resumed,
            credential=shown_credential(library, presented.credentials, resumed=resumed),
            peer_chain_der=binding.verified_chain(library),
            library=LIBRARY,
        )

    def _handshake_error(self, error: Exception) -> HandshakeFailed | PlainHTTPOnTLSPort:
        if isinstance(error, (SSL.SysCallError, OSError, SSL.ZeroReturnError)):
            number = error.args[0] if error.args else -1
            gone = "the peer closed the connection during the handshake"
            return HandshakeFailed(gone if number in {-1, 0} else f"{gone}: {os.strerror(number)}")
        reason = reason_of(error)
        if reason in PLAIN_HTTP_REASONS:
            return PlainHTTPOnTLSPort("the peer speaks plain HTTP where TLS is spoken")
        if self.alert is not None:
            return HandshakeFailed(refusal(self.alert, self.server_name), alert=self.alert)
        if self.refused is not None:
            certificate, code, depth = self.refused
            above = f" ({depth} above the client's)" if depth else ""
            why = f"{binding.verification_error(code)}: {_subject(certificate)}{above}"
            return HandshakeFailed(f"the client certificate was refused: {why}", alert=alert_for_verification(code))
        alert, by_peer = alert_for_reason(reason, self.library_connection.get_protocol_version_name())
        return HandshakeFailed(reason, alert=alert, alert_sent_by_peer=by_peer)


def on_server_name(name: bytes | None) -> int | None:
    """Tell the connection that this thread shakes hands for what its client wants."""
    connection: PyOpenSSLConnection = binding.HANDSHAKE.connection
    return connection.on_server_name(name)


def on_client_hello(message: bytes) -> None:
    """Let the connection that this thread shakes hands for know its ClientHello."""
    connection: PyOpenSSLConnection | None = binding.HANDSHAKE.connection
    if connection is not None:
        connection.hello = parse_client_hello(message)


def shown_credential(library: SSL.Connection, credentials: Sequence[Credential], *, resumed: bool) -> Credential:
    """Return which of the credentials that could be shown a library's connection has shown.

    Args:
        library: The connection, once it has chosen.
        credentials: What there was to choose from, most preferred first.
        resumed: Whether an earlier session goes on, in which nothing is shown.
    """
    if len(credentials) > 1 and not resumed:
        leaf = library.get_certificate(as_cryptography=True)
        for credential in credentials:
            if credential.leaf == leaf:
                return credential
    return credentials[0]


def _group_name(library: SSL.Connection) -> str | None:
    """Return the group by the name that a policy has for it."""
    name = library.get_group_name()
    return None if name is None else _GROUP_NAMES.get(name, name)


def _subject(certificate: bytes) -> str:
    """Return a refused certificate's subject in RFC 4514 form; that of bytes from anybody may not even parse."""
    try:
        return repr(x509.load_der_x509_certificate(certificate).subject.rfc4514_string())
    except ValueError:
        return "(an unreadable subject)"
