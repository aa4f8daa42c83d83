"""Revocation lists and OCSP responses, signed by the authorities of a test."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.x509 import ocsp

if TYPE_CHECKING:
    from secureserve.testing.keys import PrivateKey
    from secureserve.testing.template import Issuer

__all__ = ["Revocations"]


class Revocations:
    """What has been revoked, by whom it was issued."""

    def __init__(self) -> None:
        self._revoked: dict[tuple[x509.Name, int], tuple[datetime, x509.ReasonFlags]] = {}
        self._lists_issued = 0

    def revoke(self, certificate: x509.Certificate, reason: x509.ReasonFlags) -> None:
        """Revoke a certificate as of now; the first reason given stays."""
        now = datetime.now(timezone.utc).replace(microsecond=0)
        self._revoked.setdefault((certificate.issuer, certificate.serial_number), (now, reason))

    def crl(self, issuer: Issuer, lifetime: timedelta) -> bytes:
        """Return `issuer`'s revocation list in PEM; the next one is due `lifetime` from now, or was."""
        self._lists_issued += 1
        this_update, next_update = _period(lifetime)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(this_update)
            .next_update(next_update)
            .add_extension(x509.CRLNumber(self._lists_issued), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
                ),
                critical=False,
            )
        )
        for (name, serial_number), (moment, reason) in self._revoked.items():
            if name == issuer.certificate.subject:
                # A list knows of nothing that happened after it was made, and one out of date was made days ago.
                entry = (
                    x509.RevokedCertificateBuilder()
                    .serial_number(serial_number)
                    .revocation_date(min(moment, this_update))
                )
                builder = builder.add_revoked_certificate(
                    entry.add_extension(x509.CRLReason(reason), critical=False).build()
                )
        signed = builder.sign(issuer.private_key, _hash_for(issuer.private_key))
        return signed.public_bytes(serialization.Encoding.PEM)

    def ocsp_response(self, certificate: x509.Certificate, issuer: Issuer, lifetime: timedelta) -> bytes:
        """Return a response on `certificate`, signed by `issuer` itself, in DER (RFC 6960)."""
        moment, reason = self._revoked.get((certificate.issuer, certificate.serial_number), (None, None))
        this_update, next_update = _period(lifetime)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=certificate,
                issuer=issuer.certificate,
                # The hash names the issuer, as responders and clients have always done it; it protects nothing.
                algorithm=hashes.SHA1(),  # noqa: S303 - RFC 5019, section 2.1.1
                cert_status=ocsp.OCSPCertStatus.GOOD if moment is None else ocsp.OCSPCertStatus.REVOKED,
                this_update=this_update,
                next_update=next_update,
                revocation_time=moment,
                revocation_reason=reason,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
            # Without it, a client that was not sent the issuer could not check the signature.
            .certificates([issuer.certificate])
        )
        response = builder.sign(issuer.private_key, _hash_for(issuer.private_key))
        return response.public_bytes(serialization.Encoding.DER)


def _period(lifetime: timedelta) -> tuple[datetime, datetime]:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    if lifetime <= timedelta(0):
        return now + lifetime - timedelta(days=1), now + lifetime
    start = now - timedelta(minutes=5)
    return start, start + max(lifetime, timedelta(minutes=6))


def _hash_for(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
