"""From the settings of a server to what obtains its certificates from an ACME authority."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from secureserve.errors import ConfigurationError, CredentialError, StorageError
from secureserve.managed.acme_layer import ACMELayer, Refusals, RememberingIssuer
from secureserve.managed.importing import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence

    from secureserve.acme.authorities import ExternalAccount
    from secureserve.acme.issuer import Issuer
    from secureserve.acme.solvers import Solver
    from secureserve.acme.steward import Steward
    from secureserve.acme.storage import Storage
    from secureserve.certificates.credential import Credential
    from secureserve.certificates.sources import CredentialSource

__all__ = [
    "Answers",
    "accounts_to_make",
    "build",
    "challenge_types",
    "is_wanted",
    "issuers_from",
    "solvers_from",
    "storage_from",
]

_OF_HANDSHAKE: Final = 0.8
"""How much of a handshake's time may go into obtaining what it asks for; in the rest it gets the default instead."""

_MAX_HMAC_KEY_FILE: Final = 64 * 1024
"""Bytes that are read of the file; the key has a hundred."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Where answers to challenges are put, for whoever serves them to the authority.

    Args:
        http: Proofs by token, for http-01.
        tls: Credentials by server name, for tls-alpn-01.
    """

    http: MutableMapping[str, str] = field(default_factory=dict)
    tls: MutableMapping[str, Credential] = field(default_factory=dict)


def is_wanted(values: Mapping[str, Any]) -> bool:
    """Return whether the settings ask for certificates from an authority."""
    return bool(values["acme_domain"] or values["acme_on_demand"])


def challenge_types(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the challenges that a server with these settings may answer: what is allowed, else all that it can."""
    if values["acme_challenge"] is not None:
        allowed: tuple[str, ...] = values["acme_challenge"]
        return allowed
    from secureserve.tls.engines import capabilities

    can = {
        "tls-alpn-01": capabilities(values["ssl_module"]).acme_challenges,
        "http-01": values["redirect_port"] is not None,
        "dns-01": values["acme_dns_hook"] is not None,
    }
    return tuple(kind for kind, possible in can.items() if possible)


def storage_from(values: Mapping[str, Any]) -> Storage:
    """Return where accounts and certificates are kept."""
    from secureserve.acme.storage import FileStorage

    given = values["acme_storage"]
    if given is None or isinstance(given, str):
        return FileStorage(given)
    storage: Storage = given
    return storage


def accounts_to_make(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return at which of the authorities there is no account yet, as far as the storage tells; nobody is asked.

    An authority that there is not, and a storage that cannot be read, are for who uses them to complain of.
    """
    from secureserve.acme.authorities import authority
    from secureserve.acme.keys import Key

    storage = storage_from(values)
    found = []
    for name in values["acme_directory"]:
        with contextlib.suppress(ConfigurationError, StorageError):
            wanted = authority(name)
            if storage.get(Key.account(wanted.directory_url)) is None:
                found.append(wanted.name)
    return tuple(found)


def solvers_from(values: Mapping[str, Any], answers: Answers, types: Collection[str]) -> list[Solver]:
    """Return what answers challenges of these types."""
    from secureserve.acme.solvers import DNS01Solver, HTTP01Solver, TLSALPN01Solver

    solvers: list[Solver] = []
    if "tls-alpn-01" in types:
        solvers.append(TLSALPN01Solver(answers.tls))
    if "http-01" in types:
        solvers.append(HTTP01Solver(answers.http))
    if "dns-01" in types:
        timeout, propagation = values["acme_dns_hook_timeout"], values["acme_dns_propagation"]
        solvers.append(DNS01Solver(values["acme_dns_hook"], timeout=timeout, propagation=propagation))
    return solvers


def issuers_from(
    values: Mapping[str, Any],
    storage: Storage,
    solvers: Sequence[Solver] = (),
    publish_event: Callable[[object], None] | None = None,
) -> list[Issuer]:
    """Return what asks each of the authorities, the first to be asked first.

    Raises:
        ConfigurationError: An authority that there is not, or a file that cannot be read.
    """
    from secureserve.acme.authorities import AUTHORITIES, authority
    from secureserve.acme.issuer import Issuer

    # Who is known by name is verified as everybody else on the web is.
    private = [name for name in values["acme_directory"] if name.strip().lower() not in AUTHORITIES]
    if values["acme_ca_file"] is not None and not private:
        remedy = "Give acme_directory the URL of a private authority, or leave it out."
        raise ConfigurationError("acme_ca_file", values["acme_ca_file"], "belongs to no authority", remedy)
    return [
        Issuer(
            authority(name, values["acme_ca_file"] if name in private else None),
            storage,
            solvers,
            contact=() if values["acme_email"] is None else (values["acme_email"],),
            accept_terms=values["acme_accept_terms"],
            external_account=_external_account(values),
            profile=values["acme_profile"],
            preferred_chain=values["acme_preferred_chain"],
            key_type=values["acme_key_type"],
            publish_event=publish_event,
        )
        for name in values["acme_directory"]
    ]


def _external_account(values: Mapping[str, Any]) -> ExternalAccount | None:
    from secureserve.acme.authorities import ExternalAccount

    path = values["acme_eab_hmac_key_file"]
    if path is None or values["acme_eab_key_id"] is None:
        return None
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_HMAC_KEY_FILE).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        remedy = "Put the HMAC key there that the authority shows beside the key identifier, and nothing else."
        raise ConfigurationError("acme_eab_hmac_key_file", path, f"cannot be read ({reason})", remedy) from error
    return ExternalAccount(values["acme_eab_key_id"], text.strip())


