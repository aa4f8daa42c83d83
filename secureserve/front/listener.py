"""Listening sockets: bound here, handed over by a parent, or passed in.

A `Listener` owns one listening socket that never blocks and that no child process inherits by accident. Where it
listens is settled when it is made: every failure to do so is raised then, naming the setting and the remedy.
Afterwards nothing a peer does makes `accept_many` raise: a connection that died in the queue is counted, and a machine
that is out of descriptors is an answer (`AcceptStatus.EXHAUSTED`), since the caller has to stop asking for a while.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from secureserve.errors import ConfigurationError, StartFailed
from secureserve.front.binding import bind_tcp
from secureserve.front.unix_socket import PathClaim, bind_unix, is_abstract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

__all__ = [
    "EXPORT_VARIABLE",
    "AcceptOutcome",
    "AcceptStatus",
    "BindAddress",
    "Listener",
    "adopt_exported",
    "bound_address",
    "export_listeners",
]

BindAddress = tuple["str | None", int] | str
"""Where to listen: host (None for every interface) and port, or the path of a unix socket."""

EXPORT_VARIABLE: Final = "SECURESERVE_LISTENERS"
"""The environment variable in which a process tells the next one which descriptors are its listeners."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""The machine or the process has nothing left to give a connection. The connection stays in the kernel's queue."""

_CLOSED: Final = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})
"""The listening socket itself is gone: another thread closed it."""


class AcceptStatus(enum.Enum):
    """How a round of accepting ended."""

    DRAINED = "drained"
    """Nobody waits any more; wait for the socket to become readable."""
    MORE = "more"
    """The limit was reached; others may be waiting."""
    EXHAUSTED = "exhausted"
    """There is no descriptor or memory for another connection; stop listening until something was closed."""
    CLOSED = "closed"
    """The listener has been closed."""


class AcceptOutcome(NamedTuple):
    """What one round of accepting brought.

    Attributes:
        connections: Each accepted socket, non-blocking, with its peer's address: (host, port) with the host as text,
            an IPv4 peer of a dual-stack socket in its IPv4 form, and ``("", 0)`` for a unix socket.
        status: Why the round ended.
        errno: What the system said, where the status is `AcceptStatus.EXHAUSTED`; else 0.
        aborted: How many connections were found dead in the queue.
    """

    connections: list[tuple[socket.socket, tuple[str, int]]]
    status: AcceptStatus
    errno: int = 0
    aborted: int = 0


