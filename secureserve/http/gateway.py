"""Between a request and a WSGI application (PEP 3333)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import cheroot.wsgi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from secureserve.http.connection import HTTPConnection
    from secureserve.http.request import HTTPRequest
    from secureserve.http.server import HTTPServer

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

__all__ = ["FileWrapper", "WSGIGateway", "connection_environ", "registered_gateways"]

BLOCK: Final = 64 * 1024
KNOWN_ENVIRONS: Final = 256
"""Shared parts of environs that a server keeps for further connections."""


def registered_gateways() -> dict[tuple[Any, int], type]:
    """Return the gateways that applications can be called through, by version of WSGI: cheroot's registry."""
    return dict(cheroot.wsgi.wsgi_gateways)


class FileWrapper:
    """``wsgi.file_wrapper``: a file as a response.

    Returned to the server as it is, with a Content-Length, it is sent without holding a worker thread, however slowly
    the peer reads. It is closed in every case, and then perhaps by another thread than the one that opened it.
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
    started_response = False

    def __init__(self, req: HTTPRequest) -> None:
        self.req = req
        self.env = self.get_environ()

    def get_environ(self) -> dict[str, Any]:
        """Return the environ: what the server and the connection know, what the request says, what was found out."""
        req = self.req
        conn, message = req.conn, req.message
        environ = {
            **conn.environ(),
            **message.environ_fields,
            "REMOTE_ADDR": conn.remote_addr,
            "REMOTE_PORT": str(conn.remote_port or ""),
            "REQUEST_METHOD": req.method.decode("ascii"),
            "REQUEST_URI": req.uri.decode("latin-1"),
            "PATH_INFO": req.path.decode("latin-1"),
            "QUERY_STRING": req.qs.decode("latin-1"),
            "SERVER_PROTOCOL": "HTTP/1.1" if message.version == (1, 1) else "HTTP/1.0",
            # Not a part that is shared: whoever captures the output of a program, as tests do, puts another one there.
            "wsgi.errors": sys.stderr,
            "wsgi.input": req.rfile,
        }
        if conn.tls is not None:
            environ["secureserve.tls"] = conn.tls
        if conn.connection.lookup is not None and (name := conn.remote_name()):
            environ["REMOTE_HOST"] = name
        return environ

    def respond(self) -> None:
        """Run the application and send its response.

        Raises:
            RuntimeError: It never called start_response.
            Exception: Whatever it raised.
        """
        response = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            if isinstance(response, FileWrapper) and self._leave_to_front(response):
                return
            self._send(response)
        except BaseException:
            _close(response)
            raise
        try:
            _close(response)
        except Exception as error:  # noqa: BLE001 - the response is whole, whatever its iterable says to its end
            self.req.server.reporter.application_failed(self.req, error)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take status and fields; nothing is sent before there is content, or an end.

        Raises:
            RuntimeError: It was called before, and without `exc_info`.
            TypeError: A status or field is not of type str.
            ValueError: A status or field that would break the response apart, or that is the server's to set.
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
            raise RuntimeError("start_response was called a second time, without exc_info.")
        try:
            req.begin_response(status, headers)
        except (AttributeError, TypeError):
            raise TypeError("Status and header fields given to start_response are of type str (PEP 3333).") from None
        self.started_response = True
        return self.write

    def write(self, chunk: bytes) -> None:
        """Send a piece of the content.

        Raises:
            RuntimeError: There was no start_response before.
            TypeError: It is not of type bytes.
            ValueError: It is more than was declared.
            ConnectionError: The connection broke.
        """
        if not self.started_response:
            raise RuntimeError("The application sent content before it called start_response.")
        if not isinstance(chunk, bytes):
            raise TypeError(f"A WSGI application yields bytes, and this one yielded {type(chunk).__name__}.")
        self.req.write(chunk)

    def _send(self, response: Iterable[bytes]) -> None:
        req = self.req
        if isinstance(response, (list, tuple)) and len(response) == 1 and response[0] and self.started_response:
            req.declare(len(response[0]))
            self.write(response[0])
            return
        for chunk in response:
            if chunk:
                self.write(chunk)
                if not req.takes_content:
                    break
        if not self.started_response:
            raise RuntimeError("The application returned without calling start_response.")

    def _leave_to_front(self, response: FileWrapper) -> bool:
        req = self.req
        if not self.started_response or req.declared is None:
            return False
        return req.leave_to_front(_FileContent(response, req.declared, req))


class _FileContent:
    """As much of a file as was declared, in blocks.

    Threads: those that flush the connection, one at a time.
    """

    def __init__(self, wrapper: FileWrapper, length: int, request: HTTPRequest) -> None:
        self._wrapper = wrapper
        self._left = length
        self._request = request

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        try:
            block = self._read()
        except Exception as error:
            self._request.server.reporter.application_failed(self._request, error)
            raise ConnectionAbortedError("The file of a response could not be read.") from error
        self._left -= len(block)
        return block

    def _read(self) -> bytes:
        block = self._wrapper.filelike.read(min(self._wrapper.blksize, self._left))
        if not block:
            raise ValueError(f"The file ended {self._left} bytes before the declared content length.")
        return block

    def close(self) -> None:
        try:
            self._wrapper.close()
        except Exception as error:  # noqa: BLE001 - the connection has nothing to do with it
            self._request.server.reporter.application_failed(self._request, error)


def _close(response: object) -> None:
    close = getattr(response, "close", None)
    if close is not None:
        close()


def _local_address(server: HTTPServer, conn: HTTPConnection) -> Any:
    """Return which of several listeners' addresses the client connected to."""
    try:
        return conn.socket.getsockname()
    except OSError:
        return server.bind_addr


def connection_environ(server: HTTPServer, conn: HTTPConnection) -> dict[str, Any]:
    """Return the part of the environ that is the same for every request of a connection, and of others like it."""
    came_to = server.bind_addr if len(server.listeners) == 1 else _local_address(server, conn)
    port = "" if isinstance(came_to, str) else str(came_to[1])
    ssl_env = conn.ssl_env
    if not port and server.peercreds_enabled:
        return _shared_environ(server, conn, port) | conn.peer_environ()
    known = server.environs
    found = known.get((port, id(ssl_env)))
    if found is None or found[0] is not ssl_env:
        if len(known) >= KNOWN_ENVIRONS:
            known.clear()
        # The variables are kept too, so that no others can come to have their id.
        found = known[port, id(ssl_env)] = (ssl_env, _shared_environ(server, conn, port))
    return found[1]


def _shared_environ(server: HTTPServer, conn: HTTPConnection, port: str) -> dict[str, Any]:
    return {
        "ACTUAL_SERVER_PROTOCOL": server.protocol,
        "SCRIPT_NAME": "",
        "SERVER_NAME": server.host_name,
        "SERVER_PORT": port,
        "SERVER_SOFTWARE": server.software,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": False,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.url_scheme": conn.scheme.decode("ascii"),
        "wsgi.version": (1, 0),
        **(conn.ssl_env or {}),
    }
