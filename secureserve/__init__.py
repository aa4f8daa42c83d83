"""A TLS-enabled, threaded HTTP server toolkit: the façade.

Everything meant for use is here, one import deep. Importing it starts nothing and loads no other library: each name is
looked up in its home when it is first used.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import (
    AlreadyStarted,
    BadRequest,
    BodyTooLarge,
    BodyTruncated,
    ChainBroken,
    ConfigurationError,
    ConfigurationErrors,
    CredentialError,
    Expired,
    HandshakeFailed,
    HeadTooLarge,
    IssuanceError,
    KeyMismatch,
    LifecycleError,
    NameNotCovered,
    NoCredential,
    NotYetValid,
    OlderThanServed,
    Overloaded,
    PeerError,
    PeerTimeout,
    PlainHTTPOnTLSPort,
    ProxyHeaderError,
    SecureServeError,
    StartFailed,
    StopTimedOut,
    StorageError,
    UnreadableCertificate,
    UnreadableKey,
    UsageNotAllowed,
    WeakKey,
)

if TYPE_CHECKING:
    from secureserve.acme.authorities import Authority, ExternalAccount
    from secureserve.acme.solvers import DNS01Solver, HTTP01Solver, Solver, TLSALPN01Solver
    from secureserve.acme.source import ACMESource
    from secureserve.acme.steward import Steward
    from secureserve.acme.storage import FileStorage, Storage
    from secureserve.certificates.credential import Credential
    from secureserve.certificates.keys import CallableKey, FileKey, KeyedSource, PrivateKeySource, SystemdKey
    from secureserve.certificates.on_demand import CallableSource
    from secureserve.certificates.sources import (
        CredentialSource,
        DirectorySource,
        FileSource,
        MemorySource,
    )
    from secureserve.certificates.store import CertificateStore
    from secureserve.front.settings import FrontSettings
    from secureserve.http.client_authorisation import AuthoriseClients
    from secureserve.http.server import HTTPServer
    from secureserve.http.ssl_adapter import SSLAdapter
    from secureserve.managed.adapter import ServerAdapter
    from secureserve.managed.engine import Engine
    from secureserve.managed.quickstart import (
        config,
        engine,
        quickstart,
        serve,
        server,
    )
    from secureserve.managed.server import Server
    from secureserve.tls.authorisation import ClientAuthorisation
    from secureserve.tls.info import TLSInfo
    from secureserve.tls.policy import TLSPolicy

__all__ = [
    "ACMESource",
    "AlreadyStarted",
    "AuthoriseClients",
    "Authority",
    "BadRequest",
    "BodyTooLarge",
    "BodyTruncated",
    "CallableKey",
    "CallableSource",
    "CertificateStore",
    "ChainBroken",
    "ClientAuthorisation",
    "ConfigurationError",
    "ConfigurationErrors",
    "Credential",
    "CredentialError",
    "CredentialSource",
    "DNS01Solver",
    "DirectorySource",
    "Engine",
    "Expired",
    "ExternalAccount",
    "FileKey",
    "FileSource",
    "FileStorage",
    "FrontSettings",
    "HTTP01Solver",
    "HTTPServer",
    "HandshakeFailed",
    "HeadTooLarge",
    "IssuanceError",
    "KeyMismatch",
    "KeyedSource",
    "LifecycleError",
    "MemorySource",
    "NameNotCovered",
    "NoCredential",
    "NotYetValid",
    "OlderThanServed",
    "Overloaded",
    "PeerError",
    "PeerTimeout",
    "PlainHTTPOnTLSPort",
    "PrivateKeySource",
    "ProxyHeaderError",
    "SSLAdapter",
    "SecureServeError",
    "Server",
    "ServerAdapter",
    "Solver",
    "StartFailed",
    "Steward",
    "StopTimedOut",
    "Storage",
    "StorageError",
    "SystemdKey",
    "TLSALPN01Solver",
    "TLSInfo",
    "TLSPolicy",
    "UnreadableCertificate",
    "UnreadableKey",
    "UsageNotAllowed",
    "WeakKey",
    "config",
    "engine",
    "quickstart",
    "serve",
    "server",
]

_HOMES: Final = MappingProxyType(
    {
        "secureserve.acme.authorities": ("Authority", "ExternalAccount"),
        "secureserve.acme.solvers": ("DNS01Solver", "HTTP01Solver", "Solver", "TLSALPN01Solver"),
        "secureserve.acme.source": ("ACMESource",),
        "secureserve.acme.steward": ("Steward",),
        "secureserve.acme.storage": ("FileStorage", "Storage"),
        "secureserve.certificates.credential": ("Credential",),
        "secureserve.certificates.keys": ("CallableKey", "FileKey", "KeyedSource", "PrivateKeySource", "SystemdKey"),
        "secureserve.certificates.on_demand": ("CallableSource",),
        "secureserve.certificates.sources": (
            "CredentialSource",
            "DirectorySource",
            "FileSource",
            "MemorySource",
        ),
        "secureserve.certificates.store": ("CertificateStore",),
        "secureserve.front.settings": ("FrontSettings",),
        "secureserve.http.client_authorisation": ("AuthoriseClients",),
        "secureserve.http.server": ("HTTPServer",),
        "secureserve.http.ssl_adapter": ("SSLAdapter",),
        "secureserve.managed.adapter": ("ServerAdapter",),
        "secureserve.managed.engine": ("Engine",),
        "secureserve.managed.quickstart": (
            "config",
            "engine",
            "quickstart",
            "serve",
            "server",
        ),
        "secureserve.managed.server": ("Server",),
        "secureserve.tls.authorisation": ("ClientAuthorisation",),
        "secureserve.tls.info": ("TLSInfo",),
        "secureserve.tls.policy": ("TLSPolicy",),
    }
)
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import `name` from its home; the next time it is here (PEP 562)."""
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name) from None
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    """Name what is meant for use, whether it has been used yet or not."""
    return sorted({*globals(), *__all__})
