"""What happened, as frozen records, and the one place that they are announced through.

Log lines are for people, events for programs: a metric, an e-mail on a refused rotation, a test that waits for one.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = [
    "AccountMade",
    "CertificateObtained",
    "CredentialExpiring",
    "CredentialRotated",
    "Events",
    "HandshakeFailedEvent",
    "IssuanceFailed",
    "KeyLogOpened",
    "RenewalOverdue",
    "RotationRefused",
    "ServerReady",
    "ServerStopped",
    "TicketKeysRenewed",
]

_LOGGER: Final = logging.getLogger("secureserve.error")


@dataclass(frozen=True, slots=True)
class HandshakeFailedEvent:
    """A peer did not get through the TLS handshake.

    Args:
        peer: The peer's address as it is logged.
        message: Why, in one line.
        alert: The alert sent or received (RFC 8446, B.2), where known.
        alert_sent_by_peer: Whether it was the peer who sent it.
        server_name: The name that it asked for, where it got that far.
    """

    peer: str
    message: str
    alert: str | None = None
    alert_sent_by_peer: bool = False
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class KeyLogOpened:
    """The secrets of connections are being written to a file.

    Args:
        path: The file.
    """

    path: str


@dataclass(frozen=True, slots=True)
class TicketKeysRenewed:
    """Sessions from before can no longer be resumed.

    Args:
        reason: Why: ``"lifetime"``, or the words of whoever asked for it.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class CredentialRotated:
    """New handshakes get another certificate.

    Args:
        place: Where it comes from.
        names: What the new one is for.
        fingerprint: SHA-256 of the new leaf, in hexadecimal digits.
        not_after: Until when the new one is valid.
        old_fingerprint: Of the one that it replaced; None where there was none.
        old_not_after: Until when that one was valid.
        reason: What made us look: ``watch``, ``signal``, ``api``, ...
    """

    place: str
    names: tuple[str, ...]
    fingerprint: str
    not_after: datetime
    old_fingerprint: str | None
    old_not_after: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class RotationRefused:
    """What was found must not be served; what was served before still is.

    Args:
        place: Where it was found.
        error: The name of the error's class, such as ``KeyMismatch``.
        message: What is wrong and what to do.
        kept_fingerprint: SHA-256 of the leaf that is still served from this place; None where there is none.
        reason: What made us look.
    """

    place: str
    error: str
    message: str
    kept_fingerprint: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class CredentialExpiring:
    """A certificate being served has less time left than it should, or none.

    Args:
        place: Where it comes from.
        names: What it is for.
        fingerprint: SHA-256 of the leaf.
        not_after: Until when it is valid.
        remaining: Seconds until then; negative once it has expired.
    """

    place: str
    names: tuple[str, ...]
    fingerprint: str
    not_after: datetime
    remaining: float


@dataclass(frozen=True, slots=True)
class AccountMade:
    """A certificate authority has a new account of ours.

    Args:
        authority: The authority's name.
        url: What it calls the account.
        contact: URLs to reach its owner.
    """

    authority: str
    url: str
    contact: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CertificateObtained:
    """A certificate authority has issued, and the certificate is stored.

    Args:
        names: What it is for.
        authority: The URL of the authority's directory.
        fingerprint: SHA-256 of the leaf, in hexadecimal digits.
        not_after: Until when it is valid.
        replaced_fingerprint: Of the certificate that it renews; None where there was none.
    """

    names: tuple[str, ...]
    authority: str
    fingerprint: str
    not_after: datetime
    replaced_fingerprint: str | None


@dataclass(frozen=True, slots=True)
class IssuanceFailed:
    """No certificate could be obtained this time; what was served before still is, and there will be another attempt.

    Args:
        names: What it was to be for.
        authority: The URL of the directory of the authority that failed last.
        problem_type: The ``type`` of its problem document (RFC 8555, 6.7); None where it sent none.
        message: What went wrong and what to do.
        failures: How many attempts in a row have failed.
        next_attempt: When the next one will be made.
    """

    names: tuple[str, ...]
    authority: str
    problem_type: str | None
    message: str
    failures: int
    next_attempt: datetime


@dataclass(frozen=True, slots=True)
class RenewalOverdue:
    """A certificate should long have been renewed, attempts fail, and its end comes nearer.

    Args:
        names: What it is for.
        fingerprint: SHA-256 of the leaf.
        not_after: Until when it is valid.
        remaining: Seconds until then; negative once it has expired.
        failures: How many attempts in a row have failed.
        message: Why the last one did.
    """

    names: tuple[str, ...]
    fingerprint: str
    not_after: datetime
    remaining: float
    failures: int
    message: str


@dataclass(frozen=True, slots=True)
class ServerReady:
    """A managed server answers.

    Args:
        base: Its URL, or the path of its unix socket.
    """

    base: str


@dataclass(frozen=True, slots=True)
class ServerStopped:
    """A managed server has stopped; its port is free.

    Args:
        base: The URL it had, or the path of its unix socket.
    """

    base: str


class Events:
    """Hands each event to every subscriber, in the order of subscription.

    Threads: any thread may publish, subscribe and unsubscribe. Subscribers run in the publisher's thread and must not
    take long.
    """

    __slots__ = ("_lock", "_subscribers")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: tuple[Callable[[Any], None], ...] = ()

    def subscribe(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with every event from now on. A second subscription of the same callback changes nothing."""
        with self._lock:
            if callback not in self._subscribers:
                self._subscribers += (callback,)

    def unsubscribe(self, callback: Callable[[Any], None]) -> None:
        """Stop calling `callback`. Harmless when it was not subscribed."""
        with self._lock:
            self._subscribers = tuple(known for known in self._subscribers if known != callback)

    def publish(self, event: object) -> None:
        """Hand `event` to all subscribers. One that fails is logged; the others and the server go on."""
        for callback in self._subscribers:
            try:
                callback(event)
            except Exception:
                _LOGGER.exception("a subscriber of events failed on %s", type(event).__name__)
