"""What is stored is served; until there is something, a placeholder is."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.acme.source import ACMESource
from secureserve.acme.storage import FileStorage, Key
from secureserve.acme.stored import StoredCertificates
from secureserve.certificates.manager import CertificateManager
from secureserve.certificates.sources import ListingSource, MemorySource
from secureserve.errors import CredentialError, NoCredential, StorageError, UnreadableCertificate
from secureserve.events import CredentialRotated, RotationRefused
from secureserve.testing import ManualClock
from tests.acme.stewardship import CA, DAY, HOUR, NAME, NOW, OTHER_CA, PATIENCE, Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from secureserve.certificates.credential import Credential
    from secureserve.testing import Authority as TestAuthority

OTHER = "other.example.test"


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the test."""
    return ManualClock(NOW)


@pytest.fixture
def source(storage: FileStorage, clock: ManualClock) -> ACMESource:
    """A source of two certificates."""
    return ACMESource([[NAME], [OTHER, "*.other.example.test"]], storage, authorities=[CA], clock=clock)


@pytest.fixture
def managed() -> Iterator[Callable[..., tuple[CertificateManager, Log]]]:
    """A factory of started managers, with their events, that are stopped after the test."""
    made: list[CertificateManager] = []

    def make(*sources: Any, **options: Any) -> tuple[CertificateManager, Log]:
        log = Log()
        manager = CertificateManager(sources, publish_event=log, **options)
        made.append(manager)
        manager.start()
        return manager, log

    yield make
    for manager in made:
        manager.stop()


def _issue(tls_authority: TestAuthority, *names: str, at: timedelta = -HOUR, life: timedelta = 90 * DAY) -> Credential:
    begin = NOW + at
    return tls_authority.issue(*names or (NAME,), not_before=begin, not_after=begin + life).credential


def _selected(manager: CertificateManager, name: str) -> Credential:
    chosen = manager.store.select(name)
    assert chosen is not None
    return chosen


def test_placeholders_before_the_first_issue(source: ACMESource, managed: Any, clock: ManualClock) -> None:
    """With nothing stored the server starts all the same, with self-signed certificates for the very names."""
    assert isinstance(source, ListingSource)
    manager, log = managed(source, clock=clock)
    for name in (NAME, OTHER, f"www.{OTHER}"):
        credential = _selected(manager, name)
        assert credential.covers(name)
        assert credential.self_signed
        assert source.is_placeholder(credential)
    assert _selected(manager, "unknown.example.test").covers(NAME)
    assert log.events == []


def test_a_larger_set_of_names_keeps_what_there_was(
    storage: FileStorage, tls_authority: TestAuthority, managed: Any, clock: ManualClock
) -> None:
    """When a name is added, the names that were there before keep their certificate until there is one for all."""
    before = _issue(tls_authority, NAME, f"*.{OTHER}", at=-DAY)
    expired = _issue(tls_authority, OTHER, at=-100 * DAY)
    ACMESource([], storage).certificates.put(CA, [NAME, f"*.{OTHER}"], before)
    ACMESource([], storage).certificates.put(CA, [OTHER], expired)
    names = (NAME, f"www.{OTHER}", OTHER)
    source = ACMESource([names], storage, authorities=[CA], clock=clock)
    manager, log = managed(source, clock=clock, watch=False)
    assert _selected(manager, NAME) == before
    assert _selected(manager, f"www.{OTHER}") == before
    assert manager.store.snapshot.default == before
    assert _selected(manager, OTHER).names == (OTHER,)
    assert source.is_placeholder(_selected(manager, OTHER))
    after = _issue(tls_authority, *names)
    source.certificates.put(CA, names, after)
    assert manager.reload().ok
    assert {_selected(manager, name) for name in names} == {after}
    assert not log.of(RotationRefused)
    assert [served.fingerprint for served in manager.certificates] == [after.fingerprint]


