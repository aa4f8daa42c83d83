"""The application that every server runs: in WSGI, and the same in ASGI for servers that speak only that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["CONTENT", "application", "asgi"]

CONTENT: Final = {"/": b"Hello, world", "/10k": b"x" * 10_000, "/1m": b"x" * 1_048_576}
"""What is answered at each path, at once."""

WAITS: Final = {"/wait10": 0.010, "/wait50": 0.050}
"""Seconds that are slept before the answer."""

COMPUTED_SECONDS: Final = 0.050
BLOCK: Final = 64 * 1024


def compute() -> None:
    """Use the processor for `COMPUTED_SECONDS`, in Python and so with the interpreter lock."""
    until = time.thread_time() + COMPUTED_SECONDS
    while time.thread_time() < until:
        sum(range(200))


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer in WSGI."""
    path = environ["PATH_INFO"]
    body = CONTENT.get(path)
    if body is None:
        body = CONTENT["/"]
        if path in WAITS:
            time.sleep(WAITS[path])
        elif path == "/compute":
            compute()
        elif path == "/upload":
            size = 0
            while block := environ["wsgi.input"].read(BLOCK):
                size += len(block)
            body = b"%d" % size
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer in ASGI. Waiting is `asyncio.sleep`; computing holds the event loop, as it does in such applications."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    body = CONTENT.get(path)
    if body is None:
        body = CONTENT["/"]
        if path in WAITS:
            # What serves WSGI is not to be charged for it: it takes more memory than some servers do.
            import asyncio

            await asyncio.sleep(WAITS[path])
        elif path == "/compute":
            compute()
        elif path == "/upload":
            size, more = 0, True
            while more:
                message = await receive()
                size += len(message.get("body", b""))
                more = message.get("more_body", False)
            body = b"%d" % size
    length = str(len(body)).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
