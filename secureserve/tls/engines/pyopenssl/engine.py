"""`PyOpenSSLEngine`: contexts of pyOpenSSL.

Theory of operation: connections start on a base context, which holds no certificate and under whose keys all session
tickets are made. The server-name callback then switches each handshake to the context of what is presented to it. Base
contexts stay over rotations, so tickets from before one still resume. pyOpenSSL refuses to change a context that has
made a connection; whatever changes is built anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from OpenSSL import SSL, crypto

from secureserve.errors import ConfigurationError, CredentialError
from secureserve.tls.engines import Capabilities
from secureserve.tls.engines.base import Presented
from secureserve.tls.engines.memory_file import memory_file
from secureserve.tls.engines.pyopenssl import binding
from secureserve.tls.engines.pyopenssl.connection import (
    PyOpenSSLConnection,
    on_client_hello,
    on_server_name,
    shown_credential,
)
from secureserve.tls.engines.pyopenssl.library import LIBRARY, reason_of
from secureserve.tls.policy import ACME_PROTOCOL, ClientVerify, ExpiredCRL, TLSPolicy

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from secureserve.certificates.credential import Credential
    from secureserve.tls.client_trust import ClientTrust
    from secureserve.tls.engines.base import Choose
    from secureserve.tls.keylog import KeyLog
    from secureserve.tls.ocsp import StapleCache

__all__ = ["PyOpenSSLEngine", "capabilities"]

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
        handles = [binding.on_server_name(context, on_server_name)]
        if watch_hello:
            handles.append(binding.on_client_hello(context, on_client_hello))
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
                "client_ca", str(self._policy.client_ca), f"is not taken by OpenSSL: {reason_of(error)}"
            ) from None


def _load(context: SSL.Context, credential: Credential) -> None:
    key: Any = credential.private_key
    try:
        with memory_file(credential.chain_pem()) as path:
            context.use_certificate_chain_file(path)
        context.use_privatekey(key)
    except (SSL.Error, crypto.Error, TypeError, ValueError) as error:
        message = f"OpenSSL does not take {credential.origin}: {reason_of(error)}."
        raise CredentialError(message, path=credential.origin) from None


def _staple(context: SSL.Context, credentials: tuple[Credential, ...], staples: StapleCache) -> None:
    def response(library: SSL.Connection, _data: object) -> bytes:
        return staples.get(shown_credential(library, credentials, resumed=False))

    for credential in credentials:
        staples.prepare(credential)
    context.set_ocsp_server_callback(response)
