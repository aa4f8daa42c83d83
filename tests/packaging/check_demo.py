"""Run a command that starts the demo, do what it says, and stop it; used by .ci/run with README's own command.

The demo's printed curl line is run as it stands, so what a reader sees first is what is checked.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

DEADLINE = 300.0
"""Seconds for installing and starting."""


def check(command: str, directory: Path) -> None:
    """Start `command`, fetch with the curl line that it prints, and end it with Ctrl-C.

    Raises:
        SystemExit: It did not start, curl refused the certificate, or it did not end cleanly.
    """
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONUNBUFFERED": "1"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    process = subprocess.Popen(
        ["bash", "-c", f"{command} --socket-port 0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    watchdog = threading.Timer(DEADLINE, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        assert process.stdout is not None
        curl = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            if match := re.search(r"\bcurl --.*", line):
                curl = match.group()
                break
        if not curl:
            raise SystemExit("The demo ended without printing its curl line.")
        page = subprocess.run(shlex.split(curl), check=True, capture_output=True, text=True, timeout=60).stdout
        if "TLSv1.3" not in page:
            raise SystemExit(f"The demo answered without telling the protocol:\n{page}")
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        print(rest, end="")
        if process.returncode not in (0, 130, -signal.SIGINT) or "Traceback" in rest:
            raise SystemExit(f"The demo ended with status {process.returncode}.")
    finally:
        watchdog.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        check(sys.argv[1], Path(home))
    print("The demo works.")