@dataclass(slots=True, eq=False)
class Listener:
    """One listening socket.

    Threads: `accept_many` from one thread at a time, and `close` from that thread too, or when it has ended. The rest
    from any.

    Attributes:
        sock: The socket. It belongs to the listener.
        bound_addr: Where it listens: (host, port) with the real port, or the path of a unix socket.
        name: What a parent called it; empty where none did.
    """

    sock: socket.socket
    name: str = ""
    bound_addr: tuple[str, int] | str = field(init=False)
    _nodelay: bool = True
    _claim: PathClaim | None = None
    _give_back: Callable[[socket.socket], None] | None = None
    _is_inet: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_inet = self.sock.family in {socket.AF_INET, socket.AF_INET6}
        self.bound_addr = bound_address(self.sock)

    @classmethod
    def bind(
        cls,
        bind_addr: BindAddress,
        *,
        backlog: int = 128,
        reuse_port: bool = False,
        unix_mode: int = 0o600,
        unix_owner: tuple[int, int] | None = None,
        nodelay: bool = True,
    ) -> list[Listener]:
        """Listen at an address.

        Without a host it is every interface: one IPv6 socket that takes IPv4 too, or IPv4 alone where the machine has
        no IPv6. Where a host name has several addresses it is the first in the system's order that the machine has.

        Args:
            bind_addr: Host and port (0 has the system choose one), or the path of a unix socket. A path that starts
                with NUL is a name in Linux's abstract namespace.
            backlog: How many connections the kernel keeps for us until they are accepted.
            reuse_port: Share the port with other sockets of this user that ask for it as well (``SO_REUSEPORT``).
            unix_mode: Permissions of the unix socket's path. Nobody can connect before they are in force.
            unix_owner: User and group id of the unix socket's path; -1 leaves one as it is.
            nodelay: Send small writes at once (``TCP_NODELAY``).

        Raises:
            ConfigurationError: The address can never be listened at: an unknown host, an address that is not this
                machine's, a port that is none, a path that is too long or where something else lives.
            StartFailed: It cannot be listened at now: in use, or not permitted.
        """
        if isinstance(bind_addr, str):
            sock, claim = bind_unix(bind_addr, backlog=backlog, mode=unix_mode, owner=unix_owner, reuse_port=reuse_port)
        else:
            sock, claim = bind_tcp(*bind_addr[:2], backlog=backlog, reuse_port=reuse_port), None
        return [_own(cls(sock, _nodelay=nodelay, _claim=claim))]

    @classmethod
    def adopt(
        cls,
        sock: socket.socket,
        *,
        name: str = "",
        backlog: int = 128,
        nodelay: bool = True,
        give_back: Callable[[socket.socket], None] | None = None,
    ) -> Listener:
        """Take over a socket that somebody else bound.

        Args:
            sock: A stream socket, listening or only bound. It becomes non-blocking and is not inherited any more.
            name: What to call it.
            backlog: For a socket that does not listen yet.
            nodelay: Send small writes at once (``TCP_NODELAY``).
            give_back: Called with the socket when the listener is closed, instead of closing it.

        Raises:
            ConfigurationError: It is not a stream socket, not bound, or connected.
        """
        problem = _why_not_a_listener(sock)
        if problem:
            remedy = "Pass a bound or listening stream socket."
            raise ConfigurationError("instance", describe_socket(sock), problem, remedy)
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(backlog)
        return _own(cls(sock, name, _nodelay=nodelay, _give_back=give_back))

    @property
    def is_unix(self) -> bool:
        """Whether it is a unix socket."""
        return not self._is_inet

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.sock.fileno() < 0

    def fileno(self) -> int:
        """Return the descriptor, or -1 once closed."""
        return self.sock.fileno()

    def describe(self) -> str:
        """Return where it listens, for people: ``127.0.0.1:443``, ``[::1]:443`` or ``unix:/run/app.sock``."""
        return describe_address(self.bound_addr)

    def accept_many(self, limit: int) -> AcceptOutcome:
        """Accept who is waiting, up to `limit`, without blocking and without raising for anything a peer did.

        A connection that died in the queue counts towards the limit, so that a flood of them ends as well.

        Args:
            limit: The most to take from the queue in this round.

        Returns:
            The connections and why the round ended.

        Raises:
            OSError: The system said what it has no reason to say of a listening socket.
        """
        connections: list[tuple[socket.socket, tuple[str, int]]] = []
        aborted = 0
        for _ in range(limit):
            try:
                sock, peer = self.sock.accept()
            except BlockingIOError:
                return AcceptOutcome(connections, AcceptStatus.DRAINED, 0, aborted)
            except OSError as error:
                if error.errno in _PEER_GONE:
                    aborted += 1
                    continue
                if error.errno in _EXHAUSTED:
                    return AcceptOutcome(connections, AcceptStatus.EXHAUSTED, error.errno, aborted)
                if error.errno in _CLOSED:
                    return AcceptOutcome(connections, AcceptStatus.CLOSED, 0, aborted)
                raise
            sock.setblocking(False)
            connections.append((sock, _peer_address(peer) if self._is_inet else ("", 0)))
        return AcceptOutcome(connections, AcceptStatus.MORE, 0, aborted)

    def duplicate(self, name: str = "") -> Listener:
        """Return a second handle of the same listening socket, which goes on listening when this one is closed.

        A unix socket's path is the duplicate's from now on: closing this listener no longer removes it.

        Args:
            name: What to call it; empty keeps the name.

        Raises:
            OSError: There is no descriptor left.
        """
        twin = _own(Listener(self.sock.dup(), name or self.name, _nodelay=self._nodelay))
        twin._claim, self._claim = self._claim, None  # noqa: SLF001 - of the same class
        return twin

    def close(self) -> None:
        """Stop listening, and remove the unix socket's path if it is still the one made here. Harmless when closed."""
        if self.closed:
            return
        if self._claim is not None:
            self._claim.release()
        if self._give_back is not None:
            self._give_back(self.sock)
        else:
            self.sock.close()


