"""Between a request and a WSGI application (PEP 3333)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import cheroot.wsgi

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

    from secureserve.http.connection import HTTPConnection
    from secureserve.http.request import HTTPRequest
    from secureserve.http.server import HTTPServer

__all__ = ["FileWrapper", "WSGIGateway", "connection_environ"]

ExcInfo = tuple[type[BaseException], BaseException, "TracebackType | None"]

BLOCK: Final = 64 * 1024


class FileWrapper:
    """``wsgi.file_wrapper``: a file as a response.

    Returned to the server as it is, with a Content-Length, it is sent without holding a worker thread, however slowly the
    peer reads.
    """

    def __init__(self, filelike: BinaryIO, blksize: int = BLOCK) -> None:
        self.filelike = filelike
        self.blksize = blksize

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self.blksize):
            yield block

    def close(self) -> None:
        """Close the file."""
        if hasattr(self.filelike, "close"):
            self.filelike.close()


class WSGIGateway(cheroot.wsgi.Gateway_10):  # type: ignore[misc]
    """Calls the application and hands what it says to the request.

    Threads: the worker thread that runs the request.
    """

    req: HTTPRequest

    def __init__(self, req: HTTPRequest) -> None:
        self.req = req
        self.started_response = False
        self.env = self.get_environ()

    def get_environ(self) -> dict[str, Any]:
        """Return the environ: what the server and the connection know, what the request says, what was found out."""
        req = self.req
        message = req.message
        conn = req.conn
        environ = conn.environ().copy()
        environ.update(message.environ_fields)
        environ["REQUEST_METHOD"] = req.method.decode("ascii")
        environ["REQUEST_URI"] = req.uri.decode("latin-1")
        environ["PATH_INFO"] = req.path.decode("latin-1")
        environ["QUERY_STRING"] = req.qs.decode("latin-1")
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if message.version == (1, 1) else "HTTP/1.0"
        environ["wsgi.input"] = req.rfile
        name = conn.remote_name()
        if name:
            environ["REMOTE_HOST"] = name
        return environ

    def respond(self) -> None:
        """Run the application and send its response."""
        response = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            if isinstance(response, FileWrapper) and self._leave_to_front(response):
                response = None
                return
            if isinstance(response, (list, tuple)) and len(response) == 1:
                self._declare(response[0])
            for chunk in response:
                if chunk:
                    self.write(chunk)
            if not self.started_response:
                message = "The application returned without calling start_response."
                raise RuntimeError(message)
        finally:
            if hasattr(response, "close"):
                response.close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take status and fields; nothing is sent before there is content, or an end.

        Raises:
            RuntimeError: It was called before, and without `exc_info`.
            TypeError: A status or field is not of type str.
        """
        req = self.req
        if exc_info is not None:
            try:
                if req.head_is_out:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
            req.restart_response()
        elif self.started_response:
            message = "start_response was called a second time, without exc_info."
            raise RuntimeError(message)
        self.started_response = True
        try:
            req.status = status.encode("latin-1")
            req.outheaders = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        except AttributeError:
            message = "Status and header fields given to start_response are of type str (PEP 3333)."
            raise TypeError(message) from None
        return self.write

    def write(self, chunk: bytes) -> None:
        """Send a piece of the content.

        Raises:
            RuntimeError: There was no start_response before.
            TypeError: It is not of type bytes.
            ValueError: It is more than was declared; what was declared has been sent.
        """
        if not self.started_response:
            message = "The application sent content before it called start_response."
            raise RuntimeError(message)
        if not isinstance(chunk, bytes):
            message = f"A WSGI application yields bytes, and this one yielded {type(chunk).__name__}."
            raise TypeError(message)
        self.req.write(chunk)

    def _declare(self, chunk: bytes) -> None:
        """Declare the length of content that is there as a whole, where the application did not."""
        req = self.req
        if self.started_response and not any(name.lower() == b"content-length" for name, _ in req.outheaders):
            req.outheaders.append((b"Content-Length", b"%d" % len(chunk)))

    def _leave_to_front(self, response: FileWrapper) -> bool:
        length = next((value for name, value in self.req.outheaders if name.lower() == b"content-length"), b"")
        if not self.started_response or not length.isdigit():
            return False
        self.req.write_blocks(_blocks(response, int(length)))
        return True


def _blocks(response: FileWrapper, length: int) -> Generator[bytes, None, None]:
    """Yield `length` bytes of a file, and close it, whatever happens."""
    try:
        while length > 0:
            block = response.filelike.read(min(response.blksize, length))
            if not block:
                message = "the file was shorter than the declared content length"
                raise ConnectionAbortedError(message)
            length -= len(block)
            yield block
    finally:
        response.close()


def connection_environ(server: HTTPServer, conn: HTTPConnection) -> dict[str, Any]:
    """Return the part of the environ that is the same for every request of a connection."""
    unix = isinstance(server.bind_addr, str)
    environ: dict[str, Any] = {
        "ACTUAL_SERVER_PROTOCOL": server.protocol,
        "REMOTE_ADDR": conn.remote_addr or "",
        "REMOTE_PORT": str(conn.remote_port or ""),
        "SCRIPT_NAME": "",
        "SERVER_NAME": server.server_name,
        "SERVER_PORT": "" if unix else str(server.bind_addr[1]),
        "SERVER_SOFTWARE": server.software,
        "wsgi.errors": sys.stderr,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": False,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.url_scheme": conn.scheme.decode("ascii"),
        "wsgi.version": (1, 0),
    }
    if unix and server.peercreds_enabled:
        environ.update(conn.peer_environ())
    if conn.ssl_env:
        environ.update(conn.ssl_env)
    return environ


