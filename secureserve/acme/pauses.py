"""`Pause`: until when an authority is to be left alone, and after how many failures, as a restart finds it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from secureserve.acme.storage import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from secureserve.acme.storage import Storage

__all__ = ["Pause"]

MAX_REASON_LENGTH: Final = 500
"""Characters of why that are kept, for whoever looks at the file."""


@dataclass(frozen=True, slots=True)
class Pause:
    """For how long an authority is to be left alone about some names.

    Args:
        until: When it ends, aware.
        why: What the authority said.
        failures: How many attempts in a row had failed when it began.
    """

    until: datetime
    why: str = ""
    failures: int = 0

    def store(self, authority: str, storage: Storage, names: Sequence[str]) -> None:
        """Keep it.

        Args:
            authority: The URL of the authority's directory.
            storage: Where.
            names: What the authority was asked for.

        Raises:
            StorageError: It could not be kept.
        """
        document = {"until": self.until.isoformat(), "why": self.why[:MAX_REASON_LENGTH], "failures": self.failures}
        storage.put(Key.pause(authority, names), json.dumps(document).encode())

    @classmethod
    def load(cls, authority: str, storage: Storage, names: Sequence[str]) -> Pause | None:
        """Return the pause for some names; None where there is none, or what is kept cannot be used.

        Raises:
            StorageError: The storage cannot be read.
        """
        data = storage.get(Key.pause(authority, names))
        if data is None:
            return None
        try:
            document = json.loads(data)
            until = datetime.fromisoformat(document["until"]).astimezone(timezone.utc)
            return cls(until, str(document.get("why", "")), _count(document.get("failures")))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            return None


def _count(value: object) -> int:
    """Return how many failures a file tells of: none where it is an older one, or damaged."""
    return max(value, 0) if type(value) is int else 0
