"""Client addresses: spelling, counting keys and trusted networks."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureserve.errors import ConfigurationError
from secureserve.front.addresses import TrustedNetworks, canonical_address, client_key


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::0:1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_has_one_spelling(written: str, canonical: str) -> None:
    """However an address is written, it comes out the same."""
    assert canonical_address(written) == canonical


@pytest.mark.parametrize("written", ["", "localhost", "1.2.3", "1.2.3.4.5", "01.2.3.4", "::g", "1.2.3.4\n"])
def test_what_is_no_address_has_no_spelling(written: str) -> None:
    """Text that is no IP address is refused."""
    with pytest.raises(ValueError, match=r"."):
        canonical_address(written)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%3", "fe80::/64"),
        ("", "unix"),
        ("2001:db8::/64", "2001:db8::/64"),
    ],
)
def test_an_ipv6_client_is_its_64(address: str, key: str) -> None:
    """IPv4 clients are counted one by one, IPv6 clients by the /64 that a subscriber has, unix peers together."""
    assert client_key(address) == key


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_no_choice_of_interface_identifier_makes_another_client(address: ipaddress.IPv6Address, suffix: int) -> None:
    """Whatever a subscriber picks for the lower half of an address, the key stays the same."""
    prefix = int(address) >> 64 << 64
    if prefix:
        key = client_key(str(address))
        assert client_key(str(ipaddress.IPv6Address(prefix | suffix))) == key
        assert address in ipaddress.IPv6Network(key)


class TestTrustedNetworks:
    """Who may speak for others."""

    @pytest.mark.parametrize(
        ("address", "trusted"),
        [
            ("10.1.2.3", True),
            ("::ffff:10.1.2.3", True),
            ("11.1.2.3", False),
            ("192.0.2.7", True),
            ("192.0.2.8", False),
            ("2001:db8:ffff::1", True),
            ("2001:db9::1", False),
            ("::1", True),
            ("fe80::1%eth0", False),
            ("", False),
            ("nonsense", False),
        ],
    )
    def test_addresses_and_networks_of_both_families(self, address: str, trusted: bool) -> None:
        """A peer is trusted if its address is listed or in a listed network, in either spelling."""
        networks = TrustedNetworks.parse(["10.0.0.0/8", " 192.0.2.7", "2001:db8::/32", "::1"])
        assert networks.trusts(address) is trusted

    def test_nobody_is_trusted_by_an_empty_list(self) -> None:
        """Without entries there is no trust, not even of loopback or a unix socket."""
        assert not any(TrustedNetworks.parse([]).trusts(address) for address in ("127.0.0.1", "::1", ""))

    def test_unix_peers_are_trusted_by_name(self) -> None:
        """The entry unix trusts the peers of unix sockets and nobody else."""
        networks = TrustedNetworks.parse(["unix"])
        assert networks.trusts("")
        assert not networks.trusts("127.0.0.1")

    def test_a_star_trusts_everybody(self) -> None:
        """The entry * trusts every peer of every family."""
        networks = TrustedNetworks.parse(["*"])
        assert all(networks.trusts(address) for address in ("192.0.2.1", "2001:db8::1", ""))

    def test_bits_beyond_the_prefix_are_an_error_that_shows_both_meanings(self) -> None:
        """A network that could mean two things is refused, and both are shown."""
        with pytest.raises(ConfigurationError) as failure:
            TrustedNetworks.parse(["10.0.0.1/8"])
        assert failure.value.key == "proxy_allow_ips"
        assert "10.0.0.0/8" in failure.value.remedy
        assert "10.0.0.1 " in failure.value.remedy

    @pytest.mark.parametrize("entry", ["", "proxy.example", "10.0.0.0/33", "10.0.0", "all"])
    def test_what_is_no_network_is_an_error(self, entry: str) -> None:
        """An entry of any other form is refused, under the setting's name."""
        with pytest.raises(ConfigurationError) as failure:
            TrustedNetworks.parse([entry], key="forwarded_allow_ips")
        assert failure.value.key == "forwarded_allow_ips"
