"""Which credential a handshake gets."""

from __future__ import annotations

import threading
import tracemalloc
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureserve.certificates.store import CertificateStore, StoreSnapshot
from secureserve.testing import ManualClock

if TYPE_CHECKING:
    from secureserve.certificates.credential import Credential
    from secureserve.testing import Authority

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)


def _dates(start: int, end: int) -> dict[str, Any]:
    return {"not_before": NOW + timedelta(days=start), "not_after": NOW + timedelta(days=end)}


@pytest.fixture(scope="module")
def served(tls_authority: Authority) -> dict[str, Credential]:
    """Credentials by a word for each."""
    issue = tls_authority.issue
    made = {
        "default": issue("default.test", **_dates(-9, 9)),
        "default rsa": issue("default.test", key_type="rsa", **_dates(-9, 9)),
        "exact": issue("www.example.test", **_dates(-9, 9)),
        "wildcard": issue("*.example.test", "example.test", **_dates(-9, 9)),
        "address": issue("192.0.2.1", "2001:db8::1", **_dates(-9, 9)),
        "rsa": issue("both.test", key_type="rsa", **_dates(-2, 9)),
        "ecdsa old": issue("both.test", **_dates(-9, 9)),
        "ecdsa new": issue("both.test", **_dates(-3, 9)),
        "ecdsa future": issue("both.test", **_dates(1, 9)),
        "expired": issue("late.test", **_dates(-9, -1)),
        "expired ecdsa": issue("half.test", **_dates(-9, -1)),
        "current rsa": issue("half.test", key_type="rsa", **_dates(-9, 9)),
        "expired exact": issue("api.wild.test", **_dates(-9, -1)),
        "current wild": issue("*.wild.test", **_dates(-9, 9)),
        "idn": issue("xn--mnchen-3ya.test", **_dates(-9, 9)),
    }
    return {word: one.credential for word, one in made.items()}


def only_rsa(credential: Credential) -> bool:
    """Tell what an old client can verify."""
    return credential.key_type == "rsa"


@pytest.mark.parametrize(
    ("asked", "options", "expected"),
    [
        ("www.example.test", {}, "exact"),
        ("WWW.EXAMPLE.TEST", {}, "exact"),
        ("www.example.test.", {}, "exact"),
        ("ftp.example.test", {}, "wildcard"),
        ("example.test", {}, "wildcard"),
        ("a.b.example.test", {}, "default"),
        ("münchen.test", {}, "idn"),
        ("xn--mnchen-3ya.test", {}, "idn"),
        ("192.0.2.1", {}, "address"),
        ("[2001:db8::1]", {}, "address"),
        (None, {"address": "192.0.2.1"}, "address"),
        (None, {"address": "::ffff:192.0.2.1"}, "address"),
        (None, {"address": "192.0.2.99"}, "default"),
        ("other.test", {"address": "192.0.2.1"}, "default"),
        (None, {}, "default"),
        ("", {}, "default"),
        (None, {"allows": only_rsa}, "default rsa"),
        ("nobody.test", {"allows": only_rsa}, "default rsa"),
        ("both.test", {}, "ecdsa new"),
        ("both.test", {"allows": only_rsa}, "rsa"),
        ("www.example.test", {"allows": only_rsa}, "exact"),
        ("late.test", {}, "expired"),
        ("half.test", {}, "current rsa"),
        ("api.wild.test", {}, "current wild"),
        ("*.example.test", {}, "default"),
        ("exa\x00mple.test", {}, "default"),
        ("x" * 5000, {}, "default"),
        ("\udcff", {}, "default"),
    ],
)
def test_selection(served: dict[str, Credential], asked: str | None, options: dict[str, Any], expected: str) -> None:
    """Exact name, wildcard, address, default; of several what the client can verify, the current, ECDSA, the latest."""
    store = CertificateStore(served.values(), clock=ManualClock(NOW))
    chosen = store.select(asked, **options)
    assert chosen is not None
    assert {word for word, one in served.items() if one == chosen} == {expected}


