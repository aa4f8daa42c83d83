"""Which listening sockets this process has at an address, told without connecting to any of them.

A connection made only to see whether somebody answers is, to a TLS server, a peer that breaks off its handshake: it
costs a log line and perhaps a thread. Linux lists every listening socket in ``/proc/net`` and every descriptor of a
process in ``/proc/self/fd``, and the two meet in the inode. Other systems do not tell; there the server's own word
stands.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["can_tell", "foreign_listener", "own_listeners"]

Address = tuple["str | None", int] | str
"""Host (None for every interface) and port, or the path of a unix socket."""

_TCP_LISTEN: Final = "0A"
_UNIX_ACCEPTS: Final = 0x10000
"""``__SO_ACCEPTCON`` in the flags column of ``/proc/net/unix``."""


def can_tell(proc: Path = Path("/proc")) -> bool:
    """Return whether this system lists its listening sockets."""
    return (proc / "net" / "tcp").exists() and (proc / "self" / "fd").exists()


def own_listeners(address: Address, proc: Path = Path("/proc")) -> frozenset[int]:
    """Return the inodes of this process's sockets that take connections to `address`."""
    listening = frozenset(_listening_at(address, proc))
    return listening & _own_sockets(proc) if listening else listening


def foreign_listener(address: Address, proc: Path = Path("/proc")) -> bool:
    """Return whether a socket that is not this process's takes connections to `address`."""
    return bool(frozenset(_listening_at(address, proc)) - _own_sockets(proc))


def _listening_at(address: Address, proc: Path) -> Iterator[int]:
    if isinstance(address, str):
        yield from _unix_sockets(address, proc / "net" / "unix")
        return
    host, port = address[:2]
    wanted = _addresses_of(host)
    for table in ("tcp", "tcp6"):
        for local, local_port, inode in _tcp_sockets(proc / "net" / table):
            if local_port == port and (wanted is None or local.is_unspecified or str(local) in wanted):
                yield inode


def _addresses_of(host: str | None) -> set[str] | None:
    """Return the addresses that a host name stands for; None where it is every interface."""
    if not host or host in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
        return None
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(_plain(str(info[4][0]).partition("%")[0])) for info in found}


def _plain(text: str | bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _tcp_sockets(table: Path) -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int, int]]:
    for columns in _rows(table):
        # The kernel lists those that listen first. After them come the connections, of which there may be very many.
        if columns[3] != _TCP_LISTEN:
            return
        local, _, port = columns[1].partition(":")
        yield _plain(_native_words(bytes.fromhex(local))), int(port, 16), int(columns[9])


def _native_words(raw: bytes) -> bytes:
    """Put an address that the kernel printed as machine words into network order."""
    if sys.byteorder == "big":
        return raw
    return b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))


def _unix_sockets(path: str, table: Path) -> Iterator[int]:
    wanted = {path, str(Path(path).absolute())} if not path.startswith("\0") else {"@" + path[1:]}
    for columns in _rows(table):
        if len(columns) > 7 and columns[7] in wanted and int(columns[3], 16) & _UNIX_ACCEPTS:  # noqa: PLR2004 - the table's columns
            yield int(columns[6])


def _rows(table: Path) -> Iterator[list[str]]:
    """Yield the columns of each row, without reading further than is asked for."""
    with contextlib.suppress(OSError), table.open(encoding="utf-8", errors="replace") as rows:
        next(rows, None)
        for row in rows:
            yield row.split()


def _own_sockets(proc: Path) -> frozenset[int]:
    inodes = set()
    for descriptor in os.listdir(proc / "self" / "fd"):  # noqa: PTH208 - a closed descriptor must not end the listing
        with contextlib.suppress(OSError):
            target = str((proc / "self" / "fd" / descriptor).readlink())
            if target.startswith("socket:["):
                inodes.add(int(target[8:-1]))
    return frozenset(inodes)
