"""What a ClientHello says that the TLS libraries do not pass on: the offered protocols, signature schemes, the name.

Pure, and made for bytes from anybody: whatever is malformed gives None and is left to the library to answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ClientHello", "parse_client_hello"]

_SERVER_NAME: Final = 0
_SIGNATURE_ALGORITHMS: Final = 13
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43
_TLS13: Final = 0x0304
_HOST_NAME: Final = 0

_ECDSA_SCHEMES: Final = frozenset({0x0403, 0x0503, 0x0603})
"""ecdsa_secp256r1_sha256, ecdsa_secp384r1_sha384, ecdsa_secp521r1_sha512 (RFC 8446, 4.2.3)."""


@dataclass(frozen=True, slots=True)
class ClientHello:
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
    reader = _Reader(message)
    try:
        reader.take(4 + 2 + 32)
        reader.vector(1)
        reader.vector(2)
        reader.vector(1)
        if not reader.left:
            return ClientHello()
        return _parse_extensions(_Reader(reader.vector(2)))
    except ValueError:
        return None


class _Reader:
    """Takes bytes from the front of a message; ValueError where it ends too early."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def left(self) -> int:
        """How many octets are left."""
        return len(self._data) - self._offset

    def take(self, size: int) -> bytes:
        """Return the next octets."""
        if size > self.left:
            raise ValueError("the message ends too early")
        start, self._offset = self._offset, self._offset + size
        return self._data[start : self._offset]

    def number(self, size: int) -> int:
        """Return the next octets as a number."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        """Return a vector with its length in front (RFC 8446, 3.4)."""
        return self.take(self.number(length_size))


def _parse_extensions(reader: _Reader) -> ClientHello:
    protocols: tuple[str, ...] = ()
    schemes: frozenset[int] = frozenset()
    speaks_tls13 = False
    server_name: str | None = None
    while reader.left:
        kind = reader.number(2)
        body = _Reader(reader.vector(2))
        if kind == _ALPN:
            names = _Reader(body.vector(2))
            found = []
            while names.left:
                found.append(names.vector(1).decode("latin-1"))
            protocols = tuple(found)
        elif kind == _SIGNATURE_ALGORITHMS:
            numbers = _Reader(body.vector(2))
            schemes = frozenset(numbers.number(2) for _ in range(numbers.left // 2))
        elif kind == _SUPPORTED_VERSIONS:
            numbers = _Reader(body.vector(1))
            speaks_tls13 = any(numbers.number(2) == _TLS13 for _ in range(numbers.left // 2))
        elif kind == _SERVER_NAME and body.left:
            entries = _Reader(body.vector(2))
            if entries.number(1) == _HOST_NAME:
                server_name = entries.vector(2).decode("latin-1").removesuffix(".").lower()
    return ClientHello(protocols, schemes, speaks_tls13, server_name)