def test_a_placeholder_never_grows_old(source: ACMESource, managed: Any, clock: ManualClock) -> None:
    """Whatever the clock says or will say, a placeholder neither expires nor is it newer than a certificate."""
    for moment in (NOW - 50 * 365 * DAY, NOW, NOW + 500 * 365 * DAY):
        clock.jump_to(moment)
        assert [credential.problems(now=clock.now()) for credential in source.load()] == [(), ()]
    manager, log = managed(source, clock=clock)
    assert not log.events
    assert manager.certificates[0].days_left > 10**6


def test_what_is_stored_is_served(
    source: ACMESource, storage: FileStorage, tls_authority: TestAuthority, managed: Any, clock: ManualClock
) -> None:
    """A stored certificate is served from the start, and nothing is said of placeholders for it."""
    stored = _issue(tls_authority)
    source.certificates.put(CA, [NAME], stored)
    manager, _log = managed(ACMESource([[NAME]], storage, authorities=[CA], clock=clock), clock=clock)
    assert _selected(manager, NAME) == stored
    assert _selected(manager, NAME).origin == storage.place(Key.certificate(CA, [NAME]))


def test_from_placeholder_to_certificate(
    source: ACMESource, tls_authority: TestAuthority, managed: Any, clock: ManualClock
) -> None:
    """The first certificate takes the placeholder's place at once, even one that an authority dated back for days."""
    manager, log = managed(source, clock=clock, watch=False)
    obtained = _issue(tls_authority, at=-20 * DAY)
    source.certificates.put(CA, [NAME], obtained)
    assert manager.reload("acme").ok
    (event,) = log.of(CredentialRotated)
    assert (event.place, event.fingerprint) == (f"ACME ({NAME})", obtained.fingerprint)
    assert _selected(manager, NAME) == obtained
    assert source.is_placeholder(_selected(manager, OTHER))


def test_another_process_obtains(
    source: ACMESource, storage: FileStorage, tls_authority: TestAuthority, managed: Any, clock: ManualClock
) -> None:
    """What another process stores is noticed by itself, for the first time and the next."""
    manager, log = managed(source, clock=clock)
    for number in (1, 2):
        obtained = _issue(tls_authority, at=number * HOUR - DAY)
        StoredCertificates(FileStorage(storage.directory), [CA]).put(CA, [NAME], obtained)
        assert log.wait_for(CredentialRotated, number)[-1].fingerprint == obtained.fingerprint
        assert _selected(manager, NAME) == obtained


