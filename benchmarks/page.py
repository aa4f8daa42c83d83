"""The figures in a page of the documentation: between two marks, with the chart beside the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["put_figures"]

BEGIN: Final = "<!-- Figures: made by `python -m benchmarks`. -->\n"
END: Final = "<!-- End of the figures. -->\n"


def put_figures(page: Path, report: str, image: str) -> None:
    """Replace what is between the marks of a page by a report, and the image beside it.

    Raises:
        ValueError: The page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        message = (
            f"{page} has no place for figures: put {BEGIN.strip()} and {END.strip()} there, each on a line of its own"
        )
        raise ValueError(message)
    page.write_text(f"{head}{begin}\n{report}\n{end}{tail}", encoding="utf-8")
    page.with_suffix(".svg").write_text(image, encoding="utf-8")
