"""The engine on the standard library's ssl, on whatever OpenSSL this Python was built with. The only importer of ssl.

Theory of operation: as with the other engine, connections start on a base context, under whose keys session tickets are
made, and the server-name callback switches each to the context of what it is shown. What a ClientHello offers ssl does
not tell, so it is looked at before ssl takes it from the socket. That way a client whose protocols we do not speak is
refused as RFC 7301 wants, an ACME authority is recognised, and the credential that was shown is known where there are
two. (ssl's message callback shows it too, at the price of the interpreter lock for every message of a handshake.)

A connection holds the object that `ssl.SSLSocket` stands on, and not one of those: their methods do little but call the
same of that object, and to make one takes as long as a tenth of the handshake.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import ssl
import threading
import warnings
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationError, CredentialError, HandshakeFailed, PlainHTTPOnTLSPort
from secureserve.tls.alerts import (
    INTERNAL_ERROR,
    NO_APPLICATION_PROTOCOL,
    PLAIN_HTTP_REASONS,
    UNRECOGNIZED_NAME,
    alert_for_reason,
    alert_for_verification,
    normalise_reason,
    refusal,
)
from secureserve.tls.client_hello import ClientHello, parse_client_hello
from secureserve.tls.engines import Capabilities
from secureserve.tls.engines.base import CLOSED, Presented, Want
from secureserve.tls.engines.memory_file import memory_file
from secureserve.tls.peeking import MAX_HELLO_SIZE, peek_hello, wake
from secureserve.tls.policy import (
    ACME_PROTOCOL,
    DEFAULT_TICKET_LIFETIME,
    TLS13_CIPHERSUITES,
    ClientVerify,
    ExpiredCRL,
    TLSPolicy,
    TLSVersion,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from secureserve.certificates.credential import Credential
    from secureserve.tls.client_trust import ClientTrust
    from secureserve.tls.engines.base import Choose
    from secureserve.tls.info import TLSInfo
    from secureserve.tls.keylog import KeyLog
    from secureserve.tls.ocsp import StapleCache

__all__ = ["BuiltinConnection", "BuiltinEngine", "capabilities"]

LIBRARY: Final = ssl.OPENSSL_VERSION

SETS_GROUPS: Final = hasattr(ssl.SSLContext, "set_groups")
SETS_CIPHERSUITES: Final = hasattr(ssl.SSLContext, "set_ciphersuites")
TELLS_GROUP: Final = hasattr(ssl.SSLSocket, "group")

_LOGGER: Final = logging.getLogger("secureserve.error")
_HANDSHAKE: Final = threading.local()

_VERSIONS: Final = {
    TLSVersion.TLSv1: ssl.TLSVersion.TLSv1,
    TLSVersion.TLSv1_1: ssl.TLSVersion.TLSv1_1,
    TLSVersion.TLSv1_2: ssl.TLSVersion.TLSv1_2,
    TLSVersion.TLSv1_3: ssl.TLSVersion.TLSv1_3,
}
_VERIFY_MODES: Final = {
    ClientVerify.NONE: ssl.CERT_NONE,
    ClientVerify.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientVerify.REQUIRED: ssl.CERT_REQUIRED,
}
_OP_IGNORE_UNEXPECTED_EOF: Final = 1 << 7
"""OpenSSL's number for it; ssl has a name for it only where it was compiled with OpenSSL 3."""
_OPTIONS: Final = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
_DER: Final = 2
"""OpenSSL's number for the encoding; ssl keeps its name for it to itself."""

_NAMES_UNEXPECTED_EOF: Final = ssl.OPENSSL_VERSION_INFO >= (3,)
"""From OpenSSL 3 on a stream cut off has a reason of its own, and ssl's error without one stands for a reset."""