def build(
    values: Mapping[str, Any],
    answers: Answers,
    *,
    reload: Callable[[], object],
    is_served: Callable[[str], bool],
    publish_event: Callable[[object], None] | None = None,
    others: Sequence[CredentialSource] = (),
) -> ACMELayer:
    """Make what obtains the certificates that the settings ask for. Nobody is asked yet.

    Args:
        values: Every setting of a server.
        answers: Where answers to challenges are put.
        reload: Has the certificates that there are be served.
        is_served: Tells whether there is a certificate for a name, whoever it is from.
        publish_event: Is told of what happens.
        others: Where further certificates come from, which need no stand-in.

    Raises:
        ConfigurationError: Settings that cannot be honoured, or packages that are not installed.
    """
    from secureserve.acme.source import ACMESource
    from secureserve.acme.steward import Steward
    from secureserve.certificates.development import DEFAULT_NAMES

    storage = storage_from(values)
    issuers = issuers_from(
        values, storage, solvers_from(values, answers, challenge_types(values)), publish_event=publish_event
    )
    served = _credentials_of(others)
    wanted = {names: all(any(one.covers(name) for one in served) for name in names) for names in values["acme_domain"]}
    source = ACMESource(
        [names for names, is_covered in wanted.items() if not is_covered],
        storage,
        authorities=[issuer.authority.directory_url for issuer in issuers],
        default_names=() if others else DEFAULT_NAMES,
    )
    for names, is_covered in wanted.items():
        source.add_order(names, placeholder=not is_covered)
    refusals = Refusals()
    remembering = [RememberingIssuer(issuer, refusals) for issuer in issuers]
    steward = Steward(source, remembering, reload=reload, publish_event=publish_event)
    sources: list[CredentialSource] = [source]
    if values["acme_on_demand"] is not None:
        sources.append(_on_demand(values, steward, is_served))
    return ACMELayer(storage, steward, tuple(sources), refusals)


def _credentials_of(sources: Sequence[CredentialSource]) -> list[Credential]:
    """Return what sources have; what cannot be loaded is for who serves it to complain of."""
    found: list[Credential] = []
    for source in sources:
        with contextlib.suppress(CredentialError):
            found.extend(source.load())
    return found


def _on_demand(values: Mapping[str, Any], steward: Steward, is_served: Callable[[str], bool]) -> CredentialSource:
    from secureserve.acme.on_demand import OnDemandSource

    decide = resolve("acme_on_demand", values["acme_on_demand"])
    if not callable(decide):
        remedy = "Give a function that takes a host name and says whether to obtain a certificate for it."
        raise ConfigurationError("acme_on_demand", values["acme_on_demand"], "cannot be called", remedy)
    handshake_timeout = values["handshake_timeout"] or values["socket_timeout"]
    return OnDemandSource(steward, decide, timeout=handshake_timeout * _OF_HANDSHAKE, is_served=is_served)
