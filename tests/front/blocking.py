"""A guard that makes every blocking call inside a Front step fail.

While a thread takes a step, whatever could make it wait is forbidden to it: sleeping, waiting for events, conditions
and threads, polling, resolving names, opening files, and socket operations on a socket that blocks. Running an
application is no step, and worker threads may wait in it.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from secureserve.front import arrivals, connection, loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

STEPS = ("advance", "expire", "drain", "refuse", "_found")


class BlockingCallError(AssertionError):
    """Something in a Front step would have waited."""


class Guard:
    """Watches steps, and keeps what they did wrong."""

    def __init__(self) -> None:
        self.steps = 0
        self.offences: list[str] = []
        self._in_step = threading.local()

    @contextlib.contextmanager
    def step(self, *, is_step: bool = True) -> Iterator[None]:
        """Let the block be a step of the Front; or, inside of one, no part of it."""
        before = getattr(self._in_step, "value", False)
        self._in_step.value = is_step
        self.steps += is_step
        try:
            yield
        finally:
            self._in_step.value = before

    def forbid(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` for everybody but steps."""

        @functools.wraps(function)
        def guarded(*args: Any, **options: Any) -> Any:
            if getattr(self._in_step, "value", False):
                self.offences.append(name)
                raise BlockingCallError(name)
            return function(*args, **options)

        return guarded


def install(monkeypatch: pytest.MonkeyPatch) -> Guard:
    """Forbid waiting to every Front step until the end of the test."""
    guard = Guard()
    for owner, names in (
        (time, ("sleep",)),
        (select, ("poll", "select")),
        (socket, ("getaddrinfo", "gethostbyaddr", "create_connection", "getfqdn")),
        (threading.Event, ("wait",)),
        (threading.Condition, ("wait", "wait_for")),
        (threading.Thread, ("join",)),
        (builtins, ("open",)),
        (connection, ("wait_for",)),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, guard.forbid(f"{owner.__name__}.{name}", getattr(owner, name)))

    def as_step(method: Callable[..., Any]) -> Callable[..., Any]:
        def step(self: Any, *args: Any) -> Any:
            with guard.step():
                return method(self, *args)

        return step

    for name in STEPS:
        monkeypatch.setattr(loop.Front, name, as_step(getattr(loop.Front, name)))

    enter = arrivals.Arrivals._enter

    def enter_non_blocking(
        self: arrivals.Arrivals, sock: socket.socket, address: tuple[str, int]
    ) -> connection.Connection | None:
        if sock.getblocking():
            guard.offences.append("a socket that blocks")
        return enter(self, sock, address)

    monkeypatch.setattr(arrivals.Arrivals, "_enter", enter_non_blocking)
    return guard
