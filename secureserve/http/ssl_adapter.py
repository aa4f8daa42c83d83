"""`SSLAdapter`: our TLS layer in the shape that cheroot, and so CherryPy, expects of an ``ssl_adapter``.

Theory of operation: `wrap` binds TLS to what was accepted and returns at once, with a `TLSSocket` that shakes hands
when it is first read from or written to.

Importing this module makes the adapter known to cheroot, and so to CherryPy, under the name ``secureserve``, and with
the builtin engine as ``secureserve-builtin``: ``server.ssl_module = "secureserve"``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cheroot import errors as cheroot_errors
from cheroot.server import ssl_adapters
from cheroot.ssl import Adapter

from secureserve.certificates.credential import Credential
from secureserve.certificates.store import CertificateStore
from secureserve.errors import ConfigurationError, PeerError
from secureserve.http.tls_socket import BUFFER_SIZE, TLSReader, TLSSocket, TLSWriter
from secureserve.logs import TLS_LOGGER
from secureserve.rate_limit import RateLimitedLogger
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.policy import TLSPolicy

if TYPE_CHECKING:
    import os
    import socket

    from secureserve.certificates.pem import Password

__all__ = ["BuiltinSSLAdapter", "SSLAdapter"]

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for a whole handshake: a client on a bad line needs two or three, a silent one gets no more than this."""


class SSLAdapter(Adapter):  # type: ignore[misc]
    """TLS for a `cheroot.wsgi.Server`, ours or anybody's.

    Args:
        certificate: Path of the certificate with its chain, in PEM or PKCS#12.
        private_key: Path of its key; None where `certificate` holds it.
        certificate_chain: Path of further certificates, where `certificate` does not hold them.
        ciphers: TLS 1.2 suites by OpenSSL's names with colons between; None for the policy's.
        private_key_password: The key's password: text, bytes, or a callable that is asked for it.
        policy: How TLS is spoken.
        engine: The TLS library, ``pyopenssl`` or ``builtin``; None for the class's `default_engine`.
        acceptor: What speaks TLS instead of all the above.
        handshake_timeout: Seconds for a whole handshake.

    Attributes:
        acceptor: What speaks TLS; its ``store`` holds what is served.

    Raises:
        ConfigurationError: Settings that do not go together or cannot be honoured.
        CredentialError: A certificate or key that cannot be served.

    Threads: any thread.
    """

    default_engine: ClassVar[str] = "pyopenssl"

    def __init__(
        self,
        certificate: str | os.PathLike[str] | None = None,
        private_key: str | os.PathLike[str] | None = None,
        certificate_chain: str | os.PathLike[str] | None = None,
        ciphers: str | None = None,
        *,
        private_key_password: Password = None,
        policy: TLSPolicy = TLSPolicy.INTERMEDIATE,
        engine: str | None = None,
        acceptor: TLSAcceptor | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
    ) -> None:
        super().__init__(
            certificate, private_key, certificate_chain, ciphers, private_key_password=private_key_password
        )
        self.handshake_timeout = handshake_timeout
        self._log = RateLimitedLogger(logging.getLogger(TLS_LOGGER))
        if acceptor is None:
            if ciphers is not None:
                policy = policy.replace(ciphers=ciphers)
            acceptor = TLSAcceptor(CertificateStore([self._load()]), policy, engine=engine or self.default_engine)
        self.acceptor = acceptor

    @classmethod
    def from_cheroot(cls, adapter: Adapter, *, engine: str | None = None) -> SSLAdapter:
        """Return an adapter of ours with the files and suites of another.

        Raises:
            ConfigurationError: It was given a context of its own, whose settings cannot be read back, or weak suites.
            CredentialError: A certificate or key that cannot be served.
        """
        if adapter.certificate is None:
            _refuse_context()
        return cls(
            adapter.certificate,
            adapter.private_key,
            adapter.certificate_chain,
            adapter.ciphers,
            private_key_password=adapter.private_key_password,
            engine=engine,
        )

    @property
    def context(self) -> None:
        """Always None: contexts are made for each certificate, and anew when it rotates."""
        return

    @context.setter
    def context(self, context: object) -> None:
        if context is not None:
            _refuse_context()

    def reload(self) -> None:
        """Read certificate and key again, and present them from the next handshake on. All or nothing.

        Raises:
            CredentialError: They cannot be served; what was presented still is.
        """
        self.acceptor.store.replace([self._load()])

    def bind(self, sock: socket.socket) -> socket.socket:
        """Return the listening socket as it is: TLS begins with what it accepts."""
        return sock

    def wrap(self, sock: socket.socket) -> tuple[TLSSocket, dict[str, Any]]:
        """Put TLS on an accepted socket, without waiting for the peer.

        Returns:
            The socket, and what is known so far for the environ; the rest is added when the handshake is done.

        Raises:
            FatalSSLAlert: The library has no room for it. The socket is closed.
        """
        environ: dict[str, Any] = {"wsgi.url_scheme": "https", "HTTPS": "on"}
        timeout = sock.gettimeout()
        peer = _peer_of(sock)
        sock.setblocking(False)
        try:
            connection = self.acceptor.accept(sock)
        except ConnectionError as error:
            sock.close()
            raise cheroot_errors.FatalSSLAlert(*error.args) from error
        wrapped = TLSSocket(connection, environ, self._report, peer=peer, handshake_timeout=self.handshake_timeout)
        wrapped.settimeout(timeout)
        return wrapped, environ

    def get_environ(self, *_: object) -> dict[str, Any]:
        """Return what holds for every connection."""
        return {"wsgi.url_scheme": "https", "HTTPS": "on"}

    def makefile(self, sock: TLSSocket, mode: str = "r", bufsize: int = BUFFER_SIZE) -> TLSReader | TLSWriter:
        """Return a file object for reading or writing, in the shape that cheroot works with."""
        return TLSReader(sock, mode, bufsize) if "r" in mode else TLSWriter(sock, mode, bufsize)

    def _load(self) -> Credential:
        if self.certificate is None:
            raise ConfigurationError("ssl_certificate", None, "is missing", "Set it to the path of a certificate.")
        credential = Credential.load(
            self.certificate, self.private_key, chain=self.certificate_chain, password=self.private_key_password
        )
        credential.check()
        return credential

    def _report(self, error: PeerError, peer: str) -> None:
        """Say in the log who did not get through the handshake, and why."""
        self._log.log(logging.INFO, error.reason, "TLS handshake with %s failed: %s", peer, str(error))

    def _get_library_version_environ(self) -> dict[str, str]:
        """Answer a hook of newer cheroots; ours is filled in when a handshake is done."""
        return {}

    def _get_optional_environ(self, _connection: object) -> dict[str, str]:
        """Answer a hook of newer cheroots, likewise."""
        return {}


class BuiltinSSLAdapter(SSLAdapter):
    """The same with the engine of the standard library, for those who can name a class but give it no arguments."""

    default_engine: ClassVar[str] = "builtin"


def _refuse_context() -> None:
    raise ConfigurationError(
        "ssl_context",
        None,
        "cannot be used: contexts are made for each certificate, and anew when it rotates",
        "Set ssl_certificate and ssl_private_key, and say with a TLSPolicy how TLS is spoken.",
    )


def _peer_of(sock: socket.socket) -> str:
    try:
        address = sock.getpeername()
    except OSError:
        return "(a peer that has gone)"
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "(a unix socket)"


ssl_adapters["secureserve"] = SSLAdapter
ssl_adapters["secureserve-builtin"] = BuiltinSSLAdapter
