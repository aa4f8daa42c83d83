"""`SSLAdapter`: our TLS layer in the shape that cheroot, and so CherryPy, expects of an ``ssl_adapter``.

Theory of operation: `wrap` binds TLS to what was accepted and returns at once; the handshake happens with the first
read or write, in the worker thread that makes it and under a deadline of its own. From there on the connection behaves
as a blocking socket with a timeout, and waits with poll() where cheroot's own adapters sleep or fail.

Importing this module makes the adapter known to cheroot, and so to CherryPy, under the name ``secureserve``, and with
the builtin engine as ``secureserve-builtin``: ``server.ssl_module = "secureserve"``.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cheroot import errors as cheroot_errors
from cheroot.makefile import StreamReader, StreamWriter
from cheroot.server import ssl_adapters
from cheroot.ssl import Adapter

from secureserve.certificates.credential import Credential
from secureserve.certificates.store import CertificateStore
from secureserve.errors import ConfigurationError, HandshakeFailed, PeerError, PlainHTTPOnTLSPort
from secureserve.http.plain import answer_to_plain_http
from secureserve.logs import TLS_LOGGER
from secureserve.rate_limit import RateLimitedLogger
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.engines.base import Want
from secureserve.tls.policy import TLSPolicy

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from secureserve.certificates.pem import Password
    from secureserve.tls.engines.base import TLSConnection

__all__ = ["BuiltinSSLAdapter", "SSLAdapter", "TLSSocket"]

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for a whole handshake: a client on a bad line needs two or three, a silent one gets no more than this."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds for our close_notify to leave when the peer does not read."""

_BUFFER_SIZE: Final = 16384
_SENT_AT_ONCE: Final = 4 * _BUFFER_SIZE
"""What has the timeout to be sent in, however much more there is."""
_MAX_DRAINED: Final = 65536
_POLL: Final = {Want.READ: select.POLLIN, Want.WRITE: select.POLLOUT}


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
            FatalSSLAlert: The peer has gone already.
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

    def makefile(self, sock: TLSSocket, mode: str = "r", bufsize: int = _BUFFER_SIZE) -> StreamReader | StreamWriter:
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


