"""The steward with the real issuer and a real authority, which has renewal information."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.acme.authorities import Authority
from secureserve.acme.issuer import Issuer
from secureserve.acme.source import ACMESource
from secureserve.acme.steward import Steward
from secureserve.acme.storage import Key, Kind
from secureserve.events import CertificateObtained, IssuanceFailed
from secureserve.testing import ManualClock, Problem
from secureserve.testing import acme_authority as run_acme_authority
from secureserve.testing.acme_validation import Validation
from tests.acme.stewardship import DAY, HOUR, MINUTE, NAME, PATIENCE, Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from secureserve.acme.solvers import DNS01Solver
    from secureserve.acme.storage import FileStorage
    from secureserve.testing import ACMEAuthority
    from secureserve.testing import Authority as TestAuthority


class Process:
    """What a server has of all this, as often as it is started."""

    def __init__(self, storage: FileStorage, issuers: list[Issuer], clock: ManualClock, **options: Any) -> None:
        self.clock = clock
        self.log = Log()
        self.source = ACMESource(
            [[NAME]], storage, authorities=[one.authority.directory_url for one in issuers], clock=clock
        )
        self.steward = Steward(
            self.source, issuers, reload=self.source.load, clock=clock, publish_event=self.log, **options
        )

    def start(self) -> None:
        """Start, and wait until nothing is to be done."""
        self.steward.start()
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is to be done."""
        assert self.steward.wait_until_settled(PATIENCE), self.steward.status()

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self.clock.advance(by)
        self.steward.wake()
        self.settle()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that begins with the present: the authority has no other."""
    return ManualClock(datetime.now(timezone.utc))


@pytest.fixture
def make(
    storage: FileStorage, authority: Authority, zone_solver: DNS01Solver, clock: ManualClock
) -> Iterator[Callable[..., Process]]:
    """A factory of processes that share a storage and are stopped after the test."""
    made: list[Process] = []

    def make_one(*authorities: Authority, **options: Any) -> Process:
        issuers = [Issuer(one, storage, [zone_solver], accept_terms=True) for one in authorities or (authority,)]
        made.append(Process(storage, issuers, clock, **options))
        return made[-1]

    yield make_one
    for one in made:
        one.steward.stop()


def test_obtained_and_renewed(make: Any, acme_authority: ACMEAuthority, storage: FileStorage) -> None:
    """Obtained, stored, and renewed in the authority's own window, which is told what is replaced."""
    process = make(fraction_of=lambda _text: 0.5)
    process.start()
    (event,) = process.log.of(CertificateObtained)
    first = acme_authority.issued[0].certificate
    start, end = acme_authority.renewal_window(first)
    (status,) = process.steward.status()
    assert abs(status.next_attempt - (start + (end - start) / 2)) < MINUTE
    assert storage.keys(Kind.ORDER) == []
    process.advance(status.next_attempt - process.clock.now() - HOUR)
    assert len(acme_authority.issued) == 1
    process.advance(HOUR + MINUTE)
    assert len(acme_authority.issued) == 2
    assert acme_authority.issued[0].replaced
    assert process.log.of(CertificateObtained)[1].replaced_fingerprint == event.fingerprint
    assert len(acme_authority.accounts) == 1
    assert process.log.of(IssuanceFailed) == []


def test_an_incident(make: Any, acme_authority: ACMEAuthority) -> None:
    """When the authority moves its window into the past, the certificate is replaced at the next look."""
    process = make()
    process.start()
    acme_authority.renewal_window = lambda certificate: (
        certificate.not_valid_before_utc - 2 * DAY,
        certificate.not_valid_before_utc - DAY,
    )
    process.advance(6 * HOUR + MINUTE)
    assert len(acme_authority.issued) == 2
    assert acme_authority.issued[0].replaced


def test_a_restart_in_the_middle_of_an_order(make: Any, acme_authority: ACMEAuthority, storage: FileStorage) -> None:
    """What one process has begun, the next goes on with: there is one order, and one certificate."""
    acme_authority.fail_next("finalize", Problem("serverInternal", "Out of ink.", status=500))
    first = make()
    first.start()
    first.steward.stop()
    assert storage.keys(Kind.ORDER) == [Key.order(acme_authority.directory_url, [NAME])]
    second = make()
    second.start()
    second.advance(MINUTE)
    assert len(second.log.of(CertificateObtained)) == 1
    assert (len(acme_authority.orders), len(acme_authority.issued)) == (1, 1)
    assert storage.keys(Kind.ORDER) == []


