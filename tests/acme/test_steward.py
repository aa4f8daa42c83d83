"""Certificates are obtained and renewed in the background, whatever authorities, disks and clocks do."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.acme import renewal
from secureserve.acme.pauses import Pause
from secureserve.acme.renewal import RenewalInformation
from secureserve.acme.steward import OrderState, Steward
from secureserve.acme.storage import FileStorage, Key, Kind
from secureserve.acme.stored import StoredCertificates
from secureserve.certificates.manager import CertificateManager
from secureserve.errors import StorageError
from secureserve.events import CertificateObtained, CredentialRotated, IssuanceFailed, RenewalOverdue
from secureserve.testing import ManualClock
from tests.acme.stewardship import (
    CA,
    DAY,
    HOUR,
    MINUTE,
    NAME,
    NOW,
    OTHER_CA,
    PATIENCE,
    STAGING,
    HandIssuer,
    Stewardship,
    problem,
    unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from secureserve.testing import Authority as TestAuthority

Make = "Callable[..., Stewardship]"


def fail_three_times(stewardship: Stewardship) -> None:
    """Have a steward make its first three attempts, and stop."""
    stewardship.steward.start()
    stewardship.settle()
    stewardship.advance(MINUTE)
    stewardship.advance(3 * MINUTE)
    stewardship.steward.stop()


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the test."""
    return ManualClock(NOW)


@pytest.fixture
def issuer(tls_authority: TestAuthority, clock: ManualClock) -> HandIssuer:
    """An authority that issues."""
    return HandIssuer(tls_authority, clock)


@pytest.fixture
def make(storage: FileStorage, issuer: HandIssuer, clock: ManualClock) -> Iterator[Callable[..., Stewardship]]:
    """A factory of stewards that are stopped after the test, by default at the one authority."""
    made: list[Stewardship] = []

    def make_one(*issuers: HandIssuer, **options: Any) -> Stewardship:
        options.setdefault("storage", storage)
        options.setdefault("clock", clock)
        made.append(Stewardship(options.pop("storage"), issuers or (issuer,), **options))
        return made[-1]

    yield make_one
    for one in made:
        one.steward.stop()


@pytest.fixture
def started(make: Callable[..., Stewardship]) -> Stewardship:
    """A steward that has obtained a certificate of 90 days."""
    stewardship = make()
    stewardship.steward.start()
    stewardship.settle()
    return stewardship


def _fill(storage: FileStorage, issuer: HandIssuer, *names: str) -> Any:
    """Store a certificate of this moment, as if from an earlier run."""
    credential = issuer.issue(*(names or (NAME,)))
    StoredCertificates(storage, [issuer.url]).put(issuer.url, credential.names, credential)
    return credential


class TestStart:
    """Nothing waits for an authority."""

    def test_waits_for_nobody(self, make: Any, issuer: HandIssuer) -> None:
        """While the authority takes its time, start has returned and a placeholder is served; then the real one."""
        issuer.hold()
        stewardship = make()
        stewardship.steward.start()
        stewardship.steward.start()
        issuer.wait_entered()
        assert stewardship.source.is_placeholder(stewardship.served)
        assert stewardship.status.state is OrderState.OBTAINING
        assert not stewardship.steward.wait_until_covered(0.0)
        issuer.release.set()
        assert stewardship.steward.wait_until_covered(PATIENCE)
        (event,) = stewardship.log.wait_for(CertificateObtained)
        assert not stewardship.source.is_placeholder(stewardship.served)
        assert event == CertificateObtained(
            (NAME,), CA, stewardship.served.fingerprint, stewardship.served.not_after, None
        )
        stewardship.settle()
        assert issuer.calls == [((NAME,), None)]
        assert issuer.settled == [(NAME,)]
        assert stewardship.reloads == 1

    def test_serves_what_is_stored(self, make: Any, issuer: HandIssuer, storage: FileStorage) -> None:
        """A certificate of an earlier run is served, and no authority is asked for another."""
        stored = _fill(storage, issuer)
        stewardship = make()
        assert stewardship.served == stored
        stewardship.steward.start()
        stewardship.settle()
        assert stewardship.served == stored
        assert issuer.calls == []
        assert stewardship.status.state is OrderState.VALID
        assert stewardship.reloads == 0

    def test_goes_on_after_a_stop(self, make: Any, issuer: HandIssuer) -> None:
        """A stop in the middle of an order returns promptly; the next start, of this process or another, obtains."""
        issuer.hold()
        stewardship = make()
        stewardship.steward.start()
        issuer.wait_entered()
        stewardship.steward.stop(PATIENCE)
        stewardship.steward.stop()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("secureserve-acme")]
        assert stewardship.log.events == []
        issuer.release.set()
        stewardship.steward.start()
        stewardship.log.wait_for(CertificateObtained)

    def test_stop_is_bounded(self, make: Any, issuer: HandIssuer) -> None:
        """An authority that does not listen does not hold up a stop."""
        ended, release = threading.Event(), threading.Event()

        def hang() -> Any:
            release.wait(PATIENCE)
            ended.set()
            raise unreachable()

        issuer.outcomes = [hang]
        stewardship = make()
        stewardship.steward.start()
        issuer.wait_entered()
        stewardship.steward.stop(0.05)
        assert not ended.is_set()
        (left,) = [thread for thread in threading.enumerate() if thread.name.startswith("secureserve-acme")]
        # Nobody else works on these names while it is still at it; when it has done, it is not needed any more.
        stewardship.steward.start()
        release.set()
        assert ended.wait(PATIENCE)
        left.join(PATIENCE)
        assert not left.is_alive()
        stewardship.settle()
        assert issuer.most_concurrent == 1

    def test_needs_somebody_to_ask(self, make: Any, storage: FileStorage) -> None:
        """A steward without an issuer is a mistake of the program."""
        with pytest.raises(ValueError, match="somebody"):
            Steward(make().source, [])


