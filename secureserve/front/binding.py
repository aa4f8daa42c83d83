"""TCP addresses: from host and port to a listening socket, or to an error that says what to do."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path
from typing import Final

from secureserve.errors import ConfigurationError, StartFailed
from secureserve.front.occupant import find_occupant

__all__ = ["bind_tcp"]

_MAX_PORT: Final = 0xFFFF

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""The machine does not have this address; a host name may have another that it does."""


def bind_tcp(host: str | None, port: int, *, backlog: int, reuse_port: bool) -> socket.socket:
    """Return a socket that listens at an address.

    Args:
        host: An address, a host name, or None or ``""`` for every interface. ``"::"`` takes IPv4 as well.
        port: The port; 0 has the system choose one.
        backlog: How many connections the kernel keeps until they are accepted.
        reuse_port: Set ``SO_REUSEPORT``.

    Raises:
        ConfigurationError: Unknown host, an address that is not this machine's, or a port that is none.
        StartFailed: In use, or not permitted.
    """
    _check_port(port)
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError("reuse_port", reuse_port, "is not possible on this system", "Leave it off.")
    failure = OSError(errno.EADDRNOTAVAIL, "no address")
    for family, address in _candidates(host, port):
        try:
            return _listen(family, address, backlog=backlog, reuse_port=reuse_port)
        except OSError as error:
            failure = error
            if error.errno not in _NOT_HERE:
                break
    raise _explain(host, port, failure) from failure


def _check_port(port: object) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= _MAX_PORT:
        raise ConfigurationError("socket_port", port, "is not a port", f"Use a whole number from 0 to {_MAX_PORT}.")


def _candidates(host: str | None, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    if not host:
        dual_stack = [(socket.AF_INET6, ("::", port))] if socket.has_dualstack_ipv6() else []
        return [*dual_stack, (socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104 - every interface is what was asked for
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, ValueError) as error:
        remedy = "Use an address of this machine, a name that the system resolves to one, or leave it unset for all."
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError("socket_host", host, f"is not a known host ({reason})", remedy) from error
    return [(socket.AddressFamily(family), sockaddr) for family, _, _, _, sockaddr in found]  # type: ignore[misc]


def _listen(family: socket.AddressFamily, address: tuple[str, int], *, backlog: int, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        if address[1]:
            # A fixed port is to be bound again at once after a restart, while old connections are in TIME_WAIT. With
            # port 0 the option would let the system hand out a port that another socket with the option has bound.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        sock.bind(address)
        sock.listen(backlog)
        undo.pop_all()
    return sock


def _explain(host: str | None, port: int, error: OSError) -> ConfigurationError | StartFailed:
    shown = f"socket_host = {host!r}, socket_port = {port!r}"
    if error.errno == errno.EADDRINUSE:
        occupant = find_occupant(port)
        by = f" by {occupant}" if occupant else ""
        return StartFailed(
            f"{shown} is in use{by}. Stop the program that listens there, or choose another socket_port."
        )
    if error.errno in _NOT_HERE:
        remedy = "Use an address that this machine has, or leave it unset for all of them."
        return ConfigurationError("socket_host", host, "is not an address of this machine", remedy)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return StartFailed(
            f"{shown} is not permitted: ports below {_first_unprivileged_port()} need a privilege. "
            "Choose a higher port, have systemd pass the socket, or grant CAP_NET_BIND_SERVICE."
        )
    return StartFailed(f"{shown} cannot be listened at: {error.strerror or error}.")


def _first_unprivileged_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024
