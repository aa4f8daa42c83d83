"""What the tests of renewal share: authorities led by the hand of a test, and a steward that uses them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from secureserve.acme.authorities import Authority
from secureserve.acme.source import ACMESource
from secureserve.acme.steward import Steward
from secureserve.errors import IssuanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from secureserve.acme.renewal import RenewalInformation
    from secureserve.acme.steward import OrderStatus
    from secureserve.acme.storage import Storage
    from secureserve.certificates.credential import Credential
    from secureserve.testing import Authority as TestAuthority
    from secureserve.testing import ManualClock

PATIENCE = 30.0
"""Seconds after which a test gives up waiting for what normally takes a fraction of one."""

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

CA = "https://ca.example.test/directory"
STAGING = "https://staging.example.test/directory"
OTHER_CA = "https://other.example.test/directory"

NAME = "www.example.test"

_Event = TypeVar("_Event")


def problem(name: str = "unauthorized", **options: Any) -> IssuanceError:
    """Return what an authority refuses with."""
    return IssuanceError(f"No: {name}.", problem_type=f"urn:ietf:params:acme:error:{name}", **options)


def unreachable() -> IssuanceError:
    """Return what is raised when an authority does not answer."""
    return IssuanceError("The authority cannot be reached.")


class Log:
    """Collects events, and waits for one of a kind."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self._arrived = threading.Condition()

    def __call__(self, event: object) -> None:
        """Take an event."""
        with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type[_Event], count: int = 1) -> list[_Event]:
        """Return the events of a kind when there are so many."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.of(kind)) >= count, PATIENCE), self.events
            return self.of(kind)


@dataclass
class HandIssuer:
    """An authority that a test leads by the hand.

    Attributes:
        outcomes: What the next calls do: raise an error, or what a function does; when there are no more, it issues.
        calls: The names and the replaced certificate of each call.
        information: What it says of renewals, or raises.
        asked: How often it was asked for renewal information.
        release: What `obtain` waits for.
        entered: Counts the calls that have begun.
        settled: The names that were settled.
    """

    test_authority: TestAuthority
    clock: Any
    url: str = CA
    lifetime: timedelta = 90 * DAY
    twin: HandIssuer | None = None
    skew: timedelta = timedelta()
    outcomes: list[Any] = field(default_factory=list)
    calls: list[tuple[tuple[str, ...], Credential | None]] = field(default_factory=list)
    information: RenewalInformation | Exception | None = None
    asked: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    settled: list[tuple[str, ...]] = field(default_factory=list)
    concurrent: int = 0
    most_concurrent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Wait for nothing until a test says so."""
        self.release.set()

    @property
    def authority(self) -> Authority:
        """Who it is."""
        return Authority(self.url.partition("//")[2].partition("/")[0], self.url)

    def obtain(
        self,
        names: Sequence[str],
        *,
        replaces: Credential | None = None,
        progress: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Credential:
        """Do what the test says."""
        with self.lock:
            self.calls.append((tuple(names), replaces))
            self.concurrent += 1
            self.most_concurrent = max(self.most_concurrent, self.concurrent)
            outcome = self.outcomes.pop(0) if self.outcomes else None
        self.entered.release()
        try:
            if progress is not None:
                progress("at it")
            assert cancelled is not None
            while not self.release.wait(0.01):
                if cancelled.wait(0.01):
                    raise IssuanceError("It was called off.")
            if isinstance(outcome, Exception):
                raise outcome
            return outcome() if callable(outcome) else self.issue(*names)
        finally:
            with self.lock:
                self.concurrent -= 1

    def settle(self, names: Sequence[str]) -> None:
        """Note it."""
        self.settled.append(tuple(names))

    def staging(self) -> HandIssuer | None:
        """Return its twin."""
        return self.twin

    def renewal_information(self, credential: Credential) -> RenewalInformation | None:
        """Say what the test says."""
        with self.lock:
            self.asked += 1
            information = self.information
        if isinstance(information, Exception):
            raise information
        return information

    def issue(self, *names: str) -> Credential:
        """Issue, an hour back as the big authorities do, by its own clock."""
        begin = self.clock.now() + self.skew - HOUR
        end = begin + self.lifetime
        return self.test_authority.issue(*names, not_before=begin, not_after=end).credential

    def wait_entered(self, count: int = 1) -> None:
        """Wait until so many more calls have begun."""
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE)

    def hold(self) -> None:
        """Have calls wait until they are released or called off."""
        self.release.clear()


class Stewardship:
    """A steward, with everything that it needs, on a clock that a test moves."""

    def __init__(
        self,
        storage: Storage,
        issuers: Sequence[HandIssuer],
        orders: Sequence[Sequence[str]] = ((NAME,),),
        *,
        clock: ManualClock,
        **options: Any,
    ) -> None:
        self.clock = clock
        self.log = Log()
        self.source = ACMESource(orders, storage, authorities=[one.url for one in issuers], clock=clock)
        self.reloads = 0
        options.setdefault("reload", self._reload)
        options.setdefault("fraction_of", lambda _text: 0.0)
        self.steward = Steward(self.source, issuers, clock=clock, publish_event=self.log, **options)

    @property
    def served(self) -> Credential:
        """What is served for the first set of names."""
        return self.source.load()[0]

    @property
    def status(self) -> OrderStatus:
        """How it stands with the first set of names."""
        return self.steward.status()[0]

    def settle(self) -> None:
        """Wait until there is nothing to do at this moment."""
        assert self.steward.wait_until_settled(PATIENCE), self.steward.status()

    def advance(self, by: timedelta | float) -> None:
        """Let time pass, and wait until what was due is done."""
        self.clock.advance(by)
        self.steward.wake()
        self.settle()

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until a moment."""
        self.advance(moment - self.clock.now())

    def jump_to(self, moment: datetime) -> None:
        """Set the wall clock alone."""
        self.clock.jump_to(moment)
        self.steward.wake()
        self.settle()

    def _reload(self) -> None:
        self.reloads += 1
        self.source.load()
