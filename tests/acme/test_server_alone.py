"""The command of README, and nothing else: in a network of its own, where ports 443 and 80 are free."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acme.pebble import require_pebble

ROOT = Path(__file__).parents[2]

UNSHARE = ("unshare", "--net", "--map-root-user")

pytestmark = pytest.mark.timeout(180)


def test_a_name_is_all_that_a_server_needs(tmp_path: Path) -> None:
    """It listens on 443 and 80, obtains, serves what a client verifies, and redirects to it; see `alone`."""
    require_pebble()
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, "true"], check=False, stderr=-3).returncode:
        pytest.skip("this system lets us have no network of our own (unshare --net --map-root-user)")
    done = subprocess.run(
        [
            *(*UNSHARE, sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"),
            *(f"--basetemp={tmp_path / 'inner'}", str(ROOT / "tests" / "acme" / "alone.py")),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
