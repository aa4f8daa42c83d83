"""Certificate authorities that speak ACME: the well-known ones by name, any other by the URL of its directory."""

from __future__ import annotations

import binascii
import dataclasses
import difflib
import os
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AUTHORITIES", "Authority", "ExternalAccount", "authority"]

MINIMUM_HMAC_KEY_SIZE: Final = 16
"""Bytes. What is shorter is no key that an authority hands out, but a mistake in copying it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """An ACME certificate authority.

    Args:
        name: What it is called in messages, settings and the storage.
        directory_url: Where clients begin (RFC 8555, 7.1.1); always https.
        ca_file: A PEM file of the roots that its own HTTPS certificate comes from, where that is a private one.
        staging: Its twin for trying things out, whose certificates nobody trusts and whose limits are generous.
    """

    name: str
    directory_url: str
    ca_file: str | None = None
    staging: Authority | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """An account at an authority's own web site, which an ACME account is bound to (RFC 8555, 7.3.4).

    Args:
        key_id: The key identifier that the authority gave out.
        hmac_key: The key that it gave out with it, in base64url. Never shown.

    Raises:
        ConfigurationError: One of them cannot be what an authority gave out.
    """

    key_id: str
    hmac_key: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.key_id or not self.key_id.isprintable():
            raise ConfigurationError("acme_eab_key_id", self.key_id, "is not a key identifier", "Copy it as it is.")
        # Some authorities show it in the other alphabet of base64, or padded.
        text = self.hmac_key.strip().rstrip("=").translate(str.maketrans("+/", "-_"))
        try:
            size = len(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, binascii.Error):
            size = 0
        if size < MINIMUM_HMAC_KEY_SIZE:
            raise ConfigurationError(
                "acme_eab_hmac_key_file",
                None,
                "holds no key in base64url",
                "Put the HMAC key there that the authority shows beside the key identifier, and nothing else.",
            )
        object.__setattr__(self, "hmac_key", text)


def authority(name_or_url: str, ca_file: str | os.PathLike[str] | None = None) -> Authority:
    """Return a certificate authority.

    Args:
        name_or_url: One of `AUTHORITIES`, or the https URL of a directory.
        ca_file: A PEM file of the roots that its own HTTPS certificate comes from; None for the public ones.

    Raises:
        ConfigurationError: There is no authority of that name, the URL is not one of a directory, or the file is not
            there.
    """
    known = AUTHORITIES.get(name_or_url.strip().lower())
    found = known or Authority(*_parse_url(name_or_url.strip()))
    if ca_file is None:
        return found
    path = os.fspath(ca_file)
    if not os.access(path, os.R_OK) or not os.path.isfile(path):  # noqa: PTH113 - the path is kept as it was written
        raise ConfigurationError("acme_ca_file", path, "cannot be read", "Give a PEM file of the authority's roots.")
    staging = None if found.staging is None else dataclasses.replace(found.staging, ca_file=path)
    return dataclasses.replace(found, ca_file=path, staging=staging)


def _parse_url(url: str) -> tuple[str, str]:
    """Return the name and the URL of an authority that is not known by name."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if not parts.scheme and "/" not in url and "." not in url:
        close = difflib.get_close_matches(url.lower(), AUTHORITIES, n=1)
        meant = f"Did you mean {close[0]!r}? " if close else ""
        raise ConfigurationError(
            "acme_directory",
            url,
            "is no authority that is known by name",
            f"{meant}Write one of {', '.join(AUTHORITIES)}, or the https:// URL of the authority's directory.",
        )
    if parts.scheme == "http":
        raise ConfigurationError(
            "acme_directory",
            url,
            "is not secure",
            "ACME is spoken over https alone (RFC 8555, 6.1): give the https:// URL of the directory.",
        )
    unusual = parts.username is not None or parts.password is not None or bool(parts.fragment)
    if parts.scheme != "https" or not host or unusual or not url.isprintable() or " " in url:
        shown = None if parts.password is not None else url
        raise ConfigurationError(
            "acme_directory", shown, "is not the URL of a directory", "Write it as https://ca.example/directory."
        )
    place = f"[{host}]" if ":" in host else host
    return place if port is None else f"{place}:{port}", url


_STAGING: Final = Authority("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory")
_GOOGLE_STAGING: Final = Authority("google-staging", "https://dv.acme-v02.test-api.pki.goog/directory")

AUTHORITIES: Final[Mapping[str, Authority]] = MappingProxyType(
    {
        one.name: one
        for one in (
            Authority("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory", staging=_STAGING),
            _STAGING,
            Authority("google", "https://dv.acme-v02.api.pki.goog/directory", staging=_GOOGLE_STAGING),
            _GOOGLE_STAGING,
            Authority("zerossl", "https://acme.zerossl.com/v2/DV90"),
            Authority("sslcom", "https://acme.ssl.com/sslcom-dv-ecc"),
            Authority("sslcom-rsa", "https://acme.ssl.com/sslcom-dv-rsa"),
            Authority("actalis", "https://acme-api.actalis.com/acme/directory"),
        )
    }
)
"""The authorities that are known by name."""
