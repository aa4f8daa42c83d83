"""A rotation as a transaction: stage, check, install, see it served; or put everything back."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from secureserve.certificates import files, names
from secureserve.certificates.credential import Credential
from secureserve.certificates.inspection import is_older
from secureserve.certificates.summary import summarise_der
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import (
    ConfigurationError,
    CredentialError,
    LifecycleError,
    NameNotCovered,
    OlderThanServed,
    SecureServeError,
)
from secureserve.managed.control import ask
from secureserve.tls.probe import PROBE_TIMEOUT, presented_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Place", "Rotation"]

_BETWEEN_LOOKS: Final = 0.1
"""Seconds between looks at what a server presents."""

_PROXY_HEADER: Final = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
"""PROXY protocol, version 2, LOCAL: a connection of the proxy's own, such as a health check."""

_ANYTHING: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound


@dataclass(frozen=True, slots=True)
class Place:
    """The files that a server reads.

    Args:
        certificate: The certificate, with its chain unless that is apart.
        private_key: The key; None when it is in the certificate's file.
        chain: The chain, where it is apart.
    """

    certificate: Path
    private_key: Path | None = None
    chain: Path | None = None

    @classmethod
    def of_server(cls, control_socket: Path, given: Place) -> Place:
        """Return where a running server reads its certificate.

        Args:
            control_socket: The server's.
            given: Where the new one is. If that is in the server's ssl_certificate_directory, it is in place already.

        Raises:
            LifecycleError: It cannot be asked, or serves no certificate from a file.
        """
        status = ask(control_socket, "status")
        directory = status["certificate_directory"]
        where = Path(os.path.abspath(given.certificate))  # noqa: PTH100 - links stay: it is the name that counts
        if directory is not None and where.is_relative_to(directory):
            return given
        found: list[dict[str, str | None]] = status["certificate_files"]
        if len(found) != 1:
            raise LifecycleError(
                f"The server at {control_socket} has no ssl_certificate to replace. "
                "Say what to replace by --install-certificate and --install-private-key."
            )
        paths = {part: None if path is None else Path(path) for part, path in found[0].items()}
        certificate = paths["certificate"]
        if certificate is None:
            raise LifecycleError(f"The server at {control_socket} does not say where its certificate is.")
        return cls(certificate, paths["private_key"], paths["chain"])

    def load(self) -> Credential | None:
        """Return what is there, or None when that cannot be loaded (and so is no reason not to replace it)."""
        try:
            return Credential.load(self.certificate, self.private_key, chain=self.chain)
        except CredentialError:
            return None

    def contents_for(self, new: Credential, private_key: bytes) -> dict[Path, bytes]:
        """Return what each file is to hold."""
        whole = new.chain_pem()
        if self.private_key is None or self.private_key == self.certificate:
            return {self.certificate: private_key.rstrip(b"\n") + b"\n" + whole}
        if self.chain is None:
            return {self.private_key: private_key, self.certificate: whole}
        leaf = Credential(new.chain[:1], new.private_key).chain_pem()
        return {self.private_key: private_key, self.chain: whole[len(leaf) :], self.certificate: leaf}


