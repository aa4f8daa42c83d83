"""Certificates looked after from start to stop: real files, a real watcher."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from secureserve import errors
from secureserve.certificates.manager import CertificateManager
from secureserve.certificates.sources import DirectorySource, FileSource, MemorySource
from secureserve.certificates.trust import TrustKeeper
from secureserve.clock import SYSTEM_CLOCK
from secureserve.events import CredentialExpiring, CredentialRotated, RotationRefused
from secureserve.testing import CredentialDirectory, Layout, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from secureserve.testing import Authority
    from tests.certificates.conftest import Listener

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)


@pytest.fixture
def managed(listener: Listener) -> Iterator[Callable[..., CertificateManager]]:
    """A factory of started managers that are stopped after the test."""
    made: list[CertificateManager] = []

    def make(*sources: Any, **options: Any) -> CertificateManager:
        manager = CertificateManager(sources, publish_event=listener, **options)
        made.append(manager)
        manager.start()
        return manager

    yield make
    for manager in made:
        manager.stop()


def _source(directory: CredentialDirectory) -> FileSource:
    key = None if directory.private_key_path == directory.certificate_path else directory.private_key_path
    return FileSource(directory.certificate_path, key, chain=directory.chain_path)


def served(fingerprint: str) -> Callable[[CredentialRotated], bool]:
    """Return what recognises the rotation to a certificate."""
    return lambda event: event.fingerprint == fingerprint


def _served(manager: CertificateManager) -> str:
    chosen = manager.store.select(None)
    assert chosen is not None
    return chosen.fingerprint


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: layout.value)
def test_every_layout_rotates(
    tls_authority: Authority, tmp_path: Path, managed: Any, listener: Listener, layout: Layout
) -> None:
    """Whatever tool replaces the files, the new certificate is served by itself, twice in a row."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", layout=layout, chain_depth=1)
    manager = managed(_source(directory))
    for _ in range(2):
        new = directory.rotate().fingerprint
        event = listener.wait_for(CredentialRotated, served(new))
        assert event.reason == "watch"
        assert _served(manager) == new
    assert listener.of(RotationRefused) == []


def test_within_two_seconds(tls_authority: Authority, tmp_path: Path, managed: Any, listener: Listener) -> None:
    """A rotation is noticed within 2 seconds (best of several, as the machine may be busy)."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    managed(_source(directory))
    took: list[float] = []
    for _ in range(3):
        began = time.monotonic()
        new = directory.rotate().fingerprint
        listener.wait_for(CredentialRotated, served(new))
        took.append(time.monotonic() - began)
    assert min(took) < 2


def test_polling(tls_authority: Authority, tmp_path: Path, managed: Any, listener: Listener) -> None:
    """Where notifications do not reach, the content is looked at."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    managed(_source(directory), polling_interval=0.1)
    new = directory.rotate().fingerprint
    listener.wait_for(CredentialRotated, lambda event: event.fingerprint == new)


@pytest.mark.parametrize("first", ["certificate", "private key"])
def test_one_file_after_the_other(
    tls_authority: Authority, tmp_path: Path, managed: Any, listener: Listener, first: str
) -> None:
    """Whichever file is written first, the mismatched pair in between is neither served nor called an error."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    manager = managed(_source(directory))
    before = _served(manager)
    new = tls_authority.issue(fresh_key=True)
    writes = [
        (directory.certificate_path, new.cert_chain_pem.bytes()),
        (directory.private_key_path, new.private_key_pem.bytes()),
    ]
    if first == "private key":
        writes.reverse()
    pending = threading.Event()
    reload = manager.rotator.reload

    def look(*args: Any, **options: Any) -> Any:
        outcome = reload(*args, **options)
        if outcome.pending:
            pending.set()
        return outcome

    manager.rotator.reload = look
    (path, content), (other_path, other_content) = writes
    path.write_bytes(content)
    assert pending.wait(20)
    assert _served(manager) == before
    other_path.write_bytes(other_content)
    listener.wait_for(CredentialRotated, lambda event: event.fingerprint == new.fingerprint)
    assert listener.of(RotationRefused) == []


def test_what_stays_broken_is_an_error(
    tls_authority: Authority, tmp_path: Path, managed: Any, listener: Listener
) -> None:
    """Files that are not completed in time are refused once, visibly, until they are mended; all goes on as before."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    manager = managed(_source(directory), settle_timeout=0.2)
    before = _served(manager)
    directory.break_("truncated")
    refused = listener.wait_for(RotationRefused)
    assert refused.kept_fingerprint == before == _served(manager)
    (shown,) = manager.certificates.refused
    assert shown.source == str(directory.certificate_path)
    assert manager.certificates[0].last_refusal == shown.message
    new = directory.rotate().fingerprint
    listener.wait_for(CredentialRotated, lambda event: event.fingerprint == new)
    assert manager.certificates.refused == ()
    assert len(listener.of(RotationRefused)) == 1


