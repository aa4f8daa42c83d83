"""Clients' names, against a resolver that answers when the test says so."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from secureserve.front.reverse_dns import ReverseDNS, SystemResolver
from secureserve.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

ADDRESS = "192.0.2.1"
NAME = "client.example"
PATIENCE = 20.0


class FakeResolver:
    """A resolver with two tables, which can be made to hang."""

    def __init__(self) -> None:
        self.names = {ADDRESS: NAME}
        self.addresses: dict[str, Collection[str]] = {NAME: {ADDRESS}}
        self.asked: list[str] = []
        self.hanging = threading.Semaphore(0)
        self.answering = threading.Event()
        self.answering.set()

    def reverse(self, address: str) -> str:
        """Answer from the table, once allowed to."""
        self.asked.append(address)
        self.hanging.release()
        assert self.answering.wait(PATIENCE)
        if address not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self.names[address]

    def forward(self, name: str) -> Collection[str]:
        """Answer from the table."""
        if name not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self.addresses[name]


@pytest.fixture
def resolver() -> FakeResolver:
    """Give a resolver under the test's control."""
    return FakeResolver()


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still until it is moved."""
    return ManualClock()


@pytest.fixture
def make(resolver: FakeResolver, clock: ManualClock) -> Iterator[Callable[..., ReverseDNS]]:
    """Make look-ups over the fake resolver, and end their threads."""
    made = []

    def make_one(timeout: float = PATIENCE, **options: int) -> ReverseDNS:
        made.append(ReverseDNS(timeout, clock=clock, resolver=resolver, **options))
        return made[-1]

    yield make_one
    resolver.answering.set()
    for each in made:
        assert each.stop(PATIENCE)


class TestNames:
    """Which names count."""

    def test_a_confirmed_name_is_found(self, make: Callable[..., ReverseDNS]) -> None:
        """A name that leads back to the address is the client's."""
        assert make().lookup(ADDRESS).result() == NAME

    @pytest.mark.parametrize("spelling", ["Client.EXAMPLE.", "CLIENT.example"])
    def test_a_name_has_one_spelling(
        self, make: Callable[..., ReverseDNS], resolver: FakeResolver, spelling: str
    ) -> None:
        """Case and a final dot make no difference."""
        resolver.names[ADDRESS] = spelling
        assert make().lookup(ADDRESS).result() == NAME

    def test_a_name_that_does_not_lead_back_is_none(
        self, make: Callable[..., ReverseDNS], resolver: FakeResolver
    ) -> None:
        """Whoever owns an address may call it anything; without the way back that does not count."""
        resolver.addresses[NAME] = {"192.0.2.2", "2001:db8::1"}
        assert make().lookup(ADDRESS).result() is None

    @pytest.mark.parametrize("known", [True, False])
    def test_an_address_without_a_name_has_none(
        self, make: Callable[..., ReverseDNS], resolver: FakeResolver, known: bool
    ) -> None:
        """No PTR record, or a name without an address, is a miss."""
        if known:
            resolver.addresses.clear()
        else:
            resolver.names.clear()
        assert make().lookup(ADDRESS).result() is None

    @pytest.mark.parametrize(
        ("client", "forward"),
        [("2001:DB8::0:1", "2001:db8::1"), ("::ffff:192.0.2.1", ADDRESS), ("fe80::1%lo", "fe80::1%2")],
    )
    def test_addresses_are_compared_by_value(
        self, make: Callable[..., ReverseDNS], resolver: FakeResolver, client: str, forward: str
    ) -> None:
        """The way back counts in whichever spelling the resolver gives the address."""
        resolver.names = dict.fromkeys(("2001:db8::1", ADDRESS, "fe80::1"), NAME)
        resolver.addresses[NAME] = {forward}
        assert make().lookup(client).result() == NAME

    @pytest.mark.parametrize(
        "name",
        [
            "",
            ".",
            "a..example",
            "-a.example",
            "a-.example",
            "a_b.example",
            "a b.example",
            "a.example\r\nX-Injected: 1",
            "a.example\n",
            '"><script>.example',
            "a.example\x00",
            "\u00e9.example",
            "\u0131.example",
            "x" * 64 + ".example",
            ".".join(["x" * 60] * 5),
            ADDRESS,
            "192.0.2.1.",
            "0x7f.1",
            "1",
        ],
    )
    def test_a_hostile_name_is_none(self, make: Callable[..., ReverseDNS], resolver: FakeResolver, name: str) -> None:
        """What no host may be called is a miss, even if it confirms itself."""
        resolver.names[ADDRESS] = name
        resolver.addresses = dict.fromkeys((name, name.lower(), name.rstrip(".")), frozenset(frozenset({ADDRESS})))
        assert make().lookup(ADDRESS).result() is None

    @pytest.mark.parametrize("address", ["", "nonsense", "/run/client"])
    def test_what_is_no_address_is_not_asked_for(
        self, make: Callable[..., ReverseDNS], resolver: FakeResolver, address: str
    ) -> None:
        """A unix peer has no name, and nobody is asked."""
        assert make().lookup(address).result() is None
        assert resolver.asked == []

    def test_the_systems_resolver_knows_this_machine(self) -> None:
        """With the system's own resolver, loopback has the name that leads back to it."""
        resolver = SystemResolver()
        try:
            name = resolver.reverse("127.0.0.1")
            confirmed = "127.0.0.1" in resolver.forward(name)
        except OSError:
            pytest.skip("this machine has no name for its loopback address")
        reverse_dns = ReverseDNS(PATIENCE)
        assert reverse_dns.lookup("127.0.0.1").result() == (name.lower() if confirmed else None)
        assert reverse_dns.stop(PATIENCE)


