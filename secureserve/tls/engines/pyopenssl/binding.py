"""The few calls of OpenSSL that pyOpenSSL has no public name for, in one guarded place.

Theory of operation: pyOpenSSL stands on the bindings that cryptography compiles, and so do these functions. pyOpenSSL's
own server-name callback can refuse a client only by printing a traceback, and its ALPN callback only by an exception
that may surface in another thread; here both answer with an alert. OpenSSL runs a callback in the thread that called
``do_handshake``, so the connection that it is about is the one which that thread has put into `HANDSHAKE`.

`MISSING` names what the installed libraries do not offer. The tests tell when pyOpenSSL gains a public call for one of
them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.bindings.openssl.binding import Binding

from secureserve.tls.engines.base import RECORD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from OpenSSL import SSL

__all__ = [
    "HANDSHAKE",
    "MISSING",
    "forget_errors",
    "on_alpn",
    "on_client_hello",
    "on_server_name",
    "on_verification",
    "read_one_message_at_a_time",
    "selectable_groups",
    "session_reused",
    "set_groups",
    "set_signature_schemes",
    "set_verify_mode",
    "verification_error",
    "verified_chain",
]

_binding: Final = Binding()
_lib: Final[Any] = _binding.lib
_ffi: Final[Any] = _binding.ffi

_NEEDED: Final = (
    "SSL_CTX_set1_curves_list",
    "SSL_CTX_set_alpn_select_cb",
    "SSL_CTX_set_msg_callback",
    "SSL_CTX_set_tlsext_servername_callback",
    "SSL_CTX_set_verify",
    "SSL_clear_mode",
    "SSL_get0_verified_chain",
    "SSL_get_servername",
    "SSL_session_reused",
    "SSL_set_verify",
    "X509_STORE_CTX_get_current_cert",
    "X509_STORE_CTX_get_error",
    "X509_STORE_CTX_get_error_depth",
    "X509_STORE_CTX_set_error",
    "X509_verify_cert_error_string",
)

MISSING: Final = tuple(name for name in _NEEDED if not hasattr(_lib, name))
"""The calls that the installed cryptography does not bind; none with the versions that this package supports."""

HANDSHAKE: Final = threading.local()
"""``.connection`` is what the current thread is shaking hands for."""

_OK: Final = 0
_ALERT_FATAL: Final = 2
_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1


def forget_errors() -> None:
    """Empty this thread's queue of errors, in which pyOpenSSL leaves that of a call of the system that failed.

    The next failure in this thread, of whichever connection, would be taken for that one.
    """
    _lib.ERR_clear_error()


def selectable_groups(context: SSL.Context, names: Sequence[str]) -> tuple[str, ...]:
    """Return those groups that the library has, in their order. `context` must not be used for anything else."""
    raw = context._context  # noqa: SLF001 - pyOpenSSL has no public call for groups
    known = tuple(name for name in names if _lib.SSL_CTX_set1_curves_list(raw, name.encode()) == 1)
    forget_errors()
    return known


def set_groups(context: SSL.Context, names: Sequence[str]) -> bool:
    """Let a context agree on these groups only, in this order. Return whether the library took them."""
    raw = context._context  # noqa: SLF001 - as above
    return bool(_lib.SSL_CTX_set1_curves_list(raw, ":".join(names).encode()) == 1)


def set_signature_schemes(context: SSL.Context, names: str) -> None:
    """Let a context verify these signature schemes only, whose names are put together with colons.

    Raises:
        ValueError: The library does not know one.
    """
    raw = context._context  # noqa: SLF001 - pyOpenSSL has no public call for signature schemes
    if _lib.SSL_CTX_set1_sigalgs_list(raw, names.encode()) != 1:
        forget_errors()
        message = f"OpenSSL does not take these signature schemes: {names}"
        raise ValueError(message)


def read_one_message_at_a_time(connection: SSL.Connection) -> None:
    """Have a read that came upon a message without data say that it wants to read, instead of going on.

    A peer may send such messages without an end, and nothing could end the read: key updates, for one. What is left in
    the socket meanwhile, a selector that looks for the level tells of. pyOpenSSL wants it otherwise, for the others.
    """
    _lib.SSL_clear_mode(connection._ssl, _lib.SSL_MODE_AUTO_RETRY)  # noqa: SLF001 - pyOpenSSL has no public call for it


def on_server_name(context: SSL.Context, callback: Callable[[bytes | None], int | None]) -> object:
    """Call back with the name of each ClientHello, also of one without.

    Args:
        context: The context that connections start with.
        callback: Returns None to go on, or the number of the alert to refuse with.

    Returns:
        What has to be kept as long as the context.
    """

    def wrapper(ssl: Any, alert: Any, _argument: Any) -> int:
        name = _lib.SSL_get_servername(ssl, _lib.TLSEXT_NAMETYPE_host_name)
        refusal = callback(None if name == _ffi.NULL else _ffi.string(name))
        if refusal is None:
            return _OK
        alert[0] = refusal
        return _ALERT_FATAL

    handle = _ffi.callback("int (*)(SSL *, int *, void *)", wrapper, error=_ALERT_FATAL)
    _lib.SSL_CTX_set_tlsext_servername_callback(context._context, handle)  # noqa: SLF001 - as above
    return handle


def on_alpn(context: SSL.Context, protocols: Sequence[str]) -> object:
    """Select the first of our protocols that a client offers, and refuse one that offers none of them (RFC 7301, 3.2).

    Returns:
        What has to be kept as long as the context.
    """
    ours = [(bytes([len(name)]) + name, _ffi.new("unsigned char[]", name)) for name in map(str.encode, protocols)]

    def wrapper(_ssl: Any, out: Any, out_size: Any, offered: Any, offered_size: int, _argument: Any) -> int:
        names = _split_names(_ffi.buffer(offered, offered_size)[:])
        for prefixed, memory in ours:
            if prefixed in names:
                out[0] = memory
                out_size[0] = prefixed[0]
                return _OK
        return _ALERT_FATAL

    handle = _ffi.callback(
        "int (*)(SSL *, const unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *)",
        wrapper,
        error=_ALERT_FATAL,
    )
    _lib.SSL_CTX_set_alpn_select_cb(context._context, handle, _ffi.NULL)  # noqa: SLF001 - as above
    return handle, ours


def on_client_hello(context: SSL.Context, callback: Callable[[bytes], None]) -> object:
    """Call back with every ClientHello message. Costs a call for each record, so only for contexts that need it.

    Returns:
        What has to be kept as long as the context.
    """

    def wrapper(
        is_write: int,
        _version: int,
        content_type: int,
        data: Any,
        size: int,
        _ssl: Any,
        _argument: Any,
    ) -> None:
        if content_type == _HANDSHAKE_RECORD and not is_write and size:
            message = _ffi.buffer(data, size)[:]
            if message[0] == _CLIENT_HELLO:
                callback(message)

    handle = _ffi.callback("void (*)(int, int, int, const void *, size_t, SSL *, void *)", wrapper)
    _lib.SSL_CTX_set_msg_callback(context._context, handle)  # noqa: SLF001 - as above
    return handle


@_ffi.callback("int (*)(int, X509_STORE_CTX *)", error=0)  # type: ignore[untyped-decorator]
def _on_verification(verified: int, store: Any) -> int:
    """Decide about one certificate of a chain. It belongs to no context: a handshake may outlive that it began on."""
    if verified:
        return 1
    raw = _lib.X509_STORE_CTX_get_current_cert(store)
    code, depth = _lib.X509_STORE_CTX_get_error(store), _lib.X509_STORE_CTX_get_error_depth(store)
    if not HANDSHAKE.connection.on_unverified(b"" if raw == _ffi.NULL else _der(raw), code, depth):
        return 0
    _lib.X509_STORE_CTX_set_error(store, _lib.X509_V_OK)
    return 1


def on_verification(context: SSL.Context, mode: int) -> None:
    """Have `HANDSHAKE`'s connection decide, by its ``on_unverified``, about every certificate that does not verify.

    pyOpenSSL's own callback makes objects of every certificate of every chain, good ones too.

    Args:
        context: The context that connections start with.
        mode: Whether a client is asked for a certificate, and whether it has to have one.
    """
    _lib.SSL_CTX_set_verify(context._context, mode, _on_verification)  # noqa: SLF001 - as above


class _Reading(threading.local):
    """Memory that a thread reads into."""

    def __init__(self) -> None:
        self.memory = _ffi.new("char[]", RECORD)


_reading: Final = _Reading()


def read(connection: SSL.Connection, max_bytes: int) -> bytes:
    """Do as `SSL.Connection.recv`, but read no more than a record carries.

    pyOpenSSL makes a buffer for each call, and asks OpenSSL how each call failed, those too that did not; as does its
    `send`.
    """
    ssl, memory = connection._ssl, _reading.memory  # noqa: SLF001 - as the docstring says
    size = _lib.SSL_read(ssl, memory, min(max_bytes, RECORD))
    if size <= 0:
        connection._raise_ssl_error(ssl, size)  # noqa: SLF001 - as above
    return bytes(_ffi.buffer(memory, size))


def read_into(connection: SSL.Connection, buffer: memoryview) -> int:
    """Do as `SSL.Connection.recv_into`, which reads into a buffer of its own, and copies."""
    ssl = connection._ssl  # noqa: SLF001 - as above
    size = _lib.SSL_read(ssl, _ffi.from_buffer(buffer), len(buffer))
    if size <= 0:
        connection._raise_ssl_error(ssl, size)  # noqa: SLF001 - as above
    return int(size)


def write(connection: SSL.Connection, data: bytes | memoryview) -> int:
    """Do as `SSL.Connection.send`."""
    ssl = connection._ssl  # noqa: SLF001 - as above
    size = _lib.SSL_write(ssl, _ffi.from_buffer(data), len(data))
    if size <= 0:
        connection._raise_ssl_error(ssl, size)  # noqa: SLF001 - as above
    return int(size)


def session_reused(connection: SSL.Connection) -> bool:
    """Return whether an earlier session goes on."""
    return bool(_lib.SSL_session_reused(connection._ssl))  # noqa: SLF001 - pyOpenSSL has no public call


def set_verify_mode(connection: SSL.Connection, mode: int) -> None:
    """Change whether this connection asks for a certificate, keeping its context's verify callback."""
    _lib.SSL_set_verify(connection._ssl, mode, _ffi.NULL)  # noqa: SLF001 - as above


def verification_error(code: int) -> str:
    """Return OpenSSL's words for an X509_V_ERR_* number."""
    return str(_ffi.string(_lib.X509_verify_cert_error_string(code)).decode())


def verified_chain(connection: SSL.Connection) -> tuple[bytes, ...]:
    """Return the peer's verified chain as DER, its own certificate first; empty where it showed none."""
    stack = _lib.SSL_get0_verified_chain(connection._ssl)  # noqa: SLF001 - as above
    if stack == _ffi.NULL:
        return ()
    return tuple(_der(_lib.sk_X509_value(stack, place)) for place in range(_lib.sk_X509_num(stack)))


def _der(certificate: Any) -> bytes:
    bio = _ffi.gc(_lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_free)
    _lib.i2d_X509_bio(bio, certificate)
    data = _ffi.new("char **")
    size = _lib.BIO_get_mem_data(bio, data)
    return bytes(_ffi.buffer(data[0], size))


def _split_names(names: bytes) -> list[bytes]:
    """Return protocol names, each with its length in front. OpenSSL has checked the form of the list."""
    found, start = [], 0
    while start < len(names):
        end = start + 1 + names[start]
        found.append(names[start:end])
        start = end
    return found