class TestRenewal:
    """In time, and no sooner."""

    @pytest.mark.parametrize("lifetime", [90 * DAY, 47 * DAY, 6 * DAY], ids=["90 days", "47 days", "6 days"])
    def test_for_years(self, make: Any, issuer: HandIssuer, lifetime: timedelta, clock: ManualClock) -> None:
        """Renewed at two thirds of the lifetime, again and again, with a valid certificate at each moment."""
        issuer.lifetime = lifetime
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        for renewals in range(1, 6):
            before = stewardship.served
            due = before.not_before + lifetime * 2 / 3
            stewardship.advance_to(due - MINUTE)
            assert len(issuer.calls) == renewals
            stewardship.advance(2 * MINUTE)
            assert issuer.calls[renewals:] == [((NAME,), before)]
            assert stewardship.served.not_before == clock.now() - HOUR
            event = stewardship.log.of(CertificateObtained)[-1]
            assert event.replaced_fingerprint == before.fingerprint
        assert stewardship.log.of(IssuanceFailed) == []

    def test_chance(self, make: Any, issuer: HandIssuer) -> None:
        """The moment is spread over a twentieth of the lifetime; the same certificate keeps its moment."""
        stewardship = make(fraction_of=lambda text: 0.5)
        stewardship.steward.start()
        stewardship.settle()
        expected = stewardship.served.not_before + 90 * DAY * (2 / 3 - 1 / 40)
        assert abs(stewardship.status.next_attempt - expected) < MINUTE

    def test_by_default_the_same_for_the_same(self, make: Any, issuer: HandIssuer, storage: FileStorage) -> None:
        """Without a chance of its own, a restart does not draw another moment."""
        _fill(storage, issuer)
        moments = []
        for _ in range(2):
            stewardship = make(fraction_of=None)
            stewardship.steward.start()
            stewardship.settle()
            moments.append(stewardship.status.next_attempt)
            stewardship.steward.stop()
        assert moments[0] == moments[1]

    def test_in_the_authoritys_window(self, make: Any, issuer: HandIssuer) -> None:
        """Where the authority has a wish, renewal is at the random moment in its window, replacing the old one."""
        issuer.information = RenewalInformation(NOW + 10 * DAY, NOW + 20 * DAY, "https://ca.test/why", 6 * renewal.HOUR)
        stewardship = make(fraction_of=lambda text: 0.25)
        stewardship.steward.start()
        stewardship.settle()
        before = stewardship.served
        assert stewardship.status.next_attempt == NOW + 12.5 * DAY
        stewardship.advance_to(NOW + 12.5 * DAY - MINUTE)
        assert len(issuer.calls) == 1
        issuer.information = None
        stewardship.advance(2 * MINUTE)
        assert issuer.calls[1:] == [((NAME,), before)]

    def test_asks_as_often_as_it_should(self, make: Any, issuer: HandIssuer, caplog: pytest.LogCaptureFixture) -> None:
        """Renewal information is asked for when Retry-After has passed, and a window that moves is followed."""
        caplog.set_level("INFO", "secureserve.error")
        issuer.information = RenewalInformation(NOW + 60 * DAY, NOW + 70 * DAY, None, 2 * renewal.HOUR)
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert issuer.asked == 1
        stewardship.advance(119 * MINUTE)
        assert issuer.asked == 1
        # An incident: everything is to be replaced at once.
        issuer.information = RenewalInformation(NOW - 2 * DAY, NOW - DAY, "https://ca.test/incident", 60.0)
        stewardship.advance(2 * MINUTE)
        assert issuer.asked >= 2
        assert len(issuer.calls) == 2
        assert "https://ca.test/incident" in caplog.text

    @pytest.mark.parametrize(
        "information",
        [
            pytest.param(RenewalInformation(NOW + 9 * DAY, NOW + 8 * DAY), id="inverted"),
            pytest.param(unreachable(), id="error"),
            pytest.param(None, id="none"),
        ],
    )
    def test_without_useful_information(self, make: Any, issuer: HandIssuer, information: Any) -> None:
        """An authority that says nothing, or nothing sensible, is asked again in six hours; two thirds decide."""
        issuer.information = information
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert stewardship.status.next_attempt == stewardship.served.not_before + 60 * DAY
        assert issuer.asked == 1
        stewardship.advance(6 * HOUR)
        assert issuer.asked == 2

    def test_an_error_keeps_what_was_said(self, make: Any, issuer: HandIssuer) -> None:
        """A failure to ask does not make the last answer void."""
        issuer.information = RenewalInformation(NOW + 10 * DAY, NOW + 20 * DAY)
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        issuer.information = unreachable()
        stewardship.advance(7 * HOUR)
        assert issuer.asked == 2
        assert stewardship.status.next_attempt == NOW + 10 * DAY

    def test_an_authority_that_always_wants_a_renewal(self, make: Any, issuer: HandIssuer) -> None:
        """A window that is always past has us renew at growing intervals, not without end."""
        issuer.information = RenewalInformation(NOW - 2 * DAY, NOW - DAY, None, 60.0)
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        for _ in range(48):
            stewardship.advance(HOUR)
        assert len(issuer.calls) <= 6


