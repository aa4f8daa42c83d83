"""A Starlette application with a lifespan, for ``--interface asgi``."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
    """Say when the application starts and when it stops."""
    print("lifespan: started", flush=True)  # noqa: T201 - the test reads it
    yield {"greeting": "hello"}
    print("lifespan: stopped", flush=True)  # noqa: T201 - the test reads it


async def hello(request: Request) -> Response:
    """Say hello, and over what."""
    assert request.url.scheme == "https"
    protocol = request.scope["wsgi_environ"]["SSL_PROTOCOL"]
    return PlainTextResponse(f"{request.state.greeting} over {protocol}\n")


async def digest(request: Request) -> Response:
    """Say what arrived."""
    whole = hashlib.sha256()
    async for chunk in request.stream():
        whole.update(chunk)
    return PlainTextResponse(whole.hexdigest())


async def download(request: Request) -> Response:
    """Send as many lines as are asked for, one at a time."""

    async def lines() -> AsyncIterator[str]:
        for number in range(int(request.query_params["lines"])):
            yield f"line {number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


app = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/digest", digest, methods=["POST"]),
        Route("/download", download),
    ],
    lifespan=lifespan,
)
