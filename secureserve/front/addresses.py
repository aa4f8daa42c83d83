"""Client addresses: their one spelling, the key under which a client is counted, and lists of trusted networks."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["UNIX_KEY", "TrustedNetworks", "canonical_address", "client_key"]

_PREFIX_SIZE: Final = 8
"""An IPv6 client is a /64, in bytes: one subscriber has at least that much (RFC 6177), and picks the rest at will."""

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""The first 12 bytes of an IPv4 address in IPv6 form (RFC 4291, 2.5.5.2)."""

_EVERYONE: Final = "*"
UNIX_KEY: Final = "unix"
"""Stands for the peers of unix sockets, in lists of networks and as a client's key."""


def canonical_address(address: str) -> str:
    """Return an IP address in its one spelling: IPv6 compressed and without a zone, IPv4-mapped IPv6 as IPv4.

    Args:
        address: The address as text.

    Raises:
        ValueError: It is not an IP address.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)


def client_key(address: str) -> str:
    """Return the key under which a client is counted: the IPv4 address itself, or the /64 of an IPv6 address.

    Args:
        address: The peer's address; empty for a unix socket, whose clients are all counted together.

    Returns:
        The address, a network such as ``2001:db8::/64``, or ``unix``. What is no address is its own key, as keys are.
    """
    if ":" not in address:
        return address or UNIX_KEY
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if packed.startswith(_MAPPED):
        return socket.inet_ntoa(packed[len(_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed[:_PREFIX_SIZE] + bytes(_PREFIX_SIZE)) + "/64"


@dataclass(frozen=True, slots=True)
class TrustedNetworks:
    """Which peers may speak for others.

    Threads: immutable; any.

    Attributes:
        networks: The networks whose addresses are trusted.
        unix: Whether the peers of a unix socket are. Its permissions say who they are.
    """

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    unix: bool = False

    @classmethod
    def parse(cls, entries: Iterable[str], *, key: str = "proxy_allow_ips") -> TrustedNetworks:
        """Read a list of addresses and networks.

        Args:
            entries: Addresses (``192.0.2.7``), networks (``10.0.0.0/8``, ``2001:db8::/32``), ``unix`` for the peers of
                unix sockets, ``*`` for everybody.
            key: The setting that they come from, for errors.

        Raises:
            ConfigurationError: An entry is none of these, or a network with bits set beyond its prefix.
        """
        networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        unix = False
        for entry in (entry.strip() for entry in entries):
            if entry == _EVERYONE:
                networks += [ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0")]
            if entry in {_EVERYONE, UNIX_KEY}:
                unix = True
            else:
                networks.append(_network(entry, key))
        return cls(tuple(networks), unix)

    def trusts(self, address: str) -> bool:
        """Tell whether a peer is trusted.

        Args:
            address: Its address; empty for a unix socket.
        """
        if not address:
            return self.unix
        try:
            parsed = ipaddress.ip_address(canonical_address(address))
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


def _network(entry: str, key: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(entry)
    except ValueError as error:
        try:
            meant = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            remedy = "Use addresses, networks such as 10.0.0.0/8, 'unix', or '*' for everybody."
            raise ConfigurationError(key, entry, "is not an address or a network", remedy) from error
        remedy = f"Write {meant} for the network, or {entry.partition('/')[0]} for the address alone."
        raise ConfigurationError(key, entry, "has bits set beyond its prefix", remedy) from error
