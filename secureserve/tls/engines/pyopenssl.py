"""The engine on pyOpenSSL, which brings its own recent OpenSSL. The only importer of OpenSSL.

Theory of operation: connections start on a base context, which holds no certificate and under whose keys all session
tickets are made. The server-name callback then switches each handshake to the context of what is presented to it. Base
contexts stay over rotations, so tickets from before one still resume. pyOpenSSL refuses to change a context that has
made a connection; whatever changes is built anew.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from OpenSSL import SSL, crypto

from secureserve.errors import ConfigurationError, CredentialError, HandshakeFailed, PlainHTTPOnTLSPort
from secureserve.tls.alerts import (
    INTERNAL_ERROR,
    PLAIN_HTTP_REASONS,
    UNRECOGNIZED_NAME,
    alert_for_reason,
    alert_for_verification,
    normalise_reason,
    refusal,
)
from secureserve.tls.client_hello import parse_client_hello
from secureserve.tls.engines import Capabilities
from secureserve.tls.engines import pyopenssl_binding as binding
from secureserve.tls.engines.base import CLOSED, Presented, Want
from secureserve.tls.engines.memory_file import memory_file
from secureserve.tls.policy import ACME_PROTOCOL, ClientVerify, ExpiredCRL, TLSPolicy

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from secureserve.certificates.credential import Credential
    from secureserve.tls.client_trust import ClientTrust
    from secureserve.tls.engines.base import Choose
    from secureserve.tls.info import TLSInfo
    from secureserve.tls.keylog import KeyLog
    from secureserve.tls.ocsp import StapleCache

__all__ = ["PyOpenSSLConnection", "PyOpenSSLEngine", "capabilities"]

_LOGGER: Final = logging.getLogger("secureserve.error")

LIBRARY: Final = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()

_SESSION_ID_CONTEXT: Final = b"secureserve"
"""Tells our sessions from those of other servers with shared keys; OpenSSL resumes no verified session without one."""

_VERIFY_MODES: Final = {
    ClientVerify.NONE: SSL.VERIFY_NONE,
    ClientVerify.OPTIONAL: SSL.VERIFY_PEER,
    ClientVerify.REQUIRED: SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}

_OPTIONS: Final = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE

_MODE_ENABLE_PARTIAL_WRITE: Final = 1
"""OpenSSL's number for it, for which pyOpenSSL has no name."""

