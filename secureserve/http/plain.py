"""The plain-HTTP side of a server that speaks HTTPS: what it answers, and the way from http to https.

A redirect goes nowhere but to a host that is served here, and to the very target that was asked for. Both come from the
peer, so both are checked: nothing of theirs is repeated that does not have the form it should have.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

from secureserve.errors import BadRequest, ConfigurationError
from secureserve.http.host import authority, parse_host

if TYPE_CHECKING:
    import sys
    from collections.abc import Callable, Iterable, Mapping

    if sys.version_info >= (3, 11):
        from wsgiref.types import StartResponse, WSGIEnvironment
    else:
        from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["ChallengeLookup", "RedirectApp", "answer_to_plain_http", "hsts_header", "redirect_location"]

HTTPS_PORT: Final = 443

_CHALLENGE_PREFIX: Final = "/.well-known/acme-challenge/"
"""Where a certificate authority fetches the proof for http-01 (RFC 8555, 8.3)."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)
"""A token is in base64url (RFC 8555, 8.3)."""

_TARGET: Final = re.compile(r"/[!-~]*", re.ASCII)
"""A path and query: the only form that can follow a host in a URL. Visible ASCII throughout, so it ends no line."""

_MAX_TARGET_SIZE: Final = 8192
_PRELOAD_MIN_AGE: Final = 31_536_000
"""A year: what browsers ask of a host before they build its policy in (hstspreload.org)."""

_OWN_TEXT: Final = "This port speaks HTTPS, and the request came as plain HTTP. Use an https:// URL.\n"


class ChallengeLookup(Protocol):
    """Finds the key authorization of an http-01 challenge by its token. A dict of them is one."""

    def get(self, token: str, /) -> str | None:
        """Return the key authorization (RFC 8555, 8.1), or None for a token that is not known."""


def answer_to_plain_http(location: str | None = None) -> bytes:
    """Return the complete response to a plain HTTP request on a port that speaks TLS.

    Args:
        location: Where to send the client (308), as `redirect_location` returns it; None tells it off (400).
    """
    if location is None:
        return _response(HTTPStatus.BAD_REQUEST, _OWN_TEXT)
    return _response(HTTPStatus.PERMANENT_REDIRECT, "Use https.\n", ("Location", location))


def redirect_location(host: str, target: str, *, serves: Callable[[str], bool], https_port: int = HTTPS_PORT) -> str:
    """Return the https URL of a request that came by http.

    Args:
        host: The host that was asked for, as `parse_host` returns it.
        target: The path and query that were asked for, as they came.
        serves: Tells whether a host, in lower case and without a final dot, is served here.
        https_port: The port where https is served.

    Raises:
        BadRequest: The host is not served here (421), or the target is not a path.
    """
    host = host.removesuffix(".")
    if not host or not serves(host):
        raise BadRequest("This host is not served here.", status=HTTPStatus.MISDIRECTED_REQUEST)
    if len(target) > _MAX_TARGET_SIZE:
        raise BadRequest("The request target is too long.", status=HTTPStatus.REQUEST_URI_TOO_LONG)
    if not _TARGET.fullmatch(target):
        raise BadRequest("The request target is not a path.")
    return f"https://{authority(host, https_port, default_port=HTTPS_PORT)}{target}"


class RedirectApp:
    """A WSGI application for a plain listener: answers http-01 challenges, and redirects everything else to https.

    Args:
        https_port: The port where https is served, as clients see it.
        serves: Tells whether a host, in lower case, is served here; others get 421.
        challenges: Where http-01 proofs are found; None for none.

    Threads: any.
    """

    __slots__ = ("_challenges", "_https_port", "_serves")

    def __init__(
        self, https_port: int, serves: Callable[[str], bool], challenges: ChallengeLookup | None = None
    ) -> None:
        self._https_port = https_port
        self._serves = serves
        self._challenges = challenges

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        proof = self._proof(environ)
        if proof is not None:
            return _respond(environ, start_response, HTTPStatus.OK, proof, "application/octet-stream")
        try:
            host, _ = parse_host(environ.get("HTTP_HOST", ""))
            location = redirect_location(host, _target_of(environ), serves=self._serves, https_port=self._https_port)
        except BadRequest as error:
            status = HTTPStatus(error.status_hint or 400)
            return _respond(environ, start_response, status, f"{error}\n", "text/plain; charset=utf-8")
        return _respond(
            environ,
            start_response,
            HTTPStatus.PERMANENT_REDIRECT,
            "Use https.\n",
            "text/plain; charset=utf-8",
            ("Location", location),
        )

    def _proof(self, environ: WSGIEnvironment) -> str | None:
        path = environ.get("PATH_INFO", "")
        if self._challenges is None or environ.get("REQUEST_METHOD") not in {"GET", "HEAD"}:
            return None
        token = path.removeprefix(_CHALLENGE_PREFIX)
        if token == path or not _TOKEN.fullmatch(token):
            return None
        return self._challenges.get(token)


def hsts_header(max_age: int, *, include_subdomains: bool = False, preload: bool = False) -> tuple[str, str]:
    """Return the field that has browsers use https for this host from now on (RFC 6797).

    Args:
        max_age: Seconds for which they are to remember it; 0 has them forget it.
        include_subdomains: Whether it holds for all subdomains too.
        preload: Whether it may be built into browsers.

    Raises:
        ConfigurationError: A negative age, or a preload that browsers would not accept.
    """
    if max_age < 0:
        raise ConfigurationError("hsts", max_age, "is not a number of seconds", "Use a whole number, such as 31536000.")
    if preload and not (include_subdomains and max_age >= _PRELOAD_MIN_AGE):
        remedy = f"Include subdomains, with an age of {_PRELOAD_MIN_AGE} seconds or more."
        raise ConfigurationError("hsts", max_age, "is not enough for preload", remedy)
    value = f"max-age={max_age}" + "; includeSubDomains" * include_subdomains + "; preload" * preload
    return "Strict-Transport-Security", value


def _target_of(environ: Mapping[str, Any]) -> str:
    """Return the target as it came, where the server tells; else its path and query, quoted again."""
    target = environ.get("REQUEST_URI")
    if isinstance(target, str) and target.startswith("/"):
        return target
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    quoted = quote(path.encode("latin-1"), safe="/!$&'()*+,;=:@~") or "/"
    return quoted + (f"?{query}" if query else "")


def _response(status: HTTPStatus, text: str, *fields: tuple[str, str]) -> bytes:
    body = text.encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        *(f"{name}: {value}" for name, value in fields),
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _respond(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: HTTPStatus,
    text: str,
    content_type: str,
    *fields: tuple[str, str],
) -> list[bytes]:
    body = text.encode()
    headers = [*fields, ("Content-Type", content_type), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]