def test_directory_source_is_watched(
    tls_authority: Authority, tmp_path: Path, managed: Any, listener: Listener
) -> None:
    """In a directory, new pairs in new directories are found and old ones rotate."""
    first = CredentialDirectory(tls_authority, tmp_path / "certs", "a.test", layout="lego", name="a.test")
    manager = managed(DirectorySource(tmp_path / "certs"))
    second = CredentialDirectory(tls_authority, tmp_path / "certs" / "more", "b.test", layout="certbot", name="b.test")
    listener.wait_for(CredentialRotated, lambda event: event.fingerprint == second.fingerprint)
    new = second.rotate().fingerprint
    listener.wait_for(CredentialRotated, lambda event: event.fingerprint == new)
    new = first.rotate().fingerprint
    listener.wait_for(CredentialRotated, lambda event: event.fingerprint == new)
    assert {one.names for one in manager.certificates} == {("a.test",), ("b.test",)}


def test_memory_is_served_at_once(tls_authority: Authority, managed: Any) -> None:
    """When `MemorySource.replace` returns, new handshakes get the new one; what may not be served is not."""
    source = MemorySource(tls_authority.issue("a.test").credential)
    manager = managed(source)
    new = tls_authority.issue("a.test").credential
    source.replace(new)
    assert _served(manager) == new.fingerprint
    source.replace(tls_authority.issue("a.test", usage="client").credential)
    assert _served(manager) == new.fingerprint
    assert manager.certificates.refused[0].error == "UsageNotAllowed"


def test_reload_is_done_when_it_returns(tls_authority: Authority, tmp_path: Path, listener: Listener) -> None:
    """`reload` works with no watcher and before the start, and what it found is served when it returns."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    manager = CertificateManager([_source(directory)], watch=False, publish_event=listener)
    manager.load()
    manager.load()
    manager.start()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("secureserve-")] == [
        "secureserve-certificates"
    ]
    new = directory.rotate().fingerprint
    outcome = manager.reload("signal")
    assert [event.fingerprint for event in outcome.rotated] == [new]
    assert _served(manager) == new
    manager.stop()


def test_threads_end(tls_authority: Authority, tmp_path: Path) -> None:
    """`stop` ends every thread, any number of times, and a manager can be started again."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    manager = CertificateManager([_source(directory)])
    manager.stop()
    for _ in range(2):
        manager.start()
        manager.start()
        assert all(one.daemon for one in threading.enumerate() if one.name.startswith("secureserve-"))
        manager.stop()
        manager.stop()
        assert not [one for one in threading.enumerate() if one.name.startswith("secureserve-")]


def test_start_fails(tls_authority: Authority, tmp_path: Path) -> None:
    """What cannot be loaded fails the start, and no thread is left."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    directory.break_("key_mismatch")
    manager = CertificateManager([_source(directory)])
    with pytest.raises(errors.KeyMismatch):
        manager.start()
    assert not [one for one in threading.enumerate() if one.name.startswith("secureserve-")]


def test_emergency(
    tls_authority: Authority, tmp_path: Path, managed: Any, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """With an emergency certificate the start succeeds, loudly; the real one is served as soon as it is there."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    directory.break_("missing")
    manager = managed(_source(directory), emergency=True, emergency_names=["localhost"])
    assert manager.in_emergency
    assert manager.certificates.emergency
    assert manager.certificates[0].names == ("localhost",)
    logging.getLogger("secureserve.error").error("whatever else is logged at the start")
    assert all(record.getMessage().startswith("EMERGENCY CERTIFICATE: ") for record in caplog.records)
    assert str(directory.certificate_path) in caplog.text
    directory.mend()
    listener.wait_for(CredentialRotated, lambda event: event.fingerprint == directory.fingerprint)
    assert not manager.in_emergency
    assert not manager.certificates.emergency
    manager.reload()
    caplog.clear()
    logging.getLogger("secureserve.error").error("a line after the emergency")
    assert "EMERGENCY" not in caplog.text


