"""The façade: every public name one import deep, and an import that costs nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import secureserve

HEAVY = (
    "OpenSSL",
    "a2wsgi",
    "acme",
    "cheroot",
    "cryptography",
    "httptools",
    "rich",
    "ssl",
    "trustme",
    "typer",
    "watchfiles",
)


def test_importing_it_loads_no_other_library_and_starts_nothing() -> None:
    """``import secureserve`` brings no heavy module and no thread with it."""
    program = (
        "import sys, threading, secureserve\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], threading.active_count())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] 1\n"


@pytest.mark.parametrize("name", secureserve.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each name of ``__all__`` is found, and is the same object every time."""
    assert getattr(secureserve, name) is getattr(secureserve, name)


def test_all_is_sorted_and_complete() -> None:
    """``__all__`` names each thing once, in order, and ``dir`` shows all of it."""
    assert secureserve.__all__ == sorted(set(secureserve.__all__))
    assert set(secureserve.__all__) <= set(dir(secureserve))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """A misspelling is told as Python tells it."""
    with pytest.raises(AttributeError, match="module 'secureserve' has no attribute 'Sever'"):
        secureserve.Sever  # noqa: B018 - the access is the point


@pytest.mark.parametrize("name", ["Server", "HTTPServer", "SSLAdapter", "Credential", "Engine", "TLSPolicy"])
def test_a_class_is_the_one_of_its_home(name: str) -> None:
    """What the façade hands out is what its home defines, not a copy."""
    value = getattr(secureserve, name)
    assert getattr(importlib.import_module(value.__module__), name) is value


def test_star_import_brings_the_public_names() -> None:
    """``from secureserve import *`` brings ``__all__`` and nothing else."""
    namespace: dict[str, object] = {}
    exec("from secureserve import *", namespace)  # noqa: S102 - there is no other way to write it inside a function
    assert set(namespace) - {"__builtins__"} == set(secureserve.__all__)
