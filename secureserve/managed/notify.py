"""Telling systemd how it goes (sd_notify(3)): ready, reloading, stopping, and alive."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

from secureserve.managed.engine import State
from secureserve.managed.periodic import PeriodicTask
from secureserve.managed.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from secureserve.managed.engine import Engine
    from secureserve.managed.subscriber import Subscription

__all__ = ["SystemdNotifier", "notify"]

FIRST: Final = 1
LAST: Final = 95


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send a message to the service manager.

    Args:
        state: Assignments such as ``READY=1``, one a line.
        environ: Where ``NOTIFY_SOCKET`` is looked for.

    Returns:
        Whether there is a service manager and it was told.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall(state.encode())
        except OSError:
            return False
    return True


class SystemdNotifier(Subscriber):
    """Tells systemd what the engine does; does nothing where no service manager listens.

    A unit with ``Type=notify`` (or ``notify-reload``) counts as started when every server is ready. With
    ``WatchdogSec=`` it is told at half that time that the engine still runs.

    Args:
        engine: The engine.
        environ: Where systemd's variables are looked for.

    Threads: the engine's, and one for the watchdog.
    """

    def __init__(self, engine: Engine, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(engine)
        self._environ = environ
        self._watchdog: PeriodicTask | None = None

    def subscribe(self) -> None:
        """Listen to the engine, and have the watchdog told while it runs."""
        super().subscribe()
        period = self._watchdog_seconds()
        if period is not None:
            self._watchdog = PeriodicTask(self.engine, self._still_alive, period / 2, "systemd watchdog")
            self._watchdog.subscribe()

    def unsubscribe(self) -> None:
        """Listen no more."""
        super().unsubscribe()
        if self._watchdog is not None:
            self._watchdog.unsubscribe()
            self._watchdog = None

    def ready(self) -> None:
        """Say that everything is ready."""
        notify(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=Serving", self._environ)

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` says that it is done."""
        # CLOCK_MONOTONIC in microseconds is what sd_notify(3) asks for with RELOADING=1.
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", self._environ)

    def stopping(self) -> None:
        """Say that it is stopping; for a restart, that it will be back under the same number."""
        if self.engine.execv:
            self.reloading()
        else:
            notify("STOPPING=1\nSTATUS=Letting requests in progress finish", self._environ)

    def _subscriptions(self) -> Iterable[Subscription]:
        return [
            ("start", self.ready, LAST),
            ("stop", self.stopping, FIRST),
            ("graceful", self.reloading, FIRST),
            ("graceful", self.ready, LAST),
        ]

    def _still_alive(self) -> None:
        if self.engine.state is State.STARTED:
            notify("WATCHDOG=1", self._environ)

    def _watchdog_seconds(self) -> float | None:
        microseconds = self._environ.get("WATCHDOG_USEC", "")
        meant_for = self._environ.get("WATCHDOG_PID", str(os.getpid()))
        if not microseconds.isdecimal() or int(microseconds) == 0 or meant_for != str(os.getpid()):
            return None
        return int(microseconds) / 1e6