class TestFailures:
    """What fails changes nothing that is served, and is tried again."""

    def test_waits_grow(self, make: Any, issuer: HandIssuer, clock: ManualClock, caplog: Any) -> None:
        """An authority that cannot be reached is asked again after 1, 3, 9, ... minutes, up to a day; each is told."""
        issuer.outcomes = [unreachable() for _ in range(11)]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        waits = []
        for failures in range(1, 11):
            event = stewardship.log.wait_for(IssuanceFailed, failures)[-1]
            assert (event.names, event.authority, event.failures) == ((NAME,), CA, failures)
            assert "cannot be reached" in event.message
            assert stewardship.status.state is OrderState.FAILING
            assert stewardship.status.last_error == event.message
            wait = event.next_attempt - clock.now()
            waits.append(wait / MINUTE)
            stewardship.advance(wait - MINUTE / 2)
            assert len(issuer.calls) == failures
            stewardship.advance(MINUTE)
            assert len(issuer.calls) == failures + 1
        assert waits == [1, 3, 9, 27, 81, 243, 729, 1440, 1440, 1440]
        assert stewardship.source.is_placeholder(stewardship.served)
        stewardship.advance(DAY)
        assert stewardship.steward.wait_until_covered(PATIENCE)
        assert (stewardship.status.failures, stewardship.status.last_error) == (0, None)
        assert [record.levelname for record in caplog.records if "attempt 1 failed" in record.getMessage()] == ["ERROR"]

    def test_the_served_certificate_is_left_alone(self, started: Stewardship, issuer: HandIssuer, caplog: Any) -> None:
        """A renewal that fails is a warning while the certificate still lives, and that goes on being served."""
        before = started.served
        issuer.outcomes = [problem()]
        started.advance(60 * DAY)
        assert started.log.of(IssuanceFailed)[0].problem_type == "urn:ietf:params:acme:error:unauthorized"
        assert started.served == before
        assert [record.levelname for record in caplog.records if "attempt 1 failed" in record.getMessage()] == [
            "WARNING"
        ]

    @pytest.mark.parametrize(
        ("error", "pause"),
        [
            (problem("rateLimited", retry_after=2 * renewal.HOUR), 2 * HOUR),
            (problem("rateLimited"), HOUR),
            (problem("rateLimited", retry_after=99 * renewal.DAY), DAY),
            (problem("serverInternal", retry_after=90 * 60.0), 90 * MINUTE),
        ],
        ids=["retry-after", "no retry-after", "absurd", "maintenance"],
    )
    def test_rate_limits(self, make: Any, issuer: HandIssuer, error: Any, pause: timedelta) -> None:
        """An authority is left alone for as long as it says, or an hour, but never longer than a day."""
        issuer.outcomes = [error]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert stewardship.log.of(IssuanceFailed)[0].next_attempt == NOW + pause
        stewardship.advance(pause - MINUTE)
        # Not even somebody in a hurry gets it asked before.
        stewardship.steward.obtain_now()
        stewardship.settle()
        assert len(issuer.calls) == 1
        stewardship.advance(2 * MINUTE)
        assert len(issuer.calls) == 2

    def test_a_rate_limit_survives_a_restart(self, make: Any, issuer: HandIssuer, clock: ManualClock) -> None:
        """A process that is started anew does not ask before the time either, nor again and again without a limit."""
        issuer.outcomes = [problem("rateLimited", retry_after=2 * renewal.HOUR), unreachable()]
        first = make()
        first.steward.start()
        first.settle()
        first.steward.stop()
        clock.advance(HOUR)
        second = make()
        second.steward.start()
        second.settle()
        assert len(issuer.calls) == 1
        assert second.status.next_attempt == NOW + 2 * HOUR
        second.advance(HOUR)
        assert len(issuer.calls) == 2
        second.steward.stop()
        third = make()
        third.steward.start()
        third.settle()
        assert len(issuer.calls) == 2
        third.advance(MINUTE)
        assert len(issuer.calls) == 3
        third.log.wait_for(CertificateObtained)

    def test_a_restart_does_not_begin_to_count_anew(self, make: Any, issuer: HandIssuer, storage: FileStorage) -> None:
        """Waits go on growing where they were, until a success; then, over a restart too, they begin with a minute."""
        issuer.outcomes = [unreachable() for _ in range(5)]
        fail_three_times(make())
        second = make()
        second.steward.start()
        second.settle()
        assert (len(issuer.calls), second.status.failures) == (3, 0)
        second.advance(MINUTE)
        (event,) = second.log.of(IssuanceFailed)
        assert (event.failures, event.next_attempt - second.clock.now()) == (4, 27 * MINUTE)
        second.advance(27 * MINUTE)
        assert second.log.of(IssuanceFailed)[1].failures == second.status.failures == 5
        second.advance(81 * MINUTE)
        second.log.wait_for(CertificateObtained)
        second.steward.stop()
        assert not storage.keys(Kind.PAUSE)
        issuer.outcomes = [unreachable()]
        third = make()
        third.steward.start()
        third.advance(60 * DAY)
        assert third.log.of(IssuanceFailed)[0].failures == 1

    def test_whoever_issues_ends_the_count_of_all(
        self, make: Any, issuer: HandIssuer, tls_authority: TestAuthority, clock: ManualClock, storage: FileStorage
    ) -> None:
        """An authority that always refuses, before another that issues, does not add up over restarts."""
        other = HandIssuer(tls_authority, clock, OTHER_CA)
        issuer.outcomes = [problem("rateLimited"), problem("rateLimited"), problem("rateLimited")]
        other.outcomes = [unreachable()]
        first = make(issuer, other)
        first.steward.start()
        first.settle()
        assert first.log.of(IssuanceFailed)[0].failures == 1
        first.advance(HOUR)
        first.log.wait_for(CertificateObtained)
        first.steward.stop()
        kept = Pause.load(CA, storage, [NAME])
        assert kept is not None
        assert (kept.until - clock.now(), kept.failures, kept.why) == (HOUR, 0, "No: rateLimited.")
        other.outcomes = [unreachable()]
        second = make(issuer, other)
        second.steward.start()
        second.advance(60 * DAY)
        assert second.log.of(IssuanceFailed)[0].failures == 1

    @pytest.mark.parametrize(
        ("count", "failures"),
        [(None, 1), ("7", 8), ("-7", 1), ("true", 1), ("2.5", 1), ('"7"', 1), ("[]", 1), ("9" * 50, int("9" * 50) + 1)],
    )
    def test_a_pause_with_an_odd_count(
        self, make: Any, issuer: HandIssuer, storage: FileStorage, count: str | None, failures: int
    ) -> None:
        """A file without a count, as there were, or with one that is none, still says until when to wait."""
        until = (NOW + 2 * HOUR).isoformat()
        field = "" if count is None else f', "failures": {count}'
        storage.put(Key.pause(CA, [NAME]), f'{{"until": "{until}", "why": ""{field}}}'.encode())
        issuer.outcomes = [unreachable()]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert not issuer.calls
        stewardship.advance(2 * HOUR)
        (event,) = stewardship.log.of(IssuanceFailed)
        assert event.failures == failures
        assert event.next_attempt - stewardship.clock.now() <= DAY

    def test_a_rate_limit_and_a_clock_that_was_set_back(
        self, make: Any, issuer: HandIssuer, clock: ManualClock
    ) -> None:
        """A pause that was written by a clock of next year lasts a day at most."""
        clock.jump_to(NOW + 365 * DAY)
        issuer.outcomes = [problem("rateLimited", retry_after=renewal.HOUR)]
        first = make()
        first.steward.start()
        first.settle()
        first.steward.stop()
        clock.jump_to(NOW)
        second = make()
        second.steward.start()
        second.settle()
        assert len(issuer.calls) == 1
        second.advance(DAY)
        second.log.wait_for(CertificateObtained)

    def test_a_corrupt_pause(self, make: Any, issuer: HandIssuer, storage: FileStorage) -> None:
        """A pause that cannot be read is none."""
        for content in (b"", b"{}", b"[1]", b'{"until": 5}', b'{"until": "0001-01-01T00:00:00+23:59"}', b"\xff"):
            storage.put(Key.pause(CA, [NAME]), content)
            stewardship = make()
            stewardship.steward.start()
            stewardship.settle()
            stewardship.steward.stop()
        assert len(issuer.calls) == 1

    def test_whoever_is_in_a_hurry(self, make: Any, issuer: HandIssuer) -> None:
        """Somebody who has mended what was wrong need not wait for the next attempt."""
        issuer.outcomes = [unreachable() for _ in range(3)]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        for calls in (2, 3, 4):
            stewardship.steward.obtain_now([NAME.upper()])
            stewardship.settle()
            assert len(issuer.calls) == calls
        stewardship.log.wait_for(CertificateObtained)
        stewardship.steward.obtain_now()
        stewardship.settle()
        assert len(issuer.calls) == 4
        stewardship.steward.obtain_now(force=True)
        stewardship.settle()
        assert len(issuer.calls) == 5
        assert stewardship.reloads == 2

    def test_an_unexpected_error(self, make: Any, issuer: HandIssuer, caplog: Any) -> None:
        """What nobody foresaw is logged with its traceback and counts as a failure; renewal goes on."""
        issuer.outcomes = [ZeroDivisionError("a hook")]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert stewardship.log.of(IssuanceFailed)[0].message == "ZeroDivisionError: a hook"
        assert "Traceback" in caplog.text
        stewardship.advance(MINUTE)
        stewardship.log.wait_for(CertificateObtained)

    def test_a_reload_that_fails(self, make: Any, issuer: HandIssuer, caplog: Any) -> None:
        """When the server cannot serve it, the certificate is obtained and stored all the same, once."""

        def fail() -> None:
            raise RuntimeError("no contexts today")

        stewardship = make(reload=fail)
        stewardship.steward.start()
        stewardship.settle()
        stewardship.log.wait_for(CertificateObtained)
        assert "no contexts today" in caplog.text
        assert len(issuer.calls) == 1

    def test_the_same_certificate_again(self, started: Stewardship, issuer: HandIssuer) -> None:
        """An authority that gives the old certificate again has not renewed, and the order is forgotten."""
        issuer.outcomes = [lambda: started.served]
        started.advance(60 * DAY)
        assert "same certificate" in started.log.of(IssuanceFailed)[0].message
        assert issuer.settled == [(NAME,), (NAME,)]
        started.advance(MINUTE)
        assert len(started.log.of(CertificateObtained)) == 2

    def test_a_certificate_for_other_names(self, started: Stewardship, issuer: HandIssuer) -> None:
        """A certificate that lacks a name takes nobody's place."""
        before = started.served
        issuer.outcomes = [lambda: issuer.issue("somebody.example.test")]
        started.advance(60 * DAY)
        assert "gave a certificate for somebody.example.test" in started.log.of(IssuanceFailed)[0].message
        assert started.served == before
        assert started.source.certificates.problems() == []


