"""The listening sockets of one server, as the system's tables tell of them, and who else has its address.

What is verified is verified in those tables (`listening`), never by connecting: a TLS server would take that for a peer
that broke off its handshake.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from secureserve.errors import StartFailed
from secureserve.managed.listening import can_tell, foreign_listener, own_listeners

if TYPE_CHECKING:
    from secureserve.managed.listening import Address

__all__ = ["ServedSockets", "are_missing", "explained_bind_failure", "other_listener"]

_BIND_ERRORS: Final = frozenset({errno.EADDRINUSE, errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL})


class ServedSockets:
    """The sockets that a server listens with, from one start to the stop that follows.

    Args:
        address: Where it will listen, as far as that is known before it does; None where that is nobody's business.

    Threads: one at a time.
    """

    def __init__(self, address: Address | None = None) -> None:
        self._before = _own(address)
        self._served: frozenset[int] = frozenset()

    def take(self, address: Address | None) -> None:
        """Know where it listens now: its sockets are those there that are new."""
        sockets = _own(address)
        self._served = (sockets - self._before) or sockets

    def are_left(self, address: Address) -> bool:
        """Return whether one of them still listens."""
        from secureserve.front.systemd import sockets_left

        # What systemd passed is given back by a server that stops, for the next start to take.
        return bool(self._served & (own_listeners(address) - sockets_left(os.environ, os.getpid())))


def are_missing(address: Address | None) -> bool:
    """Return whether nothing of this process listens at an address, as far as that can be told."""
    unknown = address is None or (isinstance(address, tuple) and not address[1])
    # What the service manager passed was bound before us, and outlives us.
    is_activated = os.environ.get("LISTEN_PID", "") == str(os.getpid())
    return not unknown and not is_activated and can_tell() and not _own(address)


def other_listener(address: Address | None) -> str | None:
    """Return who else listens at an address, in brackets; "" for somebody unknown, None for nobody."""
    if address is None or not foreign_listener(address):
        return None
    who = _occupant(address)
    return f" ({who})" if who else ""


def explained_bind_failure(failure: BaseException, address: Address | None, description: str) -> StartFailed | None:
    """Return what a failure to have an address means; None where it is another failure.

    Args:
        failure: What came out of the server; cheroot says in words alone that it is one.
        address: The address.
        description: What the error calls the server.
    """
    if not isinstance(failure, OSError):
        return None
    if failure.errno is not None and failure.errno not in _BIND_ERRORS:
        return None
    if failure.errno is None and not any(os.strerror(code) in str(failure) for code in _BIND_ERRORS):
        return None
    who = _occupant(address)
    remedy = f"It is taken by {who}." if who else "Choose another address, or stop what has it."
    return StartFailed(f"{description} could not be bound: {failure}. {remedy}")


def _own(address: Address | None) -> frozenset[int]:
    return frozenset() if address is None else own_listeners(address)


def _occupant(address: Address | None) -> str:
    from secureserve.front.occupant import find_occupant

    return find_occupant(address[1]) if isinstance(address, tuple) else ""
