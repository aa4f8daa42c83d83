"""The command line. `main` is all of it that others need."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

FAILED: Final = 2
"""The exit status of a command that could not do what it was asked for."""

INTERRUPTED: Final = 130
"""The exit status of a command that Ctrl-C ended: 128 and the number of SIGINT."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process.

    What went wrong is one line on standard error, and exit status 2; with ``--debug``, or ``SECURESERVE_DEBUG`` in the
    environment, the traceback follows.

    Args:
        arguments: What was written after the program's name; None for this process's own.

    Raises:
        SystemExit: Always.
    """
    import typer

    from secureserve.cli.app import app
    from secureserve.errors import SecureServeError

    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = app(words, prog_name="secureserve", standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except typer.TyperException as error:
        sys.exit(_complain(error.format_message(), error, words))
    except SecureServeError as error:
        sys.exit(_complain(str(error), error, words))
    except OSError as error:
        sys.exit(_complain(_describe(error), error, words))
    sys.exit(status or 0)


def _complain(message: str, error: Exception, words: Sequence[str]) -> int:
    """Say what went wrong in one line, or in one for each of several problems, and what is to be the exit status."""
    from secureserve.errors import ConfigurationErrors

    if "--debug" in words or os.environ.get("SECURESERVE_DEBUG"):
        import traceback

        traceback.print_exception(error)
    # Without a command there is help, and nothing went wrong that it does not tell.
    for line in message.splitlines() if not message or isinstance(error, ConfigurationErrors) else [message]:
        print("secureserve:", " ".join(line.split()), file=sys.stderr)  # noqa: T201 - the command line speaks here
    return FAILED


def _describe(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what
