"""Reading what people keep certificates and keys in: PEM with whatever surrounds it, encrypted keys, PKCS#12.

The errors are the point of this module: each says which file, what was found there, and what would mend it.
"""

from __future__ import annotations

import codecs
import os
import re
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from secureserve.certificates import files
from secureserve.errors import UnreadableCertificate, UnreadableKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = [
    "Password",
    "certificates",
    "has_private_key",
    "is_cut_off",
    "is_pkcs12",
    "password_bytes",
    "pkcs12_contents",
    "private_key",
    "private_key_block",
    "read_certificate_file",
    "read_key_file",
]

Password: TypeAlias = "bytes | str | Callable[[], bytes | str] | None"  # noqa: S105 - a type, not a password
"""A key's password, or what fetches it when it is needed."""

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----[^\x00]*?-----END \1-----")
_CERTIFICATE_LABELS: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"})
_MAX_CERTIFICATES: Final = 64
"""In one file. A chain has three or four; a file with hundreds is a trust store given by mistake."""


def read_certificate_file(path: str | os.PathLike[str]) -> bytes:
    """Read a file that is to hold certificates.

    Raises:
        UnreadableCertificate: It is missing, not permitted, or no regular file.
    """
    try:
        return files.read(path)
    except OSError as error:
        message = f"The certificate file {os.fspath(path)} {files.explain(error)}."
        raise UnreadableCertificate(message, path=path) from error


def read_key_file(path: str | os.PathLike[str], *, what: str = "private key") -> bytes:
    """Read a file that is to hold a private key, or its password.

    Raises:
        UnreadableKey: It is missing, not permitted, or no regular file.
    """
    try:
        return files.read(path)
    except OSError as error:
        raise UnreadableKey(f"The {what} file {os.fspath(path)} {files.explain(error)}.", path=path) from error


