"""The control socket: a unix socket through which commands reach a running server.

One connection is one question: a line of JSON, ``{"command": NAME, "arguments": {...}}``, and a line of JSON in
return, ``{"result": ...}`` or ``{"error": {"kind": NAME, "message": TEXT}}``. The socket is 0600, and both ends look
at who is at the other: only the server's own user and root are answered, and only they are believed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationError, LifecycleError, SecureServeError, StartFailed
from secureserve.front.unix_socket import PathClaim, bind_unix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from secureserve.managed.acme_layer import ACMELayer
    from secureserve.managed.server import Server

__all__ = ["ControlSocket", "ask", "commands_of"]

_LOGGER: Final = logging.getLogger("secureserve.error")

MAX_QUESTION_SIZE: Final = 64 * 1024
"""Bytes of a question; real ones have a hundred."""

MAX_ANSWER_SIZE: Final = 64 * 1024 * 1024
"""Bytes of an answer; ten thousand certificates are described in about six million."""

QUESTION_TIMEOUT: Final = 5.0
"""Seconds in which a question has to arrive, or an answer to be taken."""

ANSWER_TIMEOUT: Final = 60.0
"""Seconds that a command waits for its answer: a reload of thousands of certificates takes a few."""

_CREDENTIALS: Final = struct.Struct("3i")


class ControlSocket:
    """Answers commands on a unix socket.

    Args:
        path: Where.
        commands: What can be asked for: functions that take keyword arguments and return what JSON can hold.

    Threads: `start` and `stop` from any. Commands run one after the other on a thread of its own, a daemon.
    """

    def __init__(self, path: str | os.PathLike[str], commands: Mapping[str, Callable[..., Any]]) -> None:
        self.path = os.fspath(path)
        self._commands = dict(commands)
        self._sock: socket.socket | None = None
        self._claim: PathClaim | None = None
        self._waker: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigurationError: The path cannot be one of a socket, or something else lives there.
            StartFailed: Another server listens there, or the directory does not permit it.
        """
        try:
            self._sock, self._claim = bind_unix(self.path, backlog=16, mode=0o600, owner=None)
        except ConfigurationError as error:
            raise ConfigurationError("control_socket", self.path, error.problem, error.remedy) from error
        except StartFailed as error:
            raise StartFailed(str(error).replace("socket_file", "control_socket")) from error
        sleeper, self._waker = socket.socketpair()
        self._thread = threading.Thread(
            target=self._serve, args=(self._sock, sleeper), name="secureserve-control", daemon=True
        )
        self._thread.start()

    def give_to(self, user: int, group: int) -> None:
        """Give the path to another user, as whom the process will answer from now on.

        Raises:
            OSError: It is not ours to give.
        """
        if self._claim is not None and self._claim.holds():
            os.chown(self.path, user, group, follow_symlinks=False)

    def stop(self) -> None:
        """Stop listening; when this returns the path is gone and the thread has ended. Harmless when stopped."""
        thread, self._thread = self._thread, None
        waker, self._waker = self._waker, None
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.release()
        if waker is not None:
            waker.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _serve(self, sock: socket.socket, sleeper: socket.socket) -> None:
        with contextlib.closing(sock), contextlib.closing(sleeper), selectors.DefaultSelector() as selector:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
            selector.register(sleeper, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is sleeper for key, _events in selector.select()):
                    return
                with contextlib.suppress(OSError):
                    peer, _address = sock.accept()
                    with contextlib.closing(peer):
                        self._answer(peer)

    def _answer(self, peer: socket.socket) -> None:
        peer.settimeout(QUESTION_TIMEOUT)
        user = _user_of(peer)
        if user not in {0, os.geteuid()}:
            _LOGGER.warning("refused user %d at the control socket %s", user, self.path)
            return
        try:
            answer = {"result": self._run(_receive_line(peer, MAX_QUESTION_SIZE))}
        except SecureServeError as error:
            answer = {"error": {"kind": type(error).__name__, "message": str(error)}}
        except OSError:
            return
        except Exception as error:
            _LOGGER.exception("a command at the control socket %s failed", self.path)
            answer = {"error": {"kind": type(error).__name__, "message": str(error)}}
        peer.sendall(json.dumps(answer).encode() + b"\n")

    def _run(self, question: bytes) -> Any:
        try:
            asked = json.loads(question)
            name, arguments = asked["command"], asked.get("arguments", {})
            command = self._commands[name]
        except (ValueError, TypeError, KeyError, AttributeError):
            known = ", ".join(sorted(self._commands))
            raise LifecycleError(f"That is not a command of this server; it knows {known}.") from None
        try:
            return command(**arguments)
        except TypeError as error:
            raise LifecycleError(f"The command {name} does not take these arguments: {error}.") from error