class TestStaging:
    """After a refusal, it is tried out where failures cost nothing."""

    @pytest.fixture
    def staging(self, issuer: HandIssuer, tls_authority: TestAuthority, clock: ManualClock) -> HandIssuer:
        """The authority's staging environment."""
        issuer.twin = HandIssuer(tls_authority, clock, STAGING)
        return issuer.twin

    def test_between_failures(self, make: Any, issuer: HandIssuer, staging: HandIssuer) -> None:
        """After a refusal only staging is asked, until it issues; then the real one is at once, and its is served."""
        issuer.outcomes = [problem()]
        staging.outcomes = [problem("dns"), problem("dns")]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert (len(issuer.calls), len(staging.calls)) == (1, 0)
        stewardship.advance(MINUTE)
        stewardship.advance(3 * MINUTE)
        assert (len(issuer.calls), len(staging.calls)) == (1, 2)
        assert [event.authority for event in stewardship.log.of(IssuanceFailed)] == [CA, STAGING, STAGING]
        stewardship.advance(9 * MINUTE)
        assert (len(issuer.calls), len(staging.calls)) == (2, 3)
        (event,) = stewardship.log.wait_for(CertificateObtained)
        assert (event.authority, event.fingerprint) == (CA, stewardship.served.fingerprint)
        assert staging.settled == [(NAME,)]
        assert [key.authority for key in stewardship.source.storage.keys(Kind.CERTIFICATE)] == [CA]

    def test_failures_of_a_trial_are_counted_over_a_restart(
        self, make: Any, issuer: HandIssuer, staging: HandIssuer
    ) -> None:
        """What staging refused is part of the row as well."""
        issuer.outcomes = [problem(), problem()]
        staging.outcomes = [problem("dns"), problem("dns")]
        fail_three_times(make())
        second = make()
        second.steward.start()
        second.settle()
        second.advance(MINUTE)
        assert [event.failures for event in second.log.of(IssuanceFailed)] == [4]

    def test_refused_again(self, make: Any, issuer: HandIssuer, staging: HandIssuer) -> None:
        """A real authority that refuses what staging issues is again asked only after staging."""
        issuer.outcomes = [problem(), problem()]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        stewardship.advance(MINUTE)
        assert (len(issuer.calls), len(staging.calls)) == (2, 1)
        stewardship.advance(3 * MINUTE)
        assert (len(issuer.calls), len(staging.calls)) == (3, 2)

    @pytest.mark.parametrize("error", [unreachable(), problem("serverInternal"), problem("rateLimited")])
    def test_not_when_it_would_tell_nothing(
        self, make: Any, issuer: HandIssuer, staging: HandIssuer, error: Any
    ) -> None:
        """A failure that is not about the order needs no trial."""
        issuer.outcomes = [error]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        stewardship.advance(HOUR)
        assert (len(issuer.calls), len(staging.calls)) == (2, 0)

    def test_staging_out_of_order(self, make: Any, issuer: HandIssuer, staging: HandIssuer) -> None:
        """A staging environment that is down does not keep us from the real authority."""
        issuer.outcomes = [problem()]
        staging.outcomes = [unreachable()]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        stewardship.advance(MINUTE)
        assert (len(issuer.calls), len(staging.calls)) == (2, 1)
        stewardship.log.wait_for(CertificateObtained)

    def test_staging_has_limits_too(self, make: Any, issuer: HandIssuer, staging: HandIssuer) -> None:
        """While staging wants no request, an order that was refused is not made without a trial."""
        issuer.outcomes = [problem(), problem()]
        staging.outcomes = [problem("rateLimited", retry_after=2 * renewal.HOUR)]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        stewardship.advance(MINUTE)
        assert (len(issuer.calls), len(staging.calls)) == (2, 1)
        stewardship.advance(HOUR)
        assert (len(issuer.calls), len(staging.calls)) == (2, 1)
        stewardship.advance(HOUR)
        assert (len(issuer.calls), len(staging.calls)) == (3, 2)

    def test_a_trial_counts_until_the_next_refusal(self, make: Any, issuer: HandIssuer, staging: HandIssuer) -> None:
        """What staging has issued need not be tried again because the real authority was away just then."""
        issuer.outcomes = [problem(), unreachable(), unreachable()]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        for minutes in (1, 3, 9):
            stewardship.advance(minutes * MINUTE)
        assert (len(issuer.calls), len(staging.calls)) == (4, 1)

    def test_a_stop_in_a_trial(self, make: Any, issuer: HandIssuer, staging: HandIssuer, clock: ManualClock) -> None:
        """A stop while staging is asked is no failure, and ends promptly."""
        issuer.outcomes = [problem()]
        staging.hold()
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        clock.advance(MINUTE)
        stewardship.steward.wake()
        staging.wait_entered()
        stewardship.steward.stop(PATIENCE)
        assert len(stewardship.log.of(IssuanceFailed)) == 1
        assert len(issuer.calls) == 1


