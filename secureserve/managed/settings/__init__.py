"""Every setting there is, in one table.

What `Server` has as attributes, what a configuration file may hold as ``server.X`` and ``engine.X``, what the
environment may hold as ``SECURESERVE_X``, what ``secureserve run`` takes as ``--x``, and the reference page: all of it
is this table. Its parts are in modules of their own; here they are put together, and looked up.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError
from secureserve.managed.settings.acme import ACME_SETTINGS
from secureserve.managed.settings.process import PROCESS_SETTINGS
from secureserve.managed.settings.serving import SERVING_SETTINGS
from secureserve.managed.settings.setting import ENVIRONMENT_PREFIX, Section, Setting
from secureserve.managed.settings.tls import TLS_SETTINGS
from secureserve.managed.settings.traffic import TRAFFIC_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ENGINE_SETTINGS", "ENVIRONMENT_PREFIX", "REFUSED", "SETTINGS", "Section", "Setting", "find", "nearest"]


def find(name: str, table: Mapping[str, Setting] | None = None) -> Setting:
    """Return the setting called `name`.

    Raises:
        ConfigurationError: There is none; the message names the nearest that there is.
    """
    table = SETTINGS if table is None else table
    try:
        return table[name]
    except KeyError:
        raise ConfigurationError(name, None, "is not a setting", REFUSED.get(name) or nearest(name, table)) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the sentence that suggests which of the `known` names somebody meant by `name`."""
    # Only for mistakes.
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else "The reference page of settings lists them all."


def _table(*settings: Setting) -> Mapping[str, Setting]:
    return MappingProxyType({setting.name: setting for setting in settings})


SETTINGS: Final[Mapping[str, Setting]] = _table(*SERVING_SETTINGS, *TLS_SETTINGS, *ACME_SETTINGS, *TRAFFIC_SETTINGS)
"""The settings of one server, by name, in the order of the reference page."""

ENGINE_SETTINGS: Final[Mapping[str, Setting]] = _table(*PROCESS_SETTINGS)
"""The settings of the process, by name: config keys ``engine.X``."""

REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ssl_context": "A context made elsewhere can be neither checked nor rotated: set ssl_certificate and "
        "ssl_private_key, tls_policy, and the ssl_client_ settings instead.",
    }
)
"""Names of CherryPy's that are not settings here, and what to use instead."""
