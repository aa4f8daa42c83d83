"""The pages on the plugin: their suites run as they stand, and the reference says what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testing import reference
from tests.testing.inner import ALONE

if TYPE_CHECKING:
    import pytest

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL = DOCS / "tutorial" / "test-your-client.md"
HOW_TO = DOCS / "how-to" / "test-with-certificates.md"


def suites(page: Path) -> dict[str, str]:
    """Return the Python blocks of a page by the file name in their first line."""
    found = re.findall(r"^```python\n# (test_\w+\.py)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return dict(found)


def run(pytester: pytest.Pytester, files: dict[str, str]) -> pytest.RunResult:
    """Run suites as a reader would."""
    for name, text in files.items():
        pytester.path.joinpath(name).write_text(text, "utf-8")
    return pytester.runpytest_inprocess(*ALONE, "-W", "ignore", "-v")


def test_the_tutorials_suite_passes(pytester: pytest.Pytester) -> None:
    """The suite of the tutorial passes with as many tests as the page says."""
    result = run(pytester, suites(TUTORIAL))
    assert result.ret == 0
    (count,) = re.findall(r"^(\d+) passed$", TUTORIAL.read_text("utf-8"), re.MULTILINE)
    result.assert_outcomes(passed=int(count))


def test_the_tutorials_careless_client_is_caught(pytester: pytest.Pytester) -> None:
    """With the change that the tutorial suggests, the suite fails and shows the lines that the page shows."""
    files = {name: text.replace("verify=ca", "verify=False") for name, text in suites(TUTORIAL).items()}
    output = run(pytester, files).stdout
    output.fnmatch_lines(["*test_refuses_bad_certificates?expired? FAILED*"])
    output.fnmatch_lines(["*GET / -> 200 OK"])


def test_the_recipes_work(pytester: pytest.Pytester) -> None:
    """Every recipe of the how-to guide passes."""
    files = suites(HOW_TO)
    assert len(files) >= 8
    assert run(pytester, files).ret == 0


def test_reference_is_up_to_date() -> None:
    """The reference is what the docstrings make today; if not, run ``python -m tests.testing.reference``."""
    assert reference.PAGE.read_text("utf-8") == reference.page()


def test_reference_misses_nothing() -> None:
    """Every fixture of the plugin and every name of secureserve.testing is in the reference."""
    from secureserve import pytest_plugin, testing

    page = reference.PAGE.read_text("utf-8")
    # The first is how pytest marks a fixture, the second how it did before 8.4.
    marks = ("_fixture_function", "_pytestfixturefunction")
    fixtures = [name for name, value in vars(pytest_plugin).items() if any(hasattr(value, mark) for mark in marks)]
    assert sorted(fixtures) == sorted(reference.FIXTURES)
    headings = set(re.findall(r"^### (?:secureserve\.testing\.)?(\w+)$", page, re.MULTILINE))
    tables = {"BAD_KINDS", "FILE_FAULTS", "LOOPBACK_IDENTITIES"}
    assert {*fixtures, *testing.__all__} - tables <= headings
