"""What a command that waits for somebody says meanwhile: a line that changes on a terminal, lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.status import Status
    from rich.text import Text

__all__ = ["Progress"]


class Progress:
    """Says on standard error what is being done, while a with statement lasts.

    Args:
        doing: What is being done, as a clause (``obtaining example.org``).

    Threads: any may say something.
    """

    def __init__(self, doing: str) -> None:
        # Every command loads this module, and a server's process should not keep what draws on terminals.
        from rich.console import Console

        self._doing = doing
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._status: Status | None = None
        self._said = ""

    def __enter__(self) -> Progress:  # noqa: PYI034 - Self comes with Python 3.11
        """Begin."""
        if self._console.is_terminal:
            self._status = self._console.status(_text(f"{self._doing} ..."))
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
        line = f"{self._doing}: {step}"
        if line == self._said:
            return
        self._said = line
        if self._status is not None:
            self._status.update(_text(line))
        else:
            self._console.print(line)

    def say_of(self, names: Sequence[str], step: str) -> None:
        """Say what is being done now for some names."""
        self.say(f"{', '.join(names)}: {step}")


def _text(line: str) -> Text:
    """Return a line in which no brackets mean anything."""
    from rich.text import Text

    return Text(line)
