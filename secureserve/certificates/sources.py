"""Where credentials come from: files, directories, the program's memory. One small protocol.

A source lists *entries*, each a place from which one credential is loaded. The rotator asks for them again and again
and keeps, for each place, the last good credential. Files of one entry are read as one state: see `reading`.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, runtime_checkable

from secureserve.certificates import files, layouts, pem
from secureserve.certificates.credential import Credential, password_from
from secureserve.certificates.reading import LastSeen, read_together
from secureserve.errors import CredentialError, NoCredential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from secureserve.certificates.pem import Password

__all__ = [
    "CredentialSource",
    "DirectorySource",
    "Entry",
    "FileSource",
    "ListingSource",
    "MemorySource",
    "entries_of",
]

_Location: TypeAlias = "tuple[Path, Path | None, Path | None]"
"""The files of one credential: certificate, key, chain."""

_MAX_DEPTH: Final = 4
"""Directories below a `DirectorySource`'s own. Caddy's storage, the deepest layout, needs three."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One place that a credential comes from.

    Args:
        place: Its name, which stays the same while its content changes: a path, mostly.
        load: Loads what is there now. Raises CredentialError.
        required: Whether a start without it fails. Others of the same source are served without one that is not.
    """

    place: str
    load: Callable[[], Credential]
    required: bool = True


@runtime_checkable
class CredentialSource(Protocol):
    """Where credentials come from."""

    def load(self) -> Sequence[Credential]:
        """Return what is to be served now, the default first.

        Raises:
            CredentialError: It cannot be told.
        """

    def paths(self) -> Sequence[Path]:
        """Return the files and directories that decide it. A change to anything in such a directory counts."""


@runtime_checkable
class ListingSource(CredentialSource, Protocol):
    """A source that can tell its places apart, so that one bad certificate does not hold up the others."""

    def entries(self) -> Sequence[Entry]:
        """Return its places, the default first.

        Raises:
            CredentialError: They cannot be listed.
        """


def entries_of(source: CredentialSource) -> Sequence[Entry]:
    """Return a source's entries; each credential is one where the source does not list them itself.

    Raises:
        CredentialError: They cannot be listed.
    """
    if isinstance(source, ListingSource):
        return source.entries()
    places: dict[str, Credential] = {}
    for credential in source.load():
        place, number = credential.origin, 1
        while place in places:
            number += 1
            place = f"{credential.origin} ({number})"
        places[place] = credential
    return [Entry(place, _returning(credential)) for place, credential in places.items()]


class FileSource:
    """A certificate and its key in files (or both in one; or a PKCS#12 store).

    Args:
        certificate: The certificate, with its chain.
        private_key: Its key; None when it is in the same file.
        chain: Further certificates of the chain, where the first file lacks them.
        password: Of an encrypted key.
        password_file: A file that holds it. Read anew at each loading, so that it may rotate as well.

    Raises:
        ConfigurationError: Both a password and a file of it were given.
    """

    def __init__(
        self,
        certificate: str | os.PathLike[str],
        private_key: str | os.PathLike[str] | None = None,
        *,
        chain: str | os.PathLike[str] | None = None,
        password: Password = None,
        password_file: str | os.PathLike[str] | None = None,
        required: bool = True,
    ) -> None:
        self.certificate = Path(certificate)
        self.private_key = None if private_key is None else Path(private_key)
        self.chain = None if chain is None else Path(chain)
        self._password = password
        self._password_file = None if password_file is None else Path(password_file)
        self._required = required
        self._seen = LastSeen()

    def __repr__(self) -> str:
        key = "" if self.private_key is None else f", {str(self.private_key)!r}"
        return f"FileSource({str(self.certificate)!r}{key})"

    def __str__(self) -> str:
        return str(self.certificate)

    def load(self) -> Sequence[Credential]:
        """Return the one credential in a list.

        Raises:
            CredentialError: It cannot be loaded.
        """
        return [self.load_one()]

    def load_one(self) -> Credential:
        """Return the credential: the same object as the last time when the files hold the same bytes.

        Raises:
            CredentialError: It cannot be loaded.
        """
        wanted = [path for path in (self.certificate, self.private_key, self.chain) if path is not None]
        password = self._password
        if self._password_file is not None:
            password = password_from(self._password_file, password)
        contents = read_together(wanted, key=self.private_key)
        return self._seen.credential(list(contents.values()), lambda: self._parse(contents, password))

    def entries(self) -> Sequence[Entry]:
        """Return the one place."""
        return [Entry(str(self.certificate), self.load_one, self._required)]

    def paths(self) -> Sequence[Path]:
        """Return the files."""
        every = (self.certificate, self.private_key, self.chain, self._password_file)
        return [path for path in every if path is not None]

    def _parse(self, contents: dict[Path, bytes], password: Password) -> Credential:
        data, origin = contents[self.certificate], str(self.certificate)
        if pem.is_pkcs12(data):
            return Credential.from_pkcs12(data, password=password, origin=origin)
        return Credential.from_parts(
            data,
            data if self.private_key is None else contents[self.private_key],
            b"" if self.chain is None else contents[self.chain],
            password,
            origin=origin,
            key_origin=origin if self.private_key is None else str(self.private_key),
            chain_origin=origin if self.chain is None else str(self.chain),
        )


class DirectorySource:
    """Every certificate with its key in a directory and those below it, whatever tool put them there.

    It knows certbot's ``live/``, lego, acme.sh, Caddy's storage, Kubernetes secrets (``..data``), step, mkcert,
    PKCS#12, and one PEM with everything: see `layouts`. Names that begin with a dot are passed over. A pair that cannot
    be loaded does not hold up the others.

    Args:
        directory: Where to look.
        default: The host name whose certificate is the default; None for the first place in alphabetical order.
        password: Of encrypted keys, the same for all.
        password_file: A file that holds it.

    Raises:
        ConfigurationError: Both a password and a file of it were given.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        default: str | None = None,
        password: Password = None,
        password_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.default = default
        self._password = password
        self._password_file = None if password_file is None else Path(password_file)
        self._sources: dict[_Location, FileSource] = {}

    def __repr__(self) -> str:
        return f"DirectorySource({str(self.directory)!r})"

    def __str__(self) -> str:
        return str(self.directory)

    def load(self) -> Sequence[Credential]:
        """Return the credentials of all pairs.

        Raises:
            CredentialError: The directory has no pair, or one of them cannot be loaded.
        """
        return [entry.load() for entry in self.entries()]

    def entries(self) -> Sequence[Entry]:
        """Return the places, each named by its key's path, the default first.

        Raises:
            NoCredential: The directory cannot be read, or there is no pair in it.
        """
        found: dict[_Location, FileSource] = {}
        try:
            for location in self._locate():
                certificate, key, chain = location
                found[location] = self._sources.get(location) or FileSource(
                    certificate,
                    key,
                    chain=chain,
                    password=self._password,
                    password_file=self._password_file,
                    required=False,
                )
        except OSError as error:
            message = f"The certificate directory {self.directory} {files.explain(error)}."
            raise NoCredential(message, path=self.directory) from error
        if not found:
            message = (
                f"There is no certificate with its private key in {self.directory}. Looked for pairs such as "
                "fullchain.pem with privkey.pem, tls.crt with tls.key, NAME.crt with NAME.key, or both in one NAME.pem."
            )
            raise NoCredential(message, path=self.directory)
        self._sources = found
        entries = [Entry(str(where[1] or where[0]), one.load_one, required=False) for where, one in found.items()]
        return entries if self.default is None else self._default_first(entries, self.default)

    def paths(self) -> Sequence[Path]:
        """Return the directories, and the files that links among them lead to."""
        found: list[Path] = []
        try:
            for directory, names in _walk(self.directory, _MAX_DEPTH):
                found.append(directory)
                found += (directory / name for name in names if (directory / name).is_symlink())
        except OSError:
            found = []
        if self._password_file is not None:
            found.append(self._password_file)
        return [self.directory, *found]

    def _locate(self) -> Iterator[_Location]:
        for directory, names in _walk(self.directory, _MAX_DEPTH):
            pairs = layouts.find_pairs(names)
            for pair in pairs:
                chain = None if pair.chain is None else directory / pair.chain
                yield directory / pair.certificate, directory / pair.private_key, chain
            for name in layouts.single_files(names, pairs):
                location = (directory / name, None, None)
                if location in self._sources or _holds_both(directory / name):
                    yield location

    @staticmethod
    def _default_first(entries: Sequence[Entry], name: str) -> list[Entry]:
        def rank(entry: Entry) -> bool:
            try:
                return not entry.load().covers(name)
            except CredentialError:
                return True

        return sorted(entries, key=rank)


class MemorySource:
    """Credentials that the program hands over.

    Args:
        credentials: What to serve, the default first.

    Threads: any.
    """

    def __init__(self, *credentials: Credential) -> None:
        self._lock = threading.Lock()
        self._credentials = credentials
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<MemorySource of {len(self._credentials)} credentials>"

    def __str__(self) -> str:
        return "memory"

    def replace(self, *credentials: Credential) -> None:
        """Serve these from now on. When this returns, new handshakes get them, or a refusal has been announced.

        Raises:
            NoCredential: None was given.
        """
        if not credentials:
            raise NoCredential("A source in memory needs at least one credential; what it has is still served.")
        with self._lock:
            self._credentials = credentials
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have a function called after each `replace`, on its thread."""
        with self._lock:
            self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Call a function no more. Harmless when it was not subscribed."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def load(self) -> Sequence[Credential]:
        """Return them."""
        return self._credentials

    def entries(self) -> Sequence[Entry]:
        """Return them as places that are told apart by their order."""
        every = self._credentials
        return [Entry(f"memory ({n})" if n > 1 else "memory", _returning(one)) for n, one in enumerate(every, 1)]

    def paths(self) -> Sequence[Path]:
        """Return nothing: there is no file to watch."""
        return ()


def _walk(directory: Path, depth: int) -> Iterator[tuple[Path, list[str]]]:
    """Yield each directory with its files' names, in alphabetical order, following links but not into the depths."""
    children: list[Path] = []
    names: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                children.append(Path(entry.path))
            else:
                names.append(entry.name)
    yield directory, sorted(names)
    if depth > 0:
        for child in sorted(children):
            yield from _walk_child(child, depth - 1)


def _walk_child(child: Path, depth: int) -> Iterator[tuple[Path, list[str]]]:
    try:
        yield from _walk(child, depth)
    except OSError:
        # A directory below that vanished, or is not ours to read, has no pair for us; the top one is another matter.
        return


def _holds_both(path: Path) -> bool:
    try:
        data = files.read(path)
    except OSError:
        return False
    return pem.is_pkcs12(data) or (b"-----BEGIN CERTIFICATE" in data and pem.has_private_key(data))


def _returning(credential: Credential) -> Callable[[], Credential]:
    return lambda: credential
