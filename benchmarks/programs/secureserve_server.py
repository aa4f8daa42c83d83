"""Serve with secureserve.

``python -m benchmarks.programs.secureserve_server ENGINE PORT CERTIFICATE KEY THREADS [CLIENT_CA]``: with the
certificate of an authority, clients have to show one of it.

It serves a copy of the certificate. Meanwhile it takes commands on standard input, a line each:
``rotate CERTIFICATE KEY`` replaces the copy's file and has it reloaded, and answers with the seconds that this took.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from benchmarks.application import application
from benchmarks.credentials import put_together
from secureserve.managed.server import Server
from secureserve.managed.settings import SETTINGS
from secureserve.managed.signals import SignalHandler


def main() -> None:
    """Serve until SIGTERM, with the command line's defaults but for more time for idle connections."""
    engine, port, certificate, key, threads, *client_ca = sys.argv[1:]
    served = Path(certificate).with_name(f"served-{port}.pem")
    put_together(served, Path(certificate), Path(key))
    server = Server(
        application,
        socket_host="127.0.0.1",
        socket_port=int(port),
        socket_queue_size=1024,
        ssl_module=engine,
        ssl_certificate=str(served),
        thread_pool=int(threads),
        thread_switch_interval=SETTINGS["thread_switch_interval"].default_for_command_line,
        keep_alive_timeout=75,
    )
    if client_ca:
        server.ssl_client_ca, server.ssl_client_verify = client_ca[0], "required"
    SignalHandler(server.engine).subscribe()
    with server:
        threading.Thread(target=_obey, args=(server, served), daemon=True).start()
        server.engine.block()


def _obey(server: Server, served: Path) -> None:
    for line in sys.stdin:
        _, certificate, key = line.split()
        began = time.monotonic()
        put_together(served, Path(certificate), Path(key))
        server.reload_certificates("benchmark", force=True)
        print(time.monotonic() - began, flush=True)


main()
