"""Finding the application that the command line names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.cli.loading import Interface, as_wsgi, load_application
from secureserve.errors import ConfigurationError
from secureserve.http.asgi import ASGIAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """A function that writes a module, which is forgotten after the test."""
    written: list[str] = []
    monkeypatch.setattr(sys, "path", sys.path[:])

    def write(name: str, text: str) -> Path:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        written.append(name)
        return tmp_path

    yield write
    for name in written:
        sys.modules.pop(name, None)


def refused(name: str, directory: Path, **options: Any) -> str:
    """Return the message of the refusal."""
    with pytest.raises(ConfigurationError) as caught:
        load_application(name, directory=directory, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["loadable_a:app", "loadable_a", "loadable_a:inner.app"])
def test_an_application_is_found_in_its_directory(module: Any, name: str) -> None:
    """``module:attribute``, the bare module, and an attribute of an attribute find the application."""
    directory = module("loadable_a", "class inner:\n    app = lambda e, s: [b'']\napp = inner.app\n")
    assert load_application(name, directory=directory) is sys.modules["loadable_a"].app


def test_a_factory_is_called(module: Any) -> None:
    """With ``factory`` it is what the callable returns that is served."""
    directory = module("loadable_b", "def make():\n    return print\n")
    assert load_application("loadable_b:make", directory=directory, factory=True) is print


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("loadable_c:app", None, "there is no module loadable_c in"),
        ("loadable_c:app", "import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("loadable_c:app", "1 / 0", "ZeroDivisionError: division by zero"),
        ("loadable_c:app", "def app(:", "SyntaxError"),
        ("loadable_c:ap", "app = print", "has no attribute ap. Did you mean app?"),
        ("loadable_c:app", "app = 7", "is int, which cannot be called"),
        ("loadable_c", "x = 7", "has neither application nor app"),
        ("loadable_c.py", "app = print", "is a path. Write the module's name, as in loadable_c:app"),
        ("load-able:app", None, "is not MODULE:ATTRIBUTE"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(module: Any, tmp_path: Path, name: str, text: str, message: str) -> None:
    """A name that leads to no application is refused with the name, the reason and what to do."""
    if text is not None:
        module("loadable_c", text)
    told = refused(name, tmp_path)
    assert told.startswith(f"APPLICATION = {name!r} ")
    assert message in told
    assert "\n" not in told


def test_the_place_of_an_error_in_the_application_is_told(module: Any) -> None:
    """An application that fails on import is named with file and line."""
    directory = module("loadable_d", "x = 1\ny = 1 / 0\n")
    assert f"({directory}/loadable_d.py:2)" in refused("loadable_d:app", directory)


def test_a_factory_that_fails_is_told(module: Any) -> None:
    """What a factory raises is told with its place; what is no factory is told as well."""
    directory = module("loadable_e", "def make():\n    raise ValueError('no database')\nx = 7\n")
    assert "is a factory that failed: ValueError: no database" in refused("loadable_e:make", directory, factory=True)
    assert "is no factory" in refused("loadable_e:x", directory, factory=True)


def test_a_directory_that_is_none_is_told(tmp_path: Path) -> None:
    """A directory that does not exist is an error of its own."""
    assert "--app-dir" in refused("app:app", tmp_path / "absent")


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Be an ASGI application."""


class ASGIObject:
    """An ASGI application as an object."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Be one."""


@pytest.mark.parametrize("application", [asgi, ASGIObject()], ids=["function", "object"])
def test_an_asgi_application_needs_its_interface(application: Any) -> None:
    """An ASGI application served as WSGI is refused with the option to add; with that it is adapted."""
    with pytest.raises(ConfigurationError, match=r"is an ASGI application\. Add --interface asgi"):
        as_wsgi(application, Interface.WSGI, "app:app")
    assert isinstance(as_wsgi(application, Interface.ASGI, "app:app"), ASGIAdapter)


def test_a_missing_adapter_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a2wsgi, the error names the extra that brings it."""
    monkeypatch.delitem(sys.modules, "secureserve.http.asgi", raising=False)
    monkeypatch.setitem(sys.modules, "a2wsgi", None)
    with pytest.raises(ConfigurationError, match=r"Install secureserve\[asgi\]"):
        as_wsgi(asgi, Interface.ASGI, "app:app")
