"""Dropping privileges: from root, which binds ports and reads keys, to the user that serves."""

from __future__ import annotations

import logging
import os
import pwd
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError, LifecycleError
from secureserve.managed.accounts import group_id, user_id
from secureserve.managed.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from secureserve.managed.engine import Engine
    from secureserve.managed.subscriber import Subscription

__all__ = ["DropPrivileges"]

PRIORITY: Final = 77
"""After servers have bound their ports and read their keys, as CherryPy has it."""


class DropPrivileges(Subscriber):
    """Becomes another user when the engine starts, with that user's groups and no way back.

    Args:
        engine: The engine.
        user: The user's name or number; None stays who it is.
        group: The group's name or number; None takes the user's own.
        umask: What permissions files made from then on do not get; None leaves it.
        rereads: Returns the files that have to be readable afterwards, such as keys that rotate; who serves without is
            told.
        hands_over: Called, while that is still possible, with the user and group ids that what the servers have made so
            far is to belong to.

    Threads: the engine's. The change is the whole process's.
    """

    def __init__(
        self,
        engine: Engine,
        user: str | int | None = None,
        group: str | int | None = None,
        umask: int | None = None,
        *,
        rereads: Callable[[], Iterable[str | os.PathLike[str]]] = tuple,
        hands_over: Callable[[int, int], None] = lambda _user, _group: None,
    ) -> None:
        super().__init__(engine)
        self.user = user
        self.group = group
        self.umask = umask
        self._rereads = rereads
        self._hands_over = hands_over
        self._done = False

    def start(self) -> None:
        """Become the user. Once only: a second start has nothing left to drop.

        Raises:
            ConfigurationError: There is no such user or group, or this process may not become it.
            LifecycleError: The way back to root is open after all.
        """
        if self.umask is not None:
            os.umask(self.umask)
        if self._done or (self.user is None and self.group is None):
            return
        number = os.getuid() if self.user is None else user_id("user", self.user)
        group = self._group_of(number)
        if (os.geteuid(), os.getegid()) == (number, group):
            self._done = True
            return
        self._become(number, group)
        self._verify(number, group)
        self._done = True
        self.engine.log(f"Serving as user {self.user or number}, group {self.group or group} from here on")
        self._warn_of_unreadable()

    def may_restart(self) -> None:
        """See that the program, executed again without the privileges it began with, could read what it needs.

        Raises:
            LifecycleError: It could not.
        """
        unreadable = self._unreadable() if self._done else []
        if unreadable:
            message = (
                f"A restart would fail: user {self.user} cannot read {', '.join(unreadable)}. Stop and start instead."
            )
            raise LifecycleError(message)

    def _subscriptions(self) -> Iterable[Subscription]:
        return [("start", self.start, PRIORITY), ("may_restart", self.may_restart, None)]

    def _group_of(self, number: int) -> int:
        if self.group is not None:
            return group_id("group", self.group)
        try:
            return pwd.getpwuid(number).pw_gid
        except KeyError:
            remedy = "Set group as well."
            raise ConfigurationError("user", self.user, "has no entry that names its group", remedy) from None

    def _become(self, number: int, group: int) -> None:
        try:
            self._hands_over(number, group)
            try:
                os.initgroups(pwd.getpwuid(number).pw_name, group)
            except KeyError:
                os.setgroups([group])
            os.setresgid(group, group, group)
            os.setresuid(number, number, number)
        except PermissionError as error:
            remedy = "Start as root, or leave user and group out."
            raise ConfigurationError("user", self.user, "is not for this process to become", remedy) from error

    def _verify(self, number: int, group: int) -> None:
        kept = os.getresuid() != (number,) * 3 or os.getresgid() != (group,) * 3
        if number != 0 and not kept:
            try:
                os.setuid(0)
            except PermissionError:
                return
            kept = True
        if kept:
            message = f"Privileges were not dropped: still {os.getresuid()}, {os.getresgid()}."
            raise LifecycleError(message)

    def _warn_of_unreadable(self) -> None:
        for path in self._unreadable():
            self.engine.log(
                f"{path} cannot be read by user {self.user}: what is served goes on, but replacing it will need a "
                "restart. Give that user's group permission to read it.",
                logging.WARNING,
            )

    def _unreadable(self) -> list[str]:
        return [os.fspath(path) for path in self._rereads() if not os.access(path, os.R_OK)]