def export_listeners(listeners: Iterable[Listener]) -> dict[str, str]:
    """Prepare listeners for being taken over by a program that this process starts or becomes.

    Their descriptors become inheritable (pass them in ``pass_fds`` to `subprocess`; ``os.exec*`` needs no more), and a
    unix socket's path is no longer removed when this process closes its listener: that is the heir's from now on.

    Args:
        listeners: What to hand over. They go on working here until they are closed.

    Returns:
        What to add to the heir's environment, where `adopt_exported` finds it.
    """
    handed_over = []
    for listener in listeners:
        listener.sock.set_inheritable(True)
        claim, listener._claim = listener._claim, None  # noqa: SLF001 - of the same module
        identity = None if claim is None else [claim.path, claim.device, claim.inode]
        handed_over.append({"fd": listener.fileno(), "name": listener.name, "path": identity})
    return {EXPORT_VARIABLE: json.dumps(handed_over)}


def adopt_exported(environ: MutableMapping[str, str], *, nodelay: bool = True) -> list[Listener]:
    """Take over the listeners that the process before this one exported.

    The variable is removed, so that neither a second call nor a child process finds them again.

    Args:
        environ: The environment, usually `os.environ`.
        nodelay: Send small writes at once (``TCP_NODELAY``).

    Returns:
        The listeners in the order of the export; none where nothing was exported.

    Raises:
        StartFailed: A descriptor in the variable is not a listening socket of this process.
    """
    exported = environ.pop(EXPORT_VARIABLE, "")
    if not exported:
        return []
    listeners: list[Listener] = []
    try:
        for entry in json.loads(exported):
            sock = socket.socket(fileno=int(entry["fd"]))
            with contextlib.ExitStack() as undo:
                undo.callback(sock.close)
                listener = Listener.adopt(sock, name=entry["name"], nodelay=nodelay)
                undo.pop_all()
            listeners.append(listener)
            if entry["path"] is not None:
                listener._claim = PathClaim(*entry["path"])  # noqa: SLF001 - of the same module
    except (ValueError, KeyError, TypeError, OSError, ConfigurationError) as error:
        for listener in listeners:
            listener.close()
        message = (
            f"The listeners in {EXPORT_VARIABLE}={exported!r} cannot be taken over: {error}. "
            "Start without this variable, or pass the descriptors on when starting the program."
        )
        raise StartFailed(message) from error
    return listeners


def bound_address(sock: socket.socket) -> tuple[str, int] | str:
    """Return where a socket is bound: (host, port), or the path of a unix socket."""
    address = sock.getsockname()
    if isinstance(address, bytes):
        return address.decode(errors="surrogateescape")
    return address if isinstance(address, str) else _peer_address(address)


def describe_address(address: BindAddress) -> str:
    """Return an address for people: ``127.0.0.1:443``, ``[::1]:443``, ``unix:/run/app.sock`` or ``unix:@name``."""
    if isinstance(address, str):
        return f"unix:@{address[1:]}" if is_abstract(address) else f"unix:{address}"
    host, port = address[:2]
    if not host:
        return f"*:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe_socket(sock: socket.socket) -> str:
    """Return a socket for people: its kind and where it is bound."""
    with contextlib.suppress(OSError):
        return f"{sock.type.name} socket at {describe_address(bound_address(sock))}"
    return f"{sock.type.name} socket, descriptor {sock.fileno()}"


def _own(listener: Listener) -> Listener:
    listener.sock.setblocking(False)
    listener.sock.set_inheritable(False)
    if not listener.is_unix:
        # Accepted sockets have it from here: set on each, it would be one more system call for every connection.
        listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, listener._nodelay)  # noqa: SLF001 - as above
    return listener


def _why_not_a_listener(sock: socket.socket) -> str:
    if sock.type != socket.SOCK_STREAM:
        return "is not a stream socket"
    if sock.family not in {socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None)}:
        return "is of a family that is not served"
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return ""
    with contextlib.suppress(OSError):
        sock.getpeername()
        return "is a connection, not a listening socket"
    bound = sock.getsockname()
    unbound = not bound if sock.family not in {socket.AF_INET, socket.AF_INET6} else bound[1] == 0
    return "is not bound" if unbound else ""


_MAPPED: Final = "::ffff:"
"""How IPv6 writes an IPv4 address (RFC 4291, 2.5.5.2); a dual-stack socket names its IPv4 peers like this."""


def _peer_address(address: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    host = address[0]
    if host.startswith(_MAPPED) and "." in host:
        host = host[len(_MAPPED) :]
    return host, address[1]


_PEER_GONE: Final = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "ECONNRESET",
        "EINTR",
        "EPROTO",
        "EPERM",
        "ENETDOWN",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "EOPNOTSUPP",
        "ENETUNREACH",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)
"""A connection was lost before it could be accepted. On Linux accept(2) passes on the errors of the new socket."""
