"""What a test server saw: requests as the application got them, and its log."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeAlias

    Application: TypeAlias = "Callable[..., Iterable[bytes]]"

__all__ = ["Journal", "RecordedRequest", "Recorder", "hello"]

MAX_REQUESTS: Final = 10_000
"""How many requests are kept; a test that sends more counts them in its own application."""

MAX_BODY_SIZE: Final = 1024 * 1024
"""How many bytes of each body are kept."""

MAX_LINES: Final = 2_000
"""How many lines of log are kept."""


@dataclass(slots=True)
class RecordedRequest:
    """A request as the application got it.

    Attributes:
        method: Its method.
        path: Its path, decoded.
        query_string: What follows the question mark, as it was sent.
        headers: Its header fields, names in lower case.
        environ: The whole WSGI environ of simple values, ``SSL_*`` included.
        body: What the application read of its body, up to a mebibyte.
        status: What was answered, such as ``200 OK``; empty until then.
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    environ: Mapping[str, Any] = field(repr=False)
    body: bytes = b""
    status: str = ""


class Journal:
    """A server's log, in memory.

    Threads: any.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        """Add a line with the time."""
        if len(self._lines) < MAX_LINES:
            self._lines.append(f"{time.strftime('%H:%M:%S')} {line}")

    def text(self) -> str:
        """Return all of it."""
        return "\n".join(self._lines)


class Recorder:
    """A WSGI application that keeps what another one is asked.

    Args:
        application: The application that answers.
        journal: Where a line is written for each answer.

    Threads: any.
    """

    def __init__(self, application: Application, journal: Journal) -> None:
        self._application = application
        self._journal = journal
        self._arrived = threading.Condition()
        self.requests: list[RecordedRequest] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        request = RecordedRequest(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            environ.get("QUERY_STRING", ""),
            _headers(environ),
            {name: value for name, value in environ.items() if isinstance(value, str | int | bool | tuple)},
        )
        environ["wsgi.input"] = _TeeInput(environ["wsgi.input"], request)

        def started(status: str, headers: Any, *rest: Any) -> Any:
            request.status = status
            self._journal.write(f"{environ.get('REMOTE_ADDR', '')} {request.method} {request.path} -> {status}")
            return start_response(status, headers, *rest)

        with self._arrived:
            if len(self.requests) < MAX_REQUESTS:
                self.requests.append(request)
            self._arrived.notify_all()
        return self._application(environ, started)

    def wait_for(self, count: int, timeout: float) -> bool:
        """Wait until `count` requests have arrived; return whether they have, False after `timeout` seconds."""
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self.requests) >= count, timeout)


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer everything with 200 and one line: what a test server serves when it is given no application."""
    while environ["wsgi.input"].read(65536):
        pass
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "6")])
    return [b"hello\n"]


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return headers


class _TeeInput:
    """A ``wsgi.input`` that keeps what is read from it."""

    def __init__(self, stream: Any, request: RecordedRequest) -> None:
        self._stream = stream
        self._request = request

    def read(self, size: int | None = -1) -> bytes:
        return self._keep(self._stream.read() if size is None or size < 0 else self._stream.read(size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._keep(self._stream.readline() if size is None or size < 0 else self._stream.readline(size))

    def readlines(self, hint: int = -1) -> list[bytes]:
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _keep(self, data: bytes) -> bytes:
        room = MAX_BODY_SIZE - len(self._request.body)
        if room > 0:
            self._request.body += data[:room]
        return data