_GROUP_NAMES: Final = {"x25519": "X25519", "secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

_CRL_HAS_EXPIRED: Final = SSL.X509VerificationCodes.ERR_CRL_HAS_EXPIRED


def capabilities() -> Capabilities:
    """Return what the installed pyOpenSSL can do."""
    groups = binding.selectable_groups(SSL.Context(SSL.TLS_SERVER_METHOD), ("X25519MLKEM768",))
    return Capabilities(
        library=LIBRARY,
        post_quantum=bool(groups),
        chooses_groups=True,
        chooses_ciphersuites=True,
        ticket_lifetime=True,
        refuses_unknown_alpn=True,
        acme_challenges=True,
        reports_group=True,
        names_refused_client=True,
        announces_client_ca=True,
        verify_by_name=True,
        accepts_expired_crl=True,
        ocsp_stapling=True,
    )


class PyOpenSSLEngine:
    """Contexts of pyOpenSSL for one policy.

    Args:
        policy: How to speak TLS.
        choose: Decides what a handshake presents.
        keylog: Where secrets go, for debugging.
        staples: Where OCSP responses to staple come from.

    Raises:
        ConfigurationError: The library cannot do what the policy asks for.

    Threads: any thread.
    """

    def __init__(
        self,
        policy: TLSPolicy,
        choose: Choose,
        *,
        keylog: KeyLog | None = None,
        staples: StapleCache | None = None,
    ) -> None:
        if binding.MISSING:
            raise ConfigurationError(
                "ssl_module", "pyopenssl", f"lacks {', '.join(binding.MISSING)}", "Install current cryptography."
            )
        self._policy = policy
        self._choose = choose
        self._keylog = keylog
        self._staples = staples
        self._groups = binding.selectable_groups(SSL.Context(SSL.TLS_SERVER_METHOD), policy.groups)
        self._modes = {name: _VERIFY_MODES[mode] for name, mode in policy.client_verify_names.items()}
        self._base = self._new_base(watch_hello=False)
        self._watching_base = self._new_base(watch_hello=True)

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
        if self._staples is not None and not acme_challenge:
            _staple(context, tuple(credentials), self._staples)
        return Presented(tuple(credentials), context, acme_challenge)

    def accept(self, sock: socket.socket, *, watch_hello: bool) -> PyOpenSSLConnection:
        """Bind TLS to a non-blocking socket."""
        return PyOpenSSLConnection(self, self._watching_base if watch_hello else self._base, sock)

    def renew_ticket_keys(self) -> None:
        """Make it impossible to resume sessions from before."""
        self._base, self._watching_base = self._new_base(watch_hello=False), self._new_base(watch_hello=True)

    def choose(self, connection: PyOpenSSLConnection, server_name: str | None) -> Presented | None:
        """Decide what a handshake presents, and whether it has to show a certificate."""
        hello = connection.hello
        challenge = hello is not None and hello.alpn_protocols == (ACME_PROTOCOL,)
        presented = self._choose(server_name, connection.sock, acme_challenge=challenge)
        if self._modes and server_name is not None:
            mode = self._modes.get(server_name)
            if mode is None:
                mode = self._modes.get(f"*.{server_name.partition('.')[2]}")
            if mode is not None:
                binding.set_verify_mode(connection.library_connection, mode)
                connection.must_verify = bool(mode & SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        return presented

    def accepts(self, code: int) -> bool:
        """Return whether a certificate is good enough that does not verify, by the number of its fault."""
        return code == _CRL_HAS_EXPIRED and self._policy.client_crl_expired is ExpiredCRL.ACCEPT

    @property
    def requires_certificate(self) -> bool:
        """Whether a client that names no server has to show a certificate."""
        return self._policy.client_verify is ClientVerify.REQUIRED

    def _new_base(self, *, watch_hello: bool) -> SSL.Context:
        context = self._new_context(self._policy.alpn_protocols)
        handles = [binding.on_server_name(context, _on_server_name)]
        if watch_hello:
            handles.append(binding.on_client_hello(context, _on_client_hello))
        context.set_app_data((context.get_app_data(), handles))
        return context

    def _new_context(self, alpn_protocols: Sequence[str]) -> SSL.Context:
        policy = self._policy
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(policy.minimum_version.number)
        context.set_max_proto_version(policy.maximum_version.number)
        context.set_options(_OPTIONS if policy.resumes_sessions else _OPTIONS | SSL.OP_NO_TICKET)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # pyOpenSSL has a send return after every record, and each costs a turn at the interpreter lock.
        context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(_SESSION_ID_CONTEXT)
        context.set_timeout(int(policy.session_ticket_lifetime))
        try:
            context.set_cipher_list(f"{':'.join(policy.ciphers)}:@SECLEVEL={policy.security_level}".encode())
        except SSL.Error:
            raise ConfigurationError("ciphers", ":".join(policy.ciphers), f"is not known to {LIBRARY}") from None
        context.set_tls13_ciphersuites(":".join(policy.ciphersuites).encode())
        if not self._groups or not binding.set_groups(context, self._groups):
            raise ConfigurationError("groups", ":".join(policy.groups), f"is not known to {LIBRARY}")
        if alpn_protocols:
            context.set_app_data(binding.on_alpn(context, alpn_protocols))
        if policy.verifies_clients:
            binding.on_verification(context, _VERIFY_MODES[policy.client_verify])
            context.set_verify_depth(policy.client_verify_depth)
        if self._keylog is not None:
            write = self._keylog.write
            context.set_keylog_callback(lambda _connection, line: write(line))
        return context

    def _load_trust(self, context: SSL.Context, trust: ClientTrust) -> None:
        try:
            with memory_file(trust.pem()) as path:
                context.load_verify_locations(path)
                context.load_client_ca(path.encode())
            store = context.get_cert_store()
            if trust.revocation_lists and store is not None:
                store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
        except (SSL.Error, crypto.Error) as error:
            raise ConfigurationError(
                "client_ca", str(self._policy.client_ca), f"is not taken by OpenSSL: {_words(error)}"
            ) from None


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
            raise _connection_error(error) from None

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
            return None
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
        if isinstance(error, SSL.ZeroReturnError):
            self.close_notify_received = True
        elif not error.args or error.args[0] != -1:
            raise _connection_error(error) from None
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
            credential=_shown(library, presented.credentials, resumed=resumed),
            peer_chain_der=binding.verified_chain(library),
            library=LIBRARY,
        )

    def _handshake_error(self, error: Exception) -> HandshakeFailed | PlainHTTPOnTLSPort:
        if isinstance(error, (SSL.SysCallError, OSError, SSL.ZeroReturnError)):
            number = error.args[0] if error.args else -1
            gone = "the peer closed the connection during the handshake"
            return HandshakeFailed(gone if number in {-1, 0} else f"{gone}: {os.strerror(number)}")
        reason = _reason(error)
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


def _load(context: SSL.Context, credential: Credential) -> None:
    key: Any = credential.private_key
    try:
        with memory_file(credential.chain_pem()) as path:
            context.use_certificate_chain_file(path)
        context.use_privatekey(key)
    except (SSL.Error, crypto.Error, TypeError, ValueError) as error:
        message = f"OpenSSL does not take {credential.origin}: {_words(error)}."
        raise CredentialError(message, path=credential.origin) from None


def _staple(context: SSL.Context, credentials: tuple[Credential, ...], staples: StapleCache) -> None:
    def response(library: SSL.Connection, _data: object) -> bytes:
        return staples.get(_shown(library, credentials, resumed=False))

    for credential in credentials:
        staples.prepare(credential)
    context.set_ocsp_server_callback(response)


def _on_server_name(name: bytes | None) -> int | None:
    connection: PyOpenSSLConnection = binding.HANDSHAKE.connection
    return connection.on_server_name(name)


def _on_client_hello(message: bytes) -> None:
    connection: PyOpenSSLConnection | None = binding.HANDSHAKE.connection
    if connection is not None:
        connection.hello = parse_client_hello(message)


def _group_name(library: SSL.Connection) -> str | None:
    """Return the group by the name that a policy has for it."""
    name = library.get_group_name()
    return None if name is None else _GROUP_NAMES.get(name, name)


def _shown(library: SSL.Connection, credentials: Sequence[Credential], *, resumed: bool) -> Credential:
    if len(credentials) > 1 and not resumed:
        leaf = library.get_certificate(as_cryptography=True)
        for credential in credentials:
            if credential.leaf == leaf:
                return credential
    return credentials[0]


def _subject(certificate: bytes) -> str:
    """Return a refused certificate's subject in RFC 4514 form; that of bytes from anybody may not even parse."""
    try:
        return repr(x509.load_der_x509_certificate(certificate).subject.rfc4514_string())
    except ValueError:
        return "(an unreadable subject)"


def _reason(error: Exception) -> str:
    """Return the reason of the first error in OpenSSL's queue, which is the cause of the others."""
    queue = error.args[0] if error.args else ()
    if isinstance(queue, list):
        return normalise_reason(queue[0][-1]) if queue else "the connection is broken"
    return str(error)


def _words(error: Exception) -> str:
    return _reason(error) if isinstance(error, (SSL.Error, crypto.Error)) else str(error)


def _connection_error(error: Exception) -> ConnectionError:
    number = error.args[0] if error.args else None
    if isinstance(number, int) and number > 0:
        translated = OSError(number, os.strerror(number))
        if isinstance(translated, ConnectionError):
            return translated
    return ConnectionAbortedError(errno.ECONNABORTED, _reason(error))