class TestSeveralAuthorities:
    """One stands in for the other."""

    @pytest.fixture
    def other(self, tls_authority: TestAuthority, clock: ManualClock) -> HandIssuer:
        """Another authority."""
        return HandIssuer(tls_authority, clock, OTHER_CA)

    def test_fallback(self, make: Any, issuer: HandIssuer, other: HandIssuer) -> None:
        """When the first does not issue, the second is asked at once; renewal begins with the first again."""
        issuer.outcomes = [unreachable()]
        stewardship = make(issuer, other)
        stewardship.steward.start()
        stewardship.settle()
        (event,) = stewardship.log.wait_for(CertificateObtained)
        assert event.authority == OTHER_CA
        assert stewardship.status.authority == OTHER_CA
        assert stewardship.log.of(IssuanceFailed) == []
        # What one authority issued is not replaced at another (RFC 9773, 5).
        stewardship.advance(60 * DAY)
        assert issuer.calls[1:] == [((NAME,), None)]
        assert len(other.calls) == 1

    def test_a_refusal_of_long_ago(
        self, make: Any, issuer: HandIssuer, other: HandIssuer, tls_authority: TestAuthority, clock: ManualClock
    ) -> None:
        """What the first refused before the second issued is not tried at staging when it comes to the renewal."""
        issuer.twin = HandIssuer(tls_authority, clock, STAGING)
        issuer.outcomes = [problem()]
        stewardship = make(issuer, other)
        stewardship.steward.start()
        stewardship.settle()
        stewardship.advance(60 * DAY)
        assert (len(issuer.calls), len(other.calls), len(issuer.twin.calls)) == (2, 1, 0)

    def test_one_that_is_to_be_left_alone(self, make: Any, issuer: HandIssuer, other: HandIssuer) -> None:
        """While the first wants no request, only the second is asked."""
        issuer.outcomes = [problem("rateLimited", retry_after=renewal.DAY)]
        other.outcomes = [unreachable(), unreachable()]
        stewardship = make(issuer, other)
        stewardship.steward.start()
        stewardship.settle()
        stewardship.advance(MINUTE)
        stewardship.advance(3 * MINUTE)
        assert (len(issuer.calls), len(other.calls)) == (1, 3)
        stewardship.log.wait_for(CertificateObtained)

    def test_everybody_fails(self, make: Any, issuer: HandIssuer, other: HandIssuer) -> None:
        """When nobody issues, that is one failure, told by the last."""
        issuer.outcomes, other.outcomes = [unreachable()], [problem("caa")]
        stewardship = make(issuer, other)
        stewardship.steward.start()
        stewardship.settle()
        (event,) = stewardship.log.of(IssuanceFailed)
        assert (event.authority, event.failures) == (OTHER_CA, 1)

    def test_another_authority_from_now_on(
        self, make: Any, issuer: HandIssuer, other: HandIssuer, storage: FileStorage
    ) -> None:
        """After a change of authority the old certificate is served until the new one's is there, at once."""
        old = _fill(storage, issuer)
        other.hold()
        stewardship = make(other)
        stewardship.steward.start()
        other.wait_entered()
        assert stewardship.served == old
        other.release.set()
        stewardship.log.wait_for(CertificateObtained)
        stewardship.settle()
        assert stewardship.status.authority == OTHER_CA
        assert [key.authority for key in storage.keys(Kind.CERTIFICATE)] == [OTHER_CA]
        assert other.calls == [((NAME,), None)]


