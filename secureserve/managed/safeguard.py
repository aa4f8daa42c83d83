"""What stops an engine that nobody has stopped when the program ends."""

from __future__ import annotations

import atexit
import contextlib
import warnings
from typing import TYPE_CHECKING

from secureserve.managed.channels import ChannelFailures

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Safeguard"]


class Safeguard:
    """Notices that the program ends while an engine is up: one that was started and never blocked on.

    Args:
        engine_up: Says in which state the engine is, as a clause; None where nothing runs.
        stop: Stops it.

    Threads: any.
    """

    def __init__(self, engine_up: Callable[[], str | None], stop: Callable[[], None]) -> None:
        self._engine_up = engine_up
        self._stop = stop

    def arm(self) -> None:
        """Look when the program ends. Harmless when armed."""
        self.disarm()
        atexit.register(self._look)

    def disarm(self) -> None:
        """Look no more. Harmless when disarmed."""
        atexit.unregister(self._look)

    def _look(self) -> None:
        engine_up = self._engine_up()
        if engine_up is None:
            return
        warnings.warn(
            f"The program ends while {engine_up}; it is being stopped. "
            "Call block() after start(), or exit() before the program ends.",
            RuntimeWarning,
            stacklevel=1,
        )
        with contextlib.suppress(ChannelFailures):
            self._stop()
