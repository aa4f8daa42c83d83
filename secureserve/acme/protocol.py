"""The packages `acme` and `josepy`, and the few things of RFC 8555 and its successors that they lack.

This is their only importer. Without them, importing it fails with an error that says how to install them.
"""

from __future__ import annotations

from typing import Any, Final

from secureserve.errors import ConfigurationError

try:
    import josepy
    import requests
    from acme import challenges, client, errors, jws, messages
except ImportError as error:
    raise ConfigurationError(
        "acme",
        None,
        f"needs packages that are not installed ({error.name} is missing)",
        "Install them with: pip install 'secureserve[acme]'.",
    ) from error

__all__ = [
    "KeyChange",
    "NewOrder",
    "challenges",
    "client",
    "errors",
    "josepy",
    "jws",
    "messages",
    "requests",
]

TLS_ALPN_01: Final = "tls-alpn-01"


class NewOrder(messages.NewOrder):
    """An order that may say which certificate it replaces (RFC 9773, 5)."""

    replaces: str | None = josepy.field("replaces", omitempty=True)


class KeyChange(josepy.JSONObjectWithFields):
    """What the inner request of a key roll-over says (RFC 8555, 7.3.5)."""

    account: str = josepy.field("account")
    old_key: josepy.JWK = josepy.field("oldKey")


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

        def validation(self, account_key: josepy.JWK, **_kwargs: Any) -> str:
            """Return what the certificate of the challenge holds the digest of."""
            return self.key_authorization(account_key)


if "expired" not in messages.Status.POSSIBLE_NAMES:
    messages.Status("expired")