class TLSSocket:
    """A TLS connection that behaves as a blocking socket with a timeout.

    Args:
        connection: The connection, not yet shaken.
        environ: Is given the connection's variables when the handshake is done.
        report: Is told of a handshake that failed, with the peer's address.
        peer: The peer's address, for people.
        handshake_timeout: Seconds for the whole handshake.

    Threads: one thread at a time reads and writes; `shutdown` for reading may be called by another to wake it.
    """

    def __init__(
        self,
        connection: TLSConnection,
        environ: dict[str, Any],
        report: Callable[[PeerError, str], None],
        *,
        peer: str,
        handshake_timeout: float,
    ) -> None:
        self._connection = connection
        self._environ = environ
        self._report = report
        self._peer = peer
        self._handshake_timeout = handshake_timeout
        self._timeout: float | None = None
        self._shaken = False

    @property
    def family(self) -> int:
        """The socket's address family."""
        return self._connection.sock.family

    def fileno(self) -> int:
        """Return the descriptor, or -1 once closed."""
        return self._connection.fileno()

    def gettimeout(self) -> float | None:
        """Return the seconds that one call may wait; None for ever."""
        return self._timeout

    def settimeout(self, timeout: float | None) -> None:
        """Set the seconds that one call may wait; None for ever."""
        self._timeout = timeout

    def getpeername(self) -> Any:
        """Return the peer's address."""
        return self._connection.sock.getpeername()

    def getsockname(self) -> Any:
        """Return our own address."""
        return self._connection.sock.getsockname()

    def getsockopt(self, *args: Any) -> Any:
        """Return an option of the socket."""
        return self._connection.sock.getsockopt(*args)

    def pending(self) -> int:
        """Return how many decrypted bytes wait inside; a selector never tells of them."""
        return self._connection.pending()

    def recv(self, max_bytes: int) -> bytes:
        """Wait for bytes and return up to `max_bytes`; ``b""`` at the end of the stream.

        Raises:
            TimeoutError: None came in time.
            ConnectionError: The connection broke.
            FatalSSLAlert: The handshake failed, or the peer speaks plain HTTP; it has been told then.
        """
        self._shake_hands()
        deadline = self._deadline(self._timeout)
        while True:
            data = self._connection.receive(max_bytes)
            if isinstance(data, bytes):
                return data
            self._wait(data, deadline)

    def recv_into(self, buffer: Any) -> int:
        """Wait for bytes, put them into `buffer`, and return how many there were; raises as `recv`."""
        view = memoryview(buffer).cast("B")
        data = self.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview) -> int:
        """Wait until some of `data` can be sent and return how much was; raises as `recv`."""
        self._shake_hands()
        part = memoryview(data)[:_SENT_AT_ONCE]
        deadline = self._deadline(self._timeout)
        while True:
            sent = self._connection.send(part)
            if isinstance(sent, int):
                return sent
            self._wait(sent, deadline)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; each part of it has the timeout. Raises as `recv`."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End one direction or both, saying goodbye as TLS does (RFC 8446, 6.1) where that includes ours.

        Raises:
            OSError: The socket is not connected.
        """
        if how != socket.SHUT_RD and self._shaken:
            self._say_goodbye()
            self._drain()
        # The engine's own shutdown() would take TLS off under a thread that is reading.
        socket.socket.shutdown(self._connection.sock, how)

    def close(self) -> None:
        """Close the socket. Harmless when closed."""
        self._connection.close()

    def _decref_socketios(self) -> None:
        """Let `socket.SocketIO` close without closing us."""

    def _shake_hands(self) -> None:
        if self._shaken:
            return
        deadline = self._deadline(self._handshake_timeout)
        try:
            while True:
                want = self._connection.handshake()
                if want is None:
                    break
                self._wait(want, deadline)
        except PeerError as error:
            self._report(error, self._peer)
            self._part(answer_to_plain_http() if isinstance(error, PlainHTTPOnTLSPort) else b"")
            raise cheroot_errors.FatalSSLAlert(str(error)) from error
        except TimeoutError as error:
            failure = HandshakeFailed(f"not done within {self._handshake_timeout:g} seconds")
            self._report(failure, self._peer)
            raise cheroot_errors.FatalSSLAlert(str(failure)) from error
        self._shaken = True
        info = self._connection.tls
        if info is not None:
            self._environ.update(info.environ())
            self._environ["secureserve.tls"] = info

    def _part(self, last_words: bytes) -> None:
        """Let the peer read our alert or answer: a socket that is closed over unread bytes would lose it."""
        sock = self._connection.sock
        deadline = self._deadline(CLOSE_TIMEOUT)
        try:
            if last_words:
                socket.socket.send(sock, last_words)
            socket.socket.shutdown(sock, socket.SHUT_WR)
            while self._drain():
                self._wait(Want.READ, deadline)
        except OSError:
            return

    def _say_goodbye(self) -> None:
        deadline = self._deadline(CLOSE_TIMEOUT)
        try:
            while True:
                want = self._connection.close_notify()
                if want is None:
                    return
                self._wait(want, deadline)
        except (TimeoutError, OSError):
            return

    def _drain(self) -> bool:
        """Read, below TLS and without waiting, what nobody will look at; return whether more may come."""
        left = _MAX_DRAINED
        try:
            while left > 0:
                data = socket.socket.recv(self._connection.sock, left)
                if not data:
                    return False
                left -= len(data)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @staticmethod
    def _deadline(timeout: float | None) -> float | None:
        return None if timeout is None else time.monotonic() + timeout

    def _wait(self, want: Want, deadline: float | None) -> None:
        descriptor = self._connection.fileno()
        if descriptor < 0:
            raise ConnectionAbortedError("the connection is closed")
        poll = select.poll()
        poll.register(descriptor, _POLL[want])
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            raise TimeoutError("timed out")


class TLSReader(StreamReader):  # type: ignore[misc]
    """What cheroot reads from."""

    def __init__(self, sock: TLSSocket, mode: str, bufsize: int) -> None:
        super().__init__(sock, mode, bufsize)
        self._tls_socket = sock

    def has_data(self) -> bool:
        """Return whether a read would get something without waiting, be it in our buffer or inside TLS."""
        return bool(super().has_data()) or self._tls_socket.pending() > 0


class TLSWriter(StreamWriter):  # type: ignore[misc]
    """What cheroot writes to. It keeps nothing back, and so copies nothing."""

    def __init__(self, sock: TLSSocket, mode: str, bufsize: int) -> None:
        super().__init__(sock, mode, bufsize)
        self._tls_socket = sock

    def write(self, data: bytes) -> int:
        """Send all of `data`.

        Raises:
            TypeError: It is text.
        """
        self._tls_socket.sendall(data)
        self.bytes_written += len(data)
        return len(data)


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
