"""Server names: the one written form of each, and which certificate names match it (RFC 9525).

Everything here is pure. Names reach us from certificates, from settings and from ClientHellos. The last are a peer's,
so whatever is too long or malformed is refused before it is looked up, shown or logged.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

__all__ = ["MAX_NAME_LENGTH", "address", "matches", "normalise", "parent"]

MAX_NAME_LENGTH: Final = 253
"""Octets of a host name in text, without the final dot (RFC 1035, 2.3.4, less the root label and a length octet)."""

_MAX_INPUT_LENGTH: Final = 4 * MAX_NAME_LENGTH
"""Characters of input that are looked at at all, before the limit in octets can be told."""

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
"""Letters, digits, hyphens, and the underscore which host names may not have but deployed certificates do."""


def normalise(name: str) -> str:
    """Return the one form of a host name or IP address: lower-case A-labels without final dot, or a canonical address.

    A complete left-most label ``*`` is kept (RFC 9525, 6.3). IPv6 addresses may come in brackets.

    Args:
        name: A host name with A-labels or U-labels (RFC 5890, 2.3.2.1), a wildcard, or an IP address.

    Raises:
        ValueError: It is empty, too long, or not a name that a certificate can be for.
    """
    if not name or len(name) > _MAX_INPUT_LENGTH:
        raise ValueError(f"a server name has 1 to {MAX_NAME_LENGTH} octets, this one has {len(name)} characters")
    ip = address(name)
    if ip is not None:
        return ip
    host = name.removesuffix(".")
    host = host.lower() if host.isascii() else _to_a_labels(host)
    if len(host) > MAX_NAME_LENGTH:
        raise ValueError(f"a server name has at most {MAX_NAME_LENGTH} octets, this one has {len(host)}")
    if _HOST_NAME.fullmatch(host) is None:
        raise ValueError(f"{name!r} is not a host name")
    if host.rpartition(".")[2].isdigit():
        raise ValueError(f"{name!r} is neither an IP address nor a host name: the last label of a name is not a number")
    return host


def address(name: str) -> str | None:
    """Return the canonical text of an IP address, or None when `name` is not one.

    An IPv6 address may stand in brackets. A scoped address (``fe80::1%eth0``) loses its zone, which is not part of what
    a certificate can say. An IPv4 address mapped into IPv6, as dual-stack sockets report them, becomes IPv4.
    """
    text = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if not text or (text[-1] not in "0123456789abcdefABCDEF:" and "%" not in text):
        return None
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip)


def matches(pattern: str, name: str) -> bool:
    """Return whether a certificate's name covers a server's name (RFC 9525, 6.3 and 6.4).

    A wildcard stands for exactly one whole label, and never for a part of an address. Names that are malformed match
    nothing, not even themselves.

    Args:
        pattern: From a certificate; may be a wildcard.
        name: What the client wants to reach. A wildcard here is covered only by the same wildcard.
    """
    try:
        wanted, offered = normalise(name), normalise(pattern)
    except ValueError:
        return False
    if offered == wanted:
        return True
    return offered.startswith("*.") and not wanted.startswith("*.") and parent(wanted) == offered[2:]


def parent(name: str) -> str:
    """Return what is left of a normalised name without its first label; the empty string when nothing is.

    An IP address has no parent, so that no wildcard is ever found for one.
    """
    return "" if ":" in name or (name[-1:].isdigit() and address(name) is not None) else name.partition(".")[2]


def _to_a_labels(host: str) -> str:
    """Encode U-labels for the lookup of what a user typed (RFC 5891, 5; UTS 46 mapping, non-transitional)."""
    # Its tables are large, and most names are ASCII.
    import idna

    wildcard, rest = ("*.", host[2:]) if host.startswith("*.") else ("", host)
    try:
        return wildcard + idna.encode(rest, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise ValueError(f"{host!r} is not an internationalised host name") from None
