"""`ACMESource`: what was obtained, as a source of credentials like any other, with a stand-in until there is something.

Rotation, checks and commands are therefore the same for certificates from an authority as for those from files.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Final

from secureserve.acme.storage import canonical_names
from secureserve.acme.stored import StoredCertificates
from secureserve.certificates import names as server_names
from secureserve.certificates.development import self_signed_credential
from secureserve.certificates.sources import Entry
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import CredentialError, NoCredential, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from secureserve.acme.storage import Storage
    from secureserve.acme.stored import StoredCertificate
    from secureserve.certificates.credential import Credential
    from secureserve.clock import Clock

__all__ = ["ACMESource"]

_LOGGER: Final = logging.getLogger("secureserve.error")

_BEGINNING: Final = datetime(1970, 1, 2, tzinfo=timezone.utc)
_END: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
"""RFC 5280, 4.1.2.5, has certificates without a well-defined end say so with the last second of the year 9999."""


class ACMESource:
    """The certificates of some sets of names, each the newest that is stored.

    While nothing is stored for a set of names, what is stored for other sets stands in for the names that it covers, as
    when a name was added to a set. For the rest it is a self-signed placeholder: no client trusts it, but the server
    runs and can prove to an authority that the names are its own. A file that cannot be used counts as none when the
    server starts; later what was served from there goes on being served.

    Args:
        orders: The sets of names; the first one's certificate is the default.
        storage: Where certificates are stored.
        authorities: The URLs of the directories of the authorities in use. Certificates of others count for want of
            these.
        default_names: What a placeholder is for while there is nothing else at all, as when everything is obtained on
            demand; empty for none.
        clock: What tells the time.

    Raises:
        ValueError: A set of names is empty, or one of them is not a name that a certificate can be for.

    Threads: any.
    """

    def __init__(
        self,
        orders: Iterable[Sequence[str]],
        storage: Storage,
        *,
        authorities: Iterable[str] = (),
        default_names: Sequence[str] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.storage = storage
        self.certificates = StoredCertificates(storage, authorities)
        self._default_names = tuple(default_names)
        self._clock = clock
        self._lock = threading.Lock()
        self._orders: dict[tuple[str, ...], _Order] = {}
        self._names: frozenset[str] = frozenset()
        self._placeholders: dict[tuple[str, ...], Credential] = {}
        self.set_orders(orders)

    def __str__(self) -> str:
        return f"the ACME storage {self.storage}"

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """The sets of names, each in canonical order."""
        return tuple(self._orders)

    def set_orders(self, orders: Iterable[Sequence[str]]) -> None:
        """Serve these sets of names from the next look on, and no others.

        Raises:
            ValueError: A set is empty, or one of its names is not one.
        """
        wanted = [_require_names(names) for names in orders]
        with self._lock:
            self._replace({names: self._orders.get(names) or _Order(names) for names in wanted})
            for order in self._orders.values():
                order.placeholder = True

    def add_order(self, names: Sequence[str], *, placeholder: bool = True) -> None:
        """Serve a further set of names from the next look on. Harmless when it is served.

        Args:
            names: The names.
            placeholder: Whether one stands in for it while nothing is stored.

        Raises:
            ValueError: There is none, or one of them is not a name.
        """
        wanted = _require_names(names)
        with self._lock:
            if wanted not in self._orders:
                self._replace({**self._orders, wanted: _Order(wanted, placeholder=placeholder)})

    def remove_order(self, names: Sequence[str]) -> None:
        """Serve a set of names no more from the next look on. What is stored stays stored. Harmless when unknown."""
        unwanted = canonical_names(names)
        with self._lock:
            self._replace({names: order for names, order in self._orders.items() if names != unwanted})
        self.certificates.forget(unwanted)

    def covers(self, name: str) -> bool:
        """Return whether a normalised name is among those of any set, itself or by a wildcard."""
        return name in self._names or f"*.{server_names.parent(name)}" in self._names

    def load(self) -> Sequence[Credential]:
        """Return what is to be served now, the default first.

        Raises:
            CredentialError: A stored certificate that has been served cannot be used any more.
        """
        return [entry.load() for entry in self.entries()]

    def entries(self) -> Sequence[Entry]:
        """Return a place for each set of names that there is something for."""
        found: dict[str, Entry] = {}
        for order in tuple(self._orders.values()):
            if order.given is not None or self._has_certificate(order):
                found[order.place] = Entry(order.place, self._loading(order, order.names), required=False)
            elif order.placeholder:
                others = self._standing_in(order)
                found |= {entry.place: entry for entry in others.values()}
                if len(others) < len(order.names):
                    rest = tuple(name for name in order.names if name not in others)
                    found[order.place] = Entry(order.place, self._loading(order, rest), required=False)
        if not found and self._default_names:
            place = "ACME placeholder"
            found[place] = Entry(place, lambda: self._placeholder(self._default_names))
        return list(found.values())

    def paths(self) -> Sequence[Path]:
        """Return what to watch: another process may obtain certificates as well."""
        return self.storage.paths()

    def has_given(self, names: Sequence[str], credential: Credential) -> bool:
        """Return whether a credential is what was last handed over for a set of names."""
        order = self._orders.get(canonical_names(names))
        return order is not None and order.given == credential

    def is_placeholder(self, credential: Credential) -> bool:
        """Return whether a credential stands in for one that is still to be obtained."""
        return credential in self._placeholders.values()

    def _replace(self, orders: dict[tuple[str, ...], _Order]) -> None:
        self._orders = orders
        self._names = frozenset(name for names in orders for name in names)

    def _standing_in(self, order: _Order) -> dict[str, Entry]:
        """Return, for each name of a set that another stored certificate covers, the place of that one."""
        now = self._clock.now()
        found: dict[str, Entry] = {}
        try:
            stored = [one for one in self.certificates if one.names not in self._orders and one.is_valid(now)]
        except StorageError:
            return found
        for one in sorted(stored, key=lambda one: one.credential.not_before):
            entry = Entry(_place(one.names), partial(_same, one.credential), required=False)
            for name in order.names:
                if name in one.credential.names or one.credential.covers(name):
                    found[name] = entry
        return found

    def _loading(self, order: _Order, names: tuple[str, ...]) -> Callable[[], Credential]:
        return lambda: self._load(order, names)

    def _load(self, order: _Order, names: tuple[str, ...]) -> Credential:
        """Return what is stored for a set of names, or a placeholder for some of them."""
        stored = None
        problem: CredentialError | None = None
        try:
            stored = self.certificates.best(order.names)
        except CredentialError as error:
            problem = error
        if stored is not None and (order.given is not None or self._has_begun(stored, order)):
            order.given = stored.credential
            return stored.credential
        if order.given is not None:
            message = f"The certificate for {', '.join(order.names)} is gone from {self.storage}."
            raise problem or NoCredential(message)
        if problem is not None:
            order.complain("a stored certificate cannot be used, and another will be obtained: %s", problem)
        if stored is None:
            order.complain("a self-signed placeholder stands in for the certificate of %s", ", ".join(names))
        return self._placeholder(names)

    def _has_begun(self, stored: StoredCertificate, order: _Order) -> bool:
        now, not_before = self._clock.now(), stored.credential.not_before
        if now < not_before:
            order.complain(
                "the stored certificate for %s is not valid before %s, and the clock of this machine says %s: set the "
                "clock. Until then a self-signed placeholder stands in",
                ", ".join(order.names),
                f"{not_before:%Y-%m-%d %H:%M} UTC",
                f"{now:%Y-%m-%d %H:%M} UTC",
            )
        return now >= not_before

    def _has_certificate(self, order: _Order) -> bool:
        try:
            return self.certificates.best(order.names) is not None
        except CredentialError:
            return False

    def _placeholder(self, names: tuple[str, ...]) -> Credential:
        """Return a credential that is older than any other and never ends, so that every other may take its place."""
        with self._lock:
            if names not in self._placeholders:
                made = self_signed_credential(names, now=_BEGINNING, lifetime=_END - _BEGINNING)
                self._placeholders[names] = made
            return self._placeholders[names]


class _Order:
    """A set of names, and what was said and given for it."""

    def __init__(self, names: tuple[str, ...], *, placeholder: bool = True) -> None:
        self.names = names
        self.placeholder = placeholder
        self.given: Credential | None = None
        self._said: set[str] = set()

    @property
    def place(self) -> str:
        return _place(self.names)

    def complain(self, message: str, *arguments: object) -> None:
        """Say something once."""
        said = message % arguments
        if said not in self._said:
            self._said.add(said)
            _LOGGER.warning(message, *arguments)


def _same(credential: Credential) -> Credential:
    return credential


def _place(names: Sequence[str]) -> str:
    return f"ACME ({', '.join(names)})"


def _require_names(names: Sequence[str]) -> tuple[str, ...]:
    wanted = canonical_names([names] if isinstance(names, str) else names)
    if not wanted:
        raise ValueError("a certificate is for at least one name")
    return wanted
