"""What came of asking an authority, for people, for scripts, and as an exit status."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import IssuanceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from secureserve.acme.stored import StoredCertificate
    from secureserve.errors import SecureServeError

__all__ = ["DONE", "FAILED", "TRY_LATER", "Outcome", "Result", "exit_status", "failure_status"]

DONE: Final = 0

FAILED: Final = 1
"""The exit status when an authority refused, or what it looked at was not as it should be: somebody has to look."""

TRY_LATER: Final = 75
"""The exit status when the same may succeed later: nobody answered, or asked to wait (EX_TEMPFAIL of sysexits.h)."""


class Result(str, enum.Enum):
    """What came of it."""

    OBTAINED = "obtained"
    """There was none, and there is one now."""
    RENEWED = "renewed"
    """There is another one now."""
    KEPT = "kept"
    """There is one, and it has time to spare."""
    FAILED = "failed"
    """None was issued, and somebody has to look why."""
    LATER = "later"
    """None was issued, and trying again later may help."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking for one certificate.

    Args:
        names: What it is for.
        result: What came of it.
        message: The same for people, in one line.
        authority: The URL of the directory of who issued it; None where there is none.
        fingerprint: SHA-256 of the leaf.
        not_after: Until when it is valid.
        place: Where it is stored.
        problem_type: The ``type`` of the authority's problem document (RFC 8555, 6.7).
        detail: Its ``detail``.
        subproblems: Its ``subproblems``.
        retry_after: Seconds that the authority asks to wait.
    """

    names: tuple[str, ...]
    result: Result
    message: str
    authority: str | None = None
    fingerprint: str | None = None
    not_after: datetime | None = None
    place: str | None = None
    problem_type: str | None = None
    detail: str | None = None
    subproblems: tuple[dict[str, Any], ...] = ()
    retry_after: float | None = None

    @classmethod
    def having(cls, stored: StoredCertificate, result: Result, message: str) -> Outcome:
        """Return that there is a certificate."""
        credential = stored.credential
        return cls(
            stored.names,
            result,
            message,
            authority=stored.authority,
            fingerprint=credential.fingerprint,
            not_after=credential.not_after,
            place=credential.origin,
        )

    @classmethod
    def failing(cls, names: tuple[str, ...], error: SecureServeError) -> Outcome:
        """Return that there is none, or no new one."""
        result = Result.LATER if failure_status(error) == TRY_LATER else Result.FAILED
        if not isinstance(error, IssuanceError):
            return cls(names, result, str(error))
        return cls(
            names,
            result,
            str(error),
            problem_type=error.problem_type,
            detail=error.detail,
            subproblems=error.subproblems,
            retry_after=error.retry_after,
        )

    @property
    def ok(self) -> bool:
        """Whether there is a certificate as there should be."""
        return self.result not in {Result.FAILED, Result.LATER}

    def as_line(self) -> str:
        """Return it for people."""
        names = ", ".join(self.names)
        if self.not_after is None:
            return f"secureserve: {names}: {' '.join(self.message.split())}"
        return f"{names}: {self.result.value}, {self.message}, valid until {self.not_after:%Y-%m-%d %H:%M} UTC"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as what JSON can hold; times in ISO 8601."""
        plain = asdict(self)
        plain["not_after"] = None if self.not_after is None else self.not_after.isoformat()
        return plain


def exit_status(outcomes: Iterable[Outcome]) -> int:
    """Return the exit status of a command with these outcomes: the worst of them."""
    results = {outcome.result for outcome in outcomes}
    if Result.FAILED in results:
        return FAILED
    return TRY_LATER if Result.LATER in results else DONE


def failure_status(error: SecureServeError) -> int:
    """Return the exit status of a command that failed like this."""
    return TRY_LATER if isinstance(error, IssuanceError) and error.is_passing else FAILED
