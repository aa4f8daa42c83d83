"""The environment in which servers are compared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from benchmarks import environment


def test_the_package_is_compiled_as_its_peers_are() -> None:
    """What was installed comes with its bytecode; a working copy gets it before anything is measured."""
    source = environment.ROOT / "secureserve" / "demo.py"
    compiled = Path(importlib.util.cache_from_source(str(source)))
    compiled.unlink(missing_ok=True)
    environment.enter(Path(sys.prefix))
    assert compiled.is_file()


@pytest.mark.parametrize(("prefix", "origin"), [("/usr", "the system's"), ("/opt/python", "not the system's")])
def test_whose_python_it_is_is_told(prefix: str, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of a server in Python depend on how Python was built."""
    monkeypatch.setattr(sys, "base_prefix", prefix)
    assert environment.describe()["python"].endswith(f", {origin}")
