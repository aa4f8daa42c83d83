"""What a command that waits for somebody says meanwhile: a line that changes on a terminal, lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from types import TracebackType

    from rich.status import Status

__all__ = ["Progress"]


class Progress:
    """Says on standard error what is being done, while a with statement lasts.

    Args:
        doing: What is being done, as a clause (``obtaining example.org``).

    Threads: any may say something.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._status: Status | None = None

    def __enter__(self) -> Progress:  # noqa: PYI034 - Self comes with Python 3.11
        """Begin."""
        if self._console.is_terminal:
            self._status = self._console.status(f"{self._doing} ...")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        if self._status is not None:
            self._status.stop()

    def say(self, step: str) -> None:
        """Say what is being done now."""
        if self._status is not None:
            self._status.update(f"{self._doing}: {step}")
        else:
            self._console.print(f"{self._doing}: {step}")
