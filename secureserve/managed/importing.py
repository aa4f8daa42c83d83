"""Finding the object that a setting names, as ``module:attribute`` or as a dotted name."""

from __future__ import annotations

import importlib
from typing import Any

from secureserve.errors import ConfigurationError

__all__ = ["resolve"]


def resolve(key: str, value: Any) -> Any:
    """Return `value`, or the object that it names if it is text.

    Args:
        key: The setting that holds it.
        value: An object, or its name: ``package.module:attribute.of.it``, or dots throughout.

    Raises:
        ConfigurationError: There is no such module or attribute, or the module fails while it is imported.
    """
    if not isinstance(value, str):
        return value
    module_name, colon, attribute = value.partition(":")
    if not colon:
        module_name, _, attribute = value.rpartition(".")
    if not module_name or not attribute:
        raise ConfigurationError(key, value, "names no object", "Write module:attribute.")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        remedy = "Check the name, and that its directory is on the module path."
        raise ConfigurationError(key, value, f"cannot be imported ({type(error).__name__}: {error})", remedy) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            remedy = f"Check what {module_name} defines."
            raise ConfigurationError(key, value, f"names nothing: there is no {part!r}", remedy) from None
    return found
