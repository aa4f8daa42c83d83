"""What the tests of the benchmark share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:
    # The benchmark is no part of the package that is installed.
    sys.path.insert(0, str(ROOT))

from benchmarks.credentials import make_credential  # noqa: E402
from benchmarks.servers import OURS, SERVERS, Bench, RunningServer  # noqa: E402


@pytest.fixture(scope="module", params=OURS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One of our own servers, started as the benchmark starts it."""
    server = next(server for server in SERVERS if server.name == request.param)
    directory = tmp_path_factory.mktemp("bench")
    bench = Bench(directory, [make_credential(directory, name) for name in ("first", "second")])
    with bench.running(server, 4) as running:
        yield running
