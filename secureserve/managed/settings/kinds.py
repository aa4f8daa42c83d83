"""The kinds of value a setting may have: how each is read from Python, and how from text.

A `Kind` turns what somebody wrote into what the program uses, or raises `Unacceptable` saying what was expected. It
knows nothing of the setting that it serves, so that one rule about ports or paths is written once.
"""

from __future__ import annotations

import ast
import grp
import ipaddress
import os
import pwd
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "FLAG",
    "OBJECT",
    "PASSWORD",
    "PATH",
    "PORT",
    "TEXT",
    "Kind",
    "Unacceptable",
    "choice",
    "integer",
    "list_of",
    "optional",
    "seconds",
    "size",
]

_UNIX_PATH_LIMIT: Final = 107
"""Bytes in ``sun_path`` on Linux, less the terminating NUL; other systems have less, and say so when binding."""

_SIZE_UNITS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_SIZE: Final = re.compile(r"(?P<number>\d+)\s*(?P<unit>[kmg]?)(?:i?b)?", re.IGNORECASE)
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


class Unacceptable(Exception):
    """A value that is not of the kind.

    Args:
        problem: What is wrong with it, as a clause.
        remedy: What to write instead, as a sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}. {remedy}")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        name: What it is, for people: ``seconds``.
        type: The Python type of a value, for whoever builds a command line from the table.
        accept: Takes a Python value, returns the value to use, raises `Unacceptable`.
        read: Takes text, from the environment or a command line, and does the same.
        choices: The allowed values, where they can be listed.
        is_optional: Whether None is one of them.
        is_list: Whether it holds several.
    """

    name: str
    type: type
    accept: Callable[[object], Any]
    read: Callable[[str], Any]
    choices: tuple[str, ...] = ()
    is_optional: bool = False
    is_list: bool = False