class TestWaiting:
    """Nobody waits longer than allowed."""

    def test_starting_a_look_up_never_waits(self, make: Callable[..., ReverseDNS], resolver: FakeResolver) -> None:
        """While the resolver hangs, look-ups start and are simply not done."""
        resolver.answering.clear()
        reverse_dns = make(threads=1)
        lookups = [reverse_dns.lookup(f"192.0.2.{host}") for host in range(1, 100)]
        assert not any(lookup.done for lookup in lookups)
        assert lookups[0].result(0) is None
        resolver.answering.set()
        assert lookups[0].result(PATIENCE) == NAME

    def test_a_request_waits_until_the_look_ups_deadline_only(
        self, make: Callable[..., ReverseDNS], resolver: FakeResolver, clock: ManualClock
    ) -> None:
        """The time is counted from the start of the look-up; once it is over, nobody waits at all."""
        resolver.answering.clear()
        reverse_dns = make(timeout=5.0)
        first = reverse_dns.lookup(ADDRESS)
        clock.advance(5.0)
        assert first.result() is None
        assert reverse_dns.lookup(ADDRESS).result() is None

    def test_a_full_queue_is_a_miss(self, make: Callable[..., ReverseDNS], resolver: FakeResolver) -> None:
        """While the resolver is dead, no more than the queue holds waits for it; the rest misses at once."""
        resolver.answering.clear()
        reverse_dns = make(threads=1, queue_size=3)
        reverse_dns.lookup("192.0.2.100")
        assert resolver.hanging.acquire(timeout=PATIENCE)
        lookups = [reverse_dns.lookup(f"192.0.2.{host}") for host in range(1, 11)]
        assert [lookup.done for lookup in lookups] == [False] * 3 + [True] * 7

    def test_threads_are_few(self, make: Callable[..., ReverseDNS], resolver: FakeResolver) -> None:
        """No number of look-ups starts more threads than allowed."""
        resolver.answering.clear()
        reverse_dns = make(threads=3)
        before = threading.active_count()
        for host in range(1, 50):
            reverse_dns.lookup(f"192.0.2.{host}")
        for _ in range(3):
            assert resolver.hanging.acquire(timeout=PATIENCE)
        assert threading.active_count() - before <= 3
        assert len(resolver.asked) == 3

    def test_a_question_that_came_too_late_is_not_asked(
        self, make: Callable[..., ReverseDNS], resolver: FakeResolver, clock: ManualClock
    ) -> None:
        """What waited for a thread past its deadline is dropped, and asked anew for the next connection."""
        resolver.answering.clear()
        reverse_dns = make(timeout=5.0, threads=1)
        reverse_dns.lookup("192.0.2.100")
        assert resolver.hanging.acquire(timeout=PATIENCE)
        late = reverse_dns.lookup(ADDRESS)
        clock.advance(6.0)
        resolver.answering.set()
        assert late.result(PATIENCE) is None
        assert ADDRESS not in resolver.asked
        assert reverse_dns.lookup(ADDRESS).result() == NAME

    def test_a_question_of_nobody_is_not_asked(self, make: Callable[..., ReverseDNS], resolver: FakeResolver) -> None:
        """Connections that have ended leave no work behind, as long as no other of the same client waits."""
        resolver.answering.clear()
        reverse_dns = make(threads=1)
        reverse_dns.lookup("192.0.2.100")
        assert resolver.hanging.acquire(timeout=PATIENCE)
        left = reverse_dns.lookup("192.0.2.50")
        left.cancel()
        shared, stays = reverse_dns.lookup(ADDRESS), reverse_dns.lookup(ADDRESS)
        shared.cancel()
        resolver.answering.set()
        assert stays.result() == NAME
        assert "192.0.2.50" not in resolver.asked