def ask(path: str | os.PathLike[str], command: str, *, timeout: float = ANSWER_TIMEOUT, **arguments: Any) -> Any:
    """Have a running server do something, and return its answer.

    Args:
        path: Its control socket.
        command: What it is to do.
        timeout: Seconds to wait for the answer.
        arguments: What the command takes.

    Raises:
        LifecycleError: Nobody listens there, it is somebody else's, it did not answer, or it could not do it.
    """
    where = os.fspath(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(where)
            if _user_of(sock) not in {0, os.geteuid()}:
                raise LifecycleError(f"The control socket {where} belongs to another user: it is not to be trusted.")
            sock.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
            answer = json.loads(_receive_line(sock, MAX_ANSWER_SIZE))
        except TimeoutError:
            message = f"The server at {where} did not answer {command!r} within {timeout:g} seconds."
            raise LifecycleError(message) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            message = (
                f"No server answers at the control socket {where} ({reason}). "
                "Is it running, as this user, with control_socket set to that path?"
            )
            raise LifecycleError(message) from error
    if "error" in answer:
        raise LifecycleError(str(answer["error"]["message"]))
    return answer["result"]


def commands_of(server: Server) -> Mapping[str, Callable[..., Any]]:
    """Return what can be asked of a managed server."""

    def status() -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "base": server.base(),
            "address": server.bound_addr,
            "proxy_protocol": server.proxy_protocol,
            "certificate_files": _certificate_files(server),
            "certificate_directory": _absolute(server.ssl_certificate_directory),
        }

    def show() -> dict[str, Any]:
        return server.certificates.as_dict()

    def reload(*, reason: str = "command", force: bool = False, revoke_sessions: bool = False) -> dict[str, Any]:
        outcome = server.reload_certificates(reason, force=force, revoke_sessions=revoke_sessions)
        return {
            "ok": outcome.ok,
            "rotated": [event.fingerprint for event in outcome.rotated],
            "refused": [
                {"source": event.place, "path": _absolute(event.place), "message": event.message}
                for event in outcome.refused
            ],
        }

    def acme_status() -> list[dict[str, Any]]:
        return _acme_of(server).describe()

    def acme_renew(*, names: list[str] | None = None, force: bool = False) -> list[dict[str, Any]]:
        _acme_of(server).renew(names, force=force)
        return acme_status()

    return {
        "status": status,
        "certificates.show": show,
        "certificates.reload": reload,
        "acme.status": acme_status,
        "acme.renew": acme_renew,
    }


def _acme_of(server: Server) -> ACMELayer:
    if server.acme is None:
        raise LifecycleError(f"{server.base()} obtains no certificates itself: set acme_domain, and start it again.")
    return server.acme


def _certificate_files(server: Server) -> list[dict[str, str | None]]:
    if server.ssl_certificate is None:
        return []
    chosen = {
        "certificate": server.ssl_certificate,
        "private_key": server.ssl_private_key,
        "chain": server.ssl_certificate_chain,
    }
    return [{part: _absolute(path) for part, path in chosen.items()}]


def _absolute(path: str | None) -> str | None:
    # Whoever asks may be in another directory. Links are for them to follow: it is the name that counts.
    return None if path is None else os.path.abspath(path)  # noqa: PTH100


def _user_of(sock: socket.socket) -> int:
    """Return the user id of the process at the other end."""
    peer_credentials: int = socket.SO_PEERCRED
    raw = sock.getsockopt(socket.SOL_SOCKET, peer_credentials, _CREDENTIALS.size)
    _pid, user, _group = _CREDENTIALS.unpack(raw)
    return int(user)


def _receive_line(sock: socket.socket, max_size: int) -> bytes:
    """Read to the end of a line; what comes after it is of no interest.

    Raises:
        OSError: It did not come in time, not whole, or is too long.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        part = sock.recv(min(65536, max_size + 1 - size))
        if not part:
            raise ConnectionError("it ended in the middle of a line")
        line, end, _rest = part.partition(b"\n")
        parts.append(line)
        size += len(line)
        if end:
            return b"".join(parts)
        if size > max_size:
            raise ConnectionError(f"a line of more than {max_size} bytes")
