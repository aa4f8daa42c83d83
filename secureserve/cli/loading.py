"""Finding the application that a command line names."""

from __future__ import annotations

import difflib
import enum
import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from types import ModuleType

__all__ = ["Interface", "as_wsgi", "load_application"]


class Interface(str, enum.Enum):
    """How the application is called."""

    WSGI = "wsgi"
    ASGI = "asgi"


_USUAL_NAMES: Final = ("application", "app")
_SEE_ALL: Final = "Add --debug to see the whole traceback."


def load_application(name: str, *, directory: str | os.PathLike[str] = ".", factory: bool = False) -> Any:
    """Import the application called `name`, with `directory` first on ``sys.path``.

    Args:
        name: ``module:attribute``; without the attribute, ``application`` or ``app`` is taken.
        directory: Where the module is.
        factory: Call what was found, without arguments, and take what it returns.

    Raises:
        ConfigurationError: It cannot be imported, is not there, or is not callable.
    """
    module_name, _, attribute = name.partition(":")
    path = Path(directory).resolve()
    if not path.is_dir():
        raise ConfigurationError("--app-dir", str(directory), "is not a directory", "Name the directory of the module.")
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    module = _import(name, module_name, path)
    found = _attribute(name, module, attribute)
    if factory:
        found = _call(name, found)
    if not callable(found):
        problem = f"is {type(found).__name__}, which cannot be called"
        raise ConfigurationError("APPLICATION", name, problem, "Name a WSGI application, or a factory with --factory.")
    return found


def as_wsgi(application: Any, interface: Interface, name: str) -> Any:
    """Return `application` as a WSGI callable; an ASGI one comes back as an `ASGIAdapter` that has to be started.

    Raises:
        ConfigurationError: It is of the other interface, or the package that adapts it is missing.
    """
    if interface is Interface.ASGI:
        try:
            from secureserve.http.asgi import ASGIAdapter
        except ModuleNotFoundError as error:
            problem = f"needs the package {error.name}"
            raise ConfigurationError("--interface", "asgi", problem, "Install secureserve[asgi].") from error
        return ASGIAdapter(application)
    if inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(type(application).__call__):
        raise ConfigurationError("APPLICATION", name, "is an ASGI application", "Add --interface asgi.")
    return application


def _import(name: str, module_name: str, directory: Path) -> ModuleType:
    if module_name.endswith(".py") or "/" in module_name:
        remedy = f"Write the module's name, as in {Path(module_name).stem}:app, and its directory as --app-dir."
        raise ConfigurationError("APPLICATION", name, "is a path", remedy)
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigurationError("APPLICATION", name, "is not MODULE:ATTRIBUTE", "Write it as in myproject.wsgi:app.")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            problem = f"cannot be imported: there is no module {error.name} in {directory} or on sys.path"
            raise ConfigurationError("APPLICATION", name, problem, "Check the name, or set --app-dir.") from error
        raise _failed(name, "cannot be imported", error) from error
    except Exception as error:
        raise _failed(name, "cannot be imported", error) from error


def _attribute(name: str, module: ModuleType, attribute: str) -> Any:
    if not attribute:
        attribute = next((usual for usual in _USUAL_NAMES if hasattr(module, usual)), "")
        if not attribute:
            problem = f"names no attribute, and {module.__name__} has neither application nor app"
            raise ConfigurationError("APPLICATION", name, problem, "Write MODULE:ATTRIBUTE.")
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            close = difflib.get_close_matches(part, dir(found), n=1)
            remedy = f"Did you mean {close[0]}?" if close else f"It is looked for in {module.__file__}."
            problem = f"is not there: {module.__name__} has no attribute {attribute}"
            raise ConfigurationError("APPLICATION", name, problem, remedy) from error
    return found


def _call(name: str, factory: Any) -> Any:
    if not callable(factory):
        raise ConfigurationError("APPLICATION", name, "is no factory: it cannot be called", "Leave out --factory.")
    try:
        return factory()
    except Exception as error:
        raise _failed(name, "is a factory that failed", error) from error


def _failed(name: str, problem: str, error: Exception) -> ConfigurationError:
    """Say in one line what the application's own code raised, and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return ConfigurationError("APPLICATION", name, f"{problem}: {what} ({frame.filename}:{frame.lineno})", _SEE_ALL)
