"""``secureserve demo``."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

from tests.processes import ServerProcess, clean_environment, secureserve

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demo_is_fetched_by_the_line_that_it_prints(tmp_path: Path) -> None:
    """The demo serves a page on a certificate made on the spot, and Ctrl-C ends it."""
    with ServerProcess(["demo", "--socket-port", "0"], directory=tmp_path) as server:
        curl = server.output.wait_for(r"^Fetch: +(curl .*)$")[1]
        url = server.output.wait_for(r"^URL: +(https://localhost:\d+/)$")[1]
        environment = clean_environment(tmp_path)
        told = subprocess.run(
            ["bash", "-c", curl], env=environment, capture_output=True, text=True, timeout=45, check=True
        )
        assert "Protocol: TLSv1.3\n" in told.stdout
        assert "Server name asked for: localhost\n" in told.stdout
        page = subprocess.run(
            ["bash", "-c", f"{curl.removesuffix('text')} --user-agent '<script>'"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=45,
            check=True,
        )
        assert "<td>TLSv1.3" in page.stdout
        assert "&lt;script&gt;" in page.stdout
        assert "<script>" not in page.stdout
        missing = [
            "bash",
            "-c",
            f"{curl} --head --request GET {url}absent --output /dev/null --write-out '%{{http_code}}'",
        ]
        assert subprocess.run(missing, capture_output=True, text=True, timeout=45, check=True).stdout.endswith("404")
        server.process.send_signal(signal.SIGINT)
        assert server.wait() == 0


def test_a_taken_port_says_which_option_to_use(tmp_path: Path) -> None:
    """A second demo on the same port is told in one line."""
    with ServerProcess(["demo", "--socket-port", "0"], directory=tmp_path) as server:
        done = secureserve("demo", "--socket-port", str(server.port), directory=tmp_path)
    assert done.status == 2
    assert str(server.port) in done.errors
    assert "Traceback" not in done.errors
