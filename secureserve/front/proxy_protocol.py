"""The PROXY protocol, versions 1 and 2: who the client is, in the words of a trusted proxy before it.

Pure: bytes in, a `ProxyHeader` out, by HAProxy's proxy-protocol.txt. The header comes before TLS, and TLS reads from
the socket itself, so nothing beyond the header may be taken from the socket. `ProxyHeader.consumed` says how much of
the bytes fed last belongs to the header: peek, feed, then take exactly that much.

Bytes that cannot become a header are refused at the first one that is wrong, so that a proxy which was not told to send
a header is noticed at once and not by a timeout.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from secureserve.errors import ProxyHeaderError
from secureserve.front.addresses import canonical_address

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ProxyCommand", "ProxyHeader", "ProxyHeaderParser", "ProxyProgress", "TLVType"]

MAX_BLOCK_SIZE: Final = 4096
"""The bytes allowed after the fixed part of a version 2 header: addresses take 216 at most; proxies add few TLVs."""

_V1_PREFIX: Final = b"PROXY "
_V1_MAX_SIZE: Final = 107
"""The longest version 1 header, its CRLF included (section 2.1)."""
_V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED: Final = struct.Struct("!12sBBH")
_VERSION_2: Final = 2
_MAX_PORT: Final = 0xFFFF
_MAX_UNIQUE_ID_SIZE: Final = 128


class ProxyProgress(enum.Enum):
    """What is said of a header that is not complete."""

    NEED_MORE = "need_more"
    """All that was fed belongs to the header, and more is to come."""


class ProxyCommand(enum.Enum):
    """Why the proxy connected."""

    LOCAL = 0
    """On its own account, such as for a health check: the connection's own addresses are the right ones."""
    PROXY = 1
    """For a client."""


class TLVType(enum.IntEnum):
    """The types of additional information that the specification names (section 2.2)."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    NETNS = 0x30


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A complete header.

    Attributes:
        command: Why the proxy connected.
        source: The client: (host, port), ``("", 0)`` for one of a unix socket; None where the proxy does not say, and
            the connection's own addresses are the right ones.
        destination: Where the client connected to, in the same forms.
        unix_paths: The client's path and the one that it connected to, of a unix socket.
        version: 1 or 2.
        tlvs: The additional information of version 2 in its order: type and value. Padding and checksum are left out.
        consumed: How many of the bytes fed last belong to the header.
    """

    command: ProxyCommand
    source: tuple[str, int] | None
    destination: tuple[str, int] | None
    version: int
    unix_paths: tuple[str, str] | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()
    consumed: int = 0


class ProxyHeaderParser:
    """Reads one header, in pieces of any size.

    Args:
        max_block_size: The bytes allowed after the fixed part of a version 2 header.

    Threads: one at a time.
    """

    __slots__ = ("_buffer", "_max_block_size")

    def __init__(self, *, max_block_size: int = MAX_BLOCK_SIZE) -> None:
        self._buffer = bytearray()
        self._max_block_size = max_block_size

    @property
    def wants(self) -> int:
        """How many more bytes the header may have at most; there is no use in peeking at more."""
        return _V2_FIXED.size + self._max_block_size - len(self._buffer)

    def feed(self, data: bytes) -> ProxyHeader | ProxyProgress:
        """Take the next bytes.

        Args:
            data: What arrived since the last call; it may go beyond the header.

        Raises:
            ProxyHeaderError: This is not a header, or a malformed one. The connection is to be closed unanswered.
        """
        before = len(self._buffer)
        self._buffer += data[: _V2_FIXED.size + self._max_block_size]
        if not self._buffer:
            return ProxyProgress.NEED_MORE
        if self._buffer[0] == _V2_SIGNATURE[0]:
            size, read = self._size_of_v2(), _read_v2
        else:
            size, read = self._size_of_v1(), _read_v1
        return ProxyProgress.NEED_MORE if size is None else read(bytes(self._buffer[:size]), size - before)

    def _size_of_v1(self) -> int | None:
        start = self._buffer[: len(_V1_PREFIX)]
        if start != _V1_PREFIX[: len(start)]:
            raise ProxyHeaderError("The connection does not begin with a PROXY protocol header.")
        end = self._buffer.find(b"\n", 0, _V1_MAX_SIZE)
        if end >= 0:
            return end + 1
        if len(self._buffer) >= _V1_MAX_SIZE:
            raise ProxyHeaderError(f"The PROXY protocol line does not end within {_V1_MAX_SIZE} bytes.")
        return None

    def _size_of_v2(self) -> int | None:
        start = self._buffer[: len(_V2_SIGNATURE)]
        if start != _V2_SIGNATURE[: len(start)]:
            raise ProxyHeaderError("The connection does not begin with a PROXY protocol header.")
        if len(self._buffer) < _V2_FIXED.size:
            return None
        _, _, _, block_size = _V2_FIXED.unpack_from(self._buffer)
        if block_size > self._max_block_size:
            message = f"The PROXY protocol header announces {block_size} bytes; {self._max_block_size} are allowed."
            raise ProxyHeaderError(message)
        size = _V2_FIXED.size + int(block_size)
        return size if len(self._buffer) >= size else None


_V1_FAMILIES: Final[Mapping[bytes, type[ipaddress.IPv4Address | ipaddress.IPv6Address]]] = {
    b"TCP4": ipaddress.IPv4Address,
    b"TCP6": ipaddress.IPv6Address,
}


