"""From the settings of a server to what speaks TLS for it: its certificates, its policy, its acceptor."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from secureserve.certificates import names
from secureserve.errors import ConfigurationError
from secureserve.managed import acme
from secureserve.managed.acme import Answers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from secureserve.certificates.manager import CertificateManager
    from secureserve.certificates.sources import CredentialSource
    from secureserve.certificates.store import StoreSnapshot
    from secureserve.managed.acme_layer import ACMELayer
    from secureserve.tls.acceptor import TLSAcceptor
    from secureserve.tls.policy import TLSPolicy

__all__ = ["TLSLayer", "build", "is_wanted", "policy_from", "sources_from"]

POLICY_SETTINGS: Final = {
    "tls_minimum_version": "minimum_version",
    "tls_maximum_version": "maximum_version",
    "tls_groups": "groups",
    "tls_session_tickets": "session_tickets",
    "tls_session_ticket_lifetime": "session_ticket_lifetime",
    "tls_ocsp_staple": "ocsp_staple",
    "tls_keylog_file": "keylog_file",
    "ssl_ciphers": "ciphers",
    "ssl_ciphersuites": "ciphersuites",
    "ssl_client_ca": "client_ca",
    "ssl_client_verify": "client_verify",
    "ssl_client_verify_depth": "client_verify_depth",
    "ssl_client_crl": "client_crl",
    "ssl_client_crl_expired": "client_crl_expired",
}
"""Which field of the policy each setting decides."""

_SETTING_OF: Final = {field: setting for setting, field in POLICY_SETTINGS.items()}

_PRIVATE_KEY: Final = b"PRIVATE KEY-----"
_PEM: Final = b"-----BEGIN "
_MAX_LOOK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TLSLayer:
    """What speaks TLS for one server.

    Attributes:
        manager: Looks after the certificates.
        acceptor: Turns accepted sockets into TLS connections.
        acme: Obtains certificates, where that is asked for.
    """

    manager: CertificateManager
    acceptor: TLSAcceptor
    acme: ACMELayer | None = None

    def start(self) -> None:
        """Begin to notice replaced certificates."""
        self.manager.start()

    def serves(self, host: str) -> bool:
        """Return whether a certificate that is served covers `host`."""
        return self.manager.store.covers(host)

    def close(self) -> None:
        """Let go of everything; connections that were made go on."""
        if self.acme is not None:
            self.acme.stop()
        self.manager.stop()
        self.acceptor.close()


def is_wanted(values: Mapping[str, Any]) -> bool:
    """Return whether the settings ask for TLS at all."""
    return bool(
        values["ssl_certificate"]
        or values["ssl_private_key"]
        or values["ssl_certificate_directory"]
        or values["certificate_sources"]
        or acme.is_wanted(values)
    )


def build(
    values: Mapping[str, Any],
    publish_event: Callable[[object], None] | None = None,
    answers: Answers | None = None,
) -> TLSLayer:
    """Load certificates and policy, and make what speaks TLS with them. Nothing runs yet.

    Args:
        values: Every setting of a server.
        publish_event: Is told of rotations and what else happens.
        answers: Where answers to an ACME authority's challenges are put; None where nobody is to be asked.

    Raises:
        ConfigurationError: Settings that do not go together, or that the engine cannot do.
        CredentialError: A certificate or key that cannot be served.
    """
    from secureserve.certificates.manager import CertificateManager
    from secureserve.tls.acceptor import TLSAcceptor

    policy = policy_from(values)
    answers = answers or Answers()
    sources = sources_from(values)
    obtaining = None
    if acme.is_wanted(values):
        obtaining = acme.build(
            values,
            answers,
            reload=lambda: manager.reload("acme"),
            is_served=lambda name: _covers(manager.store.snapshot, name),
            publish_event=publish_event,
            others=sources,
        )
        sources += obtaining.sources
    manager = CertificateManager(
        sources,
        sni_strict=values["sni_strict"],
        publish_event=publish_event,
        watch=values["certificate_watch"],
        polling_interval=values["certificate_polling_interval"],
        emergency=values["start_with_emergency_certificate"],
    )
    manager.load()
    with _by_setting_names():
        acceptor = TLSAcceptor(manager.store, policy, engine=values["ssl_module"], publish_event=publish_event)
    trust = [Path(values[name]) for name in ("ssl_client_ca", "ssl_client_crl") if values[name] is not None]
    manager.add_acceptor(acceptor, trust_paths=trust)
    acceptor.alpn_challenges = answers.tls
    return TLSLayer(manager, acceptor, obtaining)


def sources_from(values: Mapping[str, Any]) -> list[CredentialSource]:
    """Return where the certificates come from, the default first.

    Raises:
        ConfigurationError: Settings that do not go together.
    """
    from secureserve.certificates.credential import Credential
    from secureserve.certificates.sources import DirectorySource, FileSource, MemorySource

    sources: list[CredentialSource] = []
    require_pair(values)
    if values["ssl_certificate"] is not None:
        sources.append(
            FileSource(
                values["ssl_certificate"],
                values["ssl_private_key"],
                chain=values["ssl_certificate_chain"],
                password=values["ssl_private_key_password"],
                password_file=values["ssl_private_key_password_file"],
            )
        )
    given = values["certificate_sources"]
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    credentials = [each for each in given if isinstance(each, Credential)]
    sources.extend(each for each in given if not isinstance(each, Credential))
    if credentials:
        sources.append(MemorySource(*credentials))
    if values["ssl_certificate_directory"] is not None:
        sources.append(DirectorySource(values["ssl_certificate_directory"]))
    return sources


def require_pair(values: Mapping[str, Any]) -> None:
    """See that certificate and key are both there.

    Raises:
        ConfigurationError: One of them is missing.
    """
    certificate, private_key = values["ssl_certificate"], values["ssl_private_key"]
    if private_key is not None and certificate is None:
        remedy = f"Set it to the certificate of the key {private_key}."
        raise ConfigurationError("ssl_certificate", None, "is missing", remedy)
    if certificate is not None and private_key is None and _holds_no_key(Path(certificate)):
        remedy = f"Set it to the private key of {certificate}, which holds none itself."
        raise ConfigurationError("ssl_private_key", None, "is missing", remedy)


def policy_from(values: Mapping[str, Any]) -> TLSPolicy:
    """Return the TLS policy that the settings make.

    Raises:
        ConfigurationError: It is weaker than allowed, or does not fit together.
    """
    from secureserve.tls.policy import TLSPolicy

    base = values["tls_policy"]
    policy: TLSPolicy = getattr(TLSPolicy, base.upper()) if isinstance(base, str) else base
    with _by_setting_names():
        return policy.replace(**_changes(values))


def _changes(values: Mapping[str, Any]) -> dict[str, Any]:
    from secureserve.managed.settings import SETTINGS

    return {
        field: values[setting]
        for setting, field in POLICY_SETTINGS.items()
        if values[setting] != SETTINGS[setting].default
    }


class _by_setting_names:  # noqa: N801 - used as a function
    """Within the block, have errors about the policy's fields name the settings that decide them."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ConfigurationError) and error.key in _SETTING_OF:
            raise ConfigurationError(
                _SETTING_OF[error.key], error.value, _renamed(error.problem), _renamed(error.remedy)
            ) from error


def _renamed(text: str) -> str:
    return re.sub(r"\b(?:" + "|".join(_SETTING_OF) + r")\b", lambda found: _SETTING_OF[found[0]], text)


def _covers(snapshot: StoreSnapshot, name: str) -> bool:
    """Return whether a certificate that is served is for a normalised host name."""
    return name in snapshot.exact or names.parent(name) in snapshot.wildcard


def _holds_no_key(path: Path) -> bool:
    """Return whether a file is PEM without a private key; what cannot be read is the loader's to report."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_LOOK)
    except OSError:
        return False
    return _PEM in content and _PRIVATE_KEY not in content
