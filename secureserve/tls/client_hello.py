"""What a ClientHello says that the TLS libraries do not pass on: the offered protocols, signature schemes, the name.

Pure, and made for bytes from anybody: whatever is malformed gives None and is left to the library to answer.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ClientHello", "parse_client_hello"]

_TWO: Final = struct.Struct(">H")
_EXTENSION: Final = struct.Struct(">HH")
"""Its kind, and the size of its body (RFC 8446, 4.2)."""
_RANDOM_END: Final = 4 + 2 + 32
"""Type and length, version, random."""

_SERVER_NAME: Final = 0
_SIGNATURE_ALGORITHMS: Final = 13
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43
_TLS13: Final = 0x0304
_HOST_NAME: Final = 0
_OF_INTEREST: Final = frozenset({_SERVER_NAME, _SIGNATURE_ALGORITHMS, _ALPN, _SUPPORTED_VERSIONS})
_TOO_SHORT: Final = "the message ends too early"

_ECDSA_SCHEMES: Final = frozenset({0x0403, 0x0503, 0x0603})
"""ecdsa_secp256r1_sha256, ecdsa_secp384r1_sha384, ecdsa_secp521r1_sha512 (RFC 8446, 4.2.3)."""


class ClientHello(NamedTuple):
    """What a client offers.

    Args:
        alpn_protocols: The protocols, most preferred first (RFC 7301, 3.1); empty when it does not say.
        signature_schemes: The schemes that it verifies, by number (RFC 8446, 4.2.3).
        speaks_tls13: Whether it offers TLS 1.3 (RFC 8446, 4.2.1).
        server_name: The name that it asks for, in small letters (RFC 6066, 3); None when it does not say.
    """

    alpn_protocols: tuple[str, ...] = ()
    signature_schemes: frozenset[int] = frozenset()
    speaks_tls13: bool = False
    server_name: str | None = None

    @property
    def verifies_ecdsa(self) -> bool:
        """Whether an ECDSA certificate can be shown to it."""
        return not _ECDSA_SCHEMES.isdisjoint(self.signature_schemes)


def parse_client_hello(message: bytes) -> ClientHello | None:
    """Return what a whole ClientHello handshake message offers, or None if it is malformed (RFC 8446, 4.1.2).

    Args:
        message: The message with its four octets of type and length.
    """
    try:
        at = _RANDOM_END
        at += 1 + message[at]
        at += 2 + _TWO.unpack_from(message, at)[0]
        at += 1 + message[at]
        if at == len(message):
            return ClientHello()
        start = at + 2
        return _parse_extensions(message, start, start + _TWO.unpack_from(message, at)[0])
    except (ValueError, IndexError, struct.error):
        return None


def _parse_extensions(message: bytes, at: int, end: int) -> ClientHello:
    if end > len(message):
        raise ValueError(_TOO_SHORT)
    protocols: tuple[str, ...] = ()
    schemes: frozenset[int] = frozenset()
    speaks_tls13 = False
    server_name: str | None = None
    # There are many, and this is done for every connection: only what is of interest is taken out.
    unpack = _EXTENSION.unpack_from
    while at < end:
        kind, size = unpack(message, at)
        start = at + 4
        at = start + size
        if at > end:
            raise ValueError(_TOO_SHORT)
        if kind not in _OF_INTEREST:
            continue
        body = message[start:at]
        if kind == _ALPN:
            protocols = tuple(_names(_vector(body, 0, 2)))
        elif kind == _SIGNATURE_ALGORITHMS:
            schemes = frozenset(_numbers(_vector(body, 0, 2)))
        elif kind == _SUPPORTED_VERSIONS:
            speaks_tls13 = _TLS13 in _numbers(_vector(body, 0, 1))
        elif body:
            entries = _vector(body, 0, 2)
            if entries[0] == _HOST_NAME:
                server_name = _vector(entries, 1, 2).decode("latin-1").removesuffix(".").lower()
    return ClientHello(protocols, schemes, speaks_tls13, server_name)


def _vector(data: bytes, at: int, length_size: int) -> bytes:
    """Return a vector with its length in front (RFC 8446, 3.4); ValueError where the data ends too early."""
    start = at + length_size
    end = start + int.from_bytes(data[at:start], "big")
    if end > len(data):
        raise ValueError(_TOO_SHORT)
    return data[start:end]


def _names(data: bytes) -> Iterator[str]:
    at = 0
    while at < len(data):
        name = _vector(data, at, 1)
        yield name.decode("latin-1")
        at += 1 + len(name)


def _numbers(data: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f">{len(data) // 2}H", data)
