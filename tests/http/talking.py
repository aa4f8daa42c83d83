"""A client that says exactly what a test wants said, and reads one response at a time."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secureserve.http.server import HTTPServer
from tests.http.serving import DEADLINE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

BODILESS = frozenset({204, 304})


@dataclass
class Response:
    """One response, as it came."""

    version: str
    status: int
    fields: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """Return the values of every field of that name."""
        return [value for key, value in self.fields if key.lower() == name]

    def get(self, name: str) -> str | None:
        """Return the value of a field that comes once; None where it does not come."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


class Talker:
    """A client's side of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def send(self, *pieces: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(b"".join(pieces))

    def request(self, *lines: str, line: str = "GET / HTTP/1.1", body: bytes = b"") -> None:
        """Send a request with Host and the given field lines."""
        head = "".join(f"{one}\r\n" for one in (line, "Host: localhost", *lines, ""))
        self.send(head.encode("latin-1"), body)

    def post(self, body: bytes, *lines: str) -> None:
        """Send a request with a body of known length."""
        self.request(f"Content-Length: {len(body)}", *lines, line="POST / HTTP/1.1", body=body)

    def response(self, method: str = "GET") -> Response:
        """Read one response.

        Raises:
            EOFError: It ends too early.
            OSError: The connection broke.
        """
        version, status, *_ = self._line().split(" ", 2)
        fields = self._fields()
        response = Response(version, int(status), fields, b"", [])
        if method == "HEAD" or response.status in BODILESS or response.status < 200:
            return response
        if response.get("transfer-encoding") == "chunked":
            response.body = b"".join(iter(self._chunk, b""))
            response.trailers = self._fields()
        elif (length := response.get("content-length")) is not None:
            response.body = self._exactly(int(length))
        else:
            response.body = self._file.read()
        return response

    def get(self, *lines: str) -> Response:
        """Send a GET request and read the response."""
        self.request(*lines)
        return self.response()

    def is_closed(self) -> bool:
        """Return whether the server ends the stream now, in an orderly way; under TLS that takes a close_notify."""
        return self._file.read(1) == b""

    def close(self) -> None:
        """Close."""
        self._file.close()
        self.sock.close()

    def reset(self) -> None:
        """Close so that the server sees the connection break."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def _line(self) -> str:
        line = self._file.readline(65537)
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the stream ended in {line!r}")
        return line[:-2].decode("latin-1")

    def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self._line():
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
        return fields

    def _chunk(self) -> bytes:
        size = int(self._line(), 16)
        if not size:
            return b""
        chunk = self._exactly(size)
        assert self._line() == ""
        return chunk

    def _exactly(self, size: int) -> bytes:
        body = self._file.read(size)
        if len(body) < size:
            raise EOFError(f"{len(body)} of {size} bytes came")
        return body


class Serving:
    """Runs servers for a test, over plain HTTP or TLS, and talks to them.

    Args:
        adapter: A maker of SSL adapters; None for plain HTTP.
        context: What clients trust.
    """

    def __init__(self, adapter: Any = None, context: ssl.SSLContext | None = None) -> None:
        self._adapter = adapter
        self._context = context

    @contextlib.contextmanager
    def __call__(self, app: Any, *, attributes: dict[str, Any] | None = None, **options: Any) -> Iterator[HTTPServer]:
        """Run a server with an application, options of its constructor, and attributes."""
        options.setdefault("numthreads", 3)
        server = HTTPServer(("127.0.0.1", 0), app, **options)
        if self._adapter is not None:
            server.ssl_adapter = self._adapter()
        for name, value in (attributes or {}).items():
            setattr(server, name, value)
        # It answers as soon as it is prepared; serve() would only wait for its end.
        server.prepare()
        try:
            yield server
        finally:
            server.stop()

    @contextlib.contextmanager
    def talk(self, server: HTTPServer) -> Iterator[Talker]:
        """Connect to a server."""
        sock: socket.socket = socket.create_connection(server.bind_addr, DEADLINE)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
        talker = Talker(sock)
        with contextlib.closing(talker):
            yield talker
