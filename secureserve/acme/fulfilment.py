"""`Fulfilment`: brings one order to its end: proofs, request, download, choice of the chain.

Where an order stands is asked of the authority, and what is next follows from that alone. So it does not matter
whether the order was made a moment ago or by a process that is no more.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Final

from secureserve.acme.orders import GOING_ON, PendingOrder
from secureserve.acme.problems import problem_error
from secureserve.acme.proving import Prover
from secureserve.acme.waiting import Patience
from secureserve.certificates.credential import Credential
from secureserve.certificates.issuance import certificate_request, issuer_names
from secureserve.errors import CredentialError, IssuanceError, StorageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from secureserve.acme.client import Client
    from secureserve.acme.protocol import messages
    from secureserve.acme.solvers import Solver
    from secureserve.acme.storage import Storage
    from secureserve.clock import Clock

__all__ = ["Fulfilment"]

_LOGGER: Final = logging.getLogger("secureserve.error")

PROOF_TIMEOUT: Final = 180.0
"""Seconds that an authority may take to look at all proofs of an order."""
ISSUANCE_TIMEOUT: Final = 180.0
"""Seconds that it may take to issue."""

_PASSING: Final = frozenset({"badNonce", "rateLimited", "serverInternal"})
"""The problems that say nothing about the order: the same request may succeed later."""


class Fulfilment:
    """Brings one order to its end.

    Args:
        client: Speaks to the authority.
        pending: The order.
        storage: Where it is kept.
        solvers: What can answer challenges, the most promising first.
        preferred_chain: The common name of the issuer that the chain should end with.
        failed: Name, whether it is its wildcard, and challenge type of proofs that are not to be tried.
        clock: What tells the time.
        progress: Told what is going on.
        cancelled: Set when it is to end early.

    Attributes:
        worked: The type of challenge that the authority was convinced by; None as long as it was by none.
    """

    def __init__(
        self,
        client: Client,
        pending: PendingOrder,
        storage: Storage,
        solvers: Sequence[Solver],
        *,
        preferred_chain: str | None,
        failed: frozenset[tuple[str, bool, str]],
        clock: Clock,
        progress: Callable[[str], None],
        cancelled: threading.Event,
    ) -> None:
        self.worked: str | None = None
        self._client = client
        self._authority = client.authority
        self._pending = pending
        self._shown = ", ".join(pending.names)
        self._storage = storage
        self._solvers = solvers
        self._preferred_chain = preferred_chain
        self._failed = failed
        self._clock = clock
        self._progress = progress
        self._cancelled = cancelled

    def run(self) -> Credential:
        """Return the certificate of the order.

        Raises:
            ProofFailed: The authority was not convinced that a name is ours.
            IssuanceError: It did not issue, or it was called off. An order that may yet end well stays stored.
            StorageError: The storage cannot be changed.
        """
        patience = Patience(self._clock, ISSUANCE_TIMEOUT, self._cancelled)
        proved = asked = False
        order, wait = self._client.order(self._pending.url)
        while True:
            patience.require(f"obtaining a certificate for {self._shown}")
            status = order.status.name
            if status == "valid" and order.certificate:
                return self._download(order.certificate)
            if status not in GOING_ON:
                self._forget()
                raise self._failure(order)
            if status == "pending" and not proved:
                self._prove(order)
                proved = True
                patience.renew()
            elif status == "ready" and not asked:
                taken = self._finalize(order)
                asked = taken is not None
                if taken is not None and taken.status.name == "valid":
                    order = taken
                    continue
                self._wait(patience, wait)
            else:
                self._wait(patience, wait)
            order, wait = self._client.order(self._pending.url)

    def _prove(self, order: messages.Order) -> None:
        patience = Patience(self._clock, PROOF_TIMEOUT, self._cancelled)
        prover = Prover(
            self._client,
            self._pending.names,
            self._solvers,
            patience,
            failed=self._failed,
            progress=self._progress,
        )
        prover.prove([str(url) for url in order.authorizations])
        self.worked = prover.worked[-1] if prover.worked else None

    def _finalize(self, order: messages.Order) -> messages.Order | None:
        """Ask for the certificate; return the order as it is then, or None where it is not ready after all."""
        self._progress("asking for the certificate")
        request = certificate_request(self._pending.names, self._pending.private_key)
        try:
            return self._client.finalize(self._pending.url, order, request)
        except IssuanceError as error:
            if error.problem_name == "orderNotReady":
                return None
            if error.problem_type is not None and error.problem_name not in _PASSING:
                self._forget()
            raise

    def _wait(self, patience: Patience, wait: float | None) -> None:
        if not patience.pause(f"waiting for {self._authority} to issue", wait):
            remedy = "The order stays, and is gone on with at the next attempt."
            raise IssuanceError(
                f"{self._authority} took too long to issue a certificate for {self._shown}. {remedy}",
                remedy=remedy,
                is_passing=True,
            )

    def _failure(self, order: messages.Order) -> IssuanceError:
        doing = f"issuing a certificate for {self._shown}"
        if order.error is None:
            remedy = "Try again; if it goes on, ask the authority."
            return IssuanceError(
                f"{self._authority}: {doing}: it gave the order up and did not say why. {remedy}", remedy=remedy
            )
        return problem_error(self._authority, doing, order.error.to_json())

    def _download(self, url: str) -> Credential:
        self._progress("downloading the certificate")
        chains = self._client.chains(url, alternates=self._preferred_chain is not None)
        key = self._pending.private_key
        try:
            found = [Credential.from_pem(one, key, origin=self._authority.name) for one in chains]
        except CredentialError as error:
            self._forget()
            raise IssuanceError(f"{self._authority} issued what cannot be used: {error}") from error
        credential = self._preferred(found)
        missing = [name for name in self._pending.names if name not in credential.names]
        if missing:
            self._forget()
            raise IssuanceError(f"{self._authority} issued a certificate that is not for {', '.join(missing)}.")
        downloaded = dataclasses.replace(self._pending, fingerprint=credential.fingerprint)
        try:
            downloaded.store(self._authority, self._storage)
        except StorageError as error:
            _LOGGER.warning("%s The certificate for %s is there all the same.", error, self._shown)
        return credential

    def _preferred(self, chains: Sequence[Credential]) -> Credential:
        """Return the chain that ends with the preferred issuer, else one that has it, else the authority's first."""
        if self._preferred_chain is None:
            return chains[0]
        wanted = self._preferred_chain.casefold()
        issuers = [(chain, [name.casefold() for name in issuer_names(chain)]) for chain in chains]
        for chain, found in issuers:
            if found[-1] == wanted:
                return chain
        for chain, found in issuers:
            if wanted in found:
                return chain
        _LOGGER.warning(
            "%s has no chain from %r (acme_preferred_chain), but %s; its first is taken",
            self._authority,
            self._preferred_chain,
            " and ".join(repr(issuer_names(one)[-1]) for one in chains),
        )
        return chains[0]

    def _forget(self) -> None:
        PendingOrder.forget(self._authority, self._storage, self._pending.names)
