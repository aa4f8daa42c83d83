"""`CertificateStore`: the credentials being served, by name.

What is served is one immutable `StoreSnapshot`. A handshake reads it without a lock; whoever changes anything builds
the next snapshot beside it, lets every acceptor prepare for it, and publishes it by one assignment. So a handshake sees
the old credentials or the new ones, and a snapshot that cannot be prepared for is never published.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from secureserve.certificates import names
from secureserve.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from secureserve.certificates.credential import Credential
    from secureserve.certificates.on_demand import CallableSource
    from secureserve.clock import Clock

__all__ = ["CertificateStore", "StoreSnapshot"]

_KEY_TYPE_RANK: Final[Mapping[str, int]] = MappingProxyType({"ecdsa": 0, "ed25519": 1, "ed448": 2, "rsa": 3})
"""ECDSA first: its signatures cost the server least and every current client verifies them. Unknown kinds last."""


@dataclass(frozen=True, slots=True, eq=False)
class StoreSnapshot:
    """The credentials that are served at one time, indexed by what a client may ask for.

    Make one with `StoreSnapshot.of`. Each index holds, for one key, all candidates with the preferred ones first.
    """

    credentials: tuple[Credential, ...] = ()
    default: Credential | None = None
    exact: Mapping[str, tuple[Credential, ...]] = field(default_factory=dict, repr=False)
    wildcard: Mapping[str, tuple[Credential, ...]] = field(default_factory=dict, repr=False)
    """By the name without its first label."""
    addresses: Mapping[str, tuple[Credential, ...]] = field(default_factory=dict, repr=False)
    defaults: tuple[Credential, ...] = field(default=(), repr=False)
    """The default, and what may stand in for it because it covers the same names with another key or other dates."""

    @classmethod
    def of(cls, credentials: Iterable[Credential], default: Credential | None = None) -> StoreSnapshot:
        """Index credentials.

        Args:
            credentials: What to serve. Equal ones count once.
            default: What to present to whoever asks for a name that none covers; None for the first of `credentials`.
        """
        # A dict rather than a set: the order is the user's, and decides what the default is.
        distinct = tuple(dict.fromkeys((*credentials, *(() if default is None else (default,)))))
        default = default or (distinct[0] if distinct else None)
        exact: dict[str, list[Credential]] = {}
        wildcard: dict[str, list[Credential]] = {}
        addresses: dict[str, list[Credential]] = {}
        for credential in distinct:
            for name in credential.names:
                if name.startswith("*."):
                    wildcard.setdefault(name[2:], []).append(credential)
                elif names.address(name) is not None:
                    addresses.setdefault(name, []).append(credential)
                else:
                    exact.setdefault(name, []).append(credential)
        defaults: tuple[Credential, ...] = ()
        if default is not None:
            covered = frozenset(default.names)
            defaults = _preferred(
                other for other in distinct if other is default or (covered and frozenset(other.names) == covered)
            )
        return cls(distinct, default, _settled(exact), _settled(wildcard), _settled(addresses), defaults)


class CertificateStore:
    """The credentials being served.

    Args:
        credentials: What to serve at first.
        default: What to present where no name decides; None for the first of `credentials`.
        sni_strict: Refuse a client that asks for a name which no credential covers (``unrecognized_name``,
            RFC 6066, 3), instead of presenting the default, which that client would have to refuse.
        clock: What tells which credentials are current.

    Attributes:
        sni_strict: As given.
        asked_first: A function that decides before `select` does; None: there is none.

    Threads: `select` and `snapshot` from any, without waiting. `replace` from any; concurrent ones take turns.
    """

    def __init__(
        self,
        credentials: Iterable[Credential] = (),
        *,
        default: Credential | None = None,
        sni_strict: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.sni_strict = sni_strict
        self.asked_first: CallableSource | None = None
        self._clock = clock
        self._publishing = threading.RLock()
        self._preparers: list[Callable[[StoreSnapshot], None]] = []
        self._subscribers: list[Callable[[StoreSnapshot], None]] = []
        self._snapshot = StoreSnapshot.of(credentials, default)

    @property
    def snapshot(self) -> StoreSnapshot:
        """What is served now."""
        return self._snapshot

    def add_preparer(self, prepare: Callable[[StoreSnapshot], None]) -> None:
        """Have a function called with every snapshot before it is published, and with the present one at once.

        This is where TLS contexts are built. What it raises refuses the snapshot: nothing is published then.
        """
        with self._publishing:
            prepare(self._snapshot)
            self._preparers.append(prepare)

    def subscribe(self, callback: Callable[[StoreSnapshot], None]) -> None:
        """Have a function called after each publication, on the thread that published. It should not raise."""
        with self._publishing:
            self._subscribers.append(callback)

    def forget(self, callback: Callable[[StoreSnapshot], None]) -> None:
        """Call a preparer or subscriber no more, so that a stopped acceptor can be collected. Harmless when unknown."""
        with self._publishing:
            for callbacks in (self._preparers, self._subscribers):
                if callback in callbacks:
                    callbacks.remove(callback)

    def prepare(self, credentials: Iterable[Credential], *, default: Credential | None = None) -> StoreSnapshot:
        """Build a snapshot, have everybody prepare for it, and do not publish it: a rehearsal.

        Raises:
            Exception: Whatever a preparer raises.
        """
        with self._publishing:
            snapshot = StoreSnapshot.of(credentials, default)
            for prepare in tuple(self._preparers):
                prepare(snapshot)
            return snapshot

    def replace(self, credentials: Iterable[Credential], *, default: Credential | None = None) -> StoreSnapshot:
        """Serve these credentials, and only these, from the next handshake on. All or nothing.

        Args:
            credentials: What to serve.
            default: What to present where no name decides; None for the first of `credentials`.

        Raises:
            Exception: Whatever a preparer raises. What was served goes on being served.
        """
        with self._publishing:
            snapshot = self.prepare(credentials, default=default)
            self._snapshot = snapshot
            for callback in tuple(self._subscribers):
                callback(snapshot)
            return snapshot

    def covers(self, name: str) -> bool:
        """Return whether one of the credentials that are served is for `name`."""
        return any(credential.covers(name) for credential in self._snapshot.credentials)

    def select(
        self,
        server_name: str | None,
        *,
        allows: Callable[[Credential], bool] | None = None,
        address: str | None = None,
    ) -> Credential | None:
        """Choose the credential for one handshake.

        1. Credentials with exactly this name.
        2. Those with a wildcard for its first label (RFC 9525, 6.3: one label, never more).
        3. Those with this IP address, where the name is one, or where there is no name and `address` is known.
        4. The default, and those with the same names as the default. With `sni_strict`, a name that was asked for and
           that nobody covers is refused instead; a client that asked for no name gets the default even so.

        Among the candidates of one step: what the client can verify before what it cannot; then what is valid at this
        moment before what is not; then ECDSA, Ed25519, Ed448, RSA in this order; then the latest start of validity.
        A step whose candidates are all expired, or which the client cannot verify, yields to a later one (of 1 to 3)
        that has better; if none has, the first step that has any candidate decides: an expired certificate is better
        than none.

        Args:
            server_name: What the ClientHello asked for, A-labels or not, well-formed or not; None when it did not say.
            allows: Whether the client can verify a credential, as far as its ClientHello tells; None: any.
            address: The local IP address that the client connected to.

        Returns:
            What to present, or None to refuse the handshake with ``unrecognized_name``.
        """
        snapshot = self._snapshot
        asked = server_name is not None and server_name != ""
        steps = _covering(snapshot, server_name or "") if asked else _addressed(snapshot, address)
        if not steps:
            if asked and self.sni_strict:
                return None
            steps = (snapshot.defaults,) if snapshot.defaults else ()
        if not steps:
            return None
        if len(steps) == 1 and len(steps[0]) == 1:
            return steps[0][0]
        return _best(steps, allows, self._clock.now())


def _covering(snapshot: StoreSnapshot, server_name: str) -> tuple[tuple[Credential, ...], ...]:
    """Return the candidates of each step that has any, for a name."""
    exact = snapshot.exact.get(server_name)
    if exact is None:
        # Most clients send the normal form; only the others pay for finding it.
        try:
            server_name = names.normalise(server_name)
        except ValueError:
            return ()
        if server_name.startswith("*."):
            return ()
        exact = snapshot.exact.get(server_name)
    wildcard = snapshot.wildcard.get(names.parent(server_name)) if snapshot.wildcard else None
    addresses = snapshot.addresses.get(server_name)
    if exact and not wildcard and not addresses:
        return (exact,)
    return tuple(found for found in (exact, wildcard, addresses) if found)


def _addressed(snapshot: StoreSnapshot, address: str | None) -> tuple[tuple[Credential, ...], ...]:
    """Return the candidates for a client that named nothing but came to this address."""
    if not address or not snapshot.addresses:
        return ()
    found = snapshot.addresses.get(names.address(address) or "")
    return (found,) if found else ()


def _best(
    steps: tuple[tuple[Credential, ...], ...], allows: Callable[[Credential], bool] | None, now: datetime
) -> Credential:
    """Choose by the rules that `CertificateStore.select` lays down; each step is already in order of preference."""
    expired: Credential | None = None
    for step in steps:
        for candidate in step:
            if allows is None or allows(candidate):
                if candidate.is_current(now):
                    return candidate
                expired = expired or candidate
    return expired or next((one for step in steps for one in step if one.is_current(now)), steps[0][0])


def _preferred(candidates: Iterable[Credential]) -> tuple[Credential, ...]:
    def preference(credential: Credential) -> tuple[int, float]:
        return (_KEY_TYPE_RANK.get(credential.key_type, len(_KEY_TYPE_RANK)), -credential.not_before.timestamp())

    return tuple(sorted(candidates, key=preference))


def _settled(index: Mapping[str, Iterable[Credential]]) -> Mapping[str, tuple[Credential, ...]]:
    return MappingProxyType({name: _preferred(candidates) for name, candidates in index.items()})
