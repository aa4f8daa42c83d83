"""The TLS libraries behind one interface, and one table of what each can and cannot do."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secureserve.tls.engines.base import Choose, TLSEngine
    from secureserve.tls.keylog import KeyLog
    from secureserve.tls.ocsp import StapleCache
    from secureserve.tls.policy import TLSPolicy

__all__ = ["ENGINES", "Capabilities", "capabilities", "new_engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do. What it cannot is a `ConfigurationError` when asked for, never without effect.

    Args:
        library: The TLS library and its version.
        post_quantum: Agrees on X25519MLKEM768.
        chooses_groups: Keeps to the policy's groups, in their order. Else it takes a single one, or all of its own.
        chooses_ciphersuites: Keeps to the policy's TLS 1.3 suites.
        ticket_lifetime: Sets for how long a session can be resumed.
        refuses_unknown_alpn: Refuses a client that speaks no protocol of ours (RFC 7301, 3.2).
        acme_challenges: Answers an ACME authority that validates by TLS (RFC 8737).
        reports_group: Tells the group that was agreed on.
        names_refused_client: Tells whose certificate was refused; else only why and from which address.
        announces_client_ca: Tells clients which authorities their certificates may come from.
        verify_by_name: Can ask for client certificates under some server names only.
        accepts_expired_crl: Can go by a revocation list that is out of date.
        ocsp_stapling: Can staple an OCSP response.
    """

    library: str
    post_quantum: bool
    chooses_groups: bool
    chooses_ciphersuites: bool
    ticket_lifetime: bool
    refuses_unknown_alpn: bool
    acme_challenges: bool
    reports_group: bool
    names_refused_client: bool
    announces_client_ca: bool
    verify_by_name: bool
    accepts_expired_crl: bool
    ocsp_stapling: bool

    def rows(self) -> list[tuple[str, str]]:
        """Return name and value of each, for a table."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, {True: "yes", False: "no"}.get(value, str(value))) for name, value in values]


ENGINES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "pyopenssl": ("secureserve.tls.engines.pyopenssl.engine", "PyOpenSSLEngine"),
        "builtin": ("secureserve.tls.engines.builtin.engine", "BuiltinEngine"),
    }
)
"""Module and class by name, the default first. A library is imported when its engine is used."""


def new_engine(
    name: str,
    policy: TLSPolicy,
    choose: Choose,
    *,
    keylog: KeyLog | None = None,
    staples: StapleCache | None = None,
) -> TLSEngine:
    """Set up an engine.

    Args:
        name: One of `ENGINES`.
        policy: How to speak TLS.
        choose: Decides what a handshake presents.
        keylog: Where secrets go, for debugging.
        staples: Where OCSP responses to staple come from.

    Raises:
        ConfigurationError: There is none of this name, or it cannot do what the policy asks for.
    """
    module, class_name = _entry(name)
    engine_class = getattr(importlib.import_module(module), class_name)
    engine: TLSEngine = engine_class(policy, choose, keylog=keylog, staples=staples)
    return engine


def capabilities(name: str) -> Capabilities:
    """Return what an engine can do with the libraries that are installed here.

    Raises:
        ConfigurationError: There is none of this name.
    """
    found: Capabilities = importlib.import_module(_entry(name)[0]).capabilities()
    return found


def _entry(name: str) -> tuple[str, str]:
    try:
        return ENGINES[name]
    except KeyError:
        raise ConfigurationError(
            "ssl_module", name, "is not an engine", f"Choose one of {', '.join(ENGINES)}."
        ) from None