class TestCache:
    """Answers are kept for a while."""

    def test_look_ups_under_way_share_one_question(
        self, make: Callable[..., ReverseDNS], resolver: FakeResolver
    ) -> None:
        """Any number of connections of one client ask once."""
        resolver.answering.clear()
        reverse_dns = make()
        lookups = [reverse_dns.lookup(spelling) for spelling in [ADDRESS, "::ffff:192.0.2.1"] * 10]
        resolver.answering.set()
        assert {lookup.result() for lookup in lookups} == {NAME}
        assert resolver.asked == [ADDRESS]

    @pytest.mark.parametrize(("named", "lifetime"), [(True, 300), (False, 60)])
    def test_answers_expire(
        self,
        make: Callable[..., ReverseDNS],
        resolver: FakeResolver,
        clock: ManualClock,
        named: bool,
        lifetime: int,
    ) -> None:
        """A name is kept for its time, a miss for a shorter one, and then asked for again."""
        if not named:
            resolver.names.clear()
        reverse_dns = make(ttl=300, negative_ttl=60)
        expected = NAME if named else None
        assert reverse_dns.lookup(ADDRESS).result() == expected
        clock.advance(lifetime - 1)
        again = reverse_dns.lookup(ADDRESS)
        assert again.done
        assert again.result() == expected
        assert len(resolver.asked) == 1
        clock.advance(1)
        assert reverse_dns.lookup(ADDRESS).result() == expected
        assert len(resolver.asked) == 2

    def test_the_cache_is_bounded(self, make: Callable[..., ReverseDNS], resolver: FakeResolver) -> None:
        """Beyond its size the client not seen for longest is forgotten."""
        reverse_dns = make(cache_size=2)
        for address in (ADDRESS, "192.0.2.2", ADDRESS, "192.0.2.3", ADDRESS, "192.0.2.2"):
            reverse_dns.lookup(address).result()
        assert resolver.asked == [ADDRESS, "192.0.2.2", "192.0.2.3", "192.0.2.2"]
        assert len(reverse_dns._cache) == 2


class TestStopping:
    """The end."""

    def test_stopping_answers_who_waits(self, make: Callable[..., ReverseDNS], resolver: FakeResolver) -> None:
        """Look-ups under way become misses at once, although the resolver hangs; later ones are misses too."""
        resolver.answering.clear()
        reverse_dns = make(threads=1)
        lookups = [reverse_dns.lookup(ADDRESS), reverse_dns.lookup("192.0.2.2")]
        assert resolver.hanging.acquire(timeout=PATIENCE)
        assert not reverse_dns.stop()
        assert [lookup.result(PATIENCE) for lookup in lookups] == [None, None]
        assert reverse_dns.lookup("192.0.2.3").done
        resolver.answering.set()
        assert reverse_dns.stop(PATIENCE)
        assert resolver.asked == [ADDRESS]