@pytest.mark.parametrize(
    "content", [b"", b"rubbish\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_corrupt_file_at_the_start(
    source: ACMESource,
    storage: FileStorage,
    tls_authority: TestAuthority,
    *,
    managed: Any,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
) -> None:
    """A corrupt file is as good as none: its name gets a placeholder, others what is stored, and the log says so."""
    good = _issue(tls_authority, OTHER, f"*.{OTHER}")
    source.certificates.put(CA, good.names, good)
    storage.put(Key.certificate(CA, [NAME]), content)
    manager, _log = managed(source, clock=clock)
    assert source.is_placeholder(_selected(manager, NAME))
    assert _selected(manager, OTHER) == good
    assert str(storage.path_of(Key.certificate(CA, [NAME]))) in caplog.text


def test_a_file_that_goes_bad_later(
    source: ACMESource, storage: FileStorage, tls_authority: TestAuthority, managed: Any, clock: ManualClock
) -> None:
    """What was served goes on being served when its file is corrupted or removed under the server."""
    stored = _issue(tls_authority)
    key = Key.certificate(CA, [NAME])
    source.certificates.put(CA, [NAME], stored)
    manager, log = managed(source, clock=clock, watch=False)
    storage.put(key, b"rubbish")
    assert not manager.reload().ok
    storage.delete(key)
    assert not manager.reload().ok
    assert _selected(manager, NAME) == stored
    assert [event.error for event in log.of(RotationRefused)] == [UnreadableCertificate.__name__, NoCredential.__name__]
    newer = _issue(tls_authority, at=timedelta())
    source.certificates.put(CA, [NAME], newer)
    assert manager.reload().ok
    assert _selected(manager, NAME) == newer


def test_an_open_key_is_not_served(
    source: ACMESource, storage: FileStorage, tls_authority: TestAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that others could read counts as known to them: it is not used, and the log says what to do."""
    source.certificates.put(CA, [NAME], _issue(tls_authority))
    storage.path_of(Key.certificate(CA, [NAME])).chmod(0o644)
    assert source.is_placeholder(source.load()[0])
    assert "chmod 600" in caplog.text


def test_a_clock_that_has_yet_to_be_set(
    source: ACMESource, tls_authority: TestAuthority, managed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that wakes up in 1970 serves a placeholder until its clock is set, and says why."""
    clock = ManualClock(NOW - 56 * 365 * DAY)
    stored = _issue(tls_authority)
    slow = ACMESource([[NAME]], source.storage, authorities=[CA], clock=clock)
    slow.certificates.put(CA, [NAME], stored)
    manager, _log = managed(slow, clock=clock, watch=False)
    assert slow.is_placeholder(_selected(manager, NAME))
    assert "set the clock" in caplog.text
    clock.jump_to(NOW)
    assert manager.reload().ok
    assert _selected(manager, NAME) == stored


def test_an_expired_certificate(
    source: ACMESource, tls_authority: TestAuthority, managed: Any, clock: ManualClock
) -> None:
    """An expired certificate is served at the start for want of a better one: clients can tell what is wrong."""
    expired = _issue(tls_authority, at=-91 * DAY)
    source.certificates.put(CA, [NAME], expired)
    manager, _log = managed(source, clock=clock)
    assert _selected(manager, NAME) == expired


def test_names_come_and_go(source: ACMESource, tls_authority: TestAuthority, managed: Any, clock: ManualClock) -> None:
    """A set of names that is added is served from the next look on, and one that is removed no more."""
    manager, _log = managed(source, clock=clock, watch=False)
    added = _issue(tls_authority, "added.example.test")
    source.certificates.put(CA, added.names, added)
    source.add_order(["ADDED.example.test."])
    source.add_order(["added.example.test"])
    manager.reload()
    assert _selected(manager, "added.example.test") == added
    assert source.covers("added.example.test")
    assert source.covers(f"x.{OTHER}")
    assert not source.covers(f"x.y.{OTHER}")
    source.remove_order(["added.example.test"])
    source.remove_order(["added.example.test"])
    manager.reload()
    assert not _selected(manager, "added.example.test").covers("added.example.test")
    assert source.certificates.best(added.names) is not None
    source.set_orders([["added.example.test"]])
    manager.reload()
    assert [served.names for served in manager.certificates] == [("added.example.test",)]


def test_without_a_placeholder(
    storage: FileStorage, tls_authority: TestAuthority, managed: Any, clock: ManualClock
) -> None:
    """An order without a placeholder has no place until there is a certificate; a source of nothing has a default."""
    source = ACMESource([], storage, default_names=["localhost"], clock=clock)
    source.add_order([NAME], placeholder=False)
    manager, _log = managed(source, clock=clock, watch=False)
    assert [served.names for served in manager.certificates] == [("localhost",)]
    obtained = _issue(tls_authority)
    source.certificates.put(CA, [NAME], obtained)
    assert manager.reload().ok
    assert [served.names for served in manager.certificates] == [(NAME,)]
    assert ACMESource([], storage, clock=clock).entries() == []


def test_beside_other_sources(
    source: ACMESource, tls_authority: TestAuthority, managed: Any, clock: ManualClock
) -> None:
    """It is a source like others: the first source's certificate is the default."""
    other = _issue(tls_authority, "files.example.test")
    manager, _log = managed(MemorySource(other), source, clock=clock)
    assert _selected(manager, "unknown.example.test") == other
    assert source.is_placeholder(_selected(manager, NAME))


@pytest.mark.parametrize("orders", [[[]], [["not a name"]], [[""]]])
def test_bad_names(storage: FileStorage, orders: Sequence[Sequence[str]]) -> None:
    """A set of names that no certificate can be for is refused when it is given."""
    with pytest.raises(ValueError, match="name"):
        ACMESource(orders, storage)


class TestStoredCertificates:
    """The best of what is stored."""

    def test_the_authorities_in_use_come_first(self, storage: FileStorage, tls_authority: TestAuthority) -> None:
        """A certificate of an authority that is used no more counts for want of a better one."""
        ours, theirs = _issue(tls_authority), _issue(tls_authority, at=timedelta())
        StoredCertificates(storage).put(OTHER_CA, [NAME], theirs)
        stored = StoredCertificates(storage, [CA])
        found = stored.best([NAME])
        assert found is not None
        assert (found.authority, found.credential) == (OTHER_CA, theirs)
        storage.put(Key.certificate(CA, [NAME]), ours.private_key_pem() + ours.chain_pem())
        found = stored.best([NAME])
        assert found is not None
        assert (found.authority, found.credential, found.saved) == (CA, ours, True)
        assert [one.credential for one in stored] == [ours, theirs]

    def test_the_new_one_takes_the_place_of_all(self, storage: FileStorage, tls_authority: TestAuthority) -> None:
        """When another authority issues, what the first one issued for these names goes, and for others stays."""
        stored = StoredCertificates(storage, [CA, OTHER_CA])
        stored.put(CA, [NAME], _issue(tls_authority))
        stored.put(CA, [OTHER], _issue(tls_authority, OTHER))
        dated_back = _issue(tls_authority, at=-DAY)
        stored.put(OTHER_CA, [NAME], dated_back)
        assert [one.authority for one in stored] == [CA, OTHER_CA]
        found = stored.best([NAME])
        assert found is not None
        assert found.credential == dated_back

    def test_kept_in_memory_while_the_disk_is_full(
        self, storage: FileStorage, tls_authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What cannot be stored is kept and served, and stored later."""
        stored = StoredCertificates(storage, [CA])
        obtained = _issue(tls_authority)
        with monkeypatch.context() as patch:
            patch.setattr(FileStorage, "put", _full)
            with pytest.raises(StorageError, match="full"):
                stored.put(CA, [NAME], obtained)
            with pytest.raises(StorageError, match="full"):
                stored.save([NAME])
        found = stored.best([NAME])
        assert found is not None
        assert (found.credential, found.saved) == (obtained, False)
        assert [one.credential for one in stored] == [obtained]
        assert StoredCertificates(storage, [CA]).best([NAME]) is None
        assert stored.save([NAME])
        assert not stored.save([NAME])
        again = StoredCertificates(storage, [CA]).best([NAME])
        assert again is not None
        assert again.credential == obtained

    def test_the_wrong_certificate(self, storage: FileStorage, tls_authority: TestAuthority) -> None:
        """A certificate for other names that somebody put in the place of ours is not used, and is told of."""
        other = _issue(tls_authority, OTHER)
        key = Key.certificate(CA, [NAME])
        storage.put(key, other.private_key_pem() + other.chain_pem())
        stored = StoredCertificates(storage, [CA])
        with pytest.raises(CredentialError, match=f"is not for {NAME}"):
            stored.best([NAME])
        assert list(stored) == []
        assert [error.path for error in stored.problems()] == [storage.place(key)]
        stored.delete(CA, [NAME])
        assert stored.problems() == []
        assert stored.best([NAME]) is None

    def test_many_threads(self, storage: FileStorage, tls_authority: TestAuthority) -> None:
        """Readers see a whole certificate at every moment while it is replaced again and again."""
        every = [_issue(tls_authority, at=-number * HOUR) for number in range(2)]
        stored = StoredCertificates(storage, [CA])
        stored.put(CA, [NAME], every[0])
        failures: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    found = stored.best([NAME])
                    assert found is not None
                    assert found.credential in every
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test reports it
                failures.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(20):
            stored.put(CA, [NAME], every[number % 2])
        done.set()
        for reader in readers:
            reader.join(PATIENCE)
        assert not failures


def _full(_storage: FileStorage, _key: Key, _data: bytes) -> None:
    raise StorageError("The disk is full.")
