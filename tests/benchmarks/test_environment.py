"""The environment in which servers are compared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from benchmarks import environment


def test_the_package_is_compiled_as_its_peers_are() -> None:
    """What was installed comes with its bytecode; a working copy gets it before anything is measured."""
    source = environment.ROOT / "secureserve" / "demo.py"
    compiled = Path(importlib.util.cache_from_source(str(source)))
    compiled.unlink(missing_ok=True)
    environment.enter(Path(sys.prefix))
    assert compiled.is_file()
