"""The packages `acme` and `josepy`, and the few things of RFC 8555 and its successors that they lack.

This is their only importer. Without them, importing it fails with an error that says how to install them.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

from secureserve.errors import ConfigurationError

try:
    with warnings.catch_warnings():
        # It says that its next release drops the oldest Python that it runs on: nothing that a server's owner can mend.
        warnings.filterwarnings("ignore", "Python .* support will be dropped", DeprecationWarning)
        import requests
        from acme import challenges, client, errors, jws, messages
        from josepy.errors import Error as JOSEError
        from josepy.json_util import JSONObjectWithFields, field
        from josepy.jwa import ES256, ES384, RS256, JWASignature
        from josepy.jwk import JWK, JWKEC, JWKRSA
except ImportError as error:
    raise ConfigurationError(
        "acme",
        None,
        f"needs packages that are not installed ({error.name} is missing)",
        "Install them with: pip install 'secureserve[acme]'.",
    ) from error

__all__ = [
    "ES256",
    "ES384",
    "JWK",
    "JWKEC",
    "JWKRSA",
    "RS256",
    "JOSEError",
    "JWASignature",
    "KeyChange",
    "NewOrder",
    "challenges",
    "client",
    "errors",
    "jws",
    "messages",
    "requests",
]

TLS_ALPN_01: Final = "tls-alpn-01"


class NewOrder(messages.NewOrder):
    """An order that may say which certificate it replaces (RFC 9773, 5)."""

    replaces: str | None = field("replaces", omitempty=True)


class KeyChange(JSONObjectWithFields):
    """What the inner request of a key roll-over says (RFC 8555, 7.3.5)."""

    account: str = field("account")
    old_key: JWK = field("oldKey")


if TLS_ALPN_01 not in challenges.Challenge.TYPES:

    @challenges.ChallengeResponse.register
    class TLSALPN01Response(challenges.KeyAuthorizationChallengeResponse):
        """That the answer to a tls-alpn-01 challenge is in place."""

        typ = TLS_ALPN_01

    @challenges.Challenge.register
    class TLSALPN01(challenges.KeyAuthorizationChallenge):
        """A tls-alpn-01 challenge (RFC 8737)."""

        typ = TLS_ALPN_01
        response_cls = TLSALPN01Response

        def validation(self, account_key: JWK, **_kwargs: Any) -> str:
            """Return what the certificate of the challenge holds the digest of."""
            return self.key_authorization(account_key)


if "expired" not in messages.Status.POSSIBLE_NAMES:
    messages.Status("expired")
