"""What the rotator serves, refuses and keeps."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from secureserve import errors
from secureserve.certificates.development import self_signed_credential
from secureserve.certificates.rotation import Rotator
from secureserve.certificates.sources import DirectorySource, FileSource, MemorySource
from secureserve.certificates.store import CertificateStore
from secureserve.events import CredentialRotated, RotationRefused
from secureserve.testing import FILE_FAULTS, Authority, CredentialDirectory, ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.certificates.conftest import Listener

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def _dates(start: float, end: float) -> dict[str, Any]:
    return {"not_before": NOW + start * DAY, "not_after": NOW + end * DAY}


class Served:
    """A rotator over one pair of files, at a time of its own."""

    def __init__(self, authority: Authority, path: Path, listener: Listener) -> None:
        self.directory = CredentialDirectory(authority, path, "one.test", chain_depth=1, **_dates(-10, 80))
        self.clock = ManualClock(NOW)
        self.store = CertificateStore(clock=self.clock)
        self.place = str(self.directory.certificate_path)
        source = FileSource(self.directory.certificate_path, self.directory.private_key_path)
        self.rotator = Rotator(self.store, [source], clock=self.clock, publish_event=listener)

    @property
    def fingerprint(self) -> str:
        """Of what a client would get."""
        chosen = self.store.select("one.test")
        assert chosen is not None
        return chosen.fingerprint


@pytest.fixture
def served(tls_authority: Authority, tmp_path: Path, listener: Listener) -> Served:
    """One pair of files, loaded."""
    served = Served(tls_authority, tmp_path / "certs", listener)
    served.rotator.load()
    assert served.fingerprint == served.directory.fingerprint
    return served


def test_rotates(served: Served, listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    """A new good certificate is served, announced and logged with old and new; looking again changes nothing."""
    caplog.set_level(logging.INFO, "secureserve.error")
    old = served.directory.credential
    new = served.directory.rotate(**_dates(-1, 89))
    outcome = served.rotator.reload("signal")
    assert outcome.ok
    assert served.fingerprint == new.fingerprint
    assert listener.events == [
        CredentialRotated(
            place=served.place,
            names=("one.test",),
            fingerprint=new.fingerprint,
            not_after=new.leaf.not_valid_after_utc,
            old_fingerprint=old.fingerprint,
            old_not_after=old.leaf.not_valid_after_utc,
            reason="signal",
        )
    ]
    assert new.fingerprint in caplog.text
    (one,) = served.rotator.served()
    assert one.rotated
    assert one.since == NOW
    before = served.store.snapshot
    assert served.rotator.reload().rotated == ()
    assert served.store.snapshot is before


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        *((fault, None) for fault in FILE_FAULTS),
        ("missing", errors.UnreadableCertificate),
        ("key_mismatch", errors.KeyMismatch),
        ("expired", errors.Expired),
        ("not_yet_valid", errors.NotYetValid),
    ],
)
def test_refuses(served: Served, listener: Listener, fault: str, kind: type | None) -> None:
    """A bad one changes nothing, is announced with the reason, and stays visible until it is mended."""
    before = served.store.snapshot
    served.clock.jump_to(datetime.now(timezone.utc))
    served.directory.break_(fault)
    outcome = served.rotator.reload("api")
    assert not outcome.ok
    assert served.store.snapshot is before
    (event,) = listener.of(RotationRefused)
    assert event.place == served.place
    assert event.kept_fingerprint == served.fingerprint
    assert str(served.directory.directory) in event.message
    (refusal,) = served.rotator.refusals()
    assert isinstance(refusal.error, kind or errors.CredentialError)
    assert event.error == type(refusal.error).__name__
    served.directory.mend()
    assert served.rotator.reload("api").ok
    assert served.rotator.refusals() == ()
    assert listener.of(CredentialRotated) == []


def test_the_same_refusal_is_news_once(served: Served, listener: Listener) -> None:
    """The watcher repeats nothing; who asks is answered each time; the state remembers since when."""
    served.directory.break_("garbage")
    for _ in range(3):
        assert served.rotator.reload("watch").refused
        served.clock.advance(60)
    assert len(listener.of(RotationRefused)) == 1
    assert served.rotator.reload("signal").refused
    assert len(listener.of(RotationRefused)) == 2
    (refusal,) = served.rotator.refusals()
    assert refusal.since == NOW
    served.directory.break_("empty")
    assert served.rotator.reload("watch").refused
    assert len(listener.of(RotationRefused)) == 3


def test_names_must_be_kept(served: Served, listener: Listener) -> None:
    """One that no longer covers a name is refused, unless forced; one that covers more is fine."""
    served.directory.rotate(identities=("other.test",), **_dates(-1, 89))
    assert not served.rotator.reload().ok
    assert "one.test" in listener.of(RotationRefused)[0].message
    assert listener.of(RotationRefused)[0].error == "NameNotCovered"
    more = served.directory.rotate(identities=("other.test", "*.test"), **_dates(-1, 89))
    assert served.rotator.reload().ok
    assert served.fingerprint == more.fingerprint
    fewer = served.directory.rotate(identities=("other.test",), **_dates(-1, 89))
    assert served.rotator.reload(force=True).ok
    assert served.fingerprint == fewer.fingerprint


def test_not_older(served: Served, listener: Listener) -> None:
    """One that was issued before what is served is refused, unless forced."""
    current = served.fingerprint
    older = served.directory.rotate(**_dates(-11, 89))
    assert not served.rotator.reload().ok
    assert listener.of(RotationRefused)[0].error == "OlderThanServed"
    assert re.search(r"\d\d:\d\d:\d\d before .*\d\d:\d\d:\d\d UTC", listener.of(RotationRefused)[0].message)
    assert served.fingerprint == current
    assert served.rotator.reload(force=True).ok
    assert served.fingerprint == older.fingerprint


@pytest.mark.parametrize(("hours", "is_served"), [(-12, True), (-36, False)])
def test_issuers_may_date_back_differently(
    served: Served, tmp_path: Path, listener: Listener, hours: int, is_served: bool
) -> None:
    """After a change of authority, one that begins up to a day before what is served need not be the older one."""
    current = served.fingerprint
    other = Authority(tmp_path / "other authority").issue("one.test", **_dates(-10 + hours / 24, 89))
    served.directory.certificate_path.write_bytes(other.credential.chain_pem())
    served.directory.private_key_path.write_bytes(other.credential.private_key_pem())
    assert served.rotator.reload().ok is is_served
    assert served.fingerprint == (other.credential.fingerprint if is_served else current)
    assert [type(event).__name__ for event in listener.events] == [
        "CredentialRotated" if is_served else "RotationRefused"
    ]


def test_force_does_not_lift_the_other_checks(served: Served) -> None:
    """Even by force, nothing broken is served."""
    current = served.fingerprint
    served.directory.rotate(**_dates(-9, -1))
    assert not served.rotator.reload(force=True).ok
    served.directory.break_("key_mismatch")
    assert not served.rotator.reload(force=True).ok
    assert served.fingerprint == current


def test_tentative_passes_over_what_is_incomplete(served: Served, listener: Listener) -> None:
    """While files are being changed nothing is refused, and a chain that became shorter waits for its rest."""
    before = served.fingerprint
    for fault in ("missing", "truncated", "key_mismatch"):
        served.directory.break_(fault)
        outcome = served.rotator.reload("watch", tentative=True)
        assert outcome.pending
        assert not outcome.refused
    new = served.directory.rotate(**_dates(-1, 89))
    whole = served.directory.certificate_path.read_bytes()
    served.directory.certificate_path.write_bytes(new.cert_chain_pems[0].bytes())
    assert served.rotator.reload("watch", tentative=True).pending
    assert served.fingerprint == before
    served.directory.certificate_path.write_bytes(whole)
    assert not served.rotator.reload("watch", tentative=True).pending
    assert served.fingerprint == new.fingerprint
    assert served.rotator.refusals() == ()
    assert listener.of(RotationRefused) == []
    served.directory.certificate_path.write_bytes(new.cert_chain_pems[0].bytes())
    assert served.rotator.reload("watch").ok, "a shorter chain that stays so is what the user wants"


def test_acceptors_have_a_say(served: Served, listener: Listener) -> None:
    """What an acceptor cannot build contexts with is refused, and what was stays."""

    def prepare(snapshot: Any) -> None:
        if snapshot.credentials[0].fingerprint == served.directory.fingerprint:
            raise ValueError("ee key too small")

    before = served.fingerprint
    served.directory.rotate(**_dates(-1, 89))
    served.store.add_preparer(prepare)
    outcome = served.rotator.reload()
    assert not outcome.ok
    assert outcome.rotated == ()
    assert served.fingerprint == before
    assert listener.of(RotationRefused)[0].message == "ee key too small"
    served.store.forget(prepare)
    assert served.rotator.reload().ok
    assert served.fingerprint == served.directory.fingerprint


def test_start_fails_loudly(tls_authority: Authority, tmp_path: Path, listener: Listener) -> None:
    """What cannot be served at the start fails it, with the error that names the file."""
    served = Served(tls_authority, tmp_path / "certs", listener)
    served.directory.break_("key_mismatch")
    with pytest.raises(errors.KeyMismatch):
        served.rotator.load()
    served.directory.rotate(usage="client", **_dates(-1, 89))
    with pytest.raises(errors.UsageNotAllowed):
        served.rotator.load()
    assert served.store.select("one.test") is None
    with pytest.raises(errors.NoCredential, match="ssl_certificate"):
        Rotator(CertificateStore(), []).load()


def test_expired_is_better_than_none(
    tls_authority: Authority, tmp_path: Path, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """An expired certificate is served at the start, loudly, until there is a better one."""
    served = Served(tls_authority, tmp_path / "certs", listener)
    served.clock.advance(100 * DAY)
    served.rotator.load()
    assert served.fingerprint == served.directory.fingerprint
    assert "serving an expired certificate" in caplog.text
    served.directory.rotate(**_dates(99, 120))
    assert served.rotator.reload().ok
    assert served.fingerprint == served.directory.fingerprint


def test_emergency(tls_authority: Authority, tmp_path: Path, listener: Listener) -> None:
    """Where an emergency certificate is wanted, it is served instead of failing, until the real one can be."""
    served = Served(tls_authority, tmp_path / "certs", listener)
    served.directory.break_("missing")
    emergency = self_signed_credential(["one.test"], now=NOW)
    served.rotator.load(emergency=lambda: emergency)
    assert served.fingerprint == emergency.fingerprint
    assert served.rotator.refusals() != ()
    assert not served.rotator.reload().ok
    assert served.rotator.reload("watch", tentative=True).pending
    assert served.fingerprint == emergency.fingerprint
    served.directory.mend()
    assert not served.rotator.reload("watch", tentative=True).pending
    assert served.fingerprint == served.directory.fingerprint
    assert [one.place for one in served.rotator.served()] == [served.place]
    assert served.rotator.refusals() == ()


def test_not_yet_valid_is_tried_again(served: Served) -> None:
    """One whose time has not come is refused, and it is known when to try again."""
    served.directory.rotate(**_dates(2, 90))
    assert not served.rotator.reload().ok
    assert served.rotator.retry_at() == NOW + 2 * DAY
    served.clock.advance(2 * DAY)
    assert served.rotator.reload().ok
    assert served.rotator.retry_at() is None
    assert served.fingerprint == served.directory.fingerprint


class Many:
    """A rotator over a directory of three."""

    def __init__(self, authority: Authority, path: Path, listener: Listener) -> None:
        self.path = path
        self.directories = {
            name: CredentialDirectory(authority, path / name, f"{name}.test", **_dates(-10, 80)) for name in "abc"
        }
        clock = ManualClock(NOW)
        self.store = CertificateStore(clock=clock)
        self.rotator = Rotator(self.store, [DirectorySource(path)], clock=clock, publish_event=listener)

    def served(self) -> dict[str, str]:
        """Return which name gets its own certificate."""
        return {one.names[0][0]: one.fingerprint for one in self.store.snapshot.credentials}

    def right(self) -> dict[str, str]:
        """Return what should be served while nothing is broken."""
        return {name: directory.fingerprint for name, directory in self.directories.items()}


@pytest.fixture
def many(tls_authority: Authority, tmp_path: Path, listener: Listener) -> Many:
    """Three pairs in one directory, loaded."""
    many = Many(tls_authority, tmp_path / "certs", listener)
    many.rotator.load()
    assert many.served() == many.right()
    return many


def test_one_bad_does_not_hold_up_the_others(many: Many, listener: Listener) -> None:
    """In one look the good ones rotate, and the bad one keeps what it had."""
    right = many.right()
    many.directories["a"].break_("garbage")
    new = many.directories["b"].rotate(**_dates(-1, 89))
    outcome = many.rotator.reload()
    assert len(outcome.rotated) == len(outcome.refused) == 1
    assert many.served() == {**right, "b": new.fingerprint}
    assert [event.names for event in listener.of(CredentialRotated)] == [("b.test",)]


def test_one_bad_at_the_start(tls_authority: Authority, tmp_path: Path, listener: Listener) -> None:
    """A directory with one bad pair is served without it, and that is announced; with none at all the start fails."""
    many = Many(tls_authority, tmp_path / "certs", listener)
    many.directories["a"].break_("key_garbage")
    many.rotator.load()
    assert set(many.served()) == {"b", "c"}
    assert [event.error for event in listener.of(RotationRefused)] == ["UnreadableKey"]
    many.directories["a"].mend()
    assert many.rotator.reload().ok
    assert many.served() == many.right()
    worse = Many(tls_authority, tmp_path / "worse", listener)
    for directory in worse.directories.values():
        directory.break_("key_garbage")
    with pytest.raises(errors.UnreadableKey):
        worse.rotator.load()


def test_additions_and_removals(many: Many, listener: Listener, tls_authority: Authority) -> None:
    """A new pair is served; one that is gone is not, after it had its chance to come back."""
    CredentialDirectory(tls_authority, many.path / "d", "d.test", **_dates(-1, 80))
    assert many.rotator.reload().ok
    assert set(many.served()) == {"a", "b", "c", "d"}
    assert listener.of(CredentialRotated)[0].old_fingerprint is None
    many.directories["a"].remove()
    assert many.rotator.reload("watch", tentative=True).pending
    assert set(many.served()) == {"a", "b", "c", "d"}
    assert many.rotator.reload("watch").ok
    assert set(many.served()) == {"b", "c", "d"}


def test_a_directory_that_is_gone(many: Many) -> None:
    """When the whole directory is gone, or emptied, everything is still served and the error is visible."""
    right = many.right()
    for directory in many.directories.values():
        directory.remove()
    for gone in (False, True):
        if gone:
            many.path.rmdir()
        assert not many.rotator.reload().ok
        assert many.served() == right
        assert isinstance(many.rotator.refusals()[0].error, errors.NoCredential)
    for directory in many.directories.values():
        directory.mend()
    assert many.rotator.reload().ok
    assert many.served() == right


def test_names_may_move(many: Many) -> None:
    """A name may leave one certificate for another that is new as well, not for nobody's."""
    many.directories["a"].rotate(identities=("a.test", "b.test"), **_dates(-1, 80))
    many.directories["b"].rotate(identities=("other.test",), **_dates(-1, 80))
    assert many.rotator.reload().ok
    many.directories["c"].rotate(identities=("third.test",), **_dates(-1, 80))
    many.directories["b"].rotate(identities=("c.test",), **_dates(-1, 80))
    outcome = many.rotator.reload()
    assert [event.error for event in outcome.refused] == ["NameNotCovered", "NameNotCovered"]
    assert set(many.store.snapshot.exact) >= {"a.test", "b.test", "c.test", "other.test"}


def test_sources_combine(served: Served, tls_authority: Authority, listener: Listener) -> None:
    """Sources are served together, the first one's first is the default, and each fails by itself."""
    memory = MemorySource(tls_authority.issue("memory.test", **_dates(-1, 80)).credential)
    files = served.rotator.sources[0]
    store = CertificateStore(clock=served.clock)
    rotator = Rotator(store, [memory, files], clock=served.clock, publish_event=listener)
    rotator.load()
    assert store.select("nobody.test") == memory.load()[0]
    assert store.select("one.test") == files.load()[0]
    served.directory.break_("garbage")
    fresh = tls_authority.issue("memory.test", **_dates(-1, 81)).credential
    memory.replace(fresh)
    outcome = rotator.reload()
    assert len(outcome.rotated) == len(outcome.refused) == 1
    assert store.select("memory.test") == fresh
    assert {served.place, "memory"} == {one.place for one in rotator.status()[0]}
