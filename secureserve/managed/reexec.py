"""Executing the running program again, in the same process: same interpreter, options, arguments and directory.

The process keeps its number and every descriptor marked as inheritable, which is how listening sockets pass from the
old program to the new one without ever being closed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["command_line", "execute_again"]


def command_line() -> list[str]:
    """Return the command line that started this program, with the interpreter's own options."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *sys.argv[1:]]
    return [sys.executable, *sys.orig_argv[1:]]


def execute_again(directory: Path, environment: Mapping[str, str]) -> NoReturn:
    """Replace this program by a fresh start of itself. Nothing after this runs.

    Threads: only from the main thread, once all others have been stopped: they end without a word.

    Args:
        directory: Where the program was started.
        environment: What to add to the environment.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.chdir(directory)
    arguments = command_line()
    os.execve(arguments[0], arguments, {**os.environ, **environment})  # noqa: S606 - no shell, and our own command line
