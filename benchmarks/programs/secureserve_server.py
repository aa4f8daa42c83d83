"""Serve with secureserve: ``python -m benchmarks.programs.secureserve_server ENGINE PORT CERTIFICATE KEY THREADS``.

Between its requests it takes commands on standard input, one a line: ``rotate CERTIFICATE KEY`` has another
credential presented from now on, and answers with how long that took, in seconds.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.application import application
from secureserve.certificates.credential import Credential
from secureserve.front.settings import FrontSettings
from secureserve.http.server import HTTPServer
from secureserve.http.ssl_adapter import SSLAdapter

if TYPE_CHECKING:
    from types import FrameType

    from secureserve.certificates.store import CertificateStore


def main() -> None:
    """Serve until SIGTERM. What is not a default: the backlog, and more time for idle connections."""
    engine, port, certificate, key, threads = sys.argv[1:]
    server = HTTPServer(
        ("127.0.0.1", int(port)),
        application,
        numthreads=int(threads),
        request_queue_size=1024,
        settings=FrontSettings(keep_alive_timeout=75),
    )
    adapter = SSLAdapter(certificate, key, engine=engine)
    server.ssl_adapter = adapter

    def end(_signal: int, _frame: FrameType | None) -> None:
        server.stop()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=_obey, args=(adapter.acceptor.store,), daemon=True).start()
    server.start()


def _obey(store: CertificateStore) -> None:
    for line in sys.stdin:
        _, certificate, key = line.split()
        credential = Credential.load(certificate, key)
        began = time.monotonic()
        store.replace([credential])
        print(time.monotonic() - began, flush=True)


main()
