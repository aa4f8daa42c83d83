"""The limit of open descriptors, of which every connection takes one."""

from __future__ import annotations

import resource
from typing import Final

__all__ = ["OTHERS", "raise_limit"]

OTHERS: Final = 100
"""Descriptors kept for what are no connections: listening sockets, logs, certificates, what the application opens."""


def raise_limit(connections: int) -> int:
    """Raise the process's soft limit of descriptors as far as some connections need it and its hard limit allows.

    Many systems start programs with a soft limit of 1,024 below a hard one of hundreds of thousands.

    Args:
        connections: How many are to be open at once.

    Returns:
        How many can be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHERS
    if soft in (resource.RLIM_INFINITY, wanted) or soft > wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        # Some systems have a limit of their own below an infinite hard one.
        allowed = soft
    return max(0, allowed - OTHERS)
