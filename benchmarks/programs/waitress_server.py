"""Serve plain HTTP with waitress, for a proxy: ``python -m benchmarks.programs.waitress_server PORT THREADS``."""

from __future__ import annotations

import sys

import waitress  # type: ignore[import-untyped,unused-ignore]

from benchmarks.application import application


def main() -> None:
    """Serve until SIGTERM."""
    port, threads = sys.argv[1:]
    waitress.serve(
        application, host="127.0.0.1", port=int(port), threads=int(threads), connection_limit=5000, backlog=1024
    )


main()
