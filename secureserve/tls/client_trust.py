"""What client certificates are verified against: authorities and revocation lists, read from files or directories."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from secureserve.certificates import pem
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from secureserve.clock import Clock
    from secureserve.tls.policy import TLSPolicy

__all__ = ["ClientTrust"]

_LOGGER: Final = logging.getLogger("secureserve.error")
_MAX_FILE_SIZE: Final = 32 * 1024 * 1024
"""Bytes; the largest revocation lists of public authorities have a few megabytes."""


@dataclass(frozen=True, slots=True, eq=False)
class ClientTrust:
    """The authorities that client certificates may come from, and what they have revoked.

    Args:
        authorities: Their certificates.
        revocation_lists: Their lists; empty when revocation is not checked.
    """

    authorities: tuple[x509.Certificate, ...]
    revocation_lists: tuple[x509.CertificateRevocationList, ...] = ()

    @classmethod
    def load(cls, policy: TLSPolicy, *, clock: Clock = SYSTEM_CLOCK) -> ClientTrust | None:
        """Read what `policy` names, anew each time; None when it verifies no clients.

        Raises:
            ConfigurationError: A file cannot be read, or holds nothing of the kind.
        """
        if policy.client_ca is None:
            return None
        authorities = []
        for path in _files(policy.client_ca, "client_ca"):
            authorities += _parse_certificates(path)
        if not authorities:
            raise ConfigurationError("client_ca", str(policy.client_ca), "holds no certificate", "Put PEM files there.")
        lists: list[x509.CertificateRevocationList] = []
        if policy.client_crl is not None:
            for path in _files(policy.client_crl, "client_crl"):
                lists += _parse_lists(path)
            if not lists:
                raise ConfigurationError(
                    "client_crl", str(policy.client_crl), "holds no revocation list", "Put PEM or DER files there."
                )
        trust = cls(tuple(dict.fromkeys(authorities)), tuple(lists))
        trust.warn_of_expired_lists(clock)
        return trust

    def pem(self) -> bytes:
        """Return everything as PEM, the authorities first."""
        authorities = [certificate.public_bytes(Encoding.PEM) for certificate in self.authorities]
        return b"".join(authorities + [each.public_bytes(Encoding.PEM) for each in self.revocation_lists])

    def warn_of_expired_lists(self, clock: Clock) -> None:
        """Log each revocation list that is past its ``nextUpdate``."""
        for revocation_list in self.revocation_lists:
            until = revocation_list.next_update_utc
            if until is not None and until < clock.now():
                _LOGGER.warning(
                    "the certificate revocation list of %s should have been replaced by %s",
                    revocation_list.issuer.rfc4514_string(),
                    until.isoformat(),
                )


def _files(path: Path, key: str) -> list[Path]:
    """Return the file, or the files of the directory in the order of their names; hidden ones are not looked at."""
    try:
        if path.is_dir():
            return sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
        path.stat()
    except OSError as error:
        raise ConfigurationError(key, str(path), f"cannot be read: {error.strerror}", "Name a readable path.") from None
    return [path]


def _read(path: Path, key: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ConfigurationError(key, str(path), f"cannot be read: {error.strerror}", "Name a readable file.") from None
    if len(data) > _MAX_FILE_SIZE:
        raise ConfigurationError(key, str(path), f"is larger than {_MAX_FILE_SIZE} bytes")
    return data


def _parse_certificates(path: Path) -> list[x509.Certificate]:
    data = _read(path, "client_ca")
    if b"-----BEGIN CERTIFICATE-----" not in data:
        return []
    if pem.is_cut_off(data):
        # The library would pass over the last one, and whoever comes with its certificates would be refused.
        raise ConfigurationError(
            "client_ca", str(path), "ends in the middle of a certificate", "Was it cut off while being written?"
        )
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ConfigurationError("client_ca", str(path), f"holds a certificate that cannot be read: {error}") from None


def _parse_lists(path: Path) -> list[x509.CertificateRevocationList]:
    data = _read(path, "client_crl")
    begin, end = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"
    try:
        if begin not in data:
            return [x509.load_der_x509_crl(data)] if data[:1] == b"\x30" else []
        return [
            x509.load_pem_x509_crl(begin + block.partition(end)[0] + end + b"\n") for block in data.split(begin)[1:]
        ]
    except ValueError as error:
        raise ConfigurationError("client_crl", str(path), f"holds a list that cannot be read: {error}") from None
