"""Sockets passed by systemd, or by anything else that speaks its protocol (sd_listen_fds(3)).

The protocol's state is the descriptors themselves. One that was passed has come through ``exec``, so it is inheritable,
and everything that Python opens is not. Taking one clears that mark and closing its listener sets it again, instead of
closing the descriptor: systemd goes on listening anyway, and a server that is started again, in this process or by
executing itself anew, finds its sockets where they were.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError
from secureserve.front.listener import Listener, bound_address

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from secureserve.front.listener import BindAddress

__all__ = ["adopt_from_systemd", "sockets_left"]

_FIRST: Final = 3
"""SD_LISTEN_FDS_START: the first descriptor after standard input, output and error."""

_MAX_DESCRIPTORS: Final = 4096


def adopt_from_systemd(
    environ: Mapping[str, str],
    pid: int,
    *,
    names: Collection[str] | None = None,
    at: BindAddress | None = None,
    nodelay: bool = True,
    first: int = _FIRST,
) -> list[Listener]:
    """Take over the listening sockets that this process was started with.

    A socket is taken once: a second call returns those that are left. A closed listener's socket can be taken again.

    Args:
        environ: The environment, usually `os.environ`; ``LISTEN_PID``, ``LISTEN_FDS`` and ``LISTEN_FDNAMES`` are read.
        pid: This process's id. Sockets meant for another process are left alone.
        names: Take only those with one of these names (``FileDescriptorName=`` in the socket unit).
        at: Take only those bound at this port or path, if there are any, so that several servers each find their own.
        nodelay: Send small writes at once (``TCP_NODELAY``).
        first: The first descriptor passed.

    Returns:
        The listeners in the order they were passed; none where none were, or all have been taken.

    Raises:
        ConfigurationError: The variables make no sense, a name is not among those passed, or a descriptor is not a
            listening socket.
    """
    if environ.get("LISTEN_PID", "") != str(pid):
        return []
    count = _count(environ.get("LISTEN_FDS", ""))
    passed = _names(environ, count)
    for name in names or ():
        if name not in passed:
            remedy = f"The socket units passed {', '.join(sorted(set(passed))) or 'none'}; see FileDescriptorName=."
            raise ConfigurationError("LISTEN_FDNAMES", environ.get("LISTEN_FDNAMES", ""), f"has no {name!r}", remedy)
    left = {
        descriptor: name
        for descriptor, name in enumerate(passed, first)
        if (names is None or name in names) and _is_left(descriptor)
    }
    own = {descriptor: name for descriptor, name in left.items() if at is not None and _is_at(descriptor, at)}
    listeners: list[Listener] = []
    try:
        listeners.extend(_adopt(descriptor, name, nodelay=nodelay) for descriptor, name in (own or left).items())
    except ConfigurationError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def sockets_left(environ: Mapping[str, str], pid: int, *, first: int = _FIRST) -> frozenset[int]:
    """Return the inodes of the sockets that were passed and that no listener has, or that were given back.

    Args:
        environ: The environment, as for `adopt_from_systemd`.
        pid: This process's id.
        first: The first descriptor passed.

    Raises:
        ConfigurationError: ``LISTEN_FDS`` makes no sense.
    """
    if environ.get("LISTEN_PID", "") != str(pid):
        return frozenset()
    passed = range(first, first + _count(environ.get("LISTEN_FDS", "")))
    return frozenset(os.fstat(descriptor).st_ino for descriptor in passed if _is_left(descriptor))


def _count(value: str) -> int:
    if value.isascii() and value.isdigit() and int(value) <= _MAX_DESCRIPTORS:
        return int(value)
    raise ConfigurationError("LISTEN_FDS", value, "is not a number of sockets", "It is set by systemd; do not set it.")


def _names(environ: Mapping[str, str], count: int) -> list[str]:
    value = environ.get("LISTEN_FDNAMES")
    if value is None:
        return ["unknown"] * count
    names = value.split(":") if count else []
    if len(names) != count:
        problem = f"has {len(names)} names for {count} sockets"
        raise ConfigurationError("LISTEN_FDNAMES", value, problem, "It is set by systemd; do not set it.")
    return names


def _is_left(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def _is_at(descriptor: int, address: BindAddress) -> bool:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return False
    bound = bound_address(sock)
    sock.detach()
    if isinstance(address, str) or isinstance(bound, str):
        return address == bound
    return address[1] == bound[1]


def _adopt(descriptor: int, name: str, *, nodelay: bool) -> Listener:
    shown = f"{descriptor} ({name})"
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        remedy = "Pass listening stream sockets only."
        raise ConfigurationError("LISTEN_FDS", shown, f"is not a socket ({error.strerror})", remedy) from error
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        remedy = "Use ListenStream= and Accept=no in the socket unit."
        raise ConfigurationError("LISTEN_FDS", shown, "is not a listening stream socket", remedy)
    return Listener.adopt(sock, name=name, nodelay=nodelay, give_back=_give_back)


def _give_back(sock: socket.socket) -> None:
    os.set_inheritable(sock.detach(), True)
