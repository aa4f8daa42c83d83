"""Handshakes over a socket pair in one thread, and the processor time of the server's part in them."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING

from OpenSSL import SSL

from secureserve.certificates.credential import Credential
from secureserve.certificates.store import CertificateStore
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.engines.base import Want
from secureserve.tls.policy import TLSPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from benchmarks.credentials import Credential as Files
    from benchmarks.identities import Client

    Steps: TypeAlias = "tuple[Callable[[], bool], Callable[[], None]]"
    """Goes on, and says whether the handshake is done; and lets go of the connection."""
    Begin: TypeAlias = "Callable[[socket.socket], Steps]"

__all__ = ["bare", "client_context", "ours", "shake_hands"]


def bare(engine: str, files: Files, client: Client | None) -> Begin:
    """Return handshakes of the library alone; with verification, if there is a client to verify."""
    return _bare_pyopenssl(files, client) if engine == "pyopenssl" else _bare_builtin(files, client)


def ours(engine: str, files: Files, client: Client | None) -> Begin:
    """Return handshakes of ours, each with the environ of its first request."""
    policy = TLSPolicy(session_tickets=False)
    if client is not None:
        policy = policy.replace(client_verify="required", client_ca=client.authority)
    store = CertificateStore([Credential.load(files.certificate, files.key)])
    acceptor = TLSAcceptor(store, policy, engine=engine)

    def begin(sock: socket.socket) -> Steps:
        connection = acceptor.accept(sock)

        def step() -> bool:
            if isinstance(connection.handshake(), Want):
                return False
            assert connection.tls is not None
            return bool(connection.tls.environ())

        return step, connection.close

    return begin


def client_context(client: Client | None) -> ssl.SSLContext:
    """Return a context for clients, which verifies as little as the load generator does."""
    from benchmarks.clients import tls_context

    context = tls_context()
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def shake_hands(begin: Begin, context: ssl.SSLContext) -> float:
    """Shake hands once, and return the seconds of processor time that the server's part took."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        began = time.thread_time()
        step, close = begin(near)
        used = time.thread_time() - began
        client_done = server_done = False
        while not server_done:
            if not client_done:
                client_done = _client_step(client)
                far.sendall(outgoing.read())
            began = time.thread_time()
            server_done = step()
            used += time.thread_time() - began
            if not client_done:
                incoming.write(far.recv(65536))
        close()
        return used


def _client_step(client: ssl.SSLObject) -> bool:
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _bare_pyopenssl(files: Files, client: Client | None) -> Begin:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(files.certificate))
    context.use_privatekey_file(str(files.key))
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    if client is not None:
        context.load_verify_locations(str(client.authority))
        context.load_client_ca(str(client.authority).encode())
        context.set_session_id(b"benchmark")
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)

    def begin(sock: socket.socket) -> Steps:
        connection = SSL.Connection(context, sock)
        connection.set_accept_state()

        def step() -> bool:
            try:
                connection.do_handshake()
            except SSL.WantReadError:
                return False
            return True

        return step, sock.close

    return begin


def _bare_builtin(files: Files, client: Client | None) -> Begin:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.num_tickets = 0
    if client is not None:
        context.load_verify_locations(client.authority)
        context.verify_mode = ssl.CERT_REQUIRED

    def begin(sock: socket.socket) -> Steps:
        connection = context.wrap_socket(sock.dup(), server_side=True, do_handshake_on_connect=False)

        def step() -> bool:
            try:
                connection.do_handshake()
            except ssl.SSLWantReadError:
                return False
            return True

        return step, connection.close

    return begin
