"""Which verified clients may do what: rules over `TLSInfo`, without any server in them.

A rule is a line of text, ``kind:value``, or a callable:

* ``dns:worker.example.com``, ``dns:*.example.com``: a DNS name in the certificate; the star stands for one label.
* ``email:ann@example.com``, ``email:*@example.com``: a mail address.
* ``uri:spiffe://example.com/ns/prod/sa/web``, ``uri:spiffe://example.com/ns/prod/*``: a URI, or all below one.
* ``ip:192.0.2.7``, ``ip:2001:db8::/32``: an address, or all in a network.
* ``issuer:`` and the SHA-256 fingerprint of an authority in the verified chain, in hexadecimal.
* ``certificate:`` and the SHA-256 fingerprint of the client's own certificate.

One rule that matches is enough. A client without a certificate matches none.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from secureserve.certificates import names
from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from secureserve.tls.info import TLSInfo

__all__ = ["ClientAuthorisation", "Rule", "remote_user"]

Rule: TypeAlias = "str | Callable[[TLSInfo], bool]"

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_KINDS: Final = ("dns", "email", "uri", "ip", "issuer", "certificate")
_SETTING: Final = "ssl_client_allow"


class ClientAuthorisation:
    """An allow list for clients, for everything or by path.

    Args:
        rules: Rules for everything; or a mapping from path prefixes to rules, in which the longest prefix decides and a
            path under none of them is open to all. ``/admin`` is a prefix of ``/admin`` and ``/admin/x``, not of
            ``/administrator``. An empty list lets nobody in.

    Raises:
        ConfigurationError: A rule that is none.

    Threads: any thread; rules that are callables have to bear that too.
    """

    __slots__ = ("_by_prefix",)

    def __init__(self, rules: Iterable[Rule] | Mapping[str, Iterable[Rule]]) -> None:
        by_prefix = rules if isinstance(rules, Mapping) else {"/": rules}
        self._by_prefix = {_prefix(prefix): tuple(map(_predicate, each)) for prefix, each in by_prefix.items()}

    def allows(self, info: TLSInfo | None, path: str = "/") -> bool:
        """Return whether a client may have `path`.

        Args:
            info: The client's connection; None where it is not TLS.
            path: The path as the application will see it, decoded. It is looked at with ``..`` and ``//`` resolved as
                well, so that no way of writing it leads around a rule.
        """
        resolved = "/" + posixpath.normpath("/" + path).lstrip("/")
        return self._allows(info, path) and (path == resolved or self._allows(info, resolved))

    def _allows(self, info: TLSInfo | None, path: str) -> bool:
        prefixes = [prefix for prefix in self._by_prefix if path == prefix or path.startswith(prefix.rstrip("/") + "/")]
        if not prefixes:
            return True
        if info is None or not info.verified:
            return False
        return any(matches(info) for matches in self._by_prefix[max(prefixes, key=len)])


def remote_user(info: TLSInfo | None, field: str) -> str | None:
    """Return who a verified client is, for ``REMOTE_USER``; None when it is nobody.

    Args:
        info: The client's connection.
        field: The variable to take it from, such as ``SSL_CLIENT_S_DN_CN`` or ``SSL_CLIENT_SAN_Email_0``.
    """
    if info is None or not info.verified:
        return None
    return info.environ().get(field)


@dataclass(frozen=True, slots=True)
class _TextRule:
    """A rule that was written as text."""

    kind: str
    value: str

    def __call__(self, info: TLSInfo) -> bool:
        """Return whether a client's certificate matches."""
        if self.kind == "issuer":
            return any(_fingerprint(each) == self.value for each in info.peer_chain[1:])
        if self.kind == "certificate":
            return _fingerprint(info.peer_chain[0]) == self.value
        try:
            alternatives = info.peer_chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
            return False
        general_name, same = _COMPARISONS[self.kind]
        return any(same(self.value, each) for each in alternatives.get_values_for_type(general_name))


def _predicate(rule: Rule) -> Callable[[TLSInfo], bool]:
    if callable(rule):
        return rule
    kind, _, value = rule.partition(":")
    kind, value = kind.strip().lower(), value.strip()
    if kind in {"issuer", "certificate"}:
        value = value.replace(":", "").lower()
    if kind not in _KINDS or not _is_wellformed(kind, value):
        remedy = f"Write one of {', '.join(_KINDS)}, a colon and a value, such as dns:worker.example.com."
        raise ConfigurationError(_SETTING, rule, "is not a rule", remedy)
    return _TextRule(kind, value)


def _is_wellformed(kind: str, value: str) -> bool:
    try:
        match kind:
            case "dns":
                return bool(names.normalise(value))
            case "ip":
                return bool(ipaddress.ip_network(value, strict=False))
            case "email":
                return value.count("@") == 1 and not value.endswith("@") and not value.startswith("@")
            case "uri":
                return ":" in value and "*" not in value.removesuffix("/*")
            case _:
                return _FINGERPRINT.fullmatch(value) is not None
    except ValueError:
        return False


def _prefix(prefix: str) -> str:
    if not prefix.startswith("/"):
        raise ConfigurationError(_SETTING, prefix, "is not a path", "Begin it with a slash.")
    return prefix.rstrip("/") or "/"


def _same_mail(wanted: str, given: str) -> bool:
    """Compare mail addresses; the part after the @ knows no case (RFC 5280, 7.5)."""
    wanted_local, _, wanted_host = wanted.rpartition("@")
    given_local, _, given_host = given.rpartition("@")
    return wanted_host.lower() == given_host.lower() and wanted_local in {"*", given_local}


def _same_uri(wanted: str, given: str) -> bool:
    if not wanted.endswith("/*"):
        return wanted == given
    below = wanted.removesuffix("*")
    return given.startswith(below) and ".." not in given.removeprefix(below).split("/")


def _in_network(wanted: str, given: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return given in ipaddress.ip_network(wanted, strict=False)


_COMPARISONS: Final[Mapping[str, tuple[type[Any], Callable[[str, Any], bool]]]] = {
    "dns": (x509.DNSName, names.matches),
    "email": (x509.RFC822Name, _same_mail),
    "uri": (x509.UniformResourceIdentifier, _same_uri),
    "ip": (x509.IPAddress, _in_network),
}


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