class TestAlarm:
    """Somebody has to hear of it before it is too late."""

    @pytest.mark.parametrize("lifetime", [90 * DAY, 6 * DAY], ids=["90 days", "6 days"])
    def test_once_for_each_threshold(self, make: Any, issuer: HandIssuer, lifetime: timedelta, caplog: Any) -> None:
        """While renewals fail, the alarm comes at a quarter of the life left, at each half of that, and at the end."""
        issuer.lifetime = lifetime
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        issuer.outcomes = [unreachable() for _ in range(1000)]
        served = stewardship.served
        while stewardship.clock.now() < served.not_after + lifetime / 10:
            stewardship.advance(lifetime / 200)
        alarms = stewardship.log.of(RenewalOverdue)
        left = [alarm.remaining / lifetime.total_seconds() for alarm in alarms]
        assert len(left) == 6
        for found, threshold in zip(left, [1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 0], strict=True):
            assert threshold - 1 / 199 <= found <= threshold
        assert {alarm.fingerprint for alarm in alarms} == {served.fingerprint}
        assert all("cannot be reached" in alarm.message for alarm in alarms)
        said = [record for record in caplog.records if "could not be renewed" in record.getMessage()]
        assert [record.levelname for record in said] == ["ERROR"] * 6
        assert "HAS EXPIRED" in said[-1].getMessage()
        assert stewardship.served == served

    def test_silence_when_all_is_well(self, started: Stewardship, issuer: HandIssuer) -> None:
        """A failure or two that a later attempt makes up for raise no alarm, and a new certificate starts anew."""
        issuer.outcomes = [unreachable(), unreachable()]
        started.advance(60 * DAY)
        started.advance(MINUTE)
        started.advance(3 * MINUTE)
        assert len(started.log.of(CertificateObtained)) == 2
        assert started.log.of(RenewalOverdue) == []

    def test_after_a_long_absence(
        self, make: Any, issuer: HandIssuer, storage: FileStorage, clock: ManualClock
    ) -> None:
        """A server that was off until its certificate had nearly expired alarms once, not for each threshold missed."""
        _fill(storage, issuer)
        clock.advance(88 * DAY)
        issuer.outcomes = [unreachable()]
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert len(stewardship.log.of(RenewalOverdue)) == 1
        stewardship.advance(MINUTE)
        assert len(stewardship.log.of(CertificateObtained)) == 1
        assert len(stewardship.log.of(RenewalOverdue)) == 1
        # The alarms for one certificate do not silence those for the next.
        issuer.outcomes = [unreachable()]
        stewardship.advance(88 * DAY)
        assert len(stewardship.log.of(RenewalOverdue)) == 2

    def test_while_nobody_may_be_asked(
        self, make: Any, issuer: HandIssuer, storage: FileStorage, clock: ManualClock
    ) -> None:
        """The alarm comes as well when the authority wants no request while the end comes near."""
        _fill(storage, issuer)
        clock.advance(60 * DAY)
        issuer.outcomes = [problem("rateLimited", retry_after=renewal.DAY)]
        first = make()
        first.steward.start()
        first.settle()
        first.steward.stop()
        clock.jump_to(NOW + 85 * DAY)
        storage.put(Key.pause(CA, [NAME]), b'{"until": "2026-08-26T00:00:00+00:00"}')
        second = make()
        second.steward.start()
        second.settle()
        assert len(issuer.calls) == 1
        (alarm,) = second.log.of(RenewalOverdue)
        assert (alarm.failures, alarm.message) == (0, "The authorities want no request before their time.")
        assert second.status.state is OrderState.FAILING


class TestClock:
    """Clocks are set, and machines suspended."""

    def test_forwards(self, started: Stewardship, issuer: HandIssuer) -> None:
        """A clock that jumps past the renewal has it made at the next look, an hour later at most."""
        started.advance(HOUR)
        started.jump_to(NOW + 61 * DAY)
        assert len(issuer.calls) == 2
        assert started.log.of(IssuanceFailed) == []

    def test_back(self, started: Stewardship, issuer: HandIssuer, clock: ManualClock) -> None:
        """A clock that is set back has nothing renewed before the time, and waits after failures stay as they were."""
        issuer.outcomes = [unreachable()]
        started.advance(60 * DAY)
        assert len(issuer.calls) == 2
        started.jump_to(NOW)
        assert len(issuer.calls) == 2
        clock.jump_to(NOW + 60 * DAY)
        started.advance(MINUTE)
        assert len(issuer.calls) == 3

    def test_far_ahead(self, make: Any, issuer: HandIssuer, caplog: Any) -> None:
        """A clock that is years ahead makes each certificate look expired: few are obtained, and the log says why."""
        issuer.skew = -3 * 365 * DAY
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert "set the clock" in caplog.text
        for _ in range(48):
            stewardship.advance(HOUR)
        assert len(issuer.calls) <= 6

    def test_far_behind(self, make: Any, issuer: HandIssuer, clock: ManualClock, caplog: Any) -> None:
        """A clock that is years behind makes a certificate look as if from the future: it is served once it is set."""
        issuer.skew = 3 * 365 * DAY
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert "set the clock" in caplog.text
        assert stewardship.source.is_placeholder(stewardship.served)
        stewardship.advance(10 * DAY)
        assert len(issuer.calls) == 1
        reloads = stewardship.reloads
        stewardship.advance(10 * DAY)
        assert stewardship.reloads == reloads
        stewardship.jump_to(clock.now() + 3 * 365 * DAY)
        assert stewardship.reloads == reloads + 1
        assert not stewardship.source.is_placeholder(stewardship.served)
        assert len(issuer.calls) == 1


