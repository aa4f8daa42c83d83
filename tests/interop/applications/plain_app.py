"""Applications without a framework: for large bodies, for browsers, and one that `wsgiref.validate` watches."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING
from wsgiref.validate import validator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PIECE = bytes(range(256)) * 256
"""64 KiB in which every byte value has its place."""


def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer an upload with its digest, and a GET with as many bytes as the query says."""
    if environ["REQUEST_METHOD"] in ("PUT", "POST"):
        digest = hashlib.sha256()
        length = 0
        while chunk := environ["wsgi.input"].read(1024 * 1024):
            digest.update(chunk)
            length += len(chunk)
        answer = f"{length} {digest.hexdigest()}".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
        return [answer]
    size = int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    return pieces(size)


def pieces(size: int) -> Iterator[bytes]:
    """Yield `size` bytes in which every piece differs from the last."""
    sent = 0
    while sent < size:
        piece = sent.to_bytes(8, "big") + PIECE
        yield piece[: size - sent]
        sent += len(piece)


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send the body back, or a word where there is none."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"nothing"
    strange = {name: value for name, value in environ.items() if "." not in name and not isinstance(value, str)}
    assert not strange, strange
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Show in a page what the key exchange was."""
    answer = f'<!doctype html><title>Group</title><p id="group">{environ["secureserve.tls"].group}</p>'.encode()
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(answer)))])
    return [answer]


def whoami(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Say who the server says that it is."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ.get("REMOTE_USER", "nobody").encode()]


def make_guarded() -> object:
    """Make the application with rules about clients in front of it, by path."""
    from secureserve import AuthoriseClients

    rules = {
        "/": ["email:*@example.test"],
        "/admin": ["dns:admin.example.test"],
        "/admin/help": ["email:*@example.test"],
    }
    return AuthoriseClients(whoami, rules, remote_user_field="SSL_CLIENT_SAN_Email_0")


def make_validated() -> object:
    """Make the application that `wsgiref.validate` watches; what it only warns of fails as well."""
    warnings.simplefilter("error")
    return validator(echo)
