"""``secureserve`` as a process: started as a user starts it, listened to until it serves, and stopped by a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

__all__ = ["CompletedCommand", "ServerProcess", "clean_environment", "secureserve"]

DEADLINE = 45.0
"""Seconds for a process to say something, or to end."""

SERVING = re.compile(r"Serving on (?P<url>\S+)")


@dataclass(frozen=True)
class CompletedCommand:
    """How a command ended."""

    status: int
    output: str
    errors: str


@dataclass
class Heard:
    """The lines of one stream, and a way to wait for one."""

    stream: IO[str]
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False

    def listen(self) -> threading.Thread:
        """Read the stream to its end in a thread."""
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        return thread

    def wait_for(self, pattern: str | re.Pattern[str], *, timeout: float = DEADLINE) -> re.Match[str]:
        """Return the first match in any line, waiting for it."""
        with self.changed:
            self.changed.wait_for(lambda: self._found(pattern) or self.ended, timeout)
            match = self._found(pattern)
        assert match is not None, f"{pattern!r} was not said:\n{self.text}"
        return match

    @property
    def text(self) -> str:
        """Everything so far."""
        return "".join(self.lines)

    def _found(self, pattern: str | re.Pattern[str]) -> re.Match[str] | None:
        return next((match for line in self.lines if (match := re.search(pattern, line))), None)

    def _read(self) -> None:
        for line in self.stream:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()


class ServerProcess:
    """A server in a process of its own, from ``secureserve ARGUMENTS``.

    Entering waits until it serves; leaving ends it with SIGTERM, and checks that it ended well. `limits` are the soft
    and the hard limit of open files that it starts under.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        expected_status: int = 0,
        limits: tuple[int, int] | None = None,
    ) -> None:
        self._expected_status = expected_status
        self.process = subprocess.Popen(
            [*_under(limits), sys.executable, "-m", "secureserve", *arguments],
            cwd=directory,
            env=clean_environment(directory, environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.output, self.errors = Heard(self.process.stdout), Heard(self.process.stderr)
        self._threads = [self.output.listen(), self.errors.listen()]

    def __enter__(self) -> Self:
        try:
            self.wait_until_serving()
        except BaseException:
            self.process.kill()
            self.wait()
            raise
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.wait()
        if error_type is None:
            assert status == self._expected_status, self.errors.text
            assert "Traceback" not in self.errors.text, self.errors.text

    def wait_until_serving(self) -> str:
        """Return the URL that it serves at, once it says so."""
        return self.errors.wait_for(SERVING)["url"]

    def wait(self) -> int:
        """Return the exit status, once it has ended."""
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            for thread in self._threads:
                thread.join(DEADLINE)
            for heard in (self.output, self.errors):
                heard.stream.close()
        return status

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self.errors.wait_for(r"Serving on https?://[^/\s]*:(\d+)")[1])

    def url(self, path: str = "/", *, host: str = "localhost") -> str:
        """Return a URL of it under a name that its certificate is for."""
        return f"https://{host}:{self.port}{path}"


def _under(limits: tuple[int, int] | None) -> list[str]:
    return [] if limits is None else ["bash", "-c", f'ulimit -Sn {limits[0]}; ulimit -Hn {limits[1]}; exec "$@"', "_"]


def secureserve(*arguments: str, directory: Path, environment: Mapping[str, str] | None = None) -> CompletedCommand:
    """Run ``secureserve ARGUMENTS`` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "secureserve", *arguments],
        cwd=directory,
        env=clean_environment(directory, environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return CompletedCommand(done.returncode, done.stdout, done.stderr)


def clean_environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which nothing of the developer's own has an influence."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
    return {
        **kept,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
        "COLUMNS": "100",
        **(more or {}),
    }
