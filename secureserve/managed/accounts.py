"""The users and groups of this system, by name or number."""

from __future__ import annotations

import grp
import pwd
from typing import TYPE_CHECKING

from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["group_id", "owner", "user_id"]


def user_id(key: str, name: str | int) -> int:
    """Return the number of a user.

    Raises:
        ConfigurationError: This system has no such user.
    """
    return _number(key, name, "user", lambda user: pwd.getpwnam(user).pw_uid)


def group_id(key: str, name: str | int) -> int:
    """Return the number of a group.

    Raises:
        ConfigurationError: This system has no such group.
    """
    return _number(key, name, "group", lambda group: grp.getgrnam(group).gr_gid)


def owner(key: str, text: str) -> tuple[int, int]:
    """Return the numbers of ``user``, ``user:group`` or ``:group``; -1 for what is not named.

    Raises:
        ConfigurationError: This system has no such user or group.
    """
    user, _, group = text.partition(":")
    return user_id(key, user) if user else -1, group_id(key, group) if group else -1


def _number(key: str, name: str | int, kind: str, look_up: Callable[[str], int]) -> int:
    if isinstance(name, int) or name.isdecimal():
        return int(name)
    try:
        return look_up(name)
    except KeyError:
        raise ConfigurationError(key, name, f"is no {kind} of this system", "Create it, or name another.") from None
