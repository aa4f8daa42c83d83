"""Serve with cheroot: ``python -m benchmarks.programs.cheroot_server ADAPTER PORT CERTIFICATE KEY THREADS``."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import cheroot.server
import cheroot.wsgi

from benchmarks.application import application

if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Serve until SIGTERM. What is not a default of cheroot: the backlog, and no limit of keep-alive connections."""
    adapter, port, certificate, key, threads = sys.argv[1:]
    server = cheroot.wsgi.Server(
        ("127.0.0.1", int(port)), application, numthreads=int(threads), request_queue_size=1024, timeout=10
    )
    server.keep_alive_conn_limit = 100_000
    server.ssl_adapter = cheroot.server.get_ssl_adapter_class(adapter)(certificate, key)

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        server.start()
    except KeyboardInterrupt:
        server.stop()


main()
