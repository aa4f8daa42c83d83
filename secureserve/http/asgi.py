"""An ASGI application where a WSGI one is expected, through a2wsgi, with its lifespan run.

a2wsgi does the translation. Added here is what it leaves out: the lifespan protocol, request bodies without a declared
length, and an end for the application's task when the response is broken off.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Final

from a2wsgi import ASGIMiddleware

from secureserve.errors import LifecycleError, StartFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from typing_extensions import Self

    ASGIApplication = Callable[[Any, Any, Any], Awaitable[None]]

__all__ = ["ASGIAdapter"]

SHUTDOWN_TIMEOUT: Final = 30.0
"""Seconds that an application may take to shut down. Starting up takes what it takes: models are loaded there."""

_TASKS: Final = "secureserve.asgi_tasks"
_SPOOLED_IN_MEMORY: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024


class ASGIAdapter:
    """A WSGI application that runs an ASGI one on an event loop of its own.

    Call `startup` before serving and `shutdown` after, or use it as a context manager.

    Threads: worker threads call it; `startup` and `shutdown` belong to whoever starts and stops the server.

    Args:
        application: The ASGI 3 application.
    """

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application
        self._loop = _EventLoop()
        self._lifespan = _Lifespan(application)
        self._middleware: Any = None

    def startup(self) -> None:
        """Start the event loop and the application's lifespan.

        Raises:
            StartFailed: The application said that it could not start.
        """
        loop = self._loop.start()
        # Any: its types are its own words for those of PEP 3333.
        self._middleware = ASGIMiddleware(self._run, loop=loop)
        try:
            self._loop.run(self._lifespan.startup())
        except BaseException:
            self._loop.stop()
            raise

    def shutdown(self) -> None:
        """End the application's lifespan and the event loop.

        Raises:
            LifecycleError: The application said that it could not shut down, or took too long.
        """
        try:
            self._loop.run(self._lifespan.shutdown())
        finally:
            self._loop.stop()

    def __enter__(self) -> Self:
        self.startup()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, as PEP 3333 says."""
        if environ.get("HTTP_TRANSFER_ENCODING") and not environ.get("CONTENT_LENGTH"):
            return self._with_length(environ, start_response)
        return self._respond(environ, start_response)

    def _with_length(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        """Answer a chunked request: a2wsgi reads as many bytes as are declared, so count them first."""
        with tempfile.SpooledTemporaryFile(_SPOOLED_IN_MEMORY) as body:
            while chunk := environ["wsgi.input"].read(_CHUNK):
                body.write(chunk)
            environ["CONTENT_LENGTH"] = str(body.tell())
            environ["wsgi.input"] = body
            body.seek(0)
            yield from self._respond(environ, start_response)

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        tasks: list[asyncio.Task[None]] = []
        environ[_TASKS] = tasks
        try:
            yield from self._middleware(environ, start_response)
        finally:
            # After a truncated body or a client that went away the application would wait on receive or send for ever.
            for task in tasks:
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        if task is not None:
            scope["wsgi_environ"][_TASKS].append(task)
        if self._lifespan.state:
            scope["state"] = self._lifespan.state.copy()
        await self._application(scope, receive, send)


class _EventLoop:
    """An event loop and the thread that runs it, made anew for each start."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread

    def start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ASGI loop", daemon=True)
        self._thread.start()
        return self._loop

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` on the loop, from another thread, and return when it is done."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        """Cancel what is left, and end the thread."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Lifespan:
    """The application's start and end (the lifespan protocol of ASGI).

    An application that raises before it has answered ``lifespan.startup`` knows no lifespan, and goes without.
    """

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application
        self.state: dict[str, Any] = {}
        self._events: asyncio.Queue[dict[str, str]]
        self._answers: asyncio.Queue[dict[str, str]]
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        self.state, self._events, self._answers = {}, asyncio.Queue(), asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.create_task(self._run(scope))
        await self._events.put({"type": "lifespan.startup"})
        answer = await self._answers.get()
        if answer["type"] == "lifespan.startup.failed":
            raise StartFailed(f"The application did not start: {answer.get('message') or 'it gave no reason'}.")

    async def shutdown(self) -> None:
        if self._task is None or self._task.done():
            return
        await self._events.put({"type": "lifespan.shutdown"})
        try:
            answer = await asyncio.wait_for(self._answers.get(), SHUTDOWN_TIMEOUT)
        except asyncio.TimeoutError:
            self._task.cancel()
            raise LifecycleError(f"The application did not shut down within {SHUTDOWN_TIMEOUT:g} seconds.") from None
        if answer["type"] == "lifespan.shutdown.failed":
            raise LifecycleError(f"The application did not shut down: {answer.get('message') or 'it gave no reason'}.")

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._application(scope, self._events.get, self._answers.put)
        except Exception:  # noqa: BLE001, S110 - the protocol: whoever raises here takes no part in it
            pass
        finally:
            await self._answers.put({"type": "lifespan.unsupported"})
