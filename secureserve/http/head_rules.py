"""What RFC 9112 asks of a request head beyond the grammar that llhttp knows. Pure."""

from __future__ import annotations

import re
from typing import Final

import httptools

from secureserve.errors import BadRequest
from secureserve.http.host import parse_host

__all__ = [
    "NAMES",
    "REQUEST_LINE",
    "VERSIONS",
    "check_codings",
    "check_host",
    "check_target",
    "environ_name",
    "refusal",
]

VERSIONS: Final = {b"HTTP/1.1": (1, 1), b"HTTP/1.0": (1, 0)}
REQUEST_LINE: Final = re.compile(rb"(?P<method>[!#$%&'*+\-.^_`|~0-9A-Za-z]+) [^ ]+ (?P<version>HTTP/[0-9]\.[0-9])\r\n")

_REFUSED_NAMES: Final = frozenset({"PROXY"})
"""``HTTP_PROXY`` configures clients in the environment ("httpoxy"), and no client has a use for the field."""

_KEPT: Final = 1024
_KEPT_SIZE: Final = 64
NAMES: Final[dict[bytes, str]] = {}
"""Field names as they were sent, and what a WSGI environ calls them: a cache of up to `_KEPT` short ones."""
_hosts: Final[set[str]] = set()
"""Host values that were found valid: another."""


def environ_name(field: bytes) -> str:
    """Return what a WSGI environ calls a field.

    Raises:
        BadRequest: The name could be mistaken for another in an environ, where ``-`` and ``_`` are one, or means
            something else there.
    """
    known = NAMES.get(field)
    if known is not None:
        return known
    name = field.upper().decode("latin-1")
    if "_" in name or name in _REFUSED_NAMES:
        raise BadRequest(
            f"A field named {name[:_KEPT_SIZE]} is refused: a WSGI environ could not tell it from another."
        )
    name = name.replace("-", "_")
    if name not in {"CONTENT_LENGTH", "CONTENT_TYPE"}:
        name = f"HTTP_{name}"
    if len(field) <= _KEPT_SIZE:
        if len(NAMES) >= _KEPT:
            NAMES.clear()
        NAMES[field] = name
    return name


def check_host(host: str) -> None:
    """Check the value of Host (RFC 9112, 3.2).

    Raises:
        BadRequest: It is no host with or without a port.
    """
    if host in _hosts:
        return
    parse_host(host)
    if len(host) <= _KEPT_SIZE:
        if len(_hosts) >= _KEPT:
            _hosts.clear()
        _hosts.add(host)


def check_target(method: bytes, target: bytes, fields: dict[str, str]) -> None:
    """Check a target that is not a path, and let its host stand in for a missing Host (RFC 9112, 3.2).

    Args:
        method: The method that it goes with.
        target: As sent.
        fields: The fields of the head, by their names in an environ.

    Raises:
        BadRequest: Its form does not go with the method, or it contradicts Host.
    """
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest("The target * goes with OPTIONS only.")
        return
    scheme, separator, rest = target.partition(b"://")
    authority = re.split(rb"[/?]", rest, maxsplit=1)[0].decode("latin-1")
    if not separator or scheme.lower() not in {b"http", b"https"} or b"#" in rest:
        raise BadRequest("The request target is neither a path nor an http(s) URL.")
    check_host(authority)
    if fields.setdefault("HTTP_HOST", authority).lower() != authority.lower():
        raise BadRequest("The request target names another host than the Host field does.")


def check_codings(value: str, version: tuple[int, int]) -> None:
    """Check the value of Transfer-Encoding (RFC 9112, 6.1).

    Raises:
        BadRequest: The content does not come in chunks, or not in chunks alone.
    """
    if version == (1, 0):
        raise BadRequest("HTTP/1.0 has no transfer codings.")
    codings = [coding.strip(" \t").lower() for coding in value.split(",")]
    if codings[-1] != "chunked" or codings.count("chunked") > 1:
        raise BadRequest("The last transfer coding of a request is chunked, once.")
    if len(codings) > 1:
        raise BadRequest("The only transfer coding known here is chunked.", status=501)


def refusal(head: bytes, error: httptools.HttpParserError | None) -> BadRequest:
    """Return what to answer to a head that llhttp, or the rules it leaves to us, refused."""
    if error is not None and isinstance(error.__context__, BadRequest):
        return error.__context__
    found = REQUEST_LINE.match(head)
    if found is None:
        return BadRequest("The first line is not an HTTP/1.1 request line.")
    if found["version"] not in VERSIONS:
        return BadRequest("This version of HTTP is not spoken here; use HTTP/1.1.", status=505)
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return BadRequest("The request method is not known here.", status=501)
    return BadRequest(f"The request head is malformed: {error}.")