class Rotation:
    """One rotation.

    Args:
        place: What to replace.
        control_socket: The running server's; None when it will notice by itself.
        addresses: Servers that have to present the new certificate in the end, beside those of the running server.
        force: Replace it though fewer names are covered, or by an older one.
        revoke_sessions: Let no TLS session from before be resumed.
        timeout: Seconds in which all has to be served.
        say: What to call with each step.
    """

    def __init__(
        self,
        place: Place,
        *,
        control_socket: Path | None = None,
        addresses: Sequence[tuple[str, int]] = (),
        force: bool = False,
        revoke_sessions: bool = False,
        timeout: float = 30.0,
        say: Callable[[str], None],
    ) -> None:
        self.place = place
        self.control_socket = control_socket
        self.addresses = tuple(addresses)
        self.force = force
        self.revoke_sessions = revoke_sessions
        self.timeout = timeout
        self.say = say

    def run(self, new: Credential, private_key: bytes) -> None:
        """Do it, or leave everything as it was.

        Args:
            new: What is to be served, loaded.
            private_key: Its key as it is to be written, encrypted or not.

        Raises:
            SecureServeError: It must not be served, or is not; the old files are back in place.
            OSError: A file cannot be written; the old files are back in place.
        """
        new.check()
        self._require_successor(new)
        self.say(f"Checked: {', '.join(new.names)}, until {new.not_after:%Y-%m-%d}, sha256 {new.fingerprint}.")
        directory = self.place.certificate.parent
        if os.path.realpath(new.origin) == os.path.realpath(self.place.certificate):
            self.say("Nothing to install: the server reads these files.")
            self._reload(force=self.force, revoke_sessions=self.revoke_sessions)
            self._wait_until_served(new)
            return
        with files.Lock(directory / f".{self.place.certificate.name}.lock"), _ended_by_signals():
            before = _Kept.of(path for path in self.place.contents_for(new, private_key))
            try:
                for path, content in self.place.contents_for(new, private_key).items():
                    before[path].install(content)
                    self.say(f"Installed {path}.")
                self._reload(force=self.force, revoke_sessions=self.revoke_sessions)
                self._wait_until_served(new)
            except BaseException:
                for kept in before.values():
                    kept.put_back()
                self.say("Put the old files back.")
                self._reload_quietly()
                raise

    def _require_successor(self, new: Credential) -> None:
        old = self.place.load()
        if old is None or self.force:
            return
        lost = [name for name in old.names if not new.covers(name)]
        if lost:
            message = (
                f"The new certificate does not cover {', '.join(lost)}, which the old one does. --force does it anyway."
            )
            raise NameNotCovered(message, path=new.origin)
        if is_older(new, old):
            message = "The new certificate was issued before the one in place. --force does it anyway."
            raise OlderThanServed(message, path=new.origin)

    def _reload(self, *, force: bool, revoke_sessions: bool) -> None:
        if self.control_socket is None:
            return
        outcome: dict[str, Any] = ask(
            self.control_socket,
            "certificates.reload",
            timeout=self.timeout,
            reason="rotate",
            force=force,
            revoke_sessions=revoke_sessions,
        )
        ours = {os.path.realpath(path) for path in (self.place.certificate, self.place.private_key) if path is not None}
        reasons = [refused["message"] for refused in outcome["refused"] if os.path.realpath(refused["path"]) in ours]
        if reasons:
            raise LifecycleError(f"The running server refused it: {'; '.join(reasons)}")
        for refused in outcome["refused"]:
            # What is wrong elsewhere was wrong before. Whether ours is served, its being presented will tell.
            self.say(f"Also refused: {refused['message']}")

    def _reload_quietly(self) -> None:
        try:
            self._reload(force=True, revoke_sessions=False)
        except SecureServeError as error:
            self.say(f"The running server has not taken the old files back yet: {error}")

    def _wait_until_served(self, new: Credential) -> None:
        clock, pause = SYSTEM_CLOCK, threading.Event()
        deadline = clock.monotonic() + self.timeout
        for place in self._all_addresses():
            while True:
                left = min(PROBE_TIMEOUT, max(_BETWEEN_LOOKS, deadline - clock.monotonic()))
                found = place.fingerprint(new, left)
                if found == new.fingerprint:
                    break
                if clock.monotonic() > deadline:
                    raise LifecycleError(f"{place} still presents {found} after {self.timeout:g} seconds.")
                pause.wait(_BETWEEN_LOOKS)
            self.say(f"{place} serves it.")

    def _all_addresses(self) -> list[_Address]:
        found = [_Address(address) for address in self.addresses]
        if self.control_socket is not None:
            status = ask(self.control_socket, "status")
            address = status["address"]
            where = address if isinstance(address, str) else (_ANYTHING.get(address[0], address[0]), address[1])
            found.append(_Address(where, _PROXY_HEADER if status["proxy_protocol"] else b""))
        if not found:
            raise ConfigurationError(
                "control_socket", None, "is missing", "Give it, or say by --connect HOST:PORT who has to serve it."
            )
        return found


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a server listens, and what it wants to hear before the handshake."""

    where: tuple[str, int] | str
    preface: bytes = b""

    def __str__(self) -> str:
        if isinstance(self.where, str):
            return self.where
        host, port = self.where
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def fingerprint(self, wanted: Credential, timeout: float) -> str:
        """Return the fingerprint of what is presented to who wants this credential, or why that is not known."""
        try:
            found = self._presented(wanted, timeout)
        except (SecureServeError, OSError) as error:
            return f"nothing ({error})"
        if found != wanted.fingerprint and wanted.key_type in {"rsa", "ecdsa"}:
            # It may be one of two for the same names, of which most clients are shown the other.
            with contextlib.suppress(SecureServeError, OSError):
                if self._presented(wanted, timeout, wanted.key_type) == wanted.fingerprint:
                    return wanted.fingerprint
        return found

    def _presented(self, wanted: Credential, timeout: float, key_type: str | None = None) -> str:
        name = _name_to_ask_for(wanted)
        chain = presented_chain(self.where, server_name=name, key_type=key_type, preface=self.preface, timeout=timeout)
        return summarise_der(chain, str(self), SYSTEM_CLOCK.now()).fingerprint


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a file was before."""

    path: Path
    content: bytes | None
    mode: int
    owner: tuple[int, int] | None

    @classmethod
    def of(cls, paths: Any) -> dict[Path, _Kept]:
        return {path: cls._of(path) for path in paths}

    @classmethod
    def _of(cls, path: Path) -> _Kept:
        try:
            state = path.stat()
        except FileNotFoundError:
            return cls(path, None, 0o600, None)
        mine = (os.geteuid(), os.getegid())
        owner = (state.st_uid, state.st_gid)
        return cls(path, files.read(path), stat.S_IMODE(state.st_mode), None if owner == mine else owner)

    def install(self, content: bytes) -> None:
        files.write_atomically(self.path, content, mode=self.mode, owner=self.owner)

    def put_back(self) -> None:
        if self.content is None:
            self.path.unlink(missing_ok=True)
        else:
            self.install(self.content)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the block, have SIGTERM and SIGHUP be an exception, as Ctrl-C is, so that what was begun is undone."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _name_to_ask_for(credential: Credential) -> str | None:
    hosts = (name for name in credential.names if names.address(name) is None)
    name = next(hosts, None)
    return None if name is None else name.replace("*", "any", 1)
