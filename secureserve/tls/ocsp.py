"""OCSP responses on our own certificates, to staple to handshakes (RFC 6066, 8): checked, kept, renewed, never stale.

Theory of operation: a handshake asks `StapleCache.get` and gets what is there, at once. When a response is past half of
its validity, or missing, the same call starts a short-lived thread that loads the next one; a failure is tried again
after a while that doubles. Nothing runs while nobody connects. A certificate that names no responder, as public ones do
not since 2025, costs one look-up in a dict.
"""

from __future__ import annotations

import logging
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from secureserve.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from secureserve.certificates.credential import Credential
    from secureserve.clock import Clock

__all__ = ["StapleCache", "UnusableResponse", "check_response", "responder_url"]

_LOGGER: Final = logging.getLogger("secureserve.error")

FETCH_TIMEOUT: Final = 10.0
"""Seconds for one request to a responder."""

MAX_RESPONSE_SIZE: Final = 65536
"""Bytes; a response with a delegated responder's chain has a few thousand."""

FIRST_RETRY: Final = 60.0
LAST_RETRY: Final = 3600.0
"""Seconds until a failed load is tried again: at first, and at most."""

FILE_INTERVAL: Final = 300.0
"""Seconds after which a file is looked at again, however long its response is valid."""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far ahead of ours a responder's clock may be."""

NO_NEXT_UPDATE: Final = timedelta(days=1)
"""How long a response is used that does not say until when (RFC 6960, 4.2.2.1)."""


class UnusableResponse(Exception):
    """A response that must not be stapled; the message says why."""


@dataclass(frozen=True, slots=True)
class _Staple:
    """A checked response.

    Args:
        response: The response as DER.
        valid_until: When it must no longer be shown, in wall time.
        renew_from: When the next one is looked for, in wall time.
    """

    response: bytes
    valid_until: datetime
    renew_from: datetime