def test_expiry_is_announced(
    tls_authority: Authority, managed: Any, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """The coming end is announced as thresholds pass, and after it the certificate is still served, loudly."""
    clock = ManualClock(NOW)
    one = tls_authority.issue("six.test", not_before=NOW - DAY, not_after=NOW + 5 * DAY).credential
    source = MemorySource(one)
    manager = managed(source, clock=clock)
    assert listener.of(CredentialExpiring) == []
    clock.advance(4 * DAY)
    manager.reload()
    warning = listener.wait_for(CredentialExpiring)
    assert warning.remaining == DAY.total_seconds()
    assert "six.test expires in 24.0 hours" in caplog.text
    clock.advance(2 * DAY)
    manager.reload()
    listener.wait_for(CredentialExpiring, lambda event: event.remaining < 0)
    assert "HAS EXPIRED and is still served" in caplog.text
    assert manager.store.select("six.test") == one
    assert manager.certificates[0].days_left == -1
    assert [record.levelno for record in caplog.records if "EXPIRED" in record.message] == [logging.ERROR]


def test_view(tls_authority: Authority, tmp_path: Path, managed: Any) -> None:
    """The view tells people and scripts what is served, and holds nothing of the key."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "a.test", layout="combined")
    clock = ManualClock(datetime.now(timezone.utc))
    manager = managed(_source(directory), clock=clock, watch=False)
    assert manager.certificates.last_rotation is None
    directory.rotate(identities=("a.test", "b.test"), lifetime=30 * DAY)
    manager.reload()
    view = manager.certificates
    (one,) = view
    assert len(view) == 1
    assert (one.names, one.fingerprint) == (("a.test", "b.test"), directory.fingerprint)
    assert one.source == str(directory.certificate_path)
    assert one.issuer == directory.credential.leaf.issuer.rfc4514_string()
    assert 28 < one.days_left <= 30
    assert one.key_type == "ecdsa"
    assert one.default
    assert one.last_rotation == view.last_rotation == clock.now()
    text = json.dumps(view.as_dict())
    assert json.loads(text)["served"][0]["last_rotation"] == clock.now().isoformat()
    assert "PRIVATE" not in text


class FakeAcceptor:
    """Counts what is asked of it; its client authorities can be made to fail."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.trust = threading.Semaphore(0)
        self.fail = False

    def forget_sessions(self, reason: str) -> None:
        """Remember why."""
        self.forgotten.append(reason)

    def reload_client_trust(self) -> None:
        """Count."""
        self.trust.release()
        if self.fail:
            raise errors.ConfigurationError("ssl_client_ca", "/x", "holds no certificate")


def test_acceptors(tls_authority: Authority, tmp_path: Path, managed: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Sessions are revoked on demand only; client authorities rotate with the certificates, and when their files do."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    authorities = tmp_path / "client-ca.pem"
    authorities.write_text("one")
    manager = CertificateManager([_source(directory)])
    acceptor = FakeAcceptor()
    manager.add_acceptor(acceptor, trust_paths=[authorities])
    manager.start()
    try:
        manager.reload()
        assert acceptor.forgotten == []
        manager.reload("key stolen", revoke_sessions=True)
        assert acceptor.forgotten == ["key stolen"]
        while acceptor.trust.acquire(blocking=False):
            pass
        authorities.write_text("two")
        assert acceptor.trust.acquire(timeout=20)
        assert "refused new client authorities" not in caplog.text
    finally:
        manager.stop()


def test_refused_client_authorities(tls_authority: Authority, tmp_path: Path, listener: Listener) -> None:
    """Client authorities that are no good are told of by the reload, an event and the view, until they are mended."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs")
    manager = CertificateManager([_source(directory)], publish_event=listener)
    acceptor = FakeAcceptor()
    manager.load()
    manager.add_acceptor(acceptor, trust_paths=[tmp_path / "client-ca.pem"])
    acceptor.fail = True
    for _ in range(2):
        outcome = manager.reload()
        assert not outcome.ok
        assert [refused.message for refused in outcome.refused] == ["ssl_client_ca = '/x' holds no certificate."]
        assert listener.wait_for(RotationRefused).place == "/x"
        (refused,) = manager.certificates.refused
        assert (refused.source, refused.error) == ("/x", "ConfigurationError")
    acceptor.fail = False
    assert manager.reload().ok
    assert manager.certificates.refused == ()


def test_client_authorities_put_back(tmp_path: Path) -> None:
    """What was refused is mended when the file is again as it was before, too."""
    authorities = tmp_path / "client-ca.pem"
    authorities.write_text("one")
    keeper, acceptor = TrustKeeper(SYSTEM_CLOCK), FakeAcceptor()
    keeper.add(acceptor, [authorities])
    acceptor.fail = True
    authorities.write_text("two")
    assert keeper.reload_changed(tentative=True)
    assert len(keeper.reload("api")) == len(keeper.refusals()) == 1
    acceptor.fail = False
    authorities.write_text("one")
    assert not keeper.reload_changed(tentative=True)
    assert keeper.refusals() == ()


def test_client_authorities_may_be_half_written(
    tls_authority: Authority, tmp_path: Path, managed: Any, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """Client authorities that are completed a moment later are no error; those that stay broken are one."""
    authorities = tmp_path / "client-ca.pem"
    authorities.write_text("one")
    manager = managed(MemorySource(tls_authority.issue().credential), settle_timeout=5.0)
    acceptor = FakeAcceptor()
    manager.add_acceptor(acceptor, trust_paths=[authorities])
    manager.stop()
    manager.start()
    acceptor.fail = True
    authorities.write_text("tw")
    assert acceptor.trust.acquire(timeout=20)
    acceptor.fail = False
    authorities.write_text("two")
    assert acceptor.trust.acquire(timeout=20)
    assert manager.certificates.refused == ()
    assert "refused new client authorities" not in caplog.text
    acceptor.fail = True
    authorities.write_text("three")
    assert listener.wait_for(RotationRefused).place == "/x"
    assert "refused new client authorities" in caplog.text
