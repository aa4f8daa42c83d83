"""Test certificates and servers, without pytest: a CA, good and bad credentials, servers, hostile clients, an ACME CA.

Importing it imports none of that: each name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secureserve.testing.acme import ACMEAuthority, acme_authority
    from secureserve.testing.acme_messages import Problem
    from secureserve.testing.authority import LOOPBACK_IDENTITIES, Authority, temporary_authority
    from secureserve.testing.bad import BAD_KINDS, BadCredential, BadKind, RefusedBy, bad_kinds, issue_bad
    from secureserve.testing.clock import ManualClock
    from secureserve.testing.credentials import IssuedCredential
    from secureserve.testing.directory import FILE_FAULTS, CredentialDirectory
    from secureserve.testing.hostile import HostileClient, HostileConnection
    from secureserve.testing.keys import KeyRing
    from secureserve.testing.layouts import Files, Layout
    from secureserve.testing.recording import RecordedRequest
    from secureserve.testing.server import TestServer, https_server
    from secureserve.testing.template import Issuer, Template

__all__ = [
    "BAD_KINDS",
    "FILE_FAULTS",
    "LOOPBACK_IDENTITIES",
    "ACMEAuthority",
    "Authority",
    "BadCredential",
    "BadKind",
    "CredentialDirectory",
    "Files",
    "HostileClient",
    "HostileConnection",
    "IssuedCredential",
    "Issuer",
    "KeyRing",
    "Layout",
    "ManualClock",
    "Problem",
    "RecordedRequest",
    "RefusedBy",
    "Template",
    "TestServer",
    "acme_authority",
    "bad_kinds",
    "https_server",
    "issue_bad",
    "temporary_authority",
]

_HOMES: Final[Mapping[str, str]] = {
    "BAD_KINDS": "bad",
    "FILE_FAULTS": "directory",
    "LOOPBACK_IDENTITIES": "authority",
    "ACMEAuthority": "acme",
    "Authority": "authority",
    "BadCredential": "bad",
    "BadKind": "bad",
    "CredentialDirectory": "directory",
    "Files": "layouts",
    "HostileClient": "hostile",
    "HostileConnection": "hostile",
    "IssuedCredential": "credentials",
    "Issuer": "template",
    "KeyRing": "keys",
    "Layout": "layouts",
    "ManualClock": "clock",
    "Problem": "acme_messages",
    "RecordedRequest": "recording",
    "RefusedBy": "bad",
    "Template": "template",
    "TestServer": "server",
    "acme_authority": "acme",
    "bad_kinds": "bad",
    "https_server": "server",
    "issue_bad": "bad",
    "temporary_authority": "authority",
}
"""In which module each name lives."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