def integer(
    name: str = "a whole number", *, minimum: int, maximum: int | None = None, also: Sequence[int] = ()
) -> Kind:
    """Make the kind of whole numbers from `minimum` to `maximum`, and the few in `also`."""
    bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    if also:
        bounds += ", or " + " or ".join(map(str, also))

    def accept(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            problem = f"is {_article(value)}, not a whole number"
            raise Unacceptable(problem, f"Write a whole number, {bounds}.")
        if value not in also and (value < minimum or (maximum is not None and value > maximum)):
            raise Unacceptable(f"is not {name} ({bounds})", f"Write a whole number, {bounds}.")
        return value

    def read(text: str) -> int:
        try:
            number = int(text.strip())
        except ValueError:
            raise Unacceptable("is not a whole number", f"Write a whole number, {bounds}.") from None
        return accept(number)

    return Kind(name, int, accept, read)


def seconds(*, minimum: float = 0.0, maximum: float = 86_400.0 * 365) -> Kind:
    """Make the kind of times in seconds, fractions allowed."""
    remedy = f"Write a number of seconds from {minimum:g} to {maximum:g}, such as 10 or 2.5."

    def accept(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Unacceptable(f"is {_article(value)}, not a number of seconds", remedy)
        if not minimum <= value <= maximum:
            raise Unacceptable("is not a time that can be waited for", remedy)
        return value

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise Unacceptable("is not a number of seconds", remedy) from None
        return accept(int(number) if number.is_integer() else number)

    return Kind("seconds", float, accept, read)


def size(*, minimum: int = 0) -> Kind:
    """Make the kind of sizes in bytes; text may end in k, M or G (powers of 1024), or KiB, MiB, GiB."""
    remedy = f"Write a number of bytes, at least {minimum}; as text also 512k, 100M or 1GiB."
    whole = integer("bytes", minimum=minimum)

    def accept(value: object) -> int:
        if isinstance(value, str):
            return read(value)
        try:
            return int(whole.accept(value))
        except Unacceptable as error:
            raise Unacceptable(error.problem, remedy) from None

    def read(text: str) -> int:
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise Unacceptable("is not a size", remedy)
        return accept(int(match["number"]) * _SIZE_UNITS[match["unit"].lower()])

    return Kind("bytes", int, accept, read)


def choice(*values: str) -> Kind:
    """Make the kind of words of which one is chosen; upper and lower case are the same."""
    remedy = f"Write one of: {', '.join(values)}."
    by_folded = {value.casefold(): value for value in values}

    def accept(value: object) -> str:
        if not isinstance(value, str):
            raise Unacceptable(f"is {_article(value)}, not a word", remedy)
        try:
            return by_folded[value.strip().casefold()]
        except KeyError:
            raise Unacceptable("is not one of its values", remedy) from None

    return Kind("a word", str, accept, accept, choices=values)


def list_of(item: Kind, name: str, *, separators: str = ",") -> Kind:
    """Make the kind of several values; text has white space or one of the `separators` between them."""
    between = re.compile(rf"[{separators}\s]+")

    def accept(value: object) -> tuple[Any, ...]:
        if isinstance(value, str):
            return read(value)
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise Unacceptable(f"is {_article(value)}, not a list", f"Write a list of {name}.")
        return tuple(item.accept(element) for element in value)

    def read(text: str) -> tuple[Any, ...]:
        return tuple(item.read(part) for part in between.split(text.strip()) if part)

    return Kind(name, str, accept, read, item.choices, is_list=True)


def optional(kind: Kind) -> Kind:
    """Make the kind of `kind`'s values and None, which text spells ``none``."""

    def accept(value: object) -> Any:
        return None if value is None else kind.accept(value)

    def read(text: str) -> Any:
        return None if text.strip().casefold() == "none" else kind.read(text)

    return Kind(kind.name, kind.type, accept, read, kind.choices, is_optional=True, is_list=kind.is_list)


def _flag() -> Kind:
    remedy = "Write True or False (as text also yes, no, on, off, 1, 0)."

    def accept(value: object) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        if isinstance(value, str):
            return read(value)
        raise Unacceptable(f"is {_article(value)}, neither true nor false", remedy)

    def read(text: str) -> bool:
        word = text.strip().casefold()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise Unacceptable("is neither true nor false", remedy)

    return Kind("true or false", bool, accept, read)


def _text(name: str, remedy: str) -> Kind:
    def accept(value: object) -> str:
        if not isinstance(value, str):
            raise Unacceptable(f"is {_article(value)}, not text", remedy)
        if not value.strip():
            raise Unacceptable("is empty", remedy)
        if any(character in value for character in "\0\r\n"):
            raise Unacceptable("holds a line break or a NUL", remedy)
        return value

    return Kind(name, str, accept, accept)


def _path() -> Kind:
    remedy = "Write the path of a file."

    def accept(value: object) -> str:
        if not isinstance(value, (str, os.PathLike)):
            raise Unacceptable(f"is {_article(value)}, not a path", remedy)
        path = os.fspath(value)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not path or "\0" in path:
            raise Unacceptable("is empty" if not path else "holds a NUL", remedy)
        return os.path.expanduser(path)  # noqa: PTH111 - a str stays one: published attributes hold str

    return Kind("a path", str, accept, accept)


def _any(name: str) -> Kind:
    return Kind(name, object, lambda value: value, lambda text: text)


def _password() -> Kind:
    remedy = "Give a str, bytes, or a callable that returns one; or name a file in ssl_private_key_password_file."

    def accept(value: object) -> object:
        if not (isinstance(value, (str, bytes)) or callable(value)):
            raise Unacceptable(f"is {_article(value)}, not a password", remedy)
        return value

    return Kind("a password", str, accept, accept)


TEXT: Final = _text("text", "Write some text on one line.")
PATH: Final = _path()
FLAG: Final = _flag()
PORT: Final = integer("a port", minimum=0, maximum=65_535)
OBJECT: Final = _any("an object, or its name as module:attribute")
PASSWORD: Final = _password()


def _host() -> Kind:
    remedy = "Write an address or a host name; leave it out (None) to listen on every interface."

    text = _text("a host", remedy)

    def accept(value: object) -> str:
        host: str = text.accept(value)
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if "/" in bare or " " in bare or bare.count(":") == 1:
            raise Unacceptable("is not a host", remedy)
        return bare

    return Kind("an address or host name", str, accept, accept)


def _unix_path() -> Kind:
    remedy = f"Write a path of at most {_UNIX_PATH_LIMIT} bytes."

    def accept(value: object) -> str:
        path: str = PATH.accept(value)
        if len(os.fsencode(path)) > _UNIX_PATH_LIMIT:
            raise Unacceptable("is too long for a unix socket", remedy)
        return path

    return Kind("a path", str, accept, accept)


def _mode() -> Kind:
    remedy = "Write permissions as an octal number from 0 to 777, such as 660 (in Python 0o660)."

    def accept(value: object) -> int:
        if isinstance(value, str):
            return read(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unacceptable(f"is {_article(value)}, not permissions", remedy)
        if not 0 <= value <= 0o777:  # noqa: PLR2004 - the nine permission bits
            raise Unacceptable("is not permissions", remedy)
        return value

    def read(text: str) -> int:
        try:
            mode = int(text.strip().removeprefix("0o"), 8)
        except ValueError:
            raise Unacceptable("is not permissions", remedy) from None
        return accept(mode)

    return Kind("octal permissions", str, accept, read)


def _account(name: str, look_up: Callable[[str], object], number: Callable[[int], object]) -> Kind:
    remedy = f"Write the name or number of a {name} that this system knows."

    def accept(value: object) -> str | int:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise Unacceptable(f"is {_article(value)}, not a {name}", remedy)
        try:
            if isinstance(value, str) and not value.isdecimal():
                look_up(value)
                return value
            number(int(value))
        except (KeyError, OverflowError):
            raise Unacceptable(f"is no {name} of this system", remedy) from None
        return int(value)

    return Kind(f"a {name}", str, accept, accept)


def _network() -> Kind:
    remedy = "Write addresses or networks such as 10.0.0.0/8, 2001:db8::/32 or 127.0.0.1."

    def accept(value: object) -> str:
        try:
            ipaddress.ip_network(str(value))
        except ValueError:
            raise Unacceptable("is not an address or a network", remedy) from None
        return str(value)

    return Kind("a network", str, accept, accept)


def _tls_policy() -> Kind:
    by_name = choice("intermediate", "modern")

    def accept(value: object) -> object:
        # By its shape, since this table must not load what a policy needs.
        if hasattr(value, "minimum_version") and hasattr(value, "client_verify"):
            return value
        return by_name.accept(value)

    return Kind("a policy", str, accept, by_name.read, by_name.choices)


def _wsgi_version() -> Kind:
    remedy = "Write (1, 0), which is PEP 3333's."

    def accept(value: object) -> tuple[object, ...]:
        if isinstance(value, str):
            return read(value)
        if not isinstance(value, (tuple, list)):
            raise Unacceptable(f"is {_article(value)}, not a version", remedy)
        return tuple(value)

    def read(text: str) -> tuple[object, ...]:
        try:
            return accept(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            raise Unacceptable("is not a version", remedy) from None

    return Kind("a version pair", str, accept, read)


HOST: Final = _host()
UNIX_PATH: Final = _unix_path()
MODE: Final = _mode()
USER: Final = _account("user", pwd.getpwnam, pwd.getpwuid)
GROUP: Final = _account("group", grp.getgrnam, grp.getgrgid)
NETWORK: Final = _network()
TLS_POLICY: Final = _tls_policy()
WSGI_VERSION: Final = _wsgi_version()


def _article(value: object) -> str:
    """Say what somebody gave, without showing it."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