_OPENSSL_CURVES: Final = {"X25519": "X25519", "P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}


def capabilities() -> Capabilities:
    """Return what this Python's ssl can do."""
    return Capabilities(
        library=LIBRARY,
        post_quantum=SETS_GROUPS and ssl.OPENSSL_VERSION_INFO >= (3, 5),
        chooses_groups=SETS_GROUPS,
        chooses_ciphersuites=SETS_CIPHERSUITES,
        ticket_lifetime=False,
        refuses_unknown_alpn=True,
        acme_challenges=True,
        reports_group=TELLS_GROUP,
        names_refused_client=False,
        announces_client_ca=False,
        verify_by_name=False,
        accepts_expired_crl=False,
        ocsp_stapling=False,
    )


class BuiltinEngine:
    """Contexts of the ssl module for one policy.

    Args:
        policy: How to speak TLS.
        choose: Decides what a handshake presents.
        keylog: Where secrets go, for debugging.
        staples: Not used: ssl cannot staple.

    Raises:
        ConfigurationError: This Python's ssl cannot do what the policy asks for.

    Threads: any thread.
    """

    def __init__(
        self,
        policy: TLSPolicy,
        choose: Choose,
        *,
        keylog: KeyLog | None = None,
        staples: StapleCache | None = None,  # noqa: ARG002 - a policy that asks for it is refused
    ) -> None:
        _check_possible(policy)
        self.asks_for_certificate = policy.verifies_clients
        self._policy = policy
        self._choose = choose
        self._keylog = keylog
        self._base = self._new_base()

    def prepare(
        self, credentials: Sequence[Credential], trust: ClientTrust | None, *, acme_challenge: bool = False
    ) -> Presented:
        """Load credentials into a context of their own.

        Raises:
            CredentialError: The library does not take one.
            ConfigurationError: The library does not take the authorities or revocation lists.
        """
        context = self._new_context((ACME_PROTOCOL,) if acme_challenge else self._policy.alpn_protocols)
        for credential in credentials:
            _load(context, credential)
        if trust is not None:
            self._load_trust(context, trust)
        return Presented(tuple(credentials), context, acme_challenge)

    def accept(self, sock: socket.socket, *, watch_hello: bool) -> BuiltinConnection:  # noqa: ARG002 - it always does
        """Bind TLS to a non-blocking socket.

        Raises:
            ConnectionError: The library has no room for it.
        """
        base: Any = self._base
        try:
            # What wrap_socket() does after it has asked the system about a socket of which we know it all.
            library = base._wrap_socket(sock, True)  # noqa: SLF001 - as above
        except OSError as error:
            raise _connection_error(error) from None
        return BuiltinConnection(self, sock, library)

    def renew_ticket_keys(self) -> None:
        """Make it impossible to resume sessions from before."""
        self._base = self._new_base()

    def choose(self, connection: BuiltinConnection, server_name: str | None) -> Presented | int:
        """Decide what a handshake presents, or return the alert to refuse it with."""
        offered = () if connection.hello is None else connection.hello.alpn_protocols
        challenge = offered == (ACME_PROTOCOL,)
        ours = self._policy.alpn_protocols
        presented = self._choose(server_name, connection.sock, acme_challenge=challenge)
        if presented is None:
            return UNRECOGNIZED_NAME
        if offered and ours and set(ours).isdisjoint(offered) and not (challenge and presented.answers_acme):
            return NO_APPLICATION_PROTOCOL
        return presented

    def version_for(self, hello: ClientHello | None) -> str | None:
        """Return the version that a client gets; ssl tells it only when the handshake is done."""
        newest = self._policy.maximum_version
        if newest is TLSVersion.TLSv1_3 and (hello is None or not hello.speaks_tls13):
            newest = TLSVersion.TLSv1_2
        return newest.value

    def check_depth(self, chain: Sequence[bytes]) -> None:
        """Refuse a client whose chain has more intermediates than the policy allows; ssl has no such limit.

        Raises:
            HandshakeFailed: It has. The handshake is done by then, so there is no alert for it.
        """
        if len(chain) - 2 > self._policy.client_verify_depth:
            raise HandshakeFailed("the client certificate was refused: certificate chain too long")

    def _new_base(self) -> ssl.SSLContext:
        context = self._new_context(self._policy.alpn_protocols)
        context.sni_callback = _on_server_name
        return context

    def _new_context(self, alpn_protocols: Sequence[str]) -> ssl.SSLContext:
        policy = self._policy
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings():
            # ssl warns of versions that only TLSPolicy.insecure() lets through.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = _VERSIONS[policy.minimum_version]
            context.maximum_version = _VERSIONS[policy.maximum_version]
        context.options |= _OPTIONS
        # One ticket is enough for a client that comes back, which then gets a new one.
        context.num_tickets = 1
        if not policy.resumes_sessions:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        try:
            context.set_ciphers(f"{':'.join(policy.ciphers)}:@SECLEVEL={policy.security_level}")
        except ssl.SSLError:
            raise ConfigurationError("ciphers", ":".join(policy.ciphers), f"is not known to {LIBRARY}") from None
        # Some releases of Python set this, which takes a stream that was cut off for one that was closed.
        context.options &= ~_OP_IGNORE_UNEXPECTED_EOF
        self._set_groups(context)
        if SETS_CIPHERSUITES:
            context.set_ciphersuites(":".join(policy.ciphersuites))  # type: ignore[attr-defined]
        if alpn_protocols:
            context.set_alpn_protocols(list(alpn_protocols))
        context.verify_mode = _VERIFY_MODES[policy.client_verify]
        if policy.client_crl is not None:
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        if self._keylog is not None:
            context.keylog_filename = str(self._keylog.path)
        return context

    def _set_groups(self, context: ssl.SSLContext) -> None:
        groups = self._policy.groups
        if SETS_GROUPS:
            context.set_groups(":".join(f"?{name}" for name in groups))  # type: ignore[attr-defined]
        elif len(groups) == 1:
            try:
                context.set_ecdh_curve(_OPENSSL_CURVES.get(groups[0], groups[0]))
            except (ssl.SSLError, ValueError):
                raise ConfigurationError("groups", groups[0], f"is not known to {LIBRARY}") from None

    def _load_trust(self, context: ssl.SSLContext, trust: ClientTrust) -> None:
        try:
            with memory_file(trust.pem()) as path:
                context.load_verify_locations(cafile=path)
        except ssl.SSLError as error:
            raise ConfigurationError(
                "client_ca", str(self._policy.client_ca), f"is not taken by OpenSSL: {_reason(error)}"
            ) from None


class BuiltinConnection:
    """A TLS connection of the ssl module, bound to a socket.

    Threads: one thread at a time; which one may change between calls.
    """

    __slots__ = (
        "_alert",
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

    def __init__(self, engine: BuiltinEngine, sock: socket.socket, library: Any) -> None:
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
        self._library = library

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
        except (OSError, ValueError) as error:
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
        except (OSError, ValueError) as error:
            self._end(error)
            return b""
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
        except (OSError, ValueError) as error:
            self._end(error)
            return 0
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
        except (OSError, ValueError) as error:
            raise _connection_error(error) from None

    def pending(self) -> int:
        """Return how many decrypted bytes wait inside; a selector never tells of them."""
        return self._library.pending()  # type: ignore[no-any-return]

    def close_notify(self) -> Want | None:
        """Say that nothing more will be sent. Does not wait for the peer's."""
        try:
            self._library.shutdown()
        except ssl.SSLWantWriteError:
            return Want.WRITE
        except (OSError, ValueError):
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
        if not _is_cut_off(error):
            raise _connection_error(error) from None
        if _NAMES_UNEXPECTED_EOF and getattr(error, "reason", None) is None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
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
        self._is_strange = False
        return True

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
        closed = isinstance(error, ssl.SSLZeroReturnError) or _is_cut_off(error)
        if closed or not isinstance(error, ssl.SSLError):
            detail = "" if isinstance(error, ssl.SSLError) else f": {getattr(error, 'strerror', None) or error}"
            return HandshakeFailed(f"the peer closed the connection during the handshake{detail}")
        reason = _reason(error)
        if reason in PLAIN_HTTP_REASONS:
            return PlainHTTPOnTLSPort("the peer speaks plain HTTP where TLS is spoken")
        if self._alert is not None:
            return HandshakeFailed(refusal(self._alert, self._server_name), alert=self._alert)
        alert, by_peer = alert_for_reason(reason, self._engine.version_for(self.hello))
        return HandshakeFailed(reason, alert=alert, alert_sent_by_peer=by_peer)


def _is_cut_off(error: Exception) -> bool:
    """Say whether the stream ended without close_notify; early releases of Python 3.11 tell it by the reason alone."""
    return isinstance(error, ssl.SSLEOFError) or getattr(error, "reason", None) == "UNEXPECTED_EOF_WHILE_READING"


_UNRECOGNIZED_NAME_ALERT: Final = bytes([21, 3, 3, 0, 2, 2, UNRECOGNIZED_NAME])
"""A record of type alert, of two octets: fatal, and which (RFC 8446, 5.1 and 6)."""

_REFUSALS: Final = {
    INTERNAL_ERROR: "internal_error",
    NO_APPLICATION_PROTOCOL: "no_application_protocol",
    UNRECOGNIZED_NAME: "unrecognized_name",
}


def _load(context: ssl.SSLContext, credential: Credential) -> None:
    try:
        with memory_file(credential.chain_pem() + credential.private_key_pem()) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError, TypeError) as error:
        message = f"OpenSSL does not take {credential.origin}: {_reason(error)}."
        raise CredentialError(message, path=credential.origin) from None


def _check_possible(policy: TLSPolicy) -> None:
    """Refuse what the ssl module of this Python has no call for, rather than leave it without effect."""
    remedy = "Use ssl_module = 'pyopenssl'."
    if policy.ciphersuites != TLS13_CIPHERSUITES and not SETS_CIPHERSUITES:
        raise ConfigurationError(
            "ciphersuites", ":".join(policy.ciphersuites), "cannot be chosen by ssl before Python 3.15", remedy
        )
    if policy.session_ticket_lifetime != DEFAULT_TICKET_LIFETIME:
        raise ConfigurationError(
            "session_ticket_lifetime", policy.session_ticket_lifetime, "cannot be changed through ssl", remedy
        )
    if policy.client_verify_names:
        raise ConfigurationError(
            "client_verify_names", sorted(policy.client_verify_names), "cannot differ by name through ssl", remedy
        )
    if policy.client_crl is not None and policy.client_crl_expired is ExpiredCRL.ACCEPT:
        raise ConfigurationError("client_crl_expired", "accept", "cannot be done through ssl", remedy)
    if policy.ocsp_staple is not None:
        raise ConfigurationError("ocsp_staple", str(policy.ocsp_staple), "cannot be stapled through ssl", remedy)


def _on_server_name(_sock: Any, name: str | None, _context: ssl.SSLContext) -> int | None:
    connection: BuiltinConnection = _HANDSHAKE.connection
    return connection.on_server_name(name)


def _verified_chain(library: Any) -> tuple[bytes, ...]:
    """Return the client's chain as DER; it comes so from a TLS socket, and as certificates from what that stands on."""
    if library.getpeercert(True) is None:
        return ()
    chain = library.get_verified_chain()
    return tuple(item if isinstance(item, bytes) else item.public_bytes(_DER) for item in chain)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return normalise_reason(reason) if isinstance(reason, str) else str(error)


def _connection_error(error: Exception) -> ConnectionError:
    if isinstance(error, ConnectionError):
        return error
    number = error.errno if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    if number:
        translated = OSError(number, os.strerror(number))
        if isinstance(translated, ConnectionError):
            return translated
    return ConnectionAbortedError(errno.ECONNABORTED, _reason(error))
