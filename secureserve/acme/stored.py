"""`StoredCertificates`: what the storage holds as credentials, and the best of it for a set of names."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secureserve.acme.storage import Key, Kind, canonical_names
from secureserve.certificates.credential import Credential
from secureserve.certificates.reading import LastSeen
from secureserve.errors import CredentialError, NameNotCovered, StorageError, UnreadableCertificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from secureserve.acme.storage import Storage

__all__ = ["StoredCertificate", "StoredCertificates"]


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A certificate that was obtained.

    Args:
        names: What it was ordered for, in canonical order.
        authority: The URL of the directory of the authority that issued it.
        credential: The certificate with its key.
        saved: Whether it is in the storage; otherwise it is in memory alone, because the storage failed.
    """

    names: tuple[str, ...]
    authority: str
    credential: Credential
    saved: bool = True

    def is_valid(self, now: datetime) -> bool:
        """Return whether the certificate has begun and not ended."""
        return self.credential.not_before <= now <= self.credential.not_after


class StoredCertificates:
    """The certificates in a storage.

    What cannot be stored is kept in memory until it can be: an authority issues so many a week and no more.

    Args:
        storage: Where they are.
        authorities: The URLs of the directories of the authorities in use. Their certificates are preferred to others.

    Threads: any.
    """

    def __init__(self, storage: Storage, authorities: Iterable[str] = ()) -> None:
        self.storage = storage
        self.authorities = tuple(authorities)
        self._lock = threading.Lock()
        self._seen: dict[Key, LastSeen] = {}
        self._unsaved: dict[Key, Credential] = {}

    def best(self, names: Iterable[str]) -> StoredCertificate | None:
        """Return the certificate to serve for exactly this set of names; None when there is none.

        It is the one that begins to be valid last among those of the authorities in use; others count for want of one.

        Raises:
            CredentialError: There is none that could be used, but something in the place of one.
        """
        wanted = canonical_names(names)
        own = [Key.certificate(authority, wanted) for authority in self.authorities]
        problems: list[CredentialError] = []
        found = self._newest(own, problems)
        if found is None:
            try:
                others = [key for key in self._keys() if key.names == wanted and key not in own]
            except StorageError as error:
                problems.append(_unreadable(error))
                others = []
            found = self._newest(others, problems)
        if found is None and problems:
            raise problems[0]
        return found

    def get(self, key: Key) -> StoredCertificate | None:
        """Return the certificate of a key; None when there is none.

        Raises:
            CredentialError: What is there is no such certificate.
        """
        unsaved = self._unsaved.get(key)
        if unsaved is not None:
            return StoredCertificate(key.names, key.authority, unsaved, saved=False)
        try:
            data = self.storage.get(key)
        except StorageError as error:
            raise _unreadable(error) from error
        if data is None:
            return None
        place = self.storage.place(key)
        with self._lock:
            seen = self._seen.setdefault(key, LastSeen())
        credential = seen.credential([data], lambda: Credential.from_pem(data, origin=place))
        missing = [name for name in key.names if name not in credential.names]
        if missing:
            message = f"The certificate in {place} is not for {', '.join(missing)}: somebody put it there by mistake."
            raise NameNotCovered(message, path=place)
        return StoredCertificate(key.names, key.authority, credential)

    def put(self, authority: str, names: Iterable[str], credential: Credential) -> StoredCertificate:
        """Store a certificate, in place of all others for the same names, whoever issued them.

        Raises:
            StorageError: It could not be stored. It is kept in memory, counts as stored, and `save` tries again.
        """
        key = Key.certificate(authority, names)
        self._unsaved[key] = credential
        self._save(key, credential)
        return StoredCertificate(key.names, authority, credential)

    def save(self, names: Iterable[str]) -> bool:
        """Store what could not be stored before, and return whether there was anything.

        Raises:
            StorageError: It still cannot be.
        """
        wanted = canonical_names(names)
        waiting = [(key, one) for key, one in tuple(self._unsaved.items()) if key.names == wanted]
        for key, credential in waiting:
            self._save(key, credential)
        return bool(waiting)

    def delete(self, authority: str, names: Iterable[str]) -> None:
        """Remove a certificate, its key and everything else that is kept for its names. Harmless when there is none.

        Raises:
            StorageError: It could not be removed.
        """
        wanted = canonical_names(names)
        self._unsaved.pop(Key.certificate(authority, wanted), None)
        for kind in (Kind.ORDER, Kind.PAUSE, Kind.CERTIFICATE):
            self.storage.delete(Key(kind, authority, wanted))

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove everything that is kept for a set of names, at whatever authority.

        Raises:
            StorageError: It could not be removed.
        """
        wanted = canonical_names(names)
        authorities = {key.authority for kind in Kind for key in self.storage.keys(kind) if key.names == wanted}
        for authority in authorities:
            self.delete(authority, wanted)

    def forget(self, names: Iterable[str]) -> None:
        """Keep nothing in memory of a set of names that is not served any more, but what could not be stored."""
        wanted = canonical_names(names)
        with self._lock:
            self._seen = {key: seen for key, seen in self._seen.items() if key.names != wanted}

    def __iter__(self) -> Iterator[StoredCertificate]:
        """Go over all that can be used.

        Raises:
            StorageError: What there is cannot be told.
        """
        for key in self._keys():
            try:
                found = self.get(key)
            except CredentialError:
                continue
            if found is not None:
                yield found

    def problems(self) -> list[CredentialError]:
        """Return what is wrong with those that cannot be used.

        Raises:
            StorageError: What there is cannot be told.
        """
        found: list[CredentialError] = []
        for key in self._keys():
            try:
                self.get(key)
            except CredentialError as error:
                found.append(error)
        return found

    def _keys(self) -> list[Key]:
        stored = self.storage.keys(Kind.CERTIFICATE)
        return [*stored, *(key for key in tuple(self._unsaved) if key not in stored)]

    def _newest(self, keys: Sequence[Key], problems: list[CredentialError]) -> StoredCertificate | None:
        found: list[StoredCertificate] = []
        for key in keys:
            try:
                stored = self.get(key)
            except CredentialError as error:
                problems.append(error)
            else:
                found += [stored] if stored is not None else []
        return max(found, key=lambda one: one.credential.not_before, default=None)

    def _save(self, key: Key, credential: Credential) -> None:
        self.storage.put(key, credential.private_key_pem() + credential.chain_pem())
        if self._unsaved.get(key) is credential:
            del self._unsaved[key]
        with contextlib.suppress(StorageError):
            for other in self.storage.keys(Kind.CERTIFICATE):
                if other.names == key.names and other != key:
                    self.storage.delete(other)


def _unreadable(error: StorageError) -> UnreadableCertificate:
    return UnreadableCertificate(str(error), path=error.path)