class TestStorage:
    """Disks fill up, and others change what is on them."""

    def test_no_room(self, make: Any, issuer: HandIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without room for the result nobody is asked for one; when there is room again, somebody is."""
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", _full)
            stewardship = make()
            stewardship.steward.start()
            stewardship.settle()
            assert issuer.calls == []
            (event,) = stewardship.log.of(IssuanceFailed)
            assert "Free some space" in event.message
        stewardship.advance(MINUTE)
        stewardship.log.wait_for(CertificateObtained)

    def test_full_at_the_last_moment(self, make: Any, issuer: HandIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was obtained is served though it cannot be stored, nothing is ordered twice, and it is stored later."""
        put = FileStorage.put

        def full(storage: FileStorage, key: Key, data: bytes) -> None:
            if key.kind is Kind.CERTIFICATE:
                raise StorageError("The disk is full. Free some space.")
            put(storage, key, data)

        monkeypatch.setattr(FileStorage, "put", full)
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        (event,) = stewardship.log.of(CertificateObtained)
        assert stewardship.served.fingerprint == event.fingerprint
        assert "in memory only" in stewardship.log.of(IssuanceFailed)[0].message
        stewardship.advance(MINUTE)
        assert len(stewardship.log.of(IssuanceFailed)) == 2
        assert issuer.settled == []
        monkeypatch.undo()
        stewardship.advance(3 * MINUTE)
        assert len(issuer.calls) == 1
        assert stewardship.status.state is OrderState.VALID
        found = StoredCertificates(FileStorage(stewardship.source.storage.directory), [CA]).best([NAME])
        assert found is not None
        assert found.credential.fingerprint == event.fingerprint
        assert issuer.settled == [(NAME,)]

    def test_corrupt(self, make: Any, issuer: HandIssuer, storage: FileStorage, caplog: Any) -> None:
        """A stored certificate that is corrupt is obtained anew; the others are left alone."""
        other = _fill(storage, issuer, "other.example.test")
        storage.put(Key.certificate(CA, [NAME]), b"rubbish")
        stewardship = make(orders=[[NAME], ["other.example.test"]])
        stewardship.steward.start()
        stewardship.settle()
        assert issuer.calls == [((NAME,), None)]
        assert stewardship.source.load()[1] == other
        assert "another certificate for www.example.test will be obtained" in caplog.text

    def test_an_open_key(self, make: Any, issuer: HandIssuer, storage: FileStorage) -> None:
        """A key that others could read is replaced, file and all."""
        old = _fill(storage, issuer)
        path = storage.path_of(Key.certificate(CA, [NAME]))
        path.chmod(0o644)
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        assert stewardship.served != old
        assert path.stat().st_mode & 0o777 == 0o600

    def test_renewed_by_another_process(self, started: Stewardship, issuer: HandIssuer, storage: FileStorage) -> None:
        """What another process that shares the storage has renewed is taken over instead of renewed again."""
        issuer.outcomes = [unreachable()]
        started.advance(60 * DAY)
        assert len(issuer.calls) == 2
        renewed = _fill(storage, issuer)
        started.advance(MINUTE)
        assert len(issuer.calls) == 2
        assert started.served == renewed
        assert started.status.not_after == renewed.not_after
        assert (started.status.state, started.status.failures) == (OrderState.VALID, 0)

    def test_removed_by_somebody(self, started: Stewardship, issuer: HandIssuer, storage: FileStorage) -> None:
        """A certificate that is gone from the storage, perhaps because it was revoked, is obtained anew in an hour."""
        storage.delete(Key.certificate(CA, [NAME]))
        started.advance(HOUR + MINUTE)
        assert issuer.calls[1:] == [((NAME,), None)]
        assert Key.certificate(CA, [NAME]) in storage.keys(Kind.CERTIFICATE)

    def test_renewed_while_we_came_to_it(self, make: Any, issuer: HandIssuer, storage: FileStorage) -> None:
        """What another process has obtained between our look and our lock is taken over as well."""
        late = LateStorage(storage.directory, lambda: _fill(storage, issuer))
        stewardship = make(storage=late)
        stewardship.steward.start()
        stewardship.settle()
        assert issuer.calls == []
        assert not stewardship.source.is_placeholder(stewardship.served)


class LateStorage(FileStorage):
    """A storage in which somebody else has just done the work when the lock is there."""

    def __init__(self, directory: Path, before: Callable[[], Any]) -> None:
        super().__init__(directory)
        self._before = before

    @contextlib.contextmanager
    def lock(self, names: Any, *, wait: bool = False) -> Any:
        """Give the lock when the other has let go of it."""
        self._before()
        with super().lock(names, wait=wait) as held:
            yield held


PROGRAM = """
import sys

from secureserve.acme.authorities import Authority
from secureserve.acme.source import ACMESource
from secureserve.acme.steward import Steward
from secureserve.acme.storage import FileStorage
from secureserve.certificates.development import self_signed_credential

directory, name, orders = sys.argv[1:]


class Issuer:
    authority = Authority("ca", "https://ca.example.test/directory")

    def obtain(self, names, *, replaces=None, progress=None, cancelled=None):
        with open(orders, "a") as file:
            file.write("an order\\n")
        cancelled.wait(0.2)
        return self_signed_credential(names)

    def settle(self, names):
        pass

    def staging(self):
        return None

    def renewal_information(self, credential):
        return None


source = ACMESource([[name]], FileStorage(directory), authorities=[Issuer.authority.directory_url])
steward = Steward(source, [Issuer()])
print("ready", flush=True)
sys.stdin.readline()
steward.start()
assert steward.wait_until_covered(30)
print(source.load()[0].fingerprint)
steward.stop()
"""


def _full(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


class TestTogether:
    """One order for a set of names at a time, however many there are."""

    def test_two_stewards(self, make: Any, issuer: HandIssuer, clock: ManualClock) -> None:
        """Two that share a storage obtain once: the second takes what the first has obtained."""
        issuer.hold()
        stewards = [make(), make()]
        for each in stewards:
            each.steward.start()
        issuer.wait_entered()
        issuer.release.set()
        for each in stewards:
            each.settle()
        clock.advance(MINUTE)
        for each in stewards:
            each.advance(0.0)
        assert len(issuer.calls) == 1
        assert stewards[0].served == stewards[1].served
        assert not stewards[0].source.is_placeholder(stewards[0].served)
        assert sum(len(each.log.of(CertificateObtained)) for each in stewards) == 1

    def test_three_processes(self, storage: FileStorage, tmp_path: Path) -> None:
        """Real processes that start at once obtain once, and all have the one certificate."""
        orders = tmp_path / "orders"
        orders.touch()
        program = tmp_path / "program.py"
        program.write_text(PROGRAM)
        with contextlib.ExitStack() as running:
            processes = [
                running.enter_context(
                    subprocess.Popen(
                        [sys.executable, str(program), str(storage.directory), NAME, str(orders)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
                for _ in range(3)
            ]
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            fingerprints = {process.communicate(timeout=PATIENCE)[0] for process in processes}
        assert len(fingerprints) == 1
        assert fingerprints != {""}
        assert len(orders.read_text().splitlines()) == 1

    def test_a_process_that_is_killed(self, make: Any, issuer: HandIssuer, storage: FileStorage) -> None:
        """While another process has the order, we wait; when it is killed, we go on at the next look."""
        program = (
            "import sys\n"
            "from secureserve.acme.storage import FileStorage\n"
            f"with FileStorage(sys.argv[1]).lock([{NAME!r}]) as held:\n"
            "    print(held, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(storage.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            stewardship = make()
            stewardship.steward.start()
            stewardship.settle()
            stewardship.advance(MINUTE)
            assert issuer.calls == []
            assert stewardship.status.failures == 0
            process.kill()
            process.wait(PATIENCE)
        stewardship.advance(MINUTE)
        stewardship.log.wait_for(CertificateObtained)

    def test_one_that_hangs_does_not_hold_up_the_others(self, make: Any, issuer: HandIssuer) -> None:
        """Sets of names are worked on at once, each by one thread, and no more than allowed."""
        names = [f"n{number}.example.test" for number in range(6)]
        issuer.hold()
        stewardship = make(orders=[[name] for name in names], threads=3)
        stewardship.steward.start()
        issuer.wait_entered(3)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("secureserve-acme")]
        assert len(threads) == 3
        issuer.release.set()
        stewardship.settle()
        assert sorted(call[0] for call in issuer.calls) == [(name,) for name in names]
        assert issuer.most_concurrent == 3

    def test_names_are_added_and_removed(self, make: Any, issuer: HandIssuer, storage: FileStorage) -> None:
        """A set of names that is added is obtained, one that is removed is let go in the middle of its order."""
        stewardship = make()
        stewardship.steward.start()
        stewardship.settle()
        issuer.hold()
        stewardship.steward.set_orders([["new.example.test"], ["newer.example.test"]])
        issuer.wait_entered(3)
        assert [status.names for status in stewardship.steward.status()] == [
            ("new.example.test",),
            ("newer.example.test",),
        ]
        stewardship.steward.remove_order(["newer.example.test"])
        stewardship.steward.remove_order(["newer.example.test"])
        issuer.release.set()
        stewardship.steward.add_order(["added.example.test"])
        stewardship.settle()
        assert {event.names[0] for event in stewardship.log.of(CertificateObtained)} >= {
            NAME,
            "new.example.test",
            "added.example.test",
        }
        assert stewardship.log.of(IssuanceFailed) == []
        assert [credential.names[0] for credential in stewardship.source.load()] == [
            "new.example.test",
            "added.example.test",
        ]
        assert Key.certificate(CA, [NAME]) in storage.keys(Kind.CERTIFICATE)
        with pytest.raises(ValueError, match="at least one name"):
            stewardship.steward.add_order([])


def test_in_a_server(make: Any, issuer: HandIssuer, clock: ManualClock) -> None:
    """With a real certificate manager, placeholder, certificate and renewal follow each other without a refusal."""
    rotated: list[Any] = []
    manager: list[CertificateManager] = []
    stewardship = make(reload=lambda: manager[0].reload("acme"))
    manager.append(CertificateManager([stewardship.source], clock=clock, publish_event=rotated.append, watch=False))
    manager[0].start()
    try:
        assert manager[0].certificates[0].source == "self-signed"
        stewardship.steward.start()
        stewardship.settle()
        stewardship.advance(60 * DAY)
        chosen = manager[0].store.select(NAME)
        assert chosen == stewardship.served
    finally:
        stewardship.steward.stop()
        manager[0].stop()
    obtained = [event.fingerprint for event in stewardship.log.of(CertificateObtained)]
    assert [event.fingerprint for event in rotated if isinstance(event, CredentialRotated)] == obtained
    assert len(obtained) == 2


def test_nothing_sleeps() -> None:
    """What waits, waits for a condition: no module of this part sleeps."""
    package = Path(renewal.__file__).parent
    modules = (
        "announcer",
        "attempts",
        "caretaker",
        "charge",
        "keys",
        "lock_file",
        "on_demand",
        "renewal",
        "source",
        "steward",
    )
    for module in (*modules, "storage", "stored"):
        assert "sleep" not in (package / f"{module}.py").read_text(encoding="utf-8")