def certificates(data: bytes, origin: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM, in the order in which they stand there.

    Text around them, a byte order mark and either kind of line end are passed over.

    Raises:
        UnreadableCertificate: There is none, one of them is malformed, the last has no end, or the data is no PEM.
    """
    blocks = [block for label, block in _blocks(data) if label in _CERTIFICATE_LABELS]
    if not blocks:
        raise UnreadableCertificate(f"{origin} holds no certificate: {_describe(data, 'x509')}", path=origin)
    if is_cut_off(data):
        message = f"{origin} ends in the middle of a PEM block. Was it cut off while being written?"
        raise UnreadableCertificate(message, path=origin)
    if len(blocks) > _MAX_CERTIFICATES:
        message = f"{origin} holds {len(blocks)} certificates: that is a trust store, not the chain of one certificate."
        raise UnreadableCertificate(message, path=origin)
    return tuple(_certificate(block, f"Certificate {n} of {len(blocks)}", origin) for n, block in enumerate(blocks, 1))


def has_private_key(data: bytes) -> bool:
    """Return whether a PEM holds a private key beside whatever else it holds."""
    return any(label.endswith(b"PRIVATE KEY") for label, _ in _blocks(data))


def is_cut_off(data: bytes) -> bool:
    """Return whether a PEM ends in a block that has no end, as a file does that is being written."""
    text = _text(data)
    end = max((match.end() for match in _BLOCK.finditer(text)), default=0)
    return b"-----BEGIN" in text[end:]


def private_key_block(data: bytes) -> bytes:
    """Return the private key's block of a PEM, encrypted or not, without what surrounds it; empty if there is none."""
    return b"".join(block + b"\n" for label, block in _blocks(data) if label.endswith(b"PRIVATE KEY"))


def private_key(data: bytes, password: Password, origin: str) -> PrivateKeyTypes:
    """Return the private key of a PEM. Nobody is ever asked for a password on a terminal.

    Raises:
        UnreadableKey: There is no key, or more than one, it is malformed, or the password is missing or wrong.
    """
    blocks = [block for label, block in _blocks(data) if label.endswith(b"PRIVATE KEY")]
    if not blocks:
        raise UnreadableKey(f"{origin} holds no private key: {_describe(data, 'pkey')}", path=origin)
    if len(blocks) > 1:
        message = f"{origin} holds {len(blocks)} private keys; which one is meant cannot be told. Keep only one."
        raise UnreadableKey(message, path=origin)
    (block,) = blocks
    try:
        return load_pem_private_key(block, password_bytes(password, origin) if _is_encrypted(block) else None)
    except TypeError:
        message = (
            f"The private key in {origin} is encrypted and no password was given. "
            "Set ssl_private_key_password, or decrypt the file with `openssl pkey`."
        )
        raise UnreadableKey(message, path=origin) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if _is_encrypted(block):
            message = f"The password does not open the private key in {origin}, or the key is damaged."
        else:
            message = f"The private key in {origin} is malformed or of an unknown kind ({type(error).__name__})."
        # The library's own words are left out: they may quote what it could not parse.
        raise UnreadableKey(message, path=origin) from None


def is_pkcs12(data: bytes) -> bool:
    """Return whether the data is a PKCS#12 store: a DER sequence that opens with version 3 (RFC 7292, 4)."""
    if data[:1] != b"\x30" or len(data) < _SHORTEST_PKCS12:
        return False
    header = 2 + (data[1] & 0x7F if data[1] > 0x80 else 0)  # noqa: PLR2004 - the DER bit for "length follows"
    return data[header : header + 3] == b"\x02\x01\x03"


def pkcs12_contents(
    data: bytes, password: Password, origin: str
) -> tuple[x509.Certificate, PrivateKeyTypes, tuple[x509.Certificate, ...]]:
    """Return the leaf, its private key, and the other certificates of a PKCS#12 store.

    Raises:
        UnreadableKey: It has no key, or the password is missing or wrong.
        UnreadableCertificate: It has no certificate for its key.
    """
    secret = password_bytes(password, origin)
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problem = (
            "needs a password: set ssl_private_key_password" if secret is None else "is not opened by its password"
        )
        raise UnreadableKey(f"The PKCS#12 file {origin} {problem}, or is damaged.", path=origin) from None
    if key is None:
        raise UnreadableKey(f"The PKCS#12 file {origin} holds no private key.", path=origin)
    if leaf is None:
        raise UnreadableCertificate(f"The PKCS#12 file {origin} holds no certificate for its key.", path=origin)
    return leaf, key, tuple(others)


def password_bytes(password: Password, origin: str) -> bytes | None:
    """Return a password as the bytes it stands for, fetching it where that is what was given.

    Raises:
        UnreadableKey: What was to fetch it failed, or gave something that is no password.
    """
    if callable(password):
        try:
            password = password()
        except Exception as error:
            message = f"The password for {origin} could not be fetched ({type(error).__name__})."
            raise UnreadableKey(message, path=origin) from error
    if isinstance(password, str):
        return password.encode()
    if password is None or isinstance(password, bytes):
        return password
    kind = type(password).__name__  # type: ignore[unreachable]  # a callable may return anything
    raise UnreadableKey(f"The password for {origin} is a {kind}; it is to be text or bytes.", path=origin)


_SHORTEST_PKCS12: Final = 8


def _blocks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return label and text of each PEM block (RFC 7468, 2)."""
    return [(match[1], match[0]) for match in _BLOCK.finditer(_text(data))]


def _text(data: bytes) -> bytes:
    """Return a PEM with what a Windows editor did to the file undone."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace").encode("ascii", "replace")
    return data


def _certificate(block: bytes, which: str, origin: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnreadableCertificate(f"{which} in {origin} is malformed: {error}.", path=origin) from error


def _is_encrypted(block: bytes) -> bool:
    return block.startswith(b"-----BEGIN ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block


def _describe(data: bytes, tool: str) -> str:
    """Say what a file is that is not what it should be."""
    labels = sorted({label.decode().lower() for label, _ in _blocks(data)})
    if labels:
        return f"only {', '.join(labels)}."
    if not data.strip():
        return "it is empty."
    if is_pkcs12(data):
        return "it is a PKCS#12 store, which is given as the certificate, alone."
    if data[:1] == b"\x30":
        return f"it is DER. Convert it with `openssl {tool} -inform DER -in FILE -out FILE.pem`."
    if b"-----BEGIN" in data:
        return "its PEM has no end. Was it cut off while being written?"
    return "it is not PEM. Check the path."
