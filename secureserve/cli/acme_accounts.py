"""Accounts at authorities: shown, made, changed, given up."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from secureserve.errors import ConfigurationError, IssuanceError
from secureserve.managed.acme import accounts_to_make, issuers_from, storage_from

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from secureserve.acme.account import Account, AccountSummary

__all__ = ["ShownAccount", "Wish", "mind_accounts"]


class Wish(enum.Enum):
    """What is to be done with an account."""

    CREATE = "--create"
    UPDATE_CONTACT = "--update-contact"
    ROLL_OVER = "--roll-over"
    DEACTIVATE = "--deactivate"


@dataclass(frozen=True, slots=True)
class ShownAccount:
    """An account as it is shown; nothing of its key but the thumbprint.

    Args:
        authority: Where it is.
        summary: What the authority has on it; None where there is none.
    """

    authority: str
    summary: AccountSummary | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        found = {} if self.summary is None else asdict(self.summary)
        return {"authority": self.authority, "exists": self.summary is not None, **found}

    def as_lines(self) -> Iterator[str]:
        """Return it for people, line by line."""
        yield self.authority
        if self.summary is None:
            yield "  no account; it is made with the first certificate, or by --create"
            return
        yield f"  account     {self.summary.url}"
        yield f"  status      {self.summary.status}"
        yield f"  contact     {', '.join(self.summary.contact) or '(none)'}"
        yield f"  thumbprint  {self.summary.thumbprint}"
        if self.summary.external_account is not None:
            yield f"  bound to    {self.summary.external_account}"


def mind_accounts(
    values: Mapping[str, Any], wishes: Collection[Wish], *, say: Callable[[str], None]
) -> list[ShownAccount]:
    """Do what is wished with the account at each authority, and return what there is then.

    Args:
        values: Every setting.
        wishes: What to do.
        say: Called with what is being done.

    Raises:
        ConfigurationError: What is wished does not go together, or lacks something.
        IssuanceError: An authority refuses.
        StorageError: An account cannot be kept.
    """
    if Wish.UPDATE_CONTACT in wishes and values["acme_email"] is None:
        raise ConfigurationError("--acme-email", None, "is missing", "Say what the address is to be.")
    if Wish.DEACTIVATE in wishes and len(wishes) > 1:
        raise ConfigurationError("--deactivate", None, "goes with nothing else", "Give it up by itself.")
    if Wish.CREATE in wishes and not values["acme_accept_terms"] and accounts_to_make(values):
        remedy = "Read the authority's terms of service, and give it if you accept them."
        raise ConfigurationError("--acme-accept-terms", None, "is missing", remedy)
    return [_mind(issuer.account, values, wishes, say) for issuer in issuers_from(values, storage_from(values))]


def _mind(
    account: Account, values: Mapping[str, Any], wishes: Collection[Wish], say: Callable[[str], None]
) -> ShownAccount:
    authority = account.authority
    if Wish.CREATE in wishes:
        say(f"at {authority}: making it")
        _create(account)
    if Wish.UPDATE_CONTACT in wishes:
        say(f"at {authority}: changing its address")
        account.update_contact([values["acme_email"]])
    if Wish.ROLL_OVER in wishes:
        say(f"at {authority}: giving it a new key")
        account.roll_over()
    if Wish.DEACTIVATE in wishes:
        say(f"at {authority}: giving it up")
        account.deactivate()
    say(f"at {authority}")
    return ShownAccount(f"{authority} ({authority.directory_url})", account.show())


def _create(account: Account) -> None:
    """Make the account where there is none, or where the authority has forgotten it."""
    try:
        known = account.show()
    except IssuanceError as error:
        if error.problem_name != "accountDoesNotExist":
            raise
        client = account.make_anew()
    else:
        if known is not None:
            return
        client = account.connect()
    client.close()
