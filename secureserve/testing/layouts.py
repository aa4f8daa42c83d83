"""Credentials in files, laid out as the tools do that hand them out.

Writing into a directory that holds an earlier credential replaces it exactly as the tool would: by a rename, by a link
to the next version, or by the one switch of Kubernetes' ``..data``.
"""

from __future__ import annotations

import enum
import json
import os
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from secureserve.testing.credentials import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from secureserve.testing.credentials import IssuedCredential

__all__ = ["Files", "Layout", "Parts", "write"]


class Layout(enum.Enum):
    """How a tool lays a credential out in files."""

    PAIR = "pair"
    """``cert.pem`` (the whole chain) and ``key.pem``, each replaced by a rename."""
    SEPARATE = "separate"
    """``cert.pem`` (the leaf alone), ``chain.pem`` and ``key.pem``."""
    COMBINED = "combined"
    """``NAME.pem`` with the key and the whole chain, as HAProxy takes it."""
    PKCS12 = "pkcs12"
    """``NAME.p12``."""
    CERTBOT = "certbot"
    """``live/NAME/{cert,chain,fullchain,privkey}.pem``, links into ``archive/NAME/``."""
    LEGO = "lego"
    """``certificates/NAME.crt`` (the whole chain), ``.issuer.crt``, ``.key`` and ``.json``."""
    ACME_SH = "acme.sh"
    """``NAME_ecc/fullchain.cer``, ``NAME.cer``, ``ca.cer`` and ``NAME.key``."""
    CADDY = "caddy"
    """``certificates/AUTHORITY/NAME/NAME.crt``, ``.key`` and ``.json``."""
    KUBERNETES = "kubernetes"
    """``tls.crt`` and ``tls.key``, links through ``..data`` into a directory named for its time."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the parts of a credential are.

    Args:
        directory: The directory in which the certificate is.
        certificate_path: The file with the leaf; with the chain too, unless `chain_path` is set.
        private_key_path: The file with the key; the same file for one PEM or PKCS#12.
        chain_path: The file with the intermediates where the certificate's has the leaf alone.
    """

    directory: Path
    certificate_path: Path
    private_key_path: Path
    chain_path: Path | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What goes into files, each as the bytes that are written.

    Args:
        leaf: The leaf alone, in PEM.
        intermediates: The rest of the chain, in PEM.
        fullchain: Both.
        private_key: The key, in PEM.
        pkcs12: Returns all of it; called by the one layout that wants it.
        identities: Whom it is for.
    """

    leaf: bytes
    intermediates: bytes
    fullchain: bytes
    private_key: bytes = field(repr=False)
    pkcs12: Callable[[], bytes] = field(repr=False)
    identities: tuple[str, ...] = ()

    @classmethod
    def of(cls, credential: IssuedCredential) -> Parts:
        """Return the parts of a credential."""
        leaf, *intermediates = (blob.bytes() for blob in credential.cert_chain_pems)
        return cls(
            leaf,
            b"".join(intermediates),
            credential.cert_chain_pem.bytes(),
            credential.private_key_pem.bytes(),
            lambda: credential.pkcs12,
            credential.identities,
        )


def write(parts: Parts, directory: Path, layout: Layout | str, *, name: str) -> Files:
    """Write `parts` into `directory` as `layout` does.

    Raises:
        ValueError: There is no such layout; the message names those that there are.
    """
    try:
        chosen = Layout(layout)
    except ValueError:
        known = ", ".join(one.value for one in Layout)
        raise ValueError(f"layout={layout!r} is not a layout; write one of {known}.") from None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _WRITERS[chosen](parts, directory, name)


def _pair(parts: Parts, directory: Path, _name: str) -> Files:
    key = write_private(directory / "key.pem", parts.private_key)
    certificate = write_private(directory / "cert.pem", parts.fullchain)
    return Files(directory, certificate, key)


def _separate(parts: Parts, directory: Path, _name: str) -> Files:
    key = write_private(directory / "key.pem", parts.private_key)
    chain = write_private(directory / "chain.pem", parts.intermediates)
    certificate = write_private(directory / "cert.pem", parts.leaf)
    return Files(directory, certificate, key, chain)


def _combined(parts: Parts, directory: Path, name: str) -> Files:
    path = write_private(directory / f"{name}.pem", parts.private_key + parts.fullchain)
    return Files(directory, path, path)


def _pkcs12(parts: Parts, directory: Path, name: str) -> Files:
    path = write_private(directory / f"{name}.p12", parts.pkcs12())
    return Files(directory, path, path)


def _certbot(parts: Parts, directory: Path, name: str) -> Files:
    archive, live = _made(directory / "archive" / name), _made(directory / "live" / name)
    version = 1 + len(list(archive.glob("cert*.pem")))
    contents = {
        "cert": parts.leaf,
        "privkey": parts.private_key,
        "chain": parts.intermediates,
        "fullchain": parts.fullchain,
    }
    for part, content in contents.items():
        write_private(archive / f"{part}{version}.pem", content)
    for part in contents:
        _link(live / f"{part}.pem", f"../../archive/{name}/{part}{version}.pem")
    return Files(live, live / "fullchain.pem", live / "privkey.pem")


def _lego(parts: Parts, directory: Path, name: str) -> Files:
    folder = _made(directory / "certificates")
    key = write_private(folder / f"{name}.key", parts.private_key)
    certificate = write_private(folder / f"{name}.crt", parts.fullchain)
    write_private(folder / f"{name}.issuer.crt", parts.intermediates)
    write_private(folder / f"{name}.json", json.dumps({"domain": name}).encode())
    return Files(folder, certificate, key)


def _acme_sh(parts: Parts, directory: Path, name: str) -> Files:
    folder = _made(directory / f"{name}_ecc")
    key = write_private(folder / f"{name}.key", parts.private_key)
    write_private(folder / f"{name}.cer", parts.leaf)
    write_private(folder / "ca.cer", parts.intermediates)
    certificate = write_private(folder / "fullchain.cer", parts.fullchain)
    return Files(folder, certificate, key)


def _caddy(parts: Parts, directory: Path, name: str) -> Files:
    folder = _made(directory / "certificates" / "acme.example-directory" / name)
    certificate = write_private(folder / f"{name}.crt", parts.fullchain)
    key = write_private(folder / f"{name}.key", parts.private_key)
    write_private(folder / f"{name}.json", json.dumps({"sans": list(parts.identities)}).encode())
    return Files(folder, certificate, key)


def _kubernetes(parts: Parts, directory: Path, _name: str) -> Files:
    data = directory / "..data"
    earlier = data.resolve() if data.is_symlink() else None
    version = _made(directory / f"..version_{uuid.uuid4().hex}")
    write_private(version / "tls.crt", parts.fullchain)
    write_private(version / "tls.key", parts.private_key)
    _link(data, version.name)
    for part in ("tls.crt", "tls.key"):
        if not (directory / part).is_symlink():
            _link(directory / part, f"..data/{part}")
    if earlier is not None and earlier.is_dir():
        for file in earlier.iterdir():
            file.unlink()
        earlier.rmdir()
    return Files(directory, directory / "tls.crt", directory / "tls.key")


_WRITERS: Final[Mapping[Layout, Callable[[Parts, Path, str], Files]]] = {
    Layout.PAIR: _pair,
    Layout.SEPARATE: _separate,
    Layout.COMBINED: _combined,
    Layout.PKCS12: _pkcs12,
    Layout.CERTBOT: _certbot,
    Layout.LEGO: _lego,
    Layout.ACME_SH: _acme_sh,
    Layout.CADDY: _caddy,
    Layout.KUBERNETES: _kubernetes,
}


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _link(path: Path, target: str) -> None:
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    temporary.symlink_to(target)
    os.replace(temporary, path)  # noqa: PTH105 - Path.replace says no more
