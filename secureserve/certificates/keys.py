"""Private keys from elsewhere than beside their certificate: a seam for systemd's credentials, programs and devices.

Both engines take a key as an object in memory and hand it to OpenSSL whole. A key that never leaves its device
(PKCS#11, a TPM) therefore cannot be served today: pyOpenSSL and the ssl module have no call to sign with one. When an
engine gains one, a `PrivateKeySource` can return such a key, and nothing else has to change.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from secureserve.certificates import pem
from secureserve.certificates.credential import Credential, password_from
from secureserve.certificates.sources import Entry
from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from secureserve.certificates.pem import Password

__all__ = ["CallableKey", "FileKey", "KeyedSource", "PrivateKeySource", "SystemdKey"]


@runtime_checkable
class PrivateKeySource(Protocol):
    """Where a private key comes from."""

    @property
    def place(self) -> str:
        """What to call it in messages: a path, or a few words. Never anything of the key."""

    def load(self) -> PrivateKeyTypes:
        """Return the key as it is now.

        Raises:
            CredentialError: It cannot be had.
        """

    def paths(self) -> Sequence[Path]:
        """Return the files whose change means that there is another key."""


class FileKey:
    """A key in a PEM file.

    Args:
        path: The file.
        password: Of an encrypted key.
        password_file: A file that holds the password.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        password: Password = None,
        password_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = Path(path)
        self._password = password
        self._password_file = None if password_file is None else Path(password_file)

    @property
    def place(self) -> str:
        """The path."""
        return str(self._path)

    def load(self) -> PrivateKeyTypes:
        """Return the key.

        Raises:
            ConfigurationError: Both a password and a file of it were given.
            UnreadableKey: The file cannot be read, holds no key, or the password does not open it.
        """
        password = self._password
        if self._password_file is not None:
            password = password_from(self._password_file, password)
        return pem.private_key(pem.read_key_file(self._path), password, self.place)

    def paths(self) -> Sequence[Path]:
        """Return the files."""
        return [self._path] if self._password_file is None else [self._path, self._password_file]


class SystemdKey(FileKey):
    """A key that systemd hands to the service (``LoadCredential=``, ``LoadCredentialEncrypted=``; systemd.exec(5)).

    Args:
        name: The credential's name in the unit.
        environ: The environment, in which systemd names the directory.
        password: Of an encrypted key.
        password_name: The name of another credential, which holds the password.

    Raises:
        ConfigurationError: The service has no credentials, or the name is none.
    """

    def __init__(
        self, name: str, environ: Mapping[str, str], *, password: Password = None, password_name: str | None = None
    ) -> None:
        path = _systemd_credential(name, environ)
        password_file = None if password_name is None else _systemd_credential(password_name, environ)
        super().__init__(path, password=password, password_file=password_file)


class CallableKey:
    """A key that the program hands over, such as from a secrets manager.

    Args:
        call: Returns the key, or PEM of it. Called at each loading.
        place: What to call it in messages.
        password: Of encrypted PEM.
    """

    def __init__(
        self, call: Callable[[], PrivateKeyTypes | bytes], *, place: str = "a callable", password: Password = None
    ) -> None:
        self._call = call
        self._place = place
        self._password = password

    @property
    def place(self) -> str:
        """What it was called."""
        return self._place

    def load(self) -> PrivateKeyTypes:
        """Return the key.

        Raises:
            UnreadableKey: The PEM holds no key, or the password does not open it.
        """
        given = self._call()
        return pem.private_key(given, self._password, self._place) if isinstance(given, bytes) else given

    def paths(self) -> Sequence[Path]:
        """Return nothing: no file tells that it has changed."""
        return []


class KeyedSource:
    """A certificate in a file with its key from elsewhere: a `CredentialSource`.

    Args:
        certificate: The PEM file with the certificate and its chain.
        private_key: Where the key comes from.
    """

    def __init__(self, certificate: str | os.PathLike[str], private_key: PrivateKeySource) -> None:
        self._certificate = Path(certificate)
        self._private_key = private_key

    def __str__(self) -> str:
        """Return where the certificate is."""
        return str(self._certificate)

    def load(self) -> Sequence[Credential]:
        """Return the one credential.

        Raises:
            CredentialError: Certificate or key cannot be had, or they do not belong together.
        """
        return [self._load_one()]

    def entries(self) -> Sequence[Entry]:
        """Return the one place."""
        return [Entry(str(self._certificate), self._load_one)]

    def paths(self) -> Sequence[Path]:
        """Return the files."""
        return [self._certificate, *self._private_key.paths()]

    def _load_one(self) -> Credential:
        origin = str(self._certificate)
        chain = pem.certificates(pem.read_certificate_file(self._certificate), origin)
        return Credential(chain, self._private_key.load(), origin, self._private_key.place)


def _systemd_credential(name: str, environ: Mapping[str, str]) -> Path:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigurationError(
            "ssl_private_key",
            name,
            "is to come from systemd, which has handed over no credentials",
            f"Write LoadCredential={name}:/path/of/the/key in the unit.",
        )
    if not name or "/" in name or name in {".", ".."}:
        raise ConfigurationError(
            "ssl_private_key", name, "is not the name of a credential", "Write a name, not a path."
        )
    return Path(directory) / name
