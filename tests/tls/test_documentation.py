"""The tables of the reference say what the code does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from secureserve.tls.engines import ENGINES, Capabilities, capabilities
from secureserve.tls.policy import GROUPS, TLS13_CIPHERSUITES
from tests.tls.clients import CASES

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_the_table_of_engines_is_complete() -> None:
    """Every capability has a row; what an engine has everywhere or nowhere is a yes or no there."""
    page = (REFERENCE / "tls-policy.md").read_text(encoding="utf-8")
    for field in fields(Capabilities):
        if field.name == "library":
            continue
        row = next(line for line in page.splitlines() if f"(`{field.name}`)" in line)
        for name, cell in zip(ENGINES, row.split("|")[2:4], strict=True):
            words = cell.strip()
            can = getattr(capabilities(name), field.name)
            assert words.startswith("yes") if words[:2] != "fr" and can else words.startswith(("no", "from", "yes"))
            if words.startswith("yes"):
                assert can


def test_the_profiles_name_what_they_have() -> None:
    """Groups and suites of the profiles are on the page."""
    page = (REFERENCE / "tls-policy.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in (*GROUPS, *TLS13_CIPHERSUITES))


def test_every_outcome_is_documented() -> None:
    """Each alert that a client certificate can come to is in the table of outcomes."""
    page = (REFERENCE / "client-certificates.md").read_text(encoding="utf-8")
    for case in CASES.values():
        for alert in (case.alert, case.alert_tls12):
            assert alert is None or f"`{alert}`" in page
