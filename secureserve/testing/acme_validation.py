"""How a test's ACME authority convinces itself that a client controls a name: for real, on loopback."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509

from secureserve.testing.acme_messages import Problem, encode_base64url

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHALLENGE_TYPES", "Validation"]

CHALLENGE_TYPES: Final = ("http-01", "tls-alpn-01", "dns-01")

CONNECT_TIMEOUT: Final = 10.0

MAX_ANSWER_SIZE: Final = 4096

ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""id-pe-acmeIdentifier (RFC 8737, 3)."""

OCTET_STRING_OF_32: Final = b"\x04\x20"
"""The DER header of a SHA-256 digest."""


@dataclass(slots=True)
class Validation:
    """Where challenges are looked for.

    Args:
        http_port: The port of http-01, instead of 80; None fails every such challenge.
        tls_port: The port of tls-alpn-01, instead of 443; None fails every such challenge.
        address: The address that every name leads to.
        zone: TXT records by name, for dns-01.
        look_up: Returns the TXT records of a name, instead of `zone`.
    """

    http_port: int | None = None
    tls_port: int | None = None
    address: str = "127.0.0.1"
    zone: dict[str, list[str]] = field(default_factory=dict)
    look_up: Callable[[str], list[str]] | None = None

    def validate(self, challenge_type: str, name: str, token: str, key_authorization: str) -> None:
        """Look whether the challenge is answered.

        Args:
            challenge_type: One of `CHALLENGE_TYPES`.
            name: The DNS name or IP address that is to be proven.
            token: The challenge's token.
            key_authorization: What is to be found (RFC 8555, 8.1).

        Raises:
            Problem: It is not.
        """
        {"http-01": self._http, "tls-alpn-01": self._tls_alpn, "dns-01": self._dns}[challenge_type](
            name, token, key_authorization
        )

    def _http(self, name: str, token: str, key_authorization: str) -> None:
        if self.http_port is None:
            raise Problem("connection", "This authority was given no http_port to look at.")
        connection = http.client.HTTPConnection(self.address, self.http_port, timeout=CONNECT_TIMEOUT)
        try:
            connection.request("GET", f"/.well-known/acme-challenge/{token}", headers={"Host": name})
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_SIZE)
        except (OSError, http.client.HTTPException) as error:
            raise Problem("connection", f"{name}: {error}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise Problem("unauthorized", f"{name} answered {response.status} for the token.", status=403)
        if answer.rstrip() != key_authorization.encode():
            raise Problem("unauthorized", f"{name} answered something other than the key authorization.", status=403)

    def _tls_alpn(self, name: str, _token: str, key_authorization: str) -> None:
        if self.tls_port is None:
            raise Problem("connection", "This authority was given no tls_port to look at.")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate of a challenge is self-signed by design; what it has to say is compared below.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["acme-tls/1"])
        try:
            with (
                socket.create_connection((self.address, self.tls_port), CONNECT_TIMEOUT) as plain,
                context.wrap_socket(plain, server_hostname=_server_name(name)) as sock,
            ):
                protocol, der = sock.selected_alpn_protocol(), sock.getpeercert(binary_form=True)
        except ssl.SSLError as error:
            raise Problem("tls", f"{name}: {error}") from error
        except OSError as error:
            raise Problem("connection", f"{name}: {error}") from error
        if protocol != "acme-tls/1" or der is None:
            raise Problem("unauthorized", f"{name} did not speak acme-tls/1.", status=403)
        _check_certificate(x509.load_der_x509_certificate(der), name, key_authorization)

    def _dns(self, name: str, _token: str, key_authorization: str) -> None:
        record = f"_acme-challenge.{name}"
        wanted = encode_base64url(hashlib.sha256(key_authorization.encode()).digest())
        found = self.zone.get(record, []) if self.look_up is None else self.look_up(record)
        if not found:
            raise Problem("dns", f"There is no TXT record {record}.")
        if wanted not in found:
            raise Problem("unauthorized", f"No TXT record {record} holds the digest.", status=403)


def _server_name(name: str) -> str:
    try:
        # An address is asked for by its reverse name (RFC 8738, 6).
        return ipaddress.ip_address(name).reverse_pointer
    except ValueError:
        return name


def _check_certificate(certificate: x509.Certificate, name: str, key_authorization: str) -> None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identifier = certificate.extensions.get_extension_for_oid(ACME_IDENTIFIER)
    except x509.ExtensionNotFound as error:
        raise Problem("unauthorized", f"The challenge certificate of {name} lacks {error.oid}.", status=403) from error
    if [str(one.value).lower() for one in names] != [name]:
        raise Problem("unauthorized", f"The challenge certificate is not for {name} alone.", status=403)
    digest = hashlib.sha256(key_authorization.encode()).digest()
    value = identifier.value
    if not identifier.critical or not isinstance(value, x509.UnrecognizedExtension):
        raise Problem("unauthorized", "The acmeIdentifier extension is not critical.", status=403)
    if value.value != OCTET_STRING_OF_32 + digest:
        raise Problem("unauthorized", f"The acmeIdentifier of {name} is not the key authorization's.", status=403)
