"""The kinds of value that only settings about ACME have; `kinds` has the others."""

from __future__ import annotations

import re
import shlex
from typing import Final

from secureserve.managed.settings.kinds import PATH, Kind, Unacceptable

__all__ = ["EMAIL", "HOOK", "NAMES", "STORAGE"]

_AROUND_COMMA: Final = re.compile(r"\s*,\s*")
_BETWEEN_CERTIFICATES: Final = re.compile(r"[;\s]+")
_EMAIL: Final = re.compile(r"[^\s@:,]+@[^\s@:,]+")

Names = tuple[tuple[str, ...], ...]
"""The names of each certificate."""


def _names() -> Kind:
    remedy = (
        "Write host names such as example.org, *.example.org, or addresses. Each gets a certificate of its own; "
        "names that are to share one are joined by a comma."
    )

    def certificate(value: object) -> tuple[str, ...]:
        from secureserve.certificates import names

        words = _AROUND_COMMA.split(value.strip()) if isinstance(value, str) else value
        if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
            raise Unacceptable("is not a list of names", remedy)
        try:
            return tuple(dict.fromkeys(names.normalise(word) for word in words))
        except ValueError as error:
            raise Unacceptable(f"has something that is no name: {error}", remedy) from None

    def accept(value: object) -> Names:
        if isinstance(value, str):
            return read(value)
        if not isinstance(value, (list, tuple)):
            raise Unacceptable("is not a list of names", remedy)
        return tuple(dict.fromkeys(certificate(each) for each in value))

    def read(text: str) -> Names:
        joined = _AROUND_COMMA.sub(",", text.strip())
        return accept([part for part in _BETWEEN_CERTIFICATES.split(joined) if part])

    return Kind("names", str, accept, read, is_list=True)


def _email() -> Kind:
    remedy = "Write one address such as ops@example.org."

    def accept(value: object) -> str:
        if not isinstance(value, str) or not _EMAIL.fullmatch(value.strip().removeprefix("mailto:")):
            raise Unacceptable("is not an email address", remedy)
        return value.strip().removeprefix("mailto:")

    return Kind("an email address", str, accept, accept)


def _hook() -> Kind:
    remedy = "Write a program with its arguments, such as /usr/local/bin/dns-hook; in Python also a callable."

    def accept(value: object) -> object:
        if callable(value):
            return value
        if isinstance(value, str):
            return read(value)
        if isinstance(value, (list, tuple)) and value and all(isinstance(word, str) and word for word in value):
            return tuple(value)
        raise Unacceptable("is not a command", remedy)

    def read(text: str) -> tuple[str, ...]:
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise Unacceptable(f"cannot be read as a command: {error}", remedy) from None
        if not words:
            raise Unacceptable("is empty", remedy)
        return words

    return Kind("a command", str, accept, read)


def _storage() -> Kind:
    def accept(value: object) -> object:
        # By its shape, since this table must not load what a storage needs.
        if all(callable(getattr(value, method, None)) for method in ("get", "put", "delete", "keys", "lock")):
            return value
        return PATH.accept(value)

    return Kind("a path", str, accept, PATH.read)


NAMES: Final = _names()
EMAIL: Final = _email()
HOOK: Final = _hook()
STORAGE: Final = _storage()
