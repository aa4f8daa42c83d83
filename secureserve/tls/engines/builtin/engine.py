"""`BuiltinEngine`: contexts of the ssl module.

Theory of operation: as with the other engine, connections start on a base context, under whose keys session tickets are
made, and the server-name callback switches each to the context of what it is shown.
"""

from __future__ import annotations

import ssl
import warnings
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError, CredentialError, HandshakeFailed
from secureserve.tls.alerts import NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME
from secureserve.tls.engines import Capabilities
from secureserve.tls.engines.base import Presented
from secureserve.tls.engines.builtin.connection import BuiltinConnection, on_server_name
from secureserve.tls.engines.builtin.library import (
    LIBRARY,
    SETS_CIPHERSUITES,
    SETS_GROUPS,
    TELLS_GROUP,
    reason_of,
)
from secureserve.tls.engines.memory_file import memory_file
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
    from secureserve.tls.client_hello import ClientHello
    from secureserve.tls.client_trust import ClientTrust
    from secureserve.tls.engines.base import Choose
    from secureserve.tls.keylog import KeyLog
    from secureserve.tls.ocsp import StapleCache

__all__ = ["BuiltinEngine", "capabilities"]

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
        return BuiltinConnection(self, sock, self._base)

    def base_for(self, hello: ClientHello | None) -> ssl.SSLContext | None:
        """Return the context that a client is to begin with; None for the one that all others do.

        Sessions of TLS 1.2 that get no ticket OpenSSL keeps in that context, where a client finds its own by their
        number, and ssl has no call against it. So where none is to be resumed, each has a context to itself.
        """
        if self._policy.resumes_sessions or self.version_for(hello) == TLSVersion.TLSv1_3.value:
            return None
        return self._new_base()

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
        context.sni_callback = on_server_name
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
                "client_ca", str(self._policy.client_ca), f"is not taken by OpenSSL: {reason_of(error)}"
            ) from None


def _load(context: ssl.SSLContext, credential: Credential) -> None:
    try:
        with memory_file(credential.chain_pem() + credential.private_key_pem()) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError, TypeError) as error:
        message = f"OpenSSL does not take {credential.origin}: {reason_of(error)}."
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
