"""A directory of a credential that is replaced on command, as the tools do that hand out certificates."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from secureserve.testing import bad
from secureserve.testing.layouts import Files, Layout, Parts, write

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential

__all__ = ["FILE_FAULTS", "CredentialDirectory"]


class CredentialDirectory:
    """A credential in files, which can be rotated, broken and mended while something watches.

    Every rotation brings a key that was never used before, RSA too, so that an old key with a new certificate is
    noticed.

    Args:
        authority: Who issues.
        directory: Where the layout's files go.
        identities: Whom the credential is for; this machine's loopback names when none is given.
        layout: How they are laid out; see `Layout`.
        name: The name under which the tool keeps it.
        options: Further arguments of `Authority.issue`, used for every rotation.
    """

    def __init__(
        self,
        authority: Authority,
        directory: str | os.PathLike[str],
        *identities: str,
        layout: Layout | str = Layout.PAIR,
        name: str = "example.test",
        **options: Any,
    ) -> None:
        self.directory = Path(directory)
        self.layout = layout
        self.name = name
        self._authority = authority
        self._identities = identities
        self._options = {"fresh_key": True, **options}
        self.files: Files
        self.rotate()

    def __repr__(self) -> str:
        """Say where it is and what it holds."""
        return f"CredentialDirectory({str(self.directory)!r}, {self.layout}, sha256 {self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the last good leaf: what should be served, even while the files are broken."""
        return self.credential.fingerprint

    @property
    def certificate_path(self) -> Path:
        """The certificate's file, which stays the same through rotations."""
        return self.files.certificate_path

    @property
    def private_key_path(self) -> Path:
        """The key's file, which stays the same through rotations."""
        return self.files.private_key_path

    @property
    def chain_path(self) -> Path | None:
        """The file of the intermediates, where the layout keeps them apart."""
        return self.files.chain_path

    def rotate(self, **options: Any) -> IssuedCredential:
        """Put a new good credential in place, as the layout's tool does, and return it.

        Args:
            options: Arguments of `Authority.issue` that differ this once.
        """
        options = {**self._options, **options}
        identities = options.pop("identities", self._identities)
        self.credential = self._authority.issue(*identities, **options)
        self._write(Parts.of(self.credential))
        return self.credential

    def break_(self, fault: str = "truncated") -> None:
        """Put something bad in place, as if a tool, an administrator or a full disk had done it.

        Args:
            fault: A word of `FILE_FAULTS`, ``missing``, or a name of the catalogue of bad credentials.

        Raises:
            ValueError: It is neither; the message names the choices.
        """
        if fault == "missing":
            for path in (self.certificate_path, self.private_key_path):
                path.unlink(missing_ok=True)
        elif fault in FILE_FAULTS:
            self._write(FILE_FAULTS[fault](Parts.of(self.credential)))
        elif fault in bad.BAD_KINDS:
            self._write(Parts.of(bad.issue_bad(self._authority, fault, *self._identities)))
        else:
            choices = ", ".join((*FILE_FAULTS, "missing", *bad.BAD_KINDS))
            raise ValueError(f"break_({fault!r}) knows no such fault; write one of {choices}.")

    def mend(self) -> None:
        """Put the last good credential back in place."""
        self._write(Parts.of(self.credential))

    def remove(self) -> None:
        """Remove the directory and everything in it; `mend` and `rotate` make it again."""
        shutil.rmtree(self.directory)

    def _write(self, parts: Parts) -> None:
        self.files = write(parts, self.directory, self.layout, name=self.name)


def _each(change: Callable[[bytes], bytes]) -> Callable[[Parts], Parts]:
    def changed(parts: Parts) -> Parts:
        return dataclasses.replace(
            parts, leaf=change(parts.leaf), fullchain=change(parts.fullchain), pkcs12=lambda: change(parts.pkcs12())
        )

    return changed


FILE_FAULTS: Final[Mapping[str, Callable[[Parts], Parts]]] = {
    "truncated": _each(lambda content: content[: len(content) // 3]),
    "garbage": _each(lambda content: b"\x00not a certificate\n" * (1 + len(content) // 100)),
    "empty": _each(lambda _content: b""),
    "key_garbage": lambda parts: dataclasses.replace(parts, private_key=b"not a key\n", pkcs12=lambda: b"not a store"),
}
"""The faults of files by name: what is written instead. ``key_mismatch`` is in the catalogue of bad credentials."""
