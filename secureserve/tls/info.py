"""What was negotiated on a connection, and who the peer is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from secureserve.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from secureserve.certificates.credential import Credential

__all__ = ["Negotiations", "TLSInfo"]

KNOWN: Final = 256
"""Different facts of connections that are remembered for those that follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSInfo:
    """What was negotiated, as it stood when the handshake was done.

    Args:
        version: The protocol version, such as ``TLSv1.3``.
        cipher: The cipher suite, by OpenSSL's name.
        cipher_bits: The size of its symmetric key, in bits.
        group: The key exchange group, such as ``X25519MLKEM768``; None where the engine cannot tell.
        alpn_protocol: The protocol agreed on (RFC 7301); None where none was.
        server_name: The name that the client asked for (RFC 6066, 3), normalised; None where it named none.
        resumed: Whether an earlier session went on, so that no certificates were shown.
        credential: What we showed. On a resumed session: what we would have shown.
        peer_chain_der: The client's verified chain as DER, its own certificate first, up to and with the authority that
            we trust; empty when it showed none. An engine that cannot give the chain gives the first alone.
        library: The TLS library and its version.
    """

    version: str
    cipher: str
    cipher_bits: int
    group: str | None
    alpn_protocol: str | None
    server_name: str | None
    resumed: bool
    credential: Credential
    peer_chain_der: tuple[bytes, ...] = field(default=(), repr=False)
    library: str = ""
    _peer_chain: list[x509.Certificate] = field(default_factory=list, init=False, repr=False, compare=False)
    _environs: dict[int, dict[str, str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def verified(self) -> bool:
        """Whether the client showed a certificate. One that did not verify never gets this far."""
        return bool(self.peer_chain_der)

    @property
    def peer_chain(self) -> tuple[x509.Certificate, ...]:
        """The client's verified chain, parsed on first use."""
        if not self._peer_chain:
            self._peer_chain.extend(map(_parse, self.peer_chain_der))
        return tuple(self._peer_chain)

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        """The client's own certificate; None when it showed none."""
        chain = self.peer_chain
        return chain[0] if chain else None

    def environ(self) -> dict[str, str]:
        """Return mod_ssl's variables; computed once an hour, since days are counted in them. Do not change the dict."""
        now = SYSTEM_CLOCK.now()
        hour = now.toordinal() * 24 + now.hour
        environ = self._environs.get(hour)
        if environ is None:
            from secureserve.tls.environ import environ_for

            self._environs.clear()
            environ = self._environs[hour] = environ_for(self, now=now)
        return environ


class Negotiations:
    """What connections have negotiated: one `TLSInfo` for all that agreed on the same, as most do.

    Threads: any.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], TLSInfo] = {}

    def info(self, **facts: Any) -> TLSInfo:
        """Return what a connection negotiated; `facts` are the arguments of `TLSInfo`, always in the same order."""
        key = tuple(facts.values())
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            known = self._known[key] = TLSInfo(**facts)
        return known


@lru_cache(maxsize=256)
def _parse(der: bytes) -> x509.Certificate:
    """Parse a certificate; authorities, and clients that come back, are parsed once."""
    return x509.load_der_x509_certificate(der)
