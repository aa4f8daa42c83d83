"""The reference says what the code says."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

import secureserve
from secureserve import errors
from secureserve.acme.authorities import AUTHORITIES
from secureserve.cli.acme_outcomes import DONE, FAILED, TRY_LATER, Outcome, Result
from secureserve.managed.settings import ENGINE_SETTINGS, SETTINGS
from tests.docs.blocks import ROOT, pages
from tests.docs.reference import PAGES


@pytest.mark.parametrize("place", PAGES)
def test_generated_pages_are_up_to_date(place: str) -> None:
    """A page made from the code is what the code makes today; if not, run ``python -m tests.docs.reference``."""
    assert (ROOT / "docs" / place).read_text(encoding="utf-8") == PAGES[place]()


def test_every_setting_is_in_the_reference() -> None:
    """No setting is missing from the reference page."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    missing = [each.key for each in (*SETTINGS.values(), *ENGINE_SETTINGS.values()) if f"`{each.key}`" not in page]
    assert not missing


def test_the_facade_the_reference_and_the_typing_test_agree() -> None:
    """Every public name is in the reference and is used by the typing test, and every error is public."""
    reference = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    typed = (ROOT / "tests" / "typing" / "api.py").read_text(encoding="utf-8")
    assert set(errors.__all__) <= set(secureserve.__all__)
    assert not [
        name for name in secureserve.__all__ if not re.search(rf"^## {name}$|^\| `{name}` ", reference, re.MULTILINE)
    ]
    assert not [name for name in secureserve.__all__ if f"secureserve.{name}" not in typed]


def test_variables_named_in_prose_exist() -> None:
    """A page that speaks of ``SECURESERVE_X`` speaks of a variable that there is."""
    settings = (*SETTINGS.values(), *ENGINE_SETTINGS.values())
    commands = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    hooks = (ROOT / "secureserve" / "acme" / "solvers.py").read_text(encoding="utf-8")
    known = {setting.environment_variable for setting in settings}
    known |= set(re.findall(r"SECURESERVE_[A-Z_]+", commands + hooks))
    named = {
        (page.name, name)
        for page in pages()
        for name in re.findall(r"\bSECURESERVE_[A-Z_]+\b", page.read_text("utf-8"))
    }
    assert not {(page, name) for page, name in named if name not in known}


def test_the_page_about_acme_tells_what_there_is() -> None:
    """Every authority that is known by name, every field of the JSON and every exit status is on its page."""
    page = (ROOT / "docs" / "reference" / "acme.md").read_text(encoding="utf-8")
    known = [(each.name, each.directory_url) for each in AUTHORITIES.values()]
    assert not [name for name, url in known if f"`{name}`" not in page or f"`{url}`" not in page]
    told = {*(field.name for field in fields(Outcome)), *(result.value for result in Result)}
    assert not [name for name in told if f"`{name}`" not in page]
    assert not [status for status in (DONE, FAILED, TRY_LATER) if f"\n| {status} | " not in page]
