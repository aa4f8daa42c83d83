"""What is shown of a server's certificates, to people and scripts. Nothing of a key but its kind."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from secureserve.certificates.verdict import EMERGENCY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from secureserve.certificates.credential import Credential
    from secureserve.certificates.verdict import Refusal, Served

__all__ = ["CertificatesView", "RefusedCertificate", "ServedCertificate"]

_SECONDS_PER_DAY: Final = 86400.0


@dataclass(frozen=True, slots=True)
class ServedCertificate:
    """One certificate being served, as shown to people and scripts; nothing of its key but the kind.

    Args:
        names: What it is for.
        fingerprint: SHA-256 of the leaf, in hexadecimal digits.
        issuer: Who issued it, as an RFC 4514 string.
        not_before: From when on it is valid.
        not_after: Until when it is valid.
        days_left: Days until then; negative once it has expired.
        key_type: ``ecdsa``, ``rsa``, ...
        source: Where it comes from.
        default: Whether it is presented where no name decides.
        last_rotation: When it replaced another; None for what the start found.
        last_refusal: What was found in its place since and refused; None when nothing is wrong.
    """

    names: tuple[str, ...]
    fingerprint: str
    issuer: str
    not_before: datetime
    not_after: datetime
    days_left: float
    key_type: str
    source: str
    default: bool
    last_rotation: datetime | None
    last_refusal: str | None


@dataclass(frozen=True, slots=True)
class RefusedCertificate:
    """Something that was found and is not being served.

    Args:
        source: Where it was found.
        error: The name of the error's class.
        message: What is wrong and what to do.
        since: When it was first refused.
    """

    source: str
    error: str
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class CertificatesView:
    """What is served and what is not, at one moment. Iterating goes over what is served, the default first.

    Args:
        served: What is served.
        refused: What was refused and is not resolved.
        last_rotation: When anything was last rotated; None when nothing was.
        emergency: Whether a self-signed certificate is served because the configured one could not be.
    """

    served: tuple[ServedCertificate, ...]
    refused: tuple[RefusedCertificate, ...]
    last_rotation: datetime | None
    emergency: bool

    @classmethod
    def of(
        cls, served: Sequence[Served], refusals: Sequence[Refusal], default: Credential | None, now: datetime
    ) -> CertificatesView:
        """Show what a rotator serves and has refused.

        Args:
            served: Its `Rotator.served`.
            refusals: Its `Rotator.refusals`, of the same moment.
            default: What is presented where no name decides.
            now: The moment, aware.
        """
        by_place = {refusal.place: refusal for refusal in refusals}
        return cls(
            served=tuple(
                _shown(one, by_place.get(one.place), now, default=one.credential == default) for one in served
            ),
            refused=tuple(
                RefusedCertificate(one.place, type(one.error).__name__, str(one.error), one.since) for one in refusals
            ),
            last_rotation=max((one.since for one in served if one.rotated), default=None),
            emergency=any(one.place == EMERGENCY for one in served),
        )

    def __iter__(self) -> Iterator[ServedCertificate]:
        return iter(self.served)

    def __len__(self) -> int:
        return len(self.served)

    def __getitem__(self, index: int) -> ServedCertificate:
        return self.served[index]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as what JSON can hold; times in ISO 8601."""
        return _plain(asdict(self))  # type: ignore[no-any-return]


def _shown(served: Served, refusal: Refusal | None, now: datetime, *, default: bool) -> ServedCertificate:
    credential = served.credential
    return ServedCertificate(
        names=credential.names,
        fingerprint=credential.fingerprint,
        issuer=credential.issuer,
        not_before=credential.not_before,
        not_after=credential.not_after,
        days_left=round((credential.not_after - now).total_seconds() / _SECONDS_PER_DAY, 5),
        key_type=credential.key_type,
        source=credential.origin,
        default=default,
        last_rotation=served.since if served.rotated else None,
        last_refusal=None if refusal is None else str(refusal.error),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value
