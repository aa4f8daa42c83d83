"""Words and times as they stand in a line of the log. Pure.

Nothing that comes out of here ends a line, moves a terminal's cursor, or is longer than `MAX_FIELD_LENGTH` allows.
"""

from __future__ import annotations

import json
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_FIELD_LENGTH",
    "bare",
    "common_time",
    "escape",
    "is_plain",
    "iso_time",
    "json_text",
    "members",
    "one_line",
    "quoted",
    "to_json",
]

MAX_FIELD_LENGTH: Final = 2048
"""Characters of a field chosen by a peer; longer ones end in ``...``."""

_UNSAFE: Final = re.compile(r'[^\x20-\x7e]|["\\]')
_UNSAFE_OR_SPACE: Final = re.compile(r'[^\x21-\x7e]|["\\]')
_PLAIN: Final = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")
_ESCAPES: Final = {'"': '\\"', " ": "\\x20"}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def escape(text: str, *, spaces: bool = False) -> str:
    """Return `text` as printable ASCII without quotes or line ends, cut to `MAX_FIELD_LENGTH`.

    Args:
        text: What a peer sent.
        spaces: Escape spaces as well, for fields that stand without quotes.
    """
    if len(text) > MAX_FIELD_LENGTH:
        text = text[:MAX_FIELD_LENGTH] + "..."
    return (_UNSAFE_OR_SPACE if spaces else _UNSAFE).sub(_escape_character, text)


def is_plain(text: str) -> bool:
    """Return whether `text` is there, and can stand between quotes as it is, in either format."""
    return len(text) <= MAX_FIELD_LENGTH and _PLAIN.fullmatch(text) is not None


def bare(value: str | None) -> str:
    """Return a field that stands without quotes."""
    return escape(value, spaces=True) if value else "-"


def quoted(value: str | None) -> str:
    """Return a field that stands in quotes, without them."""
    return escape(value) if value else "-"


def json_text(value: str | None) -> str | None:
    """Return a JSON value: null when empty, cut to length, without lone surrogates."""
    if not value:
        return None
    if len(value) > MAX_FIELD_LENGTH:
        value = value[:MAX_FIELD_LENGTH] + "..."
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def members(**values: object) -> str:
    """Return members of a JSON object, without its braces."""
    return to_json(values)[1:-1]


def to_json(value: Mapping[str, object]) -> str:
    """Return an object as one line of JSON in ASCII."""
    # ensure_ascii (the default) also escapes U+2028 and U+2029, which some readers take for line ends.
    return json.dumps(value, separators=(",", ":"))


def one_line(text: str) -> str:
    """Escape what would end a line or move a terminal's cursor, and nothing else."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@lru_cache(maxsize=8)
def common_time(seconds: int) -> str:
    """Return ``22/Nov/2026:23:20:00 +0000``; strftime would translate the month."""
    t = time.gmtime(seconds)
    return f"{t.tm_mday:02d}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}:{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"


def iso_time(seconds: float) -> str:
    """Return ``2026-11-22T23:20:00.000Z``."""
    return f"{_iso_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=8)
def _iso_second(seconds: int) -> str:
    t = time.gmtime(seconds)
    return f"{t.tm_year}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


def _escape_character(match: re.Match[str]) -> str:
    character = match.group()
    return _ESCAPES.get(character) or character.encode("unicode_escape").decode("ascii")
