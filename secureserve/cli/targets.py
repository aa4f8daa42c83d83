"""What the ``certs`` commands look at: files, directories, servers by address, and a running server of ours."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from secureserve.certificates import pem
from secureserve.certificates.credential import Credential
from secureserve.certificates.names import address
from secureserve.certificates.sources import DirectorySource
from secureserve.certificates.summary import CertificateSummary, summarise, summarise_der
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import CredentialError, HandshakeFailed, NoCredential, UnreadableCertificate
from secureserve.tls.probe import presented_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from secureserve.certificates.pem import Password
    from secureserve.certificates.sources import Entry

__all__ = ["host_and_port", "look_at"]

_LARGEST_PORT: Final = 65535
_HOST_AND_PORT: Final = re.compile(r"(?:https://)?(\[[0-9A-Fa-f:.%\w]+\]|[^:/\s]+):(\d{1,5})/?")


def look_at(
    targets: Sequence[str],
    *,
    private_key: Path | None = None,
    password: Password = None,
    server_name: str | None = None,
) -> Iterator[CertificateSummary | CredentialError]:
    """Look at each target, and give what was found there or why it is no good.

    Args:
        targets: Files, directories, or ``HOST:PORT``.
        private_key: The key of a certificate in a file of its own.
        password: Of encrypted keys.
        server_name: What to ask servers for, where it is not their host.
    """
    for target in targets:
        path = Path(target)
        if path.is_dir():
            yield from _in_directory(path, password)
        elif path.exists():
            yield _guarded(partial(_in_file, path, private_key, password))
        else:
            yield _guarded(partial(_of_server, target, server_name))


def host_and_port(text: str) -> tuple[str, int] | None:
    """Return the address in ``HOST:PORT``, ``[IPv6]:PORT`` or ``https://HOST:PORT``; None when it is none of them."""
    match = _HOST_AND_PORT.fullmatch(text)
    return None if match is None or int(match[2]) > _LARGEST_PORT else (match[1].strip("[]"), int(match[2]))


def _in_directory(path: Path, password: Password) -> Iterator[CertificateSummary | CredentialError]:
    try:
        entries = DirectorySource(path, password=password).entries()
    except CredentialError as error:
        yield error
        return
    for entry in entries:
        yield _guarded(partial(_loaded, entry))


def _in_file(path: Path, private_key: Path | None, password: Password) -> CertificateSummary:
    data = pem.read_certificate_file(path)
    if private_key is not None or pem.has_private_key(data) or pem.is_pkcs12(data):
        return _summarised(Credential.load(path, private_key, password=password))
    return summarise(pem.certificates(data, str(path)), str(path), SYSTEM_CLOCK.now())


def _of_server(target: str, server_name: str | None) -> CertificateSummary:
    found = host_and_port(target)
    if found is None:
        raise UnreadableCertificate(f"{target} does not exist, and is no HOST:PORT either.", path=target)
    host = found[0]
    try:
        chain = presented_chain(found, server_name=server_name or (None if address(host) else host))
    except HandshakeFailed as error:
        raise NoCredential(f"{target} presents no certificate: {error}", path=target) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NoCredential(f"{target} presents no certificate: {reason}.", path=target) from error
    return summarise_der(chain, target, SYSTEM_CLOCK.now())


def _loaded(entry: Entry) -> CertificateSummary:
    return _summarised(entry.load())


def _summarised(credential: Credential) -> CertificateSummary:
    return summarise(credential.chain, credential.origin, SYSTEM_CLOCK.now())


def _guarded(look: Callable[[], CertificateSummary]) -> CertificateSummary | CredentialError:
    try:
        return look()
    except CredentialError as error:
        return error
