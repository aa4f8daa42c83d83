"""`TLSAcceptor`: policy, store and engine together; it turns an accepted socket into a TLS connection.

Theory of operation: for each credential of the store there is a prepared context, built in the store's preparer and so
before anybody can be served with it. A handshake asks the store which credential it gets and this table for the
context. Table and snapshot are replaced by one assignment each, and during a rotation the table holds both the old and
the new contexts, so whatever a handshake is told, its context is there.
"""

from __future__ import annotations

import contextlib
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from secureserve.certificates import names
from secureserve.clock import SYSTEM_CLOCK
from secureserve.events import KeyLogOpened, TicketKeysRenewed
from secureserve.tls.client_hello import ClientHello
from secureserve.tls.client_trust import ClientTrust
from secureserve.tls.engines import new_engine
from secureserve.tls.keylog import KeyLog
from secureserve.tls.on_demand import DecidedConnection
from secureserve.tls.peeking import can_rest
from secureserve.tls.policy import TLSPolicy

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, MutableMapping
    from datetime import datetime

    from secureserve.certificates.credential import Credential
    from secureserve.certificates.store import CertificateStore, StoreSnapshot
    from secureserve.clock import Clock
    from secureserve.tls.engines.base import Presented, TLSConnection
    from secureserve.tls.ocsp import StapleCache

__all__ = ["TICKET_KEY_LIFETIME", "TLSAcceptor"]

TICKET_KEY_LIFETIME: Final = 86400.0
"""Seconds after which new keys encrypt session tickets, so that a stolen key opens a day of TLS 1.2 and not a year."""

MAX_ON_DEMAND: Final = 1024
"""Credentials decided on by a function whose contexts are kept, the latest ones."""


