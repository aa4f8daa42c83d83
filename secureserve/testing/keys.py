"""Private keys, made when first needed and reused where that is sound.

An elliptic-curve key takes microseconds, so every credential gets one of its own. An RSA key takes up to a second, so
one of each size serves a whole session. Two RSA credentials of one session therefore share their key: no handshake can
tell, but a test that wants the wrong key to be noticed must ask for a fresh one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Literal, get_args

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

__all__ = ["KeyRing", "KeyType", "PrivateKey"]

PrivateKey: TypeAlias = (
    "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey"
)

KeyType: TypeAlias = Literal[
    "ecdsa", "ecdsa-p384", "ecdsa-p521", "ecdsa-p224", "rsa", "rsa-3072", "rsa-4096", "rsa-1024", "ed25519", "ed448"
]

_RSA_EXPONENT: Final = 65537

_MAKERS: Final[Mapping[str, Callable[[], PrivateKey]]] = {
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(_RSA_EXPONENT, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(_RSA_EXPONENT, 3072),
    "rsa-4096": lambda: rsa.generate_private_key(_RSA_EXPONENT, 4096),
    # Too weak to be served or accepted: made for tests that want them refused.
    "ecdsa-p224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "rsa-1024": lambda: rsa.generate_private_key(_RSA_EXPONENT, 1024),  # noqa: S505 - its weakness is its purpose
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}


class KeyRing:
    """Makes private keys and keeps the expensive ones.

    Threads: any thread may take a key.
    """

    def __init__(self) -> None:
        self._kept: dict[str, PrivateKey] = {}
        self._lock = threading.Lock()

    def take(self, key_type: KeyType = "ecdsa", *, fresh: bool = False) -> PrivateKey:
        """Return a private key.

        Args:
            key_type: Its type; ``ecdsa`` is P-256 and ``rsa`` 2048 bits.
            fresh: Make one that nobody else has, even where that is slow.

        Raises:
            ValueError: `key_type` is none of `KeyType`.
        """
        maker = _MAKERS.get(key_type)
        if maker is None:
            raise ValueError(f"key_type={key_type!r} is not a key type; write one of {', '.join(get_args(KeyType))}.")
        if fresh or not key_type.startswith("rsa"):
            return maker()
        with self._lock:
            if key_type not in self._kept:
                self._kept[key_type] = maker()
            return self._kept[key_type]
