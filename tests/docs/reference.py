"""The pages of the reference that are made from the code: ``python -m tests.docs.reference`` writes them again.

A test fails while they differ from what the code says.
"""

from __future__ import annotations

import enum
import inspect
import re
from typing import TYPE_CHECKING, Any, Final

import typer.main

import secureserve
from secureserve.cli.app import app
from secureserve.cli.options import command_line_settings, default_text
from secureserve.managed.settings import ENGINE_SETTINGS, SETTINGS, Section
from tests.docs.blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from secureserve.managed.settings import Setting

__all__ = ["PAGES"]

NOTICE: Final = "<!-- Made from the code by `python -m tests.docs.reference`; change the docstrings instead. -->\n\n"


def settings_page() -> str:
    """Return the reference of every setting."""
    lines = [
        "# Settings\n",
        "Every setting has one name. `socket_port`, for example, is the attribute `server.socket_port` in Python, the",
        "key `server.socket_port` of a configuration file, the option `--socket-port` of `secureserve run`, and the",
        "environment variable `SECURESERVE_SOCKET_PORT`. Settings of the process have the key `engine.X`.\n",
        "The command line wins over the environment, which wins over the configuration files, a later one over an",
        "earlier one. Where `secureserve run` has a default of its own, it stands in brackets.\n",
    ]
    every = [*SETTINGS.values(), *ENGINE_SETTINGS.values()]
    for section in Section:
        chapter = [setting for setting in every if setting.section is section]
        if chapter:
            lines += [f"## {section.value}\n", "| Setting | Default | Meaning |", "|---|---|---|"]
            lines += [_setting_row(setting) for setting in chapter]
            lines.append("")
    return NOTICE + "\n".join(lines)


def command_page() -> str:
    """Return the reference of the command line."""
    root: Any = typer.main.get_command(app)
    lines = [
        "# Commands\n",
        _sentences(root.help),
        "\nWhat goes wrong is one line on standard error and exit status 2; `--debug` adds the traceback.\n",
    ]
    for path, command in _commands("secureserve", root):
        lines += [f"## {path}\n", _sentences(command.help), "", "| | |", "|---|---|"]
        settings = {setting.option for setting in command_line_settings().values()}
        rest = []
        for parameter in command.params:
            if settings & set(parameter.opts):
                rest.append(parameter)
            elif not getattr(parameter, "hidden", False):
                lines.append(_parameter_row(parameter))
        if rest:
            lines.append(
                "| [every setting](settings.md) | as `--name-of-setting VALUE`, and `--name`/`--no-name` for flags |"
            )
        lines.append("")
    return NOTICE + "\n".join(lines)


def api_page() -> str:
    """Return the reference of the façade."""
    lines = [
        "# Python API\n",
        "Everything is imported from `secureserve` itself; importing it starts nothing and loads no other library.\n",
    ]
    errors = [name for name in secureserve.__all__ if _is_error(getattr(secureserve, name))]
    for name in secureserve.__all__:
        if name not in errors:
            lines += _described(name, getattr(secureserve, name))
    lines += ["## Errors\n", "Every error that the package raises on purpose is a `SecureServeError`.\n"]
    lines += ["| Error | Is a | Meaning |", "|---|---|---|"]
    for name in errors:
        error = getattr(secureserve, name)
        bases = ", ".join(base.__name__ for base in error.__bases__)
        lines.append(f"| `{name}` | `{bases}` | {_first_sentence(error)} |")
    return NOTICE + "\n".join(lines) + "\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/settings.md": settings_page,
    "reference/commands.md": command_page,
    "reference/api.md": api_page,
}


def _setting_row(setting: Setting) -> str:
    default = _code(setting)
    if setting.on_command_line and setting.default_for_command_line != setting.default:
        default += f" (`{default_text(setting)}`)"
    notes = [_cell(setting.doc)]
    if setting.choices:
        notes.append("One of " + ", ".join(f"`{choice}`" for choice in setting.choices) + ".")
    if setting.reloadable:
        notes.append("Can change while the server runs.")
    if not setting.on_command_line:
        notes.append("No option on the command line.")
    return f"| `{setting.key}` | {default} | {' '.join(notes)} |"


def _code(setting: Setting) -> str:
    value = setting.default
    if setting.kind.name == "octal permissions" and value is not None:
        return f"`0o{value:o}`"
    if isinstance(value, enum.Enum):
        value = value.value
    return f"`{value!r}`"


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        if getattr(inner, "commands", None):
            yield from _commands(f"{path} {name}", inner)
        elif not inner.hidden:
            yield f"{path} {name}", inner


def _parameter_row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        return f"| `{name}` | {_cell(parameter.help or '')} |"
    names = "/".join([*parameter.opts, *parameter.secondary_opts])
    metavar = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
    variable = f" (`{parameter.envvar}`)" if parameter.envvar else ""
    return f"| `{_cell(names + metavar)}` | {_cell(parameter.help or '')}{variable} |"


def _described(name: str, value: Any) -> list[str]:
    if inspect.isclass(value) or inspect.isroutine(value):
        heading = f"## {name}\n" if _is_protocol(value) else f"## {name}\n\n`{name}{_signature(value)}`\n"
    else:
        heading = f"## {name}\n\nThe process's own `{type(value).__name__}`, made on first use.\n"
        return [heading]
    return [heading, _prose(inspect.getdoc(value) or ""), ""]


def _signature(value: Any) -> str:
    """Return names and plain defaults; annotations are spelt differently from one Python to the next."""
    signature = inspect.signature(value)
    plain = (bool, int, float, str, tuple, type(None))
    parameters = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.default
            if parameter.default is parameter.empty or isinstance(parameter.default, plain)
            else _Shown(),
        )
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


class _Shown:
    """A default that is an object."""

    def __repr__(self) -> str:
        return "..."


def _prose(docstring: str) -> str:
    """Return a Google-style docstring as Markdown: its sections become lists."""
    lines = []
    for line in docstring.replace("``", "`").splitlines():
        if re.fullmatch(r"(Args|Attributes|Raises|Returns|Yields|Threads):", line):
            lines += ["", f"**{line[:-1]}**", ""]
        elif match := re.match(r"    (\*{0,2}\w+): (.*)", line):
            lines.append(f"* `{match[1]}`: {match[2]}")
        else:
            lines.append(f"  {line.strip()}" if line.startswith("        ") else line.strip())
    return "\n".join(lines).strip()


def _first_sentence(value: Any) -> str:
    return _cell((inspect.getdoc(value) or "").split("\n\n")[0])


def _sentences(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _is_protocol(value: Any) -> bool:
    return bool(getattr(value, "_is_protocol", False))


if __name__ == "__main__":
    for place, make in PAGES.items():
        page = ROOT / "docs" / place
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(make(), encoding="utf-8")
