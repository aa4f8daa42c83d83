"""The options of the commands that serve, made from the table of settings."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secureserve.managed.settings import ENGINE_SETTINGS, SETTINGS
from secureserve.managed.settings.kinds import FLAG

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from secureserve.managed.settings import Setting

__all__ = ["command_line_settings", "default_text", "given_settings", "with_settings"]


def command_line_settings() -> Mapping[str, Setting]:
    """Return every setting that has an option, by name."""
    every = {**SETTINGS, **ENGINE_SETTINGS}
    return {name: setting for name, setting in every.items() if setting.on_command_line}


def with_settings(
    *,
    only: Collection[str] | None = None,
    leave_out: Collection[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the decorator that gives a command, which takes ``**settings``, an option for every setting.

    Args:
        only: Names of the settings that it has an option for; None for all.
        leave_out: Names of settings that it has no option for.
        defaults: Defaults of its own, by name, to be shown in its help.
    """
    added = [
        _option(setting, str(defaults.get(name, default_text(setting))))
        for name, setting in command_line_settings().items()
        if name not in leave_out and (only is None or name in only)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        # typer reads a command's options from its signature and its annotations.
        vars(command)["__signature__"] = signature.replace(parameters=[*own, *added])
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
        return command

    return decorate


def given_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options set, read as each setting's kind, by config key.

    Args:
        values: The values of the options, None where there was none.

    Raises:
        ConfigurationError: A value is not of its setting's kind; the error names the option.
    """
    settings = command_line_settings()
    # typer gives an option that may be repeated as an empty list where it was not given.
    return {
        settings[name].key: _read(settings[name], value) for name, value in values.items() if value not in (None, [])
    }


def default_text(setting: Setting) -> str:
    """Return the default on the command line, as somebody would write it there."""
    value = setting.default_for_command_line
    if value is None or value == ():
        return "none"
    if setting.kind.name == "octal permissions":
        return f"{value:o}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(setting: Setting, value: bool | str | list[str]) -> Any:  # noqa: FBT001 - the value of an option
    """Return what an option was given: all of it, where a setting of several values was given several times."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return setting.parse_text(value, key=setting.option)
    several = [setting.parse_text(each, key=setting.option) for each in value]
    return several[0] if len(several) == 1 else tuple(item for each in several for item in each or ())


def _option(setting: Setting, default: str) -> inspect.Parameter:
    flag = setting.kind is FLAG
    # Not typer's envvar: the variables are read with the configuration, by the same rules for every program.
    repeatable = " May be repeated." if setting.kind.is_list else ""
    help_text = f"{setting.doc}{repeatable}  [env var: {setting.environment_variable}; default: {default}]"
    spelling = f"{setting.option}/--no-{setting.option[2:]}" if flag else setting.option
    option = typer.Option(
        spelling,
        help=help_text,
        show_default=False,
        metavar=None if flag else _metavar(setting),
        rich_help_panel=setting.section.value,
    )
    annotation: Any = Annotated[_type_of(setting) | None, option]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _type_of(setting: Setting) -> Any:
    if setting.kind is FLAG:
        return bool
    return list[str] if setting.kind.is_list else str


def _metavar(setting: Setting) -> str:
    if setting.choices:
        return "|".join(setting.choices)
    return setting.kind.name.upper().removeprefix("A ").removeprefix("AN ").replace(" ", "-")
