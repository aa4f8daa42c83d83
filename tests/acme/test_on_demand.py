"""A name that is asked for for the first time gets a certificate, if a function allows it, within limits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.acme.on_demand import OnDemandSource
from secureserve.acme.source import ACMESource
from secureserve.acme.steward import Steward
from secureserve.acme.storage import Kind
from secureserve.clock import SYSTEM_CLOCK
from secureserve.events import CertificateObtained
from secureserve.managed.server import Server
from secureserve.testing import ManualClock
from secureserve.tls.client_hello import ClientHello
from tests.acme.stewardship import CA, DAY, HOUR, MINUTE, NAME, NOW, PATIENCE, HandIssuer, Stewardship, unreachable
from tests.certificates.test_serving import Client, application
from tests.http.serving import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from secureserve.acme.storage import FileStorage
    from secureserve.certificates.credential import Credential
    from secureserve.testing import Authority as TestAuthority

NEW = "new.example.test"


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the test."""
    return ManualClock(NOW)


@pytest.fixture
def issuer(tls_authority: TestAuthority, clock: ManualClock) -> HandIssuer:
    """An authority that issues."""
    return HandIssuer(tls_authority, clock)


@pytest.fixture
def stewardship(storage: FileStorage, issuer: HandIssuer, clock: ManualClock) -> Iterator[Stewardship]:
    """A started steward of one name."""
    made = Stewardship(storage, [issuer], clock=clock)
    made.steward.start()
    made.settle()
    yield made
    made.steward.stop()


class Guard:
    """A decision function that remembers what it was asked."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = {NEW, *allowed}
        self.asked: list[str] = []

    def __call__(self, name: str) -> bool:
        """Allow what is on the list."""
        self.asked.append(name)
        return name in self.allowed


@pytest.fixture
def demand(stewardship: Stewardship) -> Iterator[Callable[..., OnDemandSource]]:
    """A factory of started sources that are stopped after the test."""
    made: list[OnDemandSource] = []

    def make(decide: Any, **options: Any) -> OnDemandSource:
        options.setdefault("timeout", PATIENCE)
        made.append(OnDemandSource(stewardship.steward, decide, clock=stewardship.clock, **options))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def _ask(source: OnDemandSource, name: str | None, *protocols: str) -> Credential | None:
    return source.ask(ClientHello(server_name=name, alpn_protocols=protocols)).result(PATIENCE)


def test_obtained_in_the_handshake(stewardship: Stewardship, issuer: HandIssuer, demand: Any) -> None:
    """A new name that is allowed is presented as soon as it is obtained; from then on the store has it."""
    decide = Guard()
    source = demand(decide)
    credential = _ask(source, "NEW.example.test.")
    assert credential is not None
    assert credential.names == (NEW,)
    assert decide.asked == [NEW]
    assert stewardship.source.load()[1] == credential
    answer = source.ask(ClientHello(server_name=NEW))
    assert answer.done()
    assert answer.result() is None
    assert decide.asked == [NEW]
    assert [call[0] for call in issuer.calls] == [(NAME,), (NEW,)]


@pytest.mark.parametrize(
    "name",
    [None, "", "localhost", "*.example.test", "192.0.2.1", "a b.example.test", "x" * 64 + ".test", "x" * 5000, NAME],
)
def test_what_is_never_asked_for(stewardship: Stewardship, demand: Any, name: str | None) -> None:
    """What no certificate could be for, and what there is one for, is the store's at once: nobody is asked."""
    decide = Guard(*([name] if name else []))
    answer = demand(decide).ask(ClientHello(server_name=name))
    assert answer.done()
    assert answer.result() is None
    assert decide.asked == []


def test_covered_elsewhere(stewardship: Stewardship, demand: Any) -> None:
    """Names of other sources, and those of a wildcard that is ordered, are obtained for nobody."""
    stewardship.steward.add_order(["*.wild.example.test"])
    decide = Guard("files.example.test", "a.wild.example.test")
    source = demand(decide, is_served=lambda name: name == "files.example.test")
    for name in ("files.example.test", "a.wild.example.test"):
        assert source.ask(ClientHello(server_name=name)).done()
    assert decide.asked == []


def test_never_without_the_function(stewardship: Stewardship, issuer: HandIssuer, demand: Any) -> None:
    """A name that the function does not allow is not obtained, and without a function there is nothing on demand."""
    source = demand(Guard())
    assert _ask(source, "evil.example.test") is None
    assert [call[0] for call in issuer.calls] == [(NAME,)]
    with pytest.raises(TypeError, match="a function allows"):
        OnDemandSource(stewardship.steward, None)  # type: ignore[arg-type]


