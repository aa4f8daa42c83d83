"""Having a running server obtain certificates, through its control socket."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme.storage import canonical_names
from secureserve.cli.acme_outcomes import Outcome, Result
from secureserve.managed.control import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["renew_running"]

_BETWEEN_LOOKS: Final = 0.2
"""Seconds between questions to the server."""


def renew_running(
    control_socket: Path,
    wanted: Sequence[Sequence[str]],
    *,
    force: bool,
    say: Callable[[tuple[str, ...], str], None],
) -> list[Outcome]:
    """Have the running server obtain what is missing and renew what is due; return when it has, or could not.

    Args:
        control_socket: The server's.
        wanted: The names of each certificate; none for all that it looks after.
        force: Renew what has time to spare as well.
        say: Called with names and what is being done for them.

    Raises:
        LifecycleError: The server cannot be asked, or does not look after these names.
    """
    before = _by_names(ask(control_socket, "acme.status"))
    orders = [canonical_names(names) for names in wanted] or list(before)
    for names in orders:
        ask(control_socket, "acme.renew", names=list(names), force=force)
    pending = list(orders)
    outcomes: dict[tuple[str, ...], Outcome] = {}
    while pending:
        now = _by_names(ask(control_socket, "acme.status"))
        for names in tuple(pending):
            if names not in now or now[names]["settled"]:
                pending.remove(names)
                outcomes[names] = _outcome(names, before.get(names), now.get(names), force=force)
            else:
                say(names, "the server is at it")
        if pending:
            threading.Event().wait(_BETWEEN_LOOKS)
    return [outcomes[names] for names in orders]


def _by_names(status: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(one["names"]): one for one in status}


def _outcome(
    names: tuple[str, ...], before: dict[str, Any] | None, now: dict[str, Any] | None, *, force: bool
) -> Outcome:
    if now is None:
        return Outcome(names, Result.FAILED, "The server does not look after it any more.")
    next_attempt = datetime.fromisoformat(now["next_attempt"])
    again = f"the next attempt is at {next_attempt:%Y-%m-%d %H:%M:%S} UTC"
    had = None if before is None else before["fingerprint"]
    if now["fingerprint"] not in {None, had}:
        return _having(names, now, Result.OBTAINED if had is None else Result.RENEWED, "by the server")
    if now["failures"]:
        return Outcome(
            names,
            Result.LATER if now["is_passing"] else Result.FAILED,
            f"{now['last_error']} The server goes on trying; {again}.",
            problem_type=now["problem_type"],
            detail=now["detail"],
            subproblems=tuple(now["subproblems"]),
            retry_after=now["retry_after"],
        )
    if force or now["fingerprint"] is None:
        return Outcome(names, Result.LATER, f"The authority is to be left alone for a while; {again}.")
    return _having(names, now, Result.KEPT, f"not due before {next_attempt:%Y-%m-%d %H:%M} UTC")


def _having(names: tuple[str, ...], now: dict[str, Any], result: Result, message: str) -> Outcome:
    return Outcome(
        names,
        result,
        message,
        authority=now["authority"],
        fingerprint=now["fingerprint"],
        not_after=datetime.fromisoformat(now["not_after"]),
        place=now["place"],
    )
