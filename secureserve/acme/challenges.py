"""`Challenge`: what an authority wants to find for a name, and what has to be put where for it (RFC 8555, 8)."""

from __future__ import annotations

import hashlib
import ipaddress
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Final

from secureserve.certificates import names

__all__ = ["CHALLENGE_TYPES", "Challenge"]

CHALLENGE_TYPES: Final = ("tls-alpn-01", "http-01", "dns-01")
"""The kinds of challenges that can be answered: RFC 8737, and RFC 8555 (8.3, 8.4)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge that waits for its answer.

    Args:
        type: One of `CHALLENGE_TYPES`.
        name: The host name or IP address to prove; for a wildcard, the name below it.
        token: What the authority calls it.
        key_authorization: The proof: the token, and the thumbprint of the account's key.
        wildcard: Whether it is the wildcard of the name that is proved.
    """

    type: str
    name: str
    token: str
    key_authorization: str = field(repr=False)
    wildcard: bool = False

    @property
    def server_name(self) -> str:
        """What the authority asks for in its ClientHello; for an IP address its reverse name (RFC 8738, 6)."""
        if names.address(self.name) is None:
            return self.name
        return ipaddress.ip_address(self.name).reverse_pointer

    @property
    def record_name(self) -> str:
        """The name of the TXT record that answers dns-01."""
        return f"_acme-challenge.{self.name}"

    @property
    def record_value(self) -> str:
        """The value of that record."""
        digest = hashlib.sha256(self.key_authorization.encode()).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
