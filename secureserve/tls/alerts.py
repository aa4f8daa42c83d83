"""Alerts by their RFC names, and which alert an engine's error stands for.

Both engines are OpenSSL inside, so its reasons are one vocabulary: pyOpenSSL writes them in words, the ssl module with
underscores. Received alerts are named by the reason itself; what OpenSSL sends for a reason of its own is its habit,
kept in tables here and compared with the wire by the tests.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "INTERNAL_ERROR",
    "NO_APPLICATION_PROTOCOL",
    "PLAIN_HTTP_REASONS",
    "UNRECOGNIZED_NAME",
    "alert_for_reason",
    "alert_for_verification",
    "normalise_reason",
    "refusal",
]

INTERNAL_ERROR: Final = 80
UNRECOGNIZED_NAME: Final = 112
NO_APPLICATION_PROTOCOL: Final = 120

PLAIN_HTTP_REASONS: Final = frozenset({"http request", "https proxy request"})
"""What OpenSSL says when the first bytes are plain HTTP. It sends no alert then."""

_RECEIVED_PREFIXES: Final = ("sslv3 alert ", "tlsv13 alert ", "tlsv1 alert ", "ssl/tls alert ", "tlsv1 ")

_RECEIVED_EXCEPTIONS: Final = {
    "no_certificate": "no_certificate_RESERVED",
    "user_cancelled": "user_canceled",
    "decryption_failed": "decryption_failed_RESERVED",
    "export_restriction": "export_restriction_RESERVED",
}
"""Where OpenSSL's words differ from the names in RFC 8446, B.2."""

_SENT: Final = {
    "bad decompression": "decode_error",
    "bad ecpoint": "illegal_parameter",
    "bad key share": "illegal_parameter",
    "bad packet": "decode_error",
    "bad protocol version number": "protocol_version",
    "bad psk": "illegal_parameter",
    "bad record type": "unexpected_message",
    "bad signature": "decrypt_error",
    "binder does not verify": "decrypt_error",
    "clienthello tlsext": "unrecognized_name",
    "callback failed": "unrecognized_name",
    "data length too long": "record_overflow",
    "decryption failed or bad record mac": "bad_record_mac",
    "digest check failed": "decrypt_error",
    "encrypted length too long": "record_overflow",
    "inappropriate fallback": "inappropriate_fallback",
    "internal error": "internal_error",
    "invalid alert": "unexpected_message",
    "length mismatch": "decode_error",
    "no application protocol": "no_application_protocol",
    "no ciphers specified": "illegal_parameter",
    "no renegotiation": "no_renegotiation",
    "no shared cipher": "handshake_failure",
    "no shared groups": "handshake_failure",
    "no suitable groups": "handshake_failure",
    "no suitable key share": "handshake_failure",
    "no suitable signature algorithm": "handshake_failure",
    "packet length too long": "record_overflow",
    "peer did not return a certificate": "handshake_failure",
    "record layer failure": "unexpected_message",
    "too many warn alerts": "unexpected_message",
    "unexpected message": "unexpected_message",
    "unexpected record": "unexpected_message",
    "unsafe legacy renegotiation disabled": "handshake_failure",
    "unsupported protocol": "protocol_version",
    "version too low": "protocol_version",
    "wrong signature type": "illegal_parameter",
    "wrong ssl version": "protocol_version",
    "wrong version number": "protocol_version",
}

_VERIFICATION_ALERTS: Final = {
    "bad_certificate": (4, 5, 6, 9, 11, 13, 14, 15, 16, 27, 28, 66, 67, 68),
    "certificate_expired": (10, 12),
    "certificate_revoked": (23,),
    "decrypt_error": (7, 8),
    "handshake_failure": (50,),
    "internal_error": (1, 17),
    "unknown_ca": (2, 3, 18, 19, 20, 21, 22, 24, 25, 33, 79),
    "unsupported_certificate": (26,),
}
"""OpenSSL's X509_V_ERR_* numbers by the alert that is sent for them; for any other it is certificate_unknown."""

_ALERT_BY_VERIFICATION: Final = {code: alert for alert, codes in _VERIFICATION_ALERTS.items() for code in codes}


def normalise_reason(reason: str) -> str:
    """Return an OpenSSL reason in small words, as its error strings have it."""
    return reason.replace("_", " ").lower()


def refusal(alert: str, server_name: str | None) -> str:
    """Return in words why we refused a handshake with `alert`.

    Args:
        alert: The alert by its RFC name.
        server_name: What the client asked for.
    """
    if alert == "unrecognized_name":
        return "there is no certificate for the name that was asked for" + (f": {server_name!r}" if server_name else "")
    return alert.replace("_", " ")


def alert_for_reason(reason: str, version: str | None = None) -> tuple[str | None, bool]:
    """Return the alert that a handshake error stands for, and whether the peer sent it.

    Args:
        reason: A normalised reason.
        version: The protocol version, where it was agreed on already.
    """
    for prefix in _RECEIVED_PREFIXES:
        if reason.startswith(prefix):
            name = reason.removeprefix(prefix).replace(" ", "_")
            return _RECEIVED_EXCEPTIONS.get(name, name), True
    if reason == "peer did not return a certificate" and version == "TLSv1.3":
        return "certificate_required", False
    return _SENT.get(reason), False


def alert_for_verification(code: int) -> str:
    """Return the alert that is sent when verifying a client's certificate ended in this X509_V_ERR_* number."""
    return _ALERT_BY_VERIFICATION.get(code, "certificate_unknown")
