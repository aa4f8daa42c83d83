"""ASGI applications behind a WSGI server."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from secureserve.errors import LifecycleError, StartFailed
from secureserve.http.asgi import ASGIAdapter


class Broken(OSError):
    """What the input raises when a body ends early."""


class BrokenInput:
    """A request body of which half arrives."""

    def read(self, size: int) -> bytes:
        """Fail as the server does for a truncated body."""
        raise Broken


def environ(**changes: Any) -> dict[str, Any]:
    """Make the environ of a request."""
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(),
        **changes,
    }


def call(adapter: ASGIAdapter, request: dict[str, Any]) -> tuple[str, bytes]:
    """Return the status and the body of the response."""
    statuses: list[str] = []
    start_response: Any = lambda status, headers, exc_info=None: statuses.append(status)  # noqa: E731 - typed Any
    body = b"".join(adapter(request, start_response))
    return statuses[0], body


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send back the body; knows no lifespan."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


class WithLifespan:
    """An application that tells when it was started and stopped."""

    def __init__(self, startup: str = "complete", shutdown: str = "complete") -> None:
        self.startup, self.shutdown = startup, shutdown
        self.happened: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the lifespan, or answer with what it left in the state."""
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                message = await receive()
                self.happened.append(message["type"])
                scope["state"]["greeting"] = b"hello"
                await send({"type": f"lifespan.{phase}.{getattr(self, phase)}", "message": "no database"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": scope["state"]["greeting"]})


def test_a_body_is_read_and_answered() -> None:
    """A request with a declared length reaches the application, and its answer comes back."""
    with ASGIAdapter(echo) as adapter:
        request = environ(CONTENT_LENGTH="5", **{"wsgi.input": io.BytesIO(b"hello")})
        assert call(adapter, request) == ("200 OK", b"hello")


def test_a_chunked_body_is_whole() -> None:
    """A request body without a declared length is not taken for an empty one."""
    body = b"x" * 200_000
    with ASGIAdapter(echo) as adapter:
        request = environ(HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input": io.BytesIO(body)})
        assert call(adapter, request) == ("200 OK", body)


def test_the_lifespan_is_run_around_the_requests() -> None:
    """Startup comes before the first request, shutdown after the last, and the state reaches the requests."""
    application = WithLifespan()
    with ASGIAdapter(application) as adapter:
        assert application.happened == ["lifespan.startup"]
        assert call(adapter, environ())[1] == b"hello"
    assert application.happened == ["lifespan.startup", "lifespan.shutdown"]


def test_a_failing_startup_fails_the_start() -> None:
    """An application that says it cannot start is not served, and its reason is told."""
    with pytest.raises(StartFailed, match="no database"):
        ASGIAdapter(WithLifespan(startup="failed")).startup()


def test_a_failing_shutdown_is_told() -> None:
    """An application that says it could not shut down is heard."""
    adapter = ASGIAdapter(WithLifespan(shutdown="failed"))
    adapter.startup()
    with pytest.raises(LifecycleError, match="no database"):
        adapter.shutdown()


def test_a_truncated_body_ends_the_applications_task() -> None:
    """When the request breaks off, the server hears of it and the application's task is cancelled, not left waiting."""
    cancelled = threading.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        try:
            await receive()
        finally:
            cancelled.set()

    with ASGIAdapter(waits) as adapter:
        request = environ(CONTENT_LENGTH="5", **{"wsgi.input": BrokenInput()})
        with pytest.raises(Broken):
            call(adapter, request)
        assert cancelled.wait(30)


def test_a_response_that_is_broken_off_ends_the_applications_task() -> None:
    """When the client goes away in the middle of the response, the application's task is cancelled."""
    cancelled = threading.Event()

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            cancelled.set()

    with ASGIAdapter(streams) as adapter:
        start_response: Any = lambda status, headers, exc_info=None: None  # noqa: E731 - typed Any
        response: Any = adapter(environ(), start_response)
        assert next(response) == b"x"
        response.close()
        assert cancelled.wait(30)


def test_an_error_of_the_application_is_the_servers_to_answer() -> None:
    """An exception before the response gives 500."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError(scope["type"])

    with ASGIAdapter(fails) as adapter:
        assert call(adapter, environ())[0] == "500 Internal Server Error"
