"""What the project says about itself."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The whole of pyproject.toml."""
    whole: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return whole


def test_the_oldest_dependencies_tested_are_those_declared(project: dict[str, Any]) -> None:
    """oldest.txt pins every dependency of the package and its extras to its declared lower bound."""
    declared = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        declared += extra
    pinned = (Path(__file__).with_name("oldest.txt")).read_text(encoding="utf-8").splitlines()
    assert {line for line in pinned if not line.startswith("#")} == {line.replace(">=", "==", 1) for line in declared}


def test_every_python_that_is_claimed_has_an_environment(project: dict[str, Any]) -> None:
    """The classifiers, requires-python and tox's environments name the same versions."""
    classifiers = [c.rsplit(" ", 1)[1] for c in project["project"]["classifiers"] if "Python :: 3." in c]
    match = re.search(r"py3\{([\d,]+)\}", (ROOT / "tox.ini").read_text(encoding="utf-8"))
    assert match is not None
    assert [f"3.{minor}" for minor in match[1].split(",")] == classifiers
    assert project["project"]["requires-python"] == f">={classifiers[0]}"


def test_the_version_has_one_source(project: dict[str, Any]) -> None:
    """What is installed is the version that pyproject.toml declares."""
    assert metadata.version("secureserve") == project["project"]["version"]


def test_the_changelog_follows_its_format() -> None:
    """The changelog has an Unreleased section and only the categories of Keep a Changelog."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[0] == "[Unreleased]"
    categories = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= categories


def test_no_key_material_is_tracked_where_certificates_are_documented() -> None:
    """Nothing in certs/ holds a private key."""
    for path in (ROOT / "certs").rglob("*"):
        if path.is_file():
            assert b"PRIVATE KEY-----" not in path.read_bytes()
