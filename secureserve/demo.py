"""The demo application: a page that tells its visitor what was negotiated."""

from __future__ import annotations

import html
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["application"]

_TOLD: Final = (
    ("Protocol", "SSL_PROTOCOL"),
    ("Cipher suite", "SSL_CIPHER"),
    ("Server name asked for", "SSL_TLS_SNI"),
    ("Session resumed", "SSL_SESSION_RESUMED"),
    ("Your certificate", "SSL_CLIENT_S_DN"),
    ("Request", "SERVER_PROTOCOL"),
    ("Your address", "REMOTE_ADDR"),
    ("Your program", "HTTP_USER_AGENT"),
    ("Server", "SERVER_SOFTWARE"),
)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer ``/`` with a page, ``/text`` with the same as text, and any other path with 404."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return _answer(
            start_response, "405 Method Not Allowed", "text/plain", "Only GET and HEAD.\n", ("Allow", "GET, HEAD")
        )
    facts = [(label, environ[name]) for label, name in _TOLD if environ.get(name)]
    if environ["PATH_INFO"] == "/":
        rows = "".join(f"<tr><th>{label}<td>{html.escape(str(value))}\n" for label, value in facts)
        page = resources.files("secureserve").joinpath("demo.html").read_text(encoding="utf-8")
        return _answer(start_response, "200 OK", "text/html", page.replace("<!-- facts -->", rows))
    if environ["PATH_INFO"] == "/text":
        return _answer(start_response, "200 OK", "text/plain", "".join(f"{label}: {value}\n" for label, value in facts))
    return _answer(start_response, "404 Not Found", "text/plain", "There are / and /text.\n")


def _answer(
    start_response: StartResponse, status: str, content_type: str, text: str, *headers: tuple[str, str]
) -> list[bytes]:
    body = text.encode()
    start_response(
        status,
        [
            ("Content-Type", f"{content_type}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            *headers,
        ],
    )
    return [body]