class StapleCache:
    """The current OCSP response of each credential.

    Args:
        source: A file with a DER response, or ``"fetch"`` to ask each certificate's own responder.
        clock: What tells the time.

    Threads: any thread.
    """

    def __init__(self, source: Path | str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._staples: dict[Credential, _Staple] = {}
        self._retries: dict[Credential, tuple[float, float]] = {}
        self._loading: set[Credential] = set()

    def prepare(self, credential: Credential) -> None:
        """Begin to load a response; wait for it if the certificate is useless without one (RFC 7633)."""
        if not self._has_source(credential):
            return
        if _must_staple(credential.leaf):
            self.load(credential)
        else:
            self.get(credential)

    def keep_only(self, credentials: tuple[Credential, ...]) -> None:
        """Forget the responses of credentials that are no longer served."""
        with self._lock:
            self._staples = {each: self._staples[each] for each in credentials if each in self._staples}
            self._retries = {each: self._retries[each] for each in credentials if each in self._retries}

    def get(self, credential: Credential) -> bytes:
        """Return the response to staple, ``b""`` for none, at once; see to the next one where that is due."""
        staple = self._staples.get(credential)
        now = self._clock.now()
        if (staple is None or now >= staple.renew_from) and self._may_load(credential):
            threading.Thread(
                target=self._load_and_release, args=(credential,), name="secureserve-ocsp", daemon=True
            ).start()
        if staple is None or now >= staple.valid_until:
            return b""
        return staple.response

    def load(self, credential: Credential) -> bool:
        """Load a response now, waiting for it, and return whether there is a new one. What is wrong is logged."""
        try:
            response = self._read(credential)
            staple = self._checked(response, credential)
        except (UnusableResponse, OSError, ValueError) as error:
            self._failed(credential, error)
            return False
        with self._lock:
            self._staples[credential] = staple
            self._retries.pop(credential, None)
        return True

    def _has_source(self, credential: Credential) -> bool:
        return len(credential.chain) > 1 and (self._source != "fetch" or responder_url(credential.leaf) is not None)

    def _may_load(self, credential: Credential) -> bool:
        """Return whether nobody is loading, nothing was tried too recently, and there is anything to load."""
        with self._lock:
            due, _ = self._retries.get(credential, (0.0, 0.0))
            if credential in self._loading or self._clock.monotonic() < due:
                return False
            if not self._has_source(credential):
                self._retries[credential] = (float("inf"), 0.0)
                return False
            self._loading.add(credential)
            return True

    def _load_and_release(self, credential: Credential) -> None:
        try:
            self.load(credential)
        finally:
            with self._lock:
                self._loading.discard(credential)

    def _failed(self, credential: Credential, error: Exception) -> None:
        with self._lock:
            _, last = self._retries.get(credential, (0.0, 0.0))
            wait = min(max(FIRST_RETRY, 2 * last), LAST_RETRY)
            self._retries[credential] = (self._clock.monotonic() + wait, wait)
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else error
        _LOGGER.warning("No OCSP response to staple for %s: %s", ", ".join(credential.names), reason)

    def _read(self, credential: Credential) -> bytes:
        if self._source != "fetch":
            return _read_file(self._source)
        url = responder_url(credential.leaf)
        if url is None:
            raise UnusableResponse("the certificate names no responder")
        builder = ocsp.OCSPRequestBuilder().add_certificate(credential.leaf, credential.chain[1], hashes.SHA1())  # noqa: S303 - what every responder understands (RFC 5019, 2.1.1)
        return _fetch(url, builder.build().public_bytes(Encoding.DER))

    def _checked(self, data: bytes, credential: Credential) -> _Staple:
        now = self._clock.now()
        this_update, next_update = check_response(data, credential.leaf, credential.chain[1], now=now)
        renew_from = this_update + (next_update - this_update) / 2
        if self._source != "fetch":
            renew_from = min(renew_from, now + timedelta(seconds=FILE_INTERVAL))
        # A renewal that is due at once would make every handshake look for one.
        return _Staple(data, next_update, max(renew_from, now + timedelta(seconds=FIRST_RETRY)))


def responder_url(certificate: x509.Certificate) -> str | None:
    """Return where a certificate says that its status can be asked for over HTTP; None where it does not."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None
    for description in access:
        url = description.access_location.value
        is_ocsp = description.access_method == AuthorityInformationAccessOID.OCSP
        if is_ocsp and isinstance(url, str) and url.lower().startswith(("http://", "https://")):
            return url
    return None


def check_response(
    data: bytes, certificate: x509.Certificate, issuer: x509.Certificate, *, now: datetime
) -> tuple[datetime, datetime]:
    """Make sure that a response may be stapled (RFC 6960, 3.2), and return from when until when.

    Args:
        data: The response as DER.
        certificate: Whom it has to be about.
        issuer: Who issued that.
        now: The moment that it is judged at.

    Raises:
        UnusableResponse: It is malformed, about another certificate, not signed by who may, out of date, or not "good".
    """
    try:
        response = ocsp.load_der_ocsp_response(data)
    except ValueError as error:
        raise UnusableResponse(f"it cannot be read: {error}") from None
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise UnusableResponse(f"the responder says {response.response_status.name.lower()}")
    request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, response.hash_algorithm).build()
    wanted = (request.serial_number, request.issuer_name_hash, request.issuer_key_hash)
    if (response.serial_number, response.issuer_name_hash, response.issuer_key_hash) != wanted:
        raise UnusableResponse("it is about another certificate")
    _check_signature(response, issuer, now)
    next_update = response.next_update_utc or response.this_update_utc + NO_NEXT_UPDATE
    if response.this_update_utc > now + CLOCK_SKEW or next_update <= now:
        raise UnusableResponse(f"it is for {response.this_update_utc} to {next_update}, and it is {now}")
    if response.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise UnusableResponse(f"the status is {response.certificate_status.name.lower()}")
    return response.this_update_utc, next_update


def _check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    """Accept the issuer's own signature, or that of a responder it has certified for it (RFC 6960, 4.2.2.2)."""
    if _signed(response, issuer):
        return
    for responder in response.certificates:
        if _may_respond(responder, issuer, now) and _signed(response, responder):
            return
    raise UnusableResponse("it is not signed by the certificate's issuer, nor by a responder of its")


def _may_respond(responder: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    try:
        responder.verify_directly_issued_by(issuer)
        usages = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    current = responder.not_valid_before_utc <= now <= responder.not_valid_after_utc
    return current and ExtendedKeyUsageOID.OCSP_SIGNING in usages


def _signed(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    signature, data = response.signature, response.tbs_response_bytes
    try:
        key, algorithm = signer.public_key(), response.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, data, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, data, ec.ECDSA(algorithm))
        elif isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            key.verify(signature, data)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _must_staple(certificate: x509.Certificate) -> bool:
    try:
        features = certificate.extensions.get_extension_for_class(x509.TLSFeature).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return x509.TLSFeatureType.status_request in features


def _read_file(path: Path | str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - either kind of path
        return file.read(MAX_RESPONSE_SIZE)


def _fetch(url: str, request: bytes) -> bytes:
    """Ask a responder (RFC 6960, appendix A.1); its address comes from our own certificate."""
    headers = {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}
    post = urllib.request.Request(url, data=request, headers=headers)  # noqa: S310 - http and https alone get here
    with urllib.request.urlopen(post, timeout=FETCH_TIMEOUT) as answer:  # noqa: S310 - as above
        data: bytes = answer.read(MAX_RESPONSE_SIZE + 1)
    if len(data) > MAX_RESPONSE_SIZE:
        raise UnusableResponse("it is too large")
    return data
