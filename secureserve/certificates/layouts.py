"""Which files of a directory belong together, for every tool that commonly puts them there (pure).

A directory is judged by its file names alone, so that a pair whose key has been replaced and whose certificate has not
is still known to be one pair, and not taken for two strangers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["KEY_PATTERNS", "Pair", "find_pairs", "single_files"]

KEY_PATTERNS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    # certbot: live/NAME/
    ("privkey.pem", ("fullchain.pem", "cert.pem")),
    # Kubernetes secrets, cert-manager, Vault Agent
    ("tls.key", ("tls.crt",)),
    ("key.pem", ("fullchain.pem", "cert.pem", "certificate.pem")),
    # acme.sh keeps its full chain under one name beside the leaf; lego and Caddy bundle the chain in STEM.crt
    ("{stem}.key", ("fullchain.cer", "{stem}.fullchain.pem", "{stem}.crt", "{stem}.cer", "{stem}.pem", "{stem}.cert")),
    # step and mkcert
    ("{stem}-key.pem", ("{stem}-fullchain.pem", "{stem}-cert.pem", "{stem}.pem", "{stem}.crt")),
    ("{stem}_key.pem", ("{stem}_fullchain.pem", "{stem}_cert.pem", "{stem}.pem", "{stem}.crt")),
    ("{stem}.key.pem", ("{stem}.fullchain.pem", "{stem}.cert.pem", "{stem}.crt.pem", "{stem}.pem")),
)
"""The name of a private key, and those of its certificate, the most complete first. ``{stem}`` stands for any text."""

_LEAF_ALONE: Final = "cert.pem"
_CHAIN_ALONE: Final = "chain.pem"
_SINGLE_SUFFIXES: Final = (".pem", ".p12", ".pfx")


@dataclass(frozen=True, slots=True)
class Pair:
    """The names of files in one directory.

    Args:
        certificate: The certificate, with its chain as a rule.
        private_key: Its key.
        chain: The chain, where it is apart.
    """

    certificate: str
    private_key: str
    chain: str | None = None


def find_pairs(file_names: Collection[str]) -> tuple[Pair, ...]:
    """Return the pairs among the names of one directory, sorted by the key's name."""
    present = frozenset(file_names)
    found: list[Pair] = []
    for name in sorted(present):
        candidates = _certificate_names(name)
        certificate = next((one for one in candidates if one in present), None)
        if certificate is not None:
            apart = certificate == _LEAF_ALONE and _CHAIN_ALONE in present
            found.append(Pair(certificate, name, _CHAIN_ALONE if apart else None))
    return tuple(found)


def single_files(file_names: Iterable[str], pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Return the names that are in no pair and may hold a certificate together with its key.

    A ``.pem`` may as well be a chain or a trust store: only its content tells.
    """
    paired = {name for pair in pairs for name in (pair.certificate, pair.private_key, pair.chain)}
    return tuple(sorted(name for name in file_names if name not in paired and name.endswith(_SINGLE_SUFFIXES)))


def _certificate_names(key_name: str) -> tuple[str, ...]:
    """Return what the certificate of a key with this name may be called; nothing when it is no key's name."""
    for pattern, candidates in KEY_PATTERNS:
        if pattern == key_name:
            return candidates
        suffix = pattern.removeprefix("{stem}")
        if suffix != pattern and key_name.endswith(suffix) and len(key_name) > len(suffix):
            stem = key_name.removesuffix(suffix)
            return tuple(candidate.replace("{stem}", stem) for candidate in candidates)
    return ()
