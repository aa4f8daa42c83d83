"""Which sockets listen at an address, by the kernel's tables."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from secureserve.managed import listening

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {local}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"


def make_proc(directory: Path, rows: str) -> Path:
    """Make what /proc has of one process whose socket has the inode 7."""
    descriptors = directory / "self" / "fd"
    descriptors.mkdir(parents=True)
    (descriptors / "3").symlink_to("socket:[7]")
    (directory / "net").mkdir()
    (directory / "net" / "tcp").write_text(HEADER + rows)
    return directory


def test_connections_are_not_looked_at(tmp_path: Path) -> None:
    """Those that listen come first in the table, and nothing after them is read, however much there is."""
    ours = ROW.format(local="0100007F", port=8443, state="0A", inode=7)
    other = ROW.format(local="0100007F", port=8444, state="0A", inode=8)
    connection = ROW.format(local="0100007F", port=8443, state="06", inode=0)
    proc = make_proc(tmp_path, ours + other + connection + "what would be refused if it were read\n")
    assert listening.own_listeners(("127.0.0.1", 8443), proc) == {7}
    assert not listening.foreign_listener(("127.0.0.1", 8443), proc)
    assert listening.own_listeners(("127.0.0.1", 8444), proc) == frozenset()
    assert listening.foreign_listener(("127.0.0.1", 8444), proc)


def test_the_kernel_lists_those_that_listen_first() -> None:
    """A listener is found beside connections to it that are older and younger than others."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        with (
            socket.create_connection(first.getsockname()),
            socket.create_connection(second.getsockname()),
            socket.create_server(("127.0.0.1", 0)) as third,
        ):
            for server in (first, second, third):
                assert listening.own_listeners(server.getsockname()) != frozenset()
        assert not listening.foreign_listener(first.getsockname())
