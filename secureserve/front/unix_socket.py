"""Unix sockets: made with their permissions in force before anybody can connect, removed only by who made them.

The order is what keeps it free of races. The mode is put on the socket before it is bound, so that its path is never
more open than asked for, whatever the process's umask, which is not touched since all threads share it. Owner and
exact mode follow before `listen`, and until then every connect is refused. What is at the path already is removed only
if it is a socket nobody listens on any more; and the path made here is removed only while it is still the same inode.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from secureserve.errors import ConfigurationError, StartFailed

__all__ = ["PathClaim", "bind_unix", "is_abstract"]

_MAX_PATH_SIZE: Final = 107
"""The longest path in bytes that ``sockaddr_un`` holds with its final NUL on Linux (unix(7))."""


def is_abstract(path: str) -> bool:
    """Tell whether a path is a name in Linux's abstract namespace, which begins with NUL and has no file."""
    return path.startswith("\0")


@dataclass(frozen=True, slots=True)
class PathClaim:
    """A path made by binding a unix socket, and the inode it had then.

    Attributes:
        path: The path, as it was given.
        device: The device of its inode.
        inode: The inode's number.
        process: The process that owns it; one that was forked off later must not remove it.
    """

    path: str
    device: int
    inode: int
    process: int = field(default_factory=os.getpid)

    @classmethod
    def of(cls, path: str) -> PathClaim:
        """Claim a path that was just bound."""
        status = os.lstat(path)
        return cls(path, status.st_dev, status.st_ino)

    def holds(self) -> bool:
        """Tell whether the path is still the inode that was claimed."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == (self.device, self.inode)

    def release(self) -> None:
        """Remove the path if it is still the one claimed, by this process. Harmless otherwise."""
        if self.process == os.getpid() and self.holds():
            with contextlib.suppress(OSError):
                Path(self.path).unlink()


def bind_unix(
    path: str, *, backlog: int, mode: int, owner: tuple[int, int] | None, reuse_port: bool = False
) -> tuple[socket.socket, PathClaim | None]:
    """Return a socket that listens at a path, and the claim on that path (None for an abstract name).

    Args:
        path: The path, or NUL and an abstract name.
        backlog: How many connections the kernel keeps until they are accepted.
        mode: The path's permissions.
        owner: The path's user and group id; -1 leaves one as it is.
        reuse_port: Refused: a unix socket cannot share its path.

    Raises:
        ConfigurationError: The path cannot be one of a socket, or something else lives there.
        StartFailed: A living server listens there, or the directory does not permit it.
    """
    if reuse_port:
        remedy = "Leave it off for a unix socket."
        raise ConfigurationError("reuse_port", reuse_port, "does not work with socket_file", remedy)
    _check_length(path)
    if is_abstract(path):
        return _listen_abstract(path, backlog), None
    _remove_dead_socket(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    claim: PathClaim | None = None
    try:
        # Linux keeps the mode of an unbound socket for the path; systems that do not refuse it or ignore it.
        with contextlib.suppress(OSError):
            os.fchmod(sock.fileno(), mode)
        sock.bind(path)
        claim = PathClaim.of(path)
        if owner is not None:
            os.chown(path, *owner, follow_symlinks=False)
        if stat.S_IMODE(os.lstat(path).st_mode) != mode:
            Path(path).chmod(mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        if claim is not None:
            claim.release()
        raise StartFailed(_why_not_bound(path, error, owner)) from error
    if not claim.holds():
        sock.close()
        message = f"socket_file = {path!r} was replaced by another program meanwhile. Give each its own path."
        raise StartFailed(message)
    return sock, claim


def _listen_abstract(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise StartFailed(_why_not_bound(path, error, None)) from error
    return sock


def _check_length(path: str) -> None:
    size = len(os.fsencode(path))
    if not path or size > _MAX_PATH_SIZE:
        problem = f"has {size} bytes, and a unix socket's path may have 1 to {_MAX_PATH_SIZE}"
        raise ConfigurationError("socket_file", path, problem, "Use a shorter path, such as one under /run.")
    if not is_abstract(path) and "\0" in path:
        raise ConfigurationError("socket_file", path, "contains NUL", "Only an abstract name may begin with one.")


def _remove_dead_socket(path: str) -> None:
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartFailed(_why_not_bound(path, error, None)) from error
    if not stat.S_ISSOCK(before.st_mode):
        remedy = "Remove it yourself if it is not needed, or choose another path."
        raise ConfigurationError("socket_file", path, f"is {_kind(before.st_mode)}, not a socket", remedy)
    outcome = _try_to_connect(path)
    if outcome == errno.ECONNREFUSED:
        PathClaim(path, before.st_dev, before.st_ino).release()
    elif outcome != errno.ENOENT:
        doubt = "" if outcome in {0, errno.EAGAIN} else f", as far as can be told ({os.strerror(outcome)})"
        raise StartFailed(f"socket_file = {path!r} is in use{doubt}. Stop who listens there, or choose another path.")


def _try_to_connect(path: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def _why_not_bound(path: str, error: OSError, owner: tuple[int, int] | None) -> str:
    shown = f"socket_file = {path!r}"
    if error.errno == errno.EADDRINUSE:
        return f"{shown} is in use. Stop the program that listens there, or choose another path."
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return f"{shown} is in a directory that does not exist. Create it first."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        whose = "" if owner is None else f" with owner {owner}"
        return f"{shown}{whose} is not permitted to this user. Choose a directory that the user may write to."
    return f"{shown} cannot be listened at: {error.strerror or error}."
