"""Reading settings from where people write them: dictionaries, INI files in the CherryPy manner, TOML files.

Reading yields `Item`s, each a dotted key with its value and, where the format tells it, its line. It judges nothing but
the format; what the keys mean is `config`'s business.
"""

from __future__ import annotations

import ast
import configparser
import importlib
import operator
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationError

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

__all__ = ["Item", "literal", "read"]

MAX_FILE_SIZE: Final = 4 * 1024 * 1024
"""Bytes. No configuration is larger; a device file or a log given by mistake is."""

GLOBAL: Final = "global"


@dataclass(frozen=True, slots=True)
class Item:
    """One setting as somebody wrote it.

    Attributes:
        key: Its dotted name: ``server.socket_port``.
        value: A Python value.
        file: The file it was written in.
        line: The line there, counted from 1.
    """

    key: str
    value: Any
    file: str | None = None
    line: int | None = None


def read(source: Mapping[str, Any] | str | os.PathLike[str]) -> list[Item]:
    """Read every setting of a mapping or a file; the file's name decides its format (``.toml``, else INI).

    Raises:
        ConfigurationError: It cannot be read, or is not of its format.
    """
    if isinstance(source, Mapping):
        return list(_flatten(_without_global(source)))
    path = Path(source)
    text = _text_of(path)
    return _read_toml(path, text) if path.suffix.lower() == ".toml" else _read_ini(path, text)


def literal(text: str) -> Any:
    """Return the value of a Python literal; sums, differences, products and quotients of numbers count as one.

    Raises:
        ValueError: It is none.
    """
    try:
        return _value_of(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, RecursionError, MemoryError, ZeroDivisionError) as error:
        raise ValueError(str(error)) from None


_OPERATORS: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def _value_of(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value_of(node.left), _value_of(node.right)
        if not all(isinstance(each, (int, float)) for each in (left, right)):
            message = "only numbers can be calculated with"
            raise ValueError(message)
        return _OPERATORS[type(node.op)](left, right)
    return ast.literal_eval(node)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
        if len(data) > MAX_FILE_SIZE:
            raise ConfigurationError("config", str(path), "is too large to be a configuration", file=path)
        return data.decode("utf-8-sig")
    except OSError as error:
        remedy = "Check the path and its permissions."
        raise ConfigurationError("config", str(path), f"cannot be read ({error.strerror})", remedy) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("config", None, "is not UTF-8 text", "Save it as UTF-8.", file=path) from error


def _without_global(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree whose ``global`` section's keys stand at the top."""
    top = {key: value for key, value in tree.items() if key != GLOBAL}
    inner = tree.get(GLOBAL, {})
    if not isinstance(inner, Mapping):
        raise ConfigurationError(GLOBAL, inner, "is not a section", "Put settings into it, or leave it out.")
    return {**top, **inner}


def _flatten(
    tree: Mapping[str, Any], prefix: str = "", file: str | None = None, lines: Mapping[str, int] | None = None
) -> Iterator[Item]:
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, dotted + ".", file, lines)
        else:
            yield Item(dotted, value, file, (lines or {}).get(dotted))


def _read_toml(path: Path, text: str) -> list[Item]:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        line = int(found[1]) if found else None
        problem = f"is not TOML: {str(error).partition(' (at line')[0]}"
        raise ConfigurationError("config", None, problem, file=path, line=line) from None
    return list(_flatten(_without_global(tree), "", str(path), _toml_lines(text)))


_TOML_TABLE: Final = re.compile(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?$")
_TOML_KEY: Final = re.compile(r"""\s*([\w."'\-]+(?:\s*\.\s*[\w"'\-]+)*)\s*=""")


def _toml_lines(text: str) -> dict[str, int]:
    """Return the line of each key; the parser does not tell, and only error messages need it."""
    lines: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if table := _TOML_TABLE.match(line):
            prefix = _plain_key(table[1]) + "."
        elif key := _TOML_KEY.match(line):
            lines.setdefault((prefix + _plain_key(key[1])).removeprefix(GLOBAL + "."), number)
    return lines


def _plain_key(key: str) -> str:
    return re.sub(r"[\s\"']", "", key)


def _read_ini(path: Path, text: str) -> list[Item]:
    parser = _CaseSensitiveParser(
        interpolation=None, default_section="", delimiters=("=", ":"), inline_comment_prefixes=("#",)
    )
    try:
        parser.read_string(text, str(path))
    except configparser.Error as error:
        line = getattr(error, "lineno", None)
        if line is None and isinstance(error, configparser.ParsingError) and error.errors:
            line = error.errors[0][0]
        problem = f"is not an INI file: {error.message.partition(': ')[2] or error.message}".replace("\n", " ")
        raise ConfigurationError("config", None, problem, "Begin with a line [global].", file=path, line=line) from None
    lines = _ini_lines(text)
    items = []
    for section in parser.sections():
        prefix = "" if section == GLOBAL else f"[{section}]."
        for key, written in parser.items(section):
            line = lines.get((section, key))
            try:
                value = literal(written or "")
            except ValueError:
                raise ConfigurationError(
                    prefix + key,
                    written,
                    "is not a Python value",
                    "Put text into quotes; write numbers, True, False, None and lists as in Python.",
                    file=path,
                    line=line,
                ) from None
            items.append(Item(prefix + key, value, str(path), line))
    return items


class _CaseSensitiveParser(configparser.RawConfigParser):
    """configparser's, with keys as they are written."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


_INI_SECTION: Final = re.compile(r"\[(.+)\]")
_INI_KEY: Final = re.compile(r"([^#;\s\[=:][^=:]*?)\s*[=:]")


def _ini_lines(text: str) -> dict[tuple[str, str], int]:
    lines: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _INI_SECTION.match(line):
            section = found[1]
        elif key := _INI_KEY.match(line):
            lines[section, key[1]] = number
    return lines
