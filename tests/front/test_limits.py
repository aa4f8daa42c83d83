"""How many connections there may be."""

from __future__ import annotations

import threading

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from secureserve.front.addresses import client_key
from secureserve.front.limits import Admission, ConnectionLimits

ADDRESSES = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:192.0.2.1", "")


def test_there_are_at_most_max_connections() -> None:
    """The limit holds over all clients, and a place is free again when one has ended."""
    limits = ConnectionLimits(2)
    assert limits.admit("192.0.2.1") is Admission.ADMITTED
    assert limits.admit("192.0.2.2") is Admission.ADMITTED
    assert limits.admit("192.0.2.3") is Admission.TOO_MANY
    limits.release("192.0.2.1")
    assert limits.admit("192.0.2.3") is Admission.ADMITTED


def test_one_client_has_at_most_its_share() -> None:
    """A client at its limit keeps nobody else out."""
    limits = ConnectionLimits(10, 2)
    assert [limits.admit("192.0.2.1") for _ in range(3)][-1] is Admission.TOO_MANY_OF_CLIENT
    assert limits.admit("192.0.2.2") is Admission.ADMITTED


def test_an_ipv6_subscriber_is_one_client() -> None:
    """Picking another address in the same /64 gives no further connections."""
    limits = ConnectionLimits(10, 1)
    assert limits.admit("2001:db8::1") is Admission.ADMITTED
    assert limits.admit("2001:db8::2") is Admission.TOO_MANY_OF_CLIENT
    assert limits.admit("2001:db8:0:1::1") is Admission.ADMITTED


def test_unix_peers_are_limited_altogether_only() -> None:
    """All peers of a unix socket look the same, so they have no limit as one client."""
    limits = ConnectionLimits(3, 1)
    assert [limits.admit("") for _ in range(4)] == [Admission.ADMITTED] * 3 + [Admission.TOO_MANY]


def test_a_proxied_client_is_counted_itself() -> None:
    """Once a proxy has named its client, the connection counts for that client, which may be at its limit."""
    limits = ConnectionLimits(10, 1)
    assert limits.admit("") is Admission.ADMITTED
    assert limits.move("", "192.0.2.1") is Admission.ADMITTED
    assert limits.admit("") is Admission.ADMITTED
    assert limits.move("", "192.0.2.1") is Admission.TOO_MANY_OF_CLIENT
    limits.release("")
    limits.release("192.0.2.1")
    assert limits.total == 0
    assert limits.snapshot() == {}


def test_counting_is_exact_under_threads() -> None:
    """However many threads count, no place is lost or given twice."""
    limits = ConnectionLimits(50, 0)
    admitted = []

    def come_and_go() -> None:
        for _ in range(300):
            if limits.admit("192.0.2.1") is Admission.ADMITTED:
                admitted.append(limits.total)
                limits.release("192.0.2.1")

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert limits.total == 0
    assert limits.snapshot() == {}
    assert max(admitted) <= 8


class Counting(RuleBasedStateMachine):
    """Any order of admissions, moves and releases agrees with a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = ConnectionLimits(6, 2)
        self.model: list[str] = []

    def _of(self, address: str) -> int:
        return sum(client_key(other) == client_key(address) for other in self.model)

    @rule(address=st.sampled_from(ADDRESSES))
    def admit(self, address: str) -> None:
        """Let one in, or say why not."""
        if len(self.model) >= 6:
            expected = Admission.TOO_MANY
        elif address and self._of(address) >= 2:
            expected = Admission.TOO_MANY_OF_CLIENT
        else:
            expected = Admission.ADMITTED
            self.model.append(address)
        assert self.limits.admit(address) is expected

    @rule(data=st.data(), client=st.sampled_from(ADDRESSES))
    def move(self, data: st.DataObject, client: str) -> None:
        """Count one under another client, or leave it."""
        if self.model:
            place = data.draw(st.integers(0, len(self.model) - 1))
            address = self.model[place]
            stays = client_key(address) == client_key(client)
            room = stays or not client or self._of(client) < 2
            expected = Admission.ADMITTED if room else Admission.TOO_MANY_OF_CLIENT
            assert self.limits.move(address, client) is expected
            if room:
                self.model[place] = client

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Let one go."""
        if self.model:
            self.limits.release(self.model.pop(data.draw(st.integers(0, len(self.model) - 1))))

    @invariant()
    def agrees(self) -> None:
        """The counts are those of the list."""
        assert self.limits.total == len(self.model)
        assert dict(self.limits.snapshot()) == {client_key(address): self._of(address) for address in self.model}


TestCounting = Counting.TestCase