@pytest.mark.parametrize(
    "asked", ["nobody.test", "a.b.example.test", "x" * 300, "b\x00d", "*.example.test", "192.0.2.9"]
)
def test_strict(served: dict[str, Credential], asked: str) -> None:
    """With `sni_strict` a name that nobody covers is refused, and no name at all gets the default."""
    store = CertificateStore(served.values(), sni_strict=True, clock=ManualClock(NOW))
    assert store.select(asked) is None
    assert store.select(None) == served["default"]
    assert store.select("www.example.test") == served["exact"]


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_name_gets_an_answer(name: str) -> None:
    """Whatever a peer asks for, selecting does not fail."""
    assert CertificateStore().select(name) is None


def test_default_can_be_chosen(served: dict[str, Credential]) -> None:
    """The default is the first, or the one that is named, which is served even where it is not among the others."""
    store = CertificateStore([served["exact"], served["wildcard"]], default=served["address"])
    assert store.select(None) == served["address"]
    assert store.select("192.0.2.1") == served["address"]
    assert CertificateStore([served["exact"], served["wildcard"]]).select(None) == served["exact"]


def test_replace_is_all_or_nothing(served: dict[str, Credential]) -> None:
    """A preparer that fails keeps everything as it was; subscribers are told after a publication only."""
    told: list[StoreSnapshot] = []
    prepared: list[StoreSnapshot] = []
    store = CertificateStore([served["exact"]])
    store.add_preparer(prepared.append)
    store.subscribe(told.append)
    assert prepared == [store.snapshot]

    def refuse(snapshot: StoreSnapshot) -> None:
        if served["rsa"] in snapshot.credentials:
            raise RuntimeError("cannot build that")

    store.add_preparer(refuse)
    before = store.snapshot
    with pytest.raises(RuntimeError, match="cannot build that"):
        store.replace([served["rsa"]])
    assert store.snapshot is before
    assert told == []
    after = store.replace([served["wildcard"]])
    assert store.snapshot is after
    assert told == [after]
    assert store.select(None) == served["wildcard"]
    store.forget(refuse)
    store.forget(refuse)
    store.replace([served["rsa"]])
    assert store.select(None) == served["rsa"]


def test_readers_see_one_state_or_the_other(served: dict[str, Credential]) -> None:
    """While credentials are replaced, every look-up gets one that was served at some moment, and none waits."""
    store = CertificateStore([served["ecdsa old"]], clock=ManualClock(NOW))
    stop = threading.Event()
    seen: set[Credential | None] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(store.select("both.test"))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(300):
        store.replace([served["ecdsa new"]])
        store.replace([served["ecdsa old"]])
    stop.set()
    for reader in readers:
        reader.join()
    assert seen <= {served["ecdsa old"], served["ecdsa new"]}


class _Named:
    """What the index needs of a credential, ten thousand of which would take a minute to issue."""

    key_type = "ecdsa"
    not_before = NOW
    looks = 0
    """How often any of them was looked at."""

    def __init__(self, number: int) -> None:
        self._number = number

    @property
    def names(self) -> tuple[str, str]:
        _Named.looks += 1
        return f"host{self._number}.example.test", f"*.zone{self._number}.example.test"

    def is_current(self, _now: datetime) -> bool:
        _Named.looks += 1
        return True


def test_ten_thousand() -> None:
    """Among 10,000 credentials a look-up looks at hardly any, found or not, and the index has a few megabytes."""
    many: Any = [_Named(number) for number in range(10_000)]
    tracemalloc.start()
    store = CertificateStore(many)
    index_size, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert index_size < 20_000_000
    for name, expected in [("host7777.example.test", 7777), ("x.zone42.example.test", 42), ("nobody.test", 0)]:
        _Named.looks = 0
        assert store.select(name) is many[expected]
        assert _Named.looks <= 4
