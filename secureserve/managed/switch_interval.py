"""How often the interpreter changes from thread to thread, while a server runs."""

from __future__ import annotations

import sys

__all__ = ["SwitchInterval"]


class SwitchInterval:
    """What one server makes of the interpreter's switch interval, which the whole process shares.

    Threads: whoever starts or stops the server.
    """

    def __init__(self) -> None:
        self._before: float | None = None

    def set(self, seconds: float | None) -> None:
        """Have threads that compute give way after `seconds`; None leaves it as it is."""
        if seconds is not None:
            self._before = sys.getswitchinterval()
            sys.setswitchinterval(seconds)

    def restore(self) -> None:
        """Have it as it was before `set`. Harmless where nothing was."""
        if self._before is not None:
            sys.setswitchinterval(self._before)
            self._before = None