def test_a_stop_in_the_middle_of_a_validation(
    make: Any, acme_authority: ACMEAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop while the authority looks at the proof is prompt and no failure; the next start goes on with the order."""
    looking, release = threading.Event(), threading.Event()

    def slow(*_arguments: Any) -> None:
        looking.set()
        release.wait(PATIENCE)

    monkeypatch.setattr(Validation, "validate", slow)
    acme_authority.validation_patience = 0.0
    process = make()
    process.steward.start()
    assert looking.wait(PATIENCE)
    process.steward.stop(PATIENCE)
    assert process.log.events == []
    release.set()
    process.start()
    assert len(process.log.of(CertificateObtained)) == 1
    assert len(acme_authority.orders) == 1


def test_down_for_a_while(make: Any, acme_authority: ACMEAuthority) -> None:
    """An authority that is down is asked again until it is up, and not before its Retry-After."""
    process = make()
    with acme_authority.outage():
        process.start()
        (event,) = process.log.of(IssuanceFailed)
        assert "Down for maintenance" in event.message
        process.advance(MINUTE)
        assert len(process.log.of(IssuanceFailed)) == 2
    process.advance(3 * MINUTE)
    assert len(process.log.of(CertificateObtained)) == 1


def test_rate_limited(make: Any, acme_authority: ACMEAuthority, clock: ManualClock) -> None:
    """The Retry-After of a rate limit is what is waited for."""
    acme_authority.fail_next("newOrder", Problem("rateLimited", "Too many.", status=429, retry_after=7200))
    process = make()
    began = clock.now()
    process.start()
    (event,) = process.log.of(IssuanceFailed)
    assert event.problem_type == "urn:ietf:params:acme:error:rateLimited"
    assert abs(event.next_attempt - began - 2 * HOUR) < MINUTE
    process.advance(2 * HOUR)
    assert len(process.log.of(CertificateObtained)) == 1


def test_refused_then_staged_then_issued(
    make: Any, acme_authority: ACMEAuthority, tls_authority: TestAuthority, authority: Authority
) -> None:
    """After a refusal the order is tried at staging; once that issues, the real authority is asked again."""
    with run_acme_authority(tls_authority) as staging:
        staging.validation.zone = acme_authority.validation.zone
        twin = Authority("testing-staging", staging.directory_url, authority.ca_file)
        problem = Problem("rejectedIdentifier", "Not that one.", status=400)
        acme_authority.refused[NAME] = staging.refused[NAME] = problem
        process = make(Authority("testing", authority.directory_url, authority.ca_file, twin))
        process.start()
        process.advance(MINUTE)
        assert [event.authority for event in process.log.of(IssuanceFailed)] == [
            authority.directory_url,
            twin.directory_url,
        ]
        assert "Not that one." in process.log.of(IssuanceFailed)[1].message
        acme_authority.refused.clear()
        staging.refused.clear()
        process.advance(3 * MINUTE)
        (event,) = process.log.of(CertificateObtained)
        assert event.authority == authority.directory_url
        assert (len(staging.issued), len(acme_authority.issued)) == (1, 1)


def test_fallback(make: Any, acme_authority: ACMEAuthority, tls_authority: TestAuthority, authority: Authority) -> None:
    """While the first authority is down the second issues."""
    with run_acme_authority(tls_authority) as other, acme_authority.outage():
        other.validation.zone = acme_authority.validation.zone
        second = Authority("second", other.directory_url, authority.ca_file)
        process = make(authority, second)
        process.start()
        (event,) = process.log.of(CertificateObtained)
        assert event.authority == second.directory_url


def test_two_processes(make: Any, acme_authority: ACMEAuthority) -> None:
    """Two that start at once with an empty storage have one account and one certificate between them."""
    both = [make(), make()]
    for process in both:
        process.steward.start()
    for process in both:
        process.settle()
    both[0].clock.advance(MINUTE)
    for process in both:
        process.steward.wake()
        process.settle()
    assert (len(acme_authority.accounts), len(acme_authority.orders), len(acme_authority.issued)) == (1, 1, 1)
    assert both[0].source.load() == both[1].source.load()
