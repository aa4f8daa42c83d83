"""The users and groups of this system, by name or number."""

from __future__ import annotations

import grp
import pwd

from secureserve.errors import ConfigurationError

__all__ = ["group_id", "owner", "user_id"]


def user_id(key: str, name: str | int) -> int:
    """Return the number of a user.

    Raises:
        ConfigurationError: This system has no such user.
    """
    if isinstance(name, int) or name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigurationError(key, name, "is no user of this system", "Create it, or name another.") from None


def group_id(key: str, name: str | int) -> int:
    """Return the number of a group.

    Raises:
        ConfigurationError: This system has no such group.
    """
    if isinstance(name, int) or name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigurationError(key, name, "is no group of this system", "Create it, or name another.") from None


def owner(key: str, text: str) -> tuple[int, int]:
    """Return the numbers of ``user``, ``user:group`` or ``:group``; -1 for what is not named.

    Raises:
        ConfigurationError: This system has no such user or group.
    """
    user, _, group = text.partition(":")
    return user_id(key, user) if user else -1, group_id(key, group) if group else -1
