"""The help of commands with many long options, every one of which can be read in a narrow terminal."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperCommand

__all__ = ["CommandOfSettings"]

OWN_OPTIONS: Final = "Options"

LEFT_WIDTH: Final = 24
"""The most that the column of options takes of 80, so that the longest variable fits into what is left."""


class CommandOfSettings(TyperCommand):
    """A command whose help is plain text, a chapter for each section of the settings.

    Typer's tables cut what is too long for their columns, and the longest of our options fill a terminal's width.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        self.rich_markup_mode = None
        super().format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write what the options are, those of each section under its title."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = getattr(parameter, "rich_help_panel", None) or OWN_OPTIONS
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=LEFT_WIDTH)
