"""What an inspection of the sources makes of each place: what is served from it, and why something is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from secureserve.certificates.credential import Credential

__all__ = ["EMERGENCY", "Refusal", "Served"]

EMERGENCY: Final = "emergency"
"""The place that a credential comes from which is served because nothing else can be."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was found in a place and must not be served.

    Args:
        place: Where.
        error: What is wrong with it.
        since: When it was first refused, in UTC.
    """

    place: str
    error: Exception
    since: datetime

    def same_as(self, other: Refusal | None) -> bool:
        """Return whether this says nothing new."""
        return other is not None and type(self.error) is type(other.error) and str(self.error) == str(other.error)


@dataclass(frozen=True, slots=True)
class Served:
    """What is served from a place.

    Args:
        place: Where it comes from.
        credential: What it is.
        since: When it began to be served, in UTC.
        rotated: Whether it replaced another; otherwise it is what the start found.
    """

    place: str
    credential: Credential
    since: datetime
    rotated: bool