class TLSAcceptor:
    """Speaks TLS on accepted sockets, with the store's current credentials.

    Args:
        store: What is presented. The acceptor prepares for every change of it.
        policy: How TLS is spoken.
        engine: The name of the TLS library: ``pyopenssl`` or ``builtin``.
        clock: What tells the age of ticket keys.
        publish_event: Told of what happens.
        staples: OCSP responses to staple instead of those that the policy's ``ocsp_staple`` leads to.

    Attributes:
        alpn_challenges: Credentials by server name that answer an ACME authority (RFC 8737). They are presented to a
            client that offers exactly ``acme-tls/1`` for that name, and to nobody else; such a connection ends with its
            handshake. Put there what is being validated, and take it away afterwards.

    Raises:
        ConfigurationError: The engine cannot do what the policy asks for, or a file that it names does not load.
        CredentialError: The engine does not take a credential.

    Threads: any thread, all at once.
    """

    def __init__(
        self,
        store: CertificateStore,
        policy: TLSPolicy = TLSPolicy.INTERMEDIATE,
        *,
        engine: str = "pyopenssl",
        clock: Clock = SYSTEM_CLOCK,
        publish_event: Callable[[object], None] | None = None,
        staples: StapleCache | None = None,
    ) -> None:
        self.store = store
        self.policy = policy
        self.engine = engine
        self.alpn_challenges: MutableMapping[str, Credential] = {}
        self._clock = clock
        self._publish = publish_event or (lambda _event: None)
        self._lock = threading.RLock()
        self._trust = ClientTrust.load(policy)
        self._keylog = None if policy.keylog_file is None else KeyLog(policy.keylog_file)
        if staples is None and policy.ocsp_staple is not None:
            # It brings an HTTP client along, and few certificates name a responder any more.
            from secureserve.tls.ocsp import StapleCache

            staples = StapleCache(policy.ocsp_staple, clock=clock)
        self._staples = staples
        self._engine = new_engine(engine, policy, self._choose, keylog=self._keylog, staples=self._staples)
        self._presented: Mapping[Credential, Presented] = MappingProxyType({})
        self._on_demand: dict[Credential, Presented] = {}
        self._decided = threading.local()
        self._ticket_keys_until = clock.monotonic() + TICKET_KEY_LIFETIME
        if self._keylog is not None:
            self._publish(KeyLogOpened(str(policy.keylog_file)))
        store.add_preparer(self._prepare)
        store.subscribe(self._published)

    def accept(self, sock: socket.socket) -> TLSConnection:
        """Bind TLS to an accepted socket. Neither blocks nor shakes hands.

        Args:
            sock: Non-blocking, with nothing read from it yet. It belongs to the connection from now on.

        Raises:
            ConnectionError: The library has no room for it. The socket is the caller's still.
        """
        if self._clock.monotonic() > self._ticket_keys_until:
            self._renew_old_ticket_keys()
        connection = self._engine.accept(sock, watch_hello=bool(self.alpn_challenges))
        asked_first = self.store.asked_first
        if asked_first is None or not can_rest(sock):
            return connection
        return cast("TLSConnection", DecidedConnection(connection, asked_first.ask, self._presenting))

    def reload_client_trust(self) -> None:
        """Read the authorities and revocation lists of client certificates again, for handshakes from now on.

        Raises:
            ConfigurationError: A file does not load. What was in force stays in force.
        """
        if self._trust is None:
            return
        trust = ClientTrust.load(self.policy)
        with self._lock:
            before, self._trust = self._trust, trust
            self._on_demand.clear()
            try:
                self._presented = self._table(self.store.snapshot, {})
            except BaseException:
                self._trust = before
                raise

    def forget_sessions(self, reason: str) -> None:
        """Let no session from before be resumed, as after a key was stolen.

        Args:
            reason: Why, for the event that tells of it.
        """
        self._engine.renew_ticket_keys()
        self._ticket_keys_until = self._clock.monotonic() + TICKET_KEY_LIFETIME
        self._publish(TicketKeysRenewed(reason))

    def close(self) -> None:
        """Prepare for the store's changes no more. Connections that were made go on."""
        self.store.forget(self._prepare)
        self.store.forget(self._published)
        if self._keylog is not None:
            self._keylog.close()

    def _renew_old_ticket_keys(self) -> None:
        with self._lock:
            if self._clock.monotonic() > self._ticket_keys_until:
                self.forget_sessions("lifetime")

    def _prepare(self, snapshot: StoreSnapshot) -> None:
        """Build what `snapshot` needs, beside what is being served."""
        with self._lock:
            served = self._table(self.store.snapshot, self._presented)
            self._presented = MappingProxyType({**served, **self._table(snapshot, self._presented)})

    def _published(self, snapshot: StoreSnapshot) -> None:
        """Let go of what is served no more."""
        with self._lock:
            wanted = set(snapshot.credentials)
            kept = {credential: each for credential, each in self._presented.items() if credential in wanted}
            self._presented = MappingProxyType(kept)
        if self._staples is not None:
            self._staples.keep_only(snapshot.credentials)

    def _table(self, snapshot: StoreSnapshot, known: Mapping[Credential, Presented]) -> Mapping[Credential, Presented]:
        table: dict[Credential, Presented] = {}
        for credential in snapshot.credentials:
            group = _with_partners(credential, snapshot, self._clock.now())
            presented = known.get(credential)
            if presented is None or presented.credentials != group:
                presented = self._engine.prepare(group, self._trust)
            table[credential] = presented
        return MappingProxyType(table)

    @contextlib.contextmanager
    def _presenting(self, credential: Credential | None) -> Iterator[None]:
        """Within the block, have handshakes of this thread present what was decided; None: what the store says."""
        self._decided.answer = (None if credential is None else self._present_on_demand(credential),)
        try:
            yield
        finally:
            self._decided.answer = None

    def _present_on_demand(self, credential: Credential) -> Presented:
        presented = self._presented.get(credential) or self._on_demand.get(credential)
        if presented is None:
            presented = self._engine.prepare((credential,), self._trust)
            while len(self._on_demand) >= MAX_ON_DEMAND:
                self._on_demand.pop(next(iter(self._on_demand), credential), None)
            self._on_demand[credential] = presented
        return presented

    def _decide_now(self, server_name: str | None) -> Presented | None:
        """Return what was decided for this handshake, deciding it now where it could not be done without waiting."""
        decided: tuple[Presented | None] | None = getattr(self._decided, "answer", None)
        if decided is not None:
            return decided[0]
        asked_first = self.store.asked_first
        if asked_first is None:
            return None
        credential = asked_first.ask(ClientHello(server_name=server_name)).result()
        return None if credential is None else self._present_on_demand(credential)

    def _choose(self, server_name: str | None, sock: socket.socket, *, acme_challenge: bool) -> Presented | None:
        """Decide what a handshake presents."""
        if acme_challenge and server_name is not None:
            challenge = self.alpn_challenges.get(server_name)
            if challenge is not None:
                return self._engine.prepare((challenge,), None, acme_challenge=True)
        presented = self._decide_now(server_name)
        if presented is not None:
            return presented
        address = None
        if server_name is None and self.store.snapshot.addresses:
            local = sock.getsockname()
            address = local[0] if isinstance(local, tuple) else None
        while True:
            credential = self.store.select(server_name, address=address)
            if credential is None:
                return None
            presented = self._presented.get(credential)
            if presented is not None:
                return presented
            # A rotation came between the two look-ups: what is selected next is in the table.


def _with_partners(credential: Credential, snapshot: StoreSnapshot, now: datetime) -> tuple[Credential, ...]:
    """Return a credential with those of other key types that are good for all of its names, and for as long.

    OpenSSL holds them in one context and shows each client the one it can verify, the ECDSA one first.
    """
    group = {credential.key_type: credential}
    for other in _sharing_a_name(credential, snapshot):
        outlasts = other.not_before <= now and other.not_after >= credential.not_after
        if outlasts and other.key_type not in group and all(map(other.covers, credential.names)):
            group[other.key_type] = other
    return tuple(group.values())


def _sharing_a_name(credential: Credential, snapshot: StoreSnapshot) -> tuple[Credential, ...]:
    if not credential.names:
        return ()
    name = credential.names[0]
    above = name[2:] if name.startswith("*.") else names.parent(name)
    return (
        *snapshot.exact.get(name, ()),
        *snapshot.addresses.get(name, ()),
        *snapshot.wildcard.get(above, ()),
    )