def _read_v1(header: bytes, consumed: int) -> ProxyHeader:
    if not header.endswith(b"\r\n"):
        raise ProxyHeaderError("The PROXY protocol line ends without CR LF.")
    words = header[len(_V1_PREFIX) : -2].split(b" ")
    if words[0] == b"UNKNOWN":
        return ProxyHeader(ProxyCommand.PROXY, None, None, 1, consumed=consumed)
    family = _V1_FAMILIES.get(words[0])
    if family is None or len(words) != 5:  # noqa: PLR2004 - family, two addresses, two ports
        raise ProxyHeaderError("The PROXY protocol line is not one of TCP4, TCP6 or UNKNOWN with its addresses.")
    source, destination = (_v1_address(word, family) for word in words[1:3])
    source_port, destination_port = (_v1_port(word) for word in words[3:5])
    return ProxyHeader(ProxyCommand.PROXY, (source, source_port), (destination, destination_port), 1, consumed=consumed)


def _v1_address(word: bytes, family: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> str:
    try:
        text = word.decode("ascii")
        family(text)
    except ValueError as error:
        raise ProxyHeaderError("The PROXY protocol line holds an address that is none.") from error
    if "%" in text:
        raise ProxyHeaderError("The PROXY protocol line holds an address with a zone.")
    return canonical_address(text)


def _v1_port(word: bytes) -> int:
    if word.isdigit() and (word == b"0" or not word.startswith(b"0")) and len(word) <= len(str(_MAX_PORT)):
        port = int(word)
        if port <= _MAX_PORT:
            return port
    raise ProxyHeaderError("The PROXY protocol line holds a port that is none.")


_V2_UNIX: Final = 3
_V2_LAYOUTS: Final = {
    1: struct.Struct("!4s4sHH"),
    2: struct.Struct("!16s16sHH"),
    _V2_UNIX: struct.Struct("!108s108s"),
}
"""What each address family puts into the block: source and destination, and their ports."""
_UNSPECIFIED: Final = 0
_STREAM: Final = 1


def _read_v2(header: bytes, consumed: int) -> ProxyHeader:
    _, version_and_command, family_and_protocol, _ = _V2_FIXED.unpack_from(header)
    version, command_number = divmod(version_and_command, 16)
    family, protocol = divmod(family_and_protocol, 16)
    if version != _VERSION_2:
        raise ProxyHeaderError(f"The PROXY protocol header is of version {version}, which does not exist.")
    if command_number not in {command.value for command in ProxyCommand}:
        raise ProxyHeaderError(f"The PROXY protocol header has the unknown command {command_number}.")
    command = ProxyCommand(command_number)
    block = header[_V2_FIXED.size :]
    if command is ProxyCommand.LOCAL:
        # The specification has the whole block discarded, its family included.
        return ProxyHeader(command, None, None, _VERSION_2, consumed=consumed)
    if _UNSPECIFIED in {family, protocol}:
        if family > _V2_UNIX or protocol > _STREAM + 1:
            raise ProxyHeaderError("The PROXY protocol header has an unknown address family or protocol.")
        return ProxyHeader(command, None, None, _VERSION_2, consumed=consumed)
    if protocol != _STREAM:
        raise ProxyHeaderError("The PROXY protocol header is not of a stream connection.")
    layout = _V2_LAYOUTS.get(family)
    if layout is None:
        raise ProxyHeaderError(f"The PROXY protocol header has the unknown address family {family}.")
    if len(block) < layout.size:
        raise ProxyHeaderError("The PROXY protocol header is too short for its addresses.")
    tlvs = _read_tlvs(header, _V2_FIXED.size + layout.size)
    if family == _V2_UNIX:
        source, destination = (_unix_path(path) for path in layout.unpack_from(block))
        nowhere = ("", 0)
        return ProxyHeader(command, nowhere, nowhere, _VERSION_2, (source, destination), tlvs, consumed)
    source, destination, source_port, destination_port = layout.unpack_from(block)
    return ProxyHeader(
        command,
        (canonical_address(str(ipaddress.ip_address(source))), source_port),
        (canonical_address(str(ipaddress.ip_address(destination))), destination_port),
        _VERSION_2,
        None,
        tlvs,
        consumed,
    )


def _unix_path(field: bytes) -> str:
    # An abstract name begins with NUL and is padded with it; a path ends at its first.
    path = field.rstrip(b"\0") if field.startswith(b"\0") else field.partition(b"\0")[0]
    return os.fsdecode(path)


def _read_tlvs(header: bytes, position: int) -> tuple[tuple[int, bytes], ...]:
    tlvs = []
    while position < len(header):
        value_at = position + 3
        if value_at > len(header):
            raise ProxyHeaderError("The PROXY protocol header ends inside its additional information.")
        kind, size = struct.unpack_from("!BH", header, position)
        position = value_at + size
        value = header[value_at:position]
        if position > len(header):
            raise ProxyHeaderError("The PROXY protocol header ends inside its additional information.")
        if kind == TLVType.CRC32C:
            _check_checksum(header, value_at, value)
        elif kind == TLVType.UNIQUE_ID and size > _MAX_UNIQUE_ID_SIZE:
            raise ProxyHeaderError(f"The PROXY protocol header has a unique id of over {_MAX_UNIQUE_ID_SIZE} bytes.")
        elif kind != TLVType.NOOP:
            tlvs.append((kind, value))
    return tuple(tlvs)


def _check_checksum(header: bytes, value_at: int, value: bytes) -> None:
    if len(value) != 4:  # noqa: PLR2004 - the size of a CRC-32
        raise ProxyHeaderError("The PROXY protocol header has a checksum that is not of 4 bytes.")
    blanked = header[:value_at] + bytes(4) + header[value_at + 4 :]
    if crc32c(blanked) != int.from_bytes(value, "big"):
        raise ProxyHeaderError("The PROXY protocol header does not match its checksum.")


def crc32c(data: bytes) -> int:
    """Return the CRC-32 of Castagnoli (RFC 3720, appendix B.4) of some bytes."""
    table = _crc32c_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)
