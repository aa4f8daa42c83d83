"""Reading the files of a credential as one state, and parsing them only when they have changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from secureserve.certificates import files
from secureserve.errors import UnreadableCertificate, UnreadableKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from secureserve.certificates.credential import Credential

__all__ = ["LastSeen", "read_together"]

_READ_ATTEMPTS: Final = 8
"""How often files that change while they are read are read again before that is reported."""


def read_together(paths: Sequence[Path], *, key: Path | None = None) -> dict[Path, bytes]:
    """Read several files as they were at one and the same time.

    When all have been read, every name must still lead to the very file that was read, unchanged; if not, all are read
    again. So a pair comes from one directory even while Kubernetes swaps ``..data`` under the names.

    Args:
        paths: The files.
        key: Which of them holds a key, for the error's sake.

    Raises:
        CredentialError: One cannot be read, or they do not come to rest.
    """
    for _ in range(_READ_ATTEMPTS):
        found = [_read(path) for path in paths]
        if [state for _content, state in found] != [_state(path) for path in paths]:
            continue
        contents: dict[Path, bytes] = {}
        for path, (content, _) in zip(paths, found, strict=True):
            if isinstance(content, OSError):
                kind, what = (UnreadableKey, "private key") if path == key else (UnreadableCertificate, "certificate")
                raise kind(f"The {what} file {path} {files.explain(content)}.", path=path) from content
            contents[path] = content
        return contents
    names = " and ".join(map(str, paths))
    raise UnreadableCertificate(f"{names} keep changing while they are read.", path=paths[0])


@dataclass(slots=True)
class LastSeen:
    """The last credential of a place, and a digest of the bytes that it was made of. Parsing is what costs."""

    _last: tuple[bytes, Credential] | None = field(default=None)

    def credential(self, contents: Sequence[bytes], parse: Callable[[], Credential]) -> Credential:
        """Return the last credential if it was made of the same bytes; else parse them.

        Args:
            contents: What the place holds.
            parse: Makes a credential of it. Raises CredentialError.
        """
        digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).digest()
        last = self._last
        if last is not None and last[0] == digest:
            return last[1]
        credential = parse()
        self._last = (digest, credential)
        return credential


def _read(path: Path) -> tuple[bytes | OSError, tuple[int, ...]]:
    try:
        return files.read_as_is(path)
    except OSError as error:
        # What is there but cannot be read (not permitted, a directory) has a state as well.
        return error, _state(path)


def _state(path: Path) -> tuple[int, ...]:
    try:
        return files.state_of(path.stat())
    except OSError as error:
        return (error.errno or 0,)
