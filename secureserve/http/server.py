"""`HTTPServer`: a cheroot server, by constructor, attributes and life cycle, whose connections come from the Front."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import cheroot.wsgi

from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import AlreadyStarted, ConfigurationError
from secureserve.front.accounting import Accounting, Totals
from secureserve.front.listener import Listener
from secureserve.front.loop import Front
from secureserve.front.reverse_dns import ReverseDNS
from secureserve.front.settings import FrontSettings
from secureserve.front.systemd import adopt_from_systemd
from secureserve.http.connection import HTTPConnection
from secureserve.http.first_heads import FirstHeads
from secureserve.http.gateway import WSGIGateway
from secureserve.http.message import MessageLimits
from secureserve.http.reporter import Reporter
from secureserve.http.request import HTTPRequest
from secureserve.http.run import Run
from secureserve.http.safe_event import SafeEvent
from secureserve.http.ssl_adapter import SSLAdapter
from secureserve.http.workers import Workers
from secureserve.logs import ERROR_LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from secureserve.clock import Clock
    from secureserve.http.parser import Parser
    from secureserve.logs import AccessLog

__all__ = ["HTTPServer"]

SOFTWARE: Final = "secureserve"


class HTTPServer(cheroot.wsgi.Server):  # type: ignore[misc]
    """A WSGI server over TLS or plain HTTP, in the shape of `cheroot.wsgi.Server`.

    Args:
        bind_addr: ``(host, port)``, host None for every interface; or the path of a unix socket.
        wsgi_app: The application.
        numthreads: Worker threads.
        server_name: What the Server field and ``SERVER_NAME`` say; without one, our name and where it listens.
        max: Worker threads to which the pool may grow; -1 for no more than `numthreads`.
        request_queue_size: The listen backlog.
        timeout: Seconds from which each phase of a connection takes its own deadline.
        shutdown_timeout: Seconds that `stop` gives requests in progress.
        accepted_queue_size: Requests that may wait for a thread without limit of time; -1 for any number.
        accepted_queue_timeout: Seconds that a request beyond those waits before it gets 503.
        peercreds_enabled: Look up who is at the other end of a unix socket.
        peercreds_resolve_enabled: Look up the names of that user and group as well.
        reuse_port: Set SO_REUSEPORT.
        settings: The Front's settings.
        listeners: Sockets to serve instead of binding `bind_addr`.
        unix_mode: Permissions of the unix socket.
        unix_owner: User and group id of the unix socket; None: whoever runs the server.
        access_log: Where responses are logged; None logs none.
        publish: Is given the events of `secureserve.events`.
        clock: Tells the time.

    Threads: `start` (or `serve`) blocks its thread; everything else by any thread, `stop` also by a signal handler or
    an application.
    """

    max_request_header_size = 500 * 1024
    max_request_body_size = 100 * 1024 * 1024
    version = SOFTWARE
    software = SOFTWARE
    ConnectionClass: type[HTTPConnection] = HTTPConnection
    keep_alive_conn_limit: int | None = None
    redirect_to_port: int | None = None
    """The port that redirects to https name, where the client names none; None: `bind_addr`'s."""
    gateway: Any
    ssl_adapter: Any = None
    shutdown_timeout: float
    _start_time: float | None

    def __init__(  # noqa: PLR0917 - cheroot's constructor
        self,
        bind_addr: tuple[str | None, int] | str,
        wsgi_app: Callable[..., Iterable[bytes]],
        numthreads: int = 10,
        server_name: str | None = None,
        max: int = -1,  # noqa: A002 - cheroot's name
        request_queue_size: int = 5,
        timeout: float = 10,
        shutdown_timeout: float = 5,
        accepted_queue_size: int = -1,
        accepted_queue_timeout: float = 10,
        peercreds_enabled: bool = False,  # noqa: FBT001, FBT002 - cheroot's constructor
        peercreds_resolve_enabled: bool = False,  # noqa: FBT001, FBT002
        reuse_port: bool = False,  # noqa: FBT001, FBT002
        *,
        settings: FrontSettings | None = None,
        listeners: Iterable[Listener] = (),
        unix_mode: int = 0o600,
        unix_owner: tuple[int, int] | None = None,
        access_log: AccessLog | None = None,
        publish: Callable[[object], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.settings = settings or FrontSettings()
        self.access_log = access_log
        self.accounting = Accounting()
        self._given_listeners = tuple(listeners)
        self._unix_access = (unix_mode, unix_owner)
        self._when_ready: Callable[[], None] = _do_nothing
        self._clock = clock
        self._accepted_queue = (accepted_queue_size, accepted_queue_timeout)
        self._run: Run | None = None
        self._interrupt: BaseException | None = None
        self._listeners: tuple[Listener, ...] = ()
        self.reporter = Reporter(publish)
        self._preparing = threading.Lock()
        self._is_cancelled = False
        self._is_ready = SafeEvent()
        super().__init__(
            bind_addr,
            wsgi_app,
            numthreads=numthreads,
            server_name=server_name or SOFTWARE,
            max=max,
            request_queue_size=request_queue_size,
            timeout=timeout,
            shutdown_timeout=shutdown_timeout,
            accepted_queue_size=accepted_queue_size,
            accepted_queue_timeout=accepted_queue_timeout,
            peercreds_enabled=peercreds_enabled,
            peercreds_resolve_enabled=peercreds_resolve_enabled,
            reuse_port=reuse_port,
        )
        self.requests = self._make_workers(numthreads, max)
        self._describe_stats()

    @property
    def bind_addr(self) -> Any:
        """Where to listen; once ready, where it listens: ``(host, port)`` or the path of a unix socket."""
        return self._bind_addr

    @bind_addr.setter
    def bind_addr(self, value: Any) -> None:
        self._bind_addr = value

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The sockets that are listened at; none unless `ready`."""
        return self._listeners

    @property
    def socket(self) -> socket.socket | None:
        """The first of the sockets that are listened at; None unless `ready`."""
        return self._listeners[0].sock if self._listeners else None

    @property
    def draining(self) -> bool:
        """Whether the server is on its way to stop."""
        run = self._run
        return run is None or run.front.draining

    @property
    def can_add_keepalive_connection(self) -> bool:
        """Whether connections are kept open after a response."""
        return not self.draining

    def totals(self) -> Totals:
        """Return what was counted so far."""
        return self.accounting.totals(requests=self.requests.requests)

    def connections_by_state(self) -> dict[str, int]:
        """Return how many connections there are in each state that has any."""
        run = self._run
        return {} if run is None else dict(Counter(one.state.value for one in list(run.front.connections)))

    # The life cycle.

    def prepare(self) -> None:
        """Bind, and start the threads; the server answers from here on.

        Raises:
            AlreadyStarted: It is running.
            StartFailed: The address cannot be listened at, now.
            ConfigurationError: A setting that cannot be honoured.
        """
        if self._run is not None or not self._preparing.acquire(blocking=False):
            message = f"{self} is running already."
            raise AlreadyStarted(message)
        try:
            self._interrupt, self._is_cancelled = None, False
            self.settle()
            secure = self._secure()
            self._listeners = self._listen()
            self.bind_addr = self._listeners[0].bound_addr
            names = ReverseDNS(self.settings.reverse_dns_timeout) if self.settings.reverse_dns else None
            front = Front(
                settings=self._front_settings(),
                timeout=self.timeout,
                clock=self._clock,
                accounting=self.accounting,
                observer=self.reporter,
                converse=lambda connection: self.ConnectionClass(self, connection),
                secure=secure,
                reverse_dns=names,
            )
            run = Run(front, self.requests, names, clock=self._clock, stopping=self._stopping, ended=self._ended)
            run.begin(self._listeners, f"{self.server_name} stopper")
            self._start_time = time.time()
            self._run = run
            self.ready = True
            self._is_ready.set()
            self._when_ready()
        finally:
            self._preparing.release()
        if self._is_cancelled:
            self.stop()

    def serve(self) -> None:
        """Wait until the server has stopped; call after `prepare`.

        Raises:
            BaseException: What the application raised to end the process, or what ended one of our own threads.
        """
        run = self._run
        if run is None:
            return
        run.wait()
        if self._interrupt is not None:
            raise self._interrupt

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the server answers; return whether it does, False after `timeout` seconds."""
        return self._is_ready.wait(timeout)

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Have `callback` called by the thread that starts the server as soon as it answers; one at a time."""
        self._when_ready = callback

    def stop(self) -> None:
        """Stop: refuse new connections, let requests in progress finish within ``shutdown_timeout``, cut the rest.

        Returns when every thread has ended and every socket is released; a thread that the application keeps beyond
        that is reported by its name, and left. Called by the application itself, it returns at once, since that
        request is one of those to finish. Calling it again waits for the same end.
        """
        # Where nothing can be stopped yet, because it is being prepared at this moment, `prepare` will do it.
        self._is_cancelled = True
        run = self._run
        if run is not None:
            run.stop()

    def _stopping(self) -> float:
        self.ready = False
        self._is_ready.clear()
        return self.shutdown_timeout

    def _ended(self, left: list[str]) -> None:
        if left:
            self.error_log(
                f"These threads still run the application after {self.shutdown_timeout} s: {', '.join(left)}",
                level=logging.ERROR,
            )
        if self._start_time is not None:
            self._run_time += time.time() - self._start_time
        self._start_time = None
        self._listeners = ()
        self._run = None

    @property
    def interrupt(self) -> BaseException | None:
        """What ended the server, to be raised by `serve`; setting it stops the server."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, interrupt: BaseException | None) -> None:
        self._interrupt = interrupt
        if interrupt is not None:
            if isinstance(interrupt, KeyboardInterrupt):
                self.error_log("Keyboard Interrupt: shutting down")
            elif isinstance(interrupt, SystemExit):
                self.error_log("SystemExit raised: shutting down")
            self.stop()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: FBT001, FBT002
        """Log a message, and the exception that is being handled if `traceback` is set."""
        logging.getLogger(ERROR_LOGGER).log(level, "%s", msg, exc_info=traceback)

    @contextlib.contextmanager
    def _run_in_thread(self) -> Iterator[threading.Thread]:
        """Run the server for the length of a block."""
        self.prepare()
        thread = threading.Thread(target=self.serve, daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            self.stop()
            thread.join()

    # Inside.

    def _make_workers(self, numthreads: int, most: int) -> Workers:
        size, timeout = self._accepted_queue
        return Workers(
            self.server_name,
            minimum=numthreads or 1,
            maximum=most,
            accepted_queue_size=size,
            accepted_queue_timeout=timeout,
            clock=self._clock,
            accounting=self.accounting,
            on_failure=self._thread_failed,
        )

    def _thread_failed(self, error: BaseException) -> None:
        if not isinstance(error, (KeyboardInterrupt, SystemExit)):
            self.error_log(f"A thread of {self} died: {error!r}", level=logging.CRITICAL, traceback=True)
        self.interrupt = error

    @property
    def host_name(self) -> str:
        """The host of a URL that leads here, for a request that names none (PEP 3333, ``SERVER_NAME``)."""
        if self.server_name != SOFTWARE:
            return str(self.server_name)
        host = "" if isinstance(self.bind_addr, str) else self.bind_addr[0]
        if not host or host in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
            return socket.gethostname()
        return f"[{host}]" if ":" in host else host

    def settle(self) -> None:
        """Make what every response and every message reader needs, once.

        `prepare` calls it; call it again after changing a limit of a running server, for connections made from then on.
        """
        self.status_line_start = self.protocol.encode("ascii") + b" "
        self.server_line = b"Server: %b\r\n" % self.server_name.encode("latin-1") if self.server_name else b""
        hsts = self.settings.hsts
        self.hsts_line = b"Strict-Transport-Security: %b\r\n" % hsts.encode("ascii") if hsts else b""
        self.limits = MessageLimits(
            max_head_size=self.max_request_header_size,
            max_line_size=self.settings.max_request_line_size,
            max_fields=self.settings.max_header_fields,
            max_body_size=self.max_request_body_size,
            max_gathered_size=self.settings.max_buffered_body_size,
        )
        self.parsers: list[Parser] = []
        self.first_heads = FirstHeads()
        self.environs: dict[Any, tuple[dict[str, str] | None, dict[str, Any]]] = {}
        if self.gateway is cheroot.wsgi.Gateway_10:
            self.gateway = WSGIGateway
        self._check_classes()

    def _front_settings(self) -> FrontSettings:
        limit = self.keep_alive_conn_limit
        return self.settings if limit is None else dataclasses.replace(self.settings, max_idle_connections=limit)

    def _check_classes(self) -> None:
        """Refuse extensions that were made for cheroot's own way of reading requests, which is not ours."""
        for name, given, base in (
            ("ConnectionClass", self.ConnectionClass, HTTPConnection),
            ("RequestHandlerClass", self.ConnectionClass.RequestHandlerClass, HTTPRequest),
        ):
            if not issubclass(given, base):
                remedy = f"Derive it from {base.__module__}.{base.__name__}."
                raise ConfigurationError(name, given, "does not know connections of the Front", remedy)

    def _secure(self) -> Callable[[Any], Any] | None:
        adapter = self.ssl_adapter
        if adapter is None:
            return None
        if not isinstance(adapter, SSLAdapter):
            adapter = self.ssl_adapter = SSLAdapter.from_cheroot(adapter)
        accept: Callable[[Any], Any] = adapter.acceptor.accept
        return accept

    def _listen(self) -> tuple[Listener, ...]:
        if self._given_listeners:
            return tuple(listener.duplicate() for listener in self._given_listeners)
        handed_over = adopt_from_systemd(os.environ, os.getpid(), at=self.bind_addr, nodelay=self.nodelay)
        mode, owner = self._unix_access
        return tuple(
            handed_over
            or Listener.bind(
                self.bind_addr,
                backlog=self.request_queue_size,
                reuse_port=self.reuse_port,
                unix_mode=mode,
                unix_owner=owner,
                nodelay=self.nodelay,
            )
        )

    def _describe_stats(self) -> None:
        """Let cheroot's `stats` read our accounts."""

        def counted(count: Callable[[Totals], float]) -> Callable[[Mapping[str, Any]], float]:
            return lambda _: count(self.totals())

        self.stats.update(
            {
                "Accepts": counted(lambda totals: totals.accepted),
                "Accepts/sec": counted(lambda totals: totals.accepted / max(self.runtime(), 1e-6)),
                "Queue": lambda _: self.requests.qsize,
                "Threads": lambda _: self.requests.size,
                "Threads Idle": lambda _: self.requests.idle,
                "Requests": counted(lambda totals: totals.requests),
                "Socket Errors": counted(lambda totals: totals.closed.get("reset", 0)),
            }
        )


def _do_nothing() -> None:
    return