def test_a_function_that_fails(
    stewardship: Stewardship, issuer: HandIssuer, demand: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that fails allows nothing new, and takes nothing away; the log says so, but not without end."""
    fails = True

    def decide(_name: str) -> bool:
        if fails:
            raise ZeroDivisionError("no database")
        return True

    source = demand(decide)
    for _ in range(20):
        assert _ask(source, NEW) is None
    assert len(issuer.calls) == 1
    assert 1 <= caplog.text.count("ZeroDivisionError: no database") <= 5
    fails = False
    assert _ask(source, NEW) is not None
    stewardship.advance(45 * DAY)
    source.ask(ClientHello(server_name=NEW))
    fails = True
    stewardship.advance(15 * DAY)
    assert [call[0] for call in issuer.calls].count((NEW,)) == 2


def test_one_order_for_many_handshakes(issuer: HandIssuer, demand: Any) -> None:
    """However many ask for a new name at once, it counts once and is ordered once, and all get it."""
    together = threading.Barrier(4)

    def decide(_name: str) -> bool:
        together.wait(PATIENCE)
        return True

    source = demand(decide, threads=4, max_new_names=1)
    issuer.wait_entered()
    issuer.hold()
    answers = [source.ask(ClientHello(server_name=NEW)) for _ in range(12)]
    issuer.wait_entered()
    assert not any(answer.done() for answer in answers)
    issuer.release.set()
    found = [answer.result(PATIENCE) for answer in answers]
    assert [one.names for one in found if one is not None] == [(NEW,)] * 12
    assert [call[0] for call in issuer.calls] == [(NAME,), (NEW,)]


def test_too_slow_for_a_handshake(stewardship: Stewardship, issuer: HandIssuer, demand: Any) -> None:
    """A handshake waits no longer than it should; obtaining goes on, and the next one gets it."""
    issuer.wait_entered()
    issuer.hold()
    assert _ask(demand(Guard(), timeout=0.05), NEW) is None
    issuer.wait_entered()
    issuer.release.set()
    stewardship.settle()
    assert len(stewardship.log.of(CertificateObtained)) == 2
    assert stewardship.source.load()[1].names == (NEW,)


def test_the_authoritys_own_look(issuer: HandIssuer, demand: Any) -> None:
    """The handshake in which the authority looks at the proof never waits for the certificate that waits for it."""
    issuer.wait_entered()
    issuer.hold()
    source = demand(Guard())
    waiting = source.ask(ClientHello(server_name=NEW))
    issuer.wait_entered()
    look = source.ask(ClientHello(server_name=NEW, alpn_protocols=("acme-tls/1",)))
    assert look.done()
    issuer.release.set()
    assert waiting.result(PATIENCE) is not None


def test_rate_limited(issuer: HandIssuer, demand: Any, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """So many names may be new within a period, and no more; later there is room again."""
    names = [f"n{number}.example.test" for number in range(10)]
    source = demand(Guard(*names), max_new_names=3, period=600.0)
    found = [_ask(source, name) for name in names[:5]]
    assert [one is not None for one in found] == [True, True, True, False, False]
    assert "too many names are new at once" in caplog.text
    clock.advance(200.0)
    assert _ask(source, names[5]) is not None
    assert _ask(source, names[6]) is None
    assert len(issuer.calls) == 5


def test_limited_in_number(issuer: HandIssuer, demand: Any, caplog: pytest.LogCaptureFixture) -> None:
    """There are certificates for so many names, and no more."""
    names = [f"n{number}.example.test" for number in range(3)]
    source = demand(Guard(*names), max_names=2)
    assert [_ask(source, name) is not None for name in names] == [True, True, False]
    assert "2 already" in caplog.text
    assert _ask(source, names[0]) is None
    assert len(issuer.calls) == 3


def test_a_failure(stewardship: Stewardship, issuer: HandIssuer, demand: Any) -> None:
    """When the authority refuses, the store decides; until the next attempt handshakes do not even wait."""
    source = demand(Guard())
    issuer.outcomes = [unreachable()]
    assert _ask(source, NEW) is None
    assert source.ask(ClientHello(server_name=NEW)).done()
    stewardship.advance(MINUTE)
    assert len(issuer.calls) == 3
    assert stewardship.source.load()[1].names == (NEW,)


def test_after_a_restart(storage: FileStorage, issuer: HandIssuer, stewardship: Stewardship, demand: Any) -> None:
    """What was obtained on demand before is taken from the storage when it is asked for, if it is still allowed."""
    assert _ask(demand(Guard()), NEW) is not None
    stewardship.steward.stop()
    again = Stewardship(storage, [issuer], clock=stewardship.clock)
    again.steward.start()
    source = OnDemandSource(again.steward, Guard(), timeout=PATIENCE, max_new_names=0, clock=stewardship.clock)
    strict = OnDemandSource(again.steward, lambda _name: False, timeout=PATIENCE)
    try:
        for each in (strict, source):
            each.start()
        assert _ask(strict, NEW) is None
        found = _ask(source, NEW)
        assert found is not None
        assert found.names == (NEW,)
        assert len(issuer.calls) == 2
    finally:
        for each in (strict, source):
            each.stop()
        again.steward.stop()


def test_renewed_while_somebody_asks(stewardship: Stewardship, issuer: HandIssuer, demand: Any) -> None:
    """It is renewed without a handshake that waits, as long as it is asked for and allowed."""
    source = demand(Guard())
    first = _ask(source, NEW)
    assert first is not None
    stewardship.advance(50 * DAY)
    assert source.ask(ClientHello(server_name=NEW)).done()
    stewardship.advance(10 * DAY)
    assert issuer.calls[-1] == ((NEW,), first) or issuer.calls[-2] == ((NEW,), first)


@pytest.mark.parametrize("reason", ["nobody asks", "not allowed"])
def test_let_go_when_not_wanted(stewardship: Stewardship, issuer: HandIssuer, demand: Any, reason: str) -> None:
    """A name that nobody has asked for in a month, or that is allowed no more, is not renewed but let go."""
    decide = Guard()
    source = demand(decide)
    assert _ask(source, NEW) is not None
    stewardship.advance(50 * DAY if reason == "not allowed" else HOUR)
    if reason == "not allowed":
        source.ask(ClientHello(server_name=NEW))
        decide.allowed.clear()
    stewardship.advance(61 * DAY)
    assert [call[0] for call in issuer.calls].count((NEW,)) == 1
    assert stewardship.source.orders == ((NAME,),)
    storage = stewardship.source.storage
    # It is looked after no more before the last of what was kept for it is removed.
    wait_for(lambda: [key.names for kind in Kind for key in storage.keys(kind)] == [(NAME,)])
    if reason == "not allowed":
        assert _ask(source, NEW) is None
        assert [call[0] for call in issuer.calls].count((NEW,)) == 1
    else:
        assert source.ask(ClientHello(server_name=NEW)).result(PATIENCE) is not None


def test_orders_that_are_set_anew(stewardship: Stewardship, issuer: HandIssuer, demand: Any) -> None:
    """When the names in a configuration change, a name that was obtained on demand is looked after as before."""
    source = demand(Guard())
    credential = _ask(source, NEW)
    stewardship.steward.set_orders([["another.example.test"]])
    assert _ask(source, NEW) == credential
    assert [call[0] for call in issuer.calls].count((NEW,)) == 1
    assert stewardship.source.orders == (("another.example.test",), (NEW,))


def test_configured_after_all(stewardship: Stewardship, issuer: HandIssuer, demand: Any) -> None:
    """A name that was obtained on demand and is configured now is looked after whether anybody asks or not."""
    assert _ask(demand(Guard()), NEW) is not None
    stewardship.steward.set_orders([[NEW]])
    stewardship.advance(60 * DAY)
    stewardship.advance(60 * DAY)
    assert [call[0] for call in issuer.calls].count((NEW,)) == 3


def test_hopeless_names_are_let_go(stewardship: Stewardship, issuer: HandIssuer, demand: Any) -> None:
    """A name that cannot be obtained is tried for a day after it was last asked for; then there is room for another."""
    source = demand(Guard("other.example.test"), max_names=1)
    issuer.outcomes = [unreachable() for _ in range(100)]
    assert _ask(source, NEW) is None
    for _ in range(60):
        stewardship.advance(HOUR)
    assert stewardship.source.orders == ((NAME,),)
    assert len(issuer.calls) < 12
    issuer.outcomes = []
    assert _ask(source, "other.example.test") is not None


def test_real_handshakes(tls_authority: TestAuthority, storage: FileStorage, engine: str, tls_version: str) -> None:
    """A client that asks a running server for a new name gets its certificate in that very handshake, verified."""
    issuer = HandIssuer(tls_authority, SYSTEM_CLOCK)
    servers: list[Server] = []
    source = ACMESource([["localhost"]], storage, authorities=[CA])
    steward = Steward(source, [issuer], reload=lambda: servers[0].reload_certificates("acme"))
    demand = OnDemandSource(steward, Guard(), timeout=PATIENCE)
    servers.append(
        Server(
            application,
            socket_host="127.0.0.1",
            socket_port=0,
            certificate_sources=[demand, source],
            ssl_module=engine,
        )
    )
    with servers[0] as server:
        steward.start()
        try:
            assert steward.wait_until_covered(PATIENCE)
            assert steward.wait_until_settled(PATIENCE)
            client = Client(tls_authority, server, version=tls_version, name=NEW)
            issuer.wait_entered()
            issuer.hold()
            found: list[str] = []
            asking = threading.Thread(target=lambda: found.append(client.fingerprint()))
            asking.start()
            issuer.wait_entered()
            quick = Client(tls_authority, server, version=tls_version).fingerprint()
            assert not found
            issuer.release.set()
            asking.join(PATIENCE)
            stored = source.certificates.best([NEW])
            assert stored is not None
            assert found == [stored.credential.fingerprint] == [client.fingerprint()]
            assert quick != found[0]
        finally:
            steward.stop()
    assert len(issuer.calls) == 2
