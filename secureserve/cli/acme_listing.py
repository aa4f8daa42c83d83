"""What certificates there are, in a storage or of a running server."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme.stored import StoredCertificates
from secureserve.clock import SYSTEM_CLOCK
from secureserve.managed.acme import storage_from
from secureserve.managed.control import ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["as_lines", "of_server", "of_storage"]

_DAY: Final = 86400.0


def of_storage(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the certificates of a storage, and what is wrong with others.

    Raises:
        StorageError: It cannot be read.
    """
    storage = storage_from(values)
    stored = StoredCertificates(storage)
    now = SYSTEM_CLOCK.now()
    certificates = [
        {
            "names": list(one.names),
            "authority": one.authority,
            "not_after": one.credential.not_after.isoformat(),
            "days_left": round((one.credential.not_after - now).total_seconds() / _DAY, 2),
            "key_type": one.credential.key_type,
            "fingerprint": one.credential.fingerprint,
            "place": one.credential.origin,
        }
        for one in stored
    ]
    return {
        "storage": str(storage),
        "certificates": certificates,
        "problems": [str(problem) for problem in stored.problems()],
    }


def of_server(control_socket: Path) -> dict[str, Any]:
    """Return the certificates that a running server looks after.

    Raises:
        LifecycleError: It cannot be asked, or looks after none.
    """
    return {"storage": None, "certificates": ask(control_socket, "acme.status"), "problems": []}


def as_lines(listed: Mapping[str, Any]) -> Iterator[str]:
    """Return a list for people, line by line."""
    for one in listed["certificates"]:
        yield ", ".join(one["names"])
        if "state" in one:
            yield f"  state      {one['state']}"
        if one["fingerprint"] is not None:
            left = one["days_left"]
            yield f"  authority  {one['authority']}"
            yield f"  expires    in {left:g} days" if left > 0 else f"  EXPIRED    {-left:g} days ago"
            yield f"  key        {one['key_type']}"
            yield f"  sha256     {one['fingerprint']}"
            yield f"  file       {one['place']}"
        if "next_attempt" in one:
            yield f"  next       at {datetime.fromisoformat(one['next_attempt']):%Y-%m-%d %H:%M} UTC"
        if one.get("last_error"):
            yield f"  failed     {one['failures']} times: {one['last_error']}"
    for problem in listed["problems"]:
        yield f"CANNOT BE USED: {problem}"
    if not listed["certificates"] and not listed["problems"]:
        yield f"There is no certificate in {listed['storage']}."
