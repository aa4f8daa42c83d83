"""`Account`: who we are to an authority. Made once, kept with its key in the storage, changed on request.

A roll-over of the key survives a crash at any point: the new key is stored before the authority hears of it, and when
it is unclear afterwards which key holds, the authority is asked.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from secureserve.acme.client import Client
from secureserve.acme.protocol import JWK, JWKEC, JOSEError
from secureserve.acme.storage import Key
from secureserve.certificates.issuance import new_key
from secureserve.clock import SYSTEM_CLOCK
from secureserve.errors import ConfigurationError, IssuanceError
from secureserve.events import AccountMade

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from secureserve.acme.authorities import Authority, ExternalAccount
    from secureserve.acme.storage import Storage
    from secureserve.clock import Clock

__all__ = ["Account", "AccountSummary", "contact_urls"]

_LOGGER: Final = logging.getLogger("secureserve.error")

_UNKNOWN: Final = "accountDoesNotExist"


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """What there is to see of an account.

    Args:
        authority: Where it is.
        url: What the authority calls it.
        status: ``valid``, ``deactivated`` or ``revoked``, by the authority.
        contact: URLs to reach its owner.
        thumbprint: The thumbprint of its key (RFC 7638), in base64url.
        external_account: The key identifier of the external account that it is bound to.
    """

    authority: str
    url: str
    status: str
    contact: tuple[str, ...]
    thumbprint: str
    external_account: str | None = None


@dataclass(frozen=True, slots=True)
class _Record:
    """What is kept of an account."""

    url: str
    key: JWK = field(repr=False)
    contact: tuple[str, ...] = ()
    external_account: str | None = None
    next_key: JWK | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        document = {
            "url": self.url,
            "key": self.key.to_json(),
            "contact": list(self.contact),
            "external_account": self.external_account,
            "next_key": None if self.next_key is None else self.next_key.to_json(),
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> _Record:
        document = json.loads(data)
        next_key = document.get("next_key")
        return cls(
            url=str(document["url"]),
            key=_parse_key(document["key"]),
            contact=tuple(map(str, document.get("contact", ()))),
            external_account=document.get("external_account"),
            next_key=None if next_key is None else _parse_key(next_key),
        )


class Account:
    """An account at an authority, made when it is first needed.

    Args:
        authority: Where.
        storage: Where it is kept.
        contact: E-mail addresses or URLs to reach its owner.
        accept_terms: Whether the owner agrees to the authority's terms of service.
        external_account: The account at the authority's web site to bind it to.
        clock: What tells the time.
        publish_event: Told when one is made.

    Raises:
        ConfigurationError: A contact is no address.

    Threads: any. Processes that share the storage share the account.
    """

    def __init__(
        self,
        authority: Authority,
        storage: Storage,
        *,
        contact: Sequence[str] = (),
        accept_terms: bool = False,
        external_account: ExternalAccount | None = None,
        clock: Clock = SYSTEM_CLOCK,
        publish_event: Callable[[object], None] | None = None,
    ) -> None:
        self.authority = authority
        self.contact = contact_urls(contact)
        self.accept_terms = accept_terms
        self.external_account = external_account
        self._storage = storage
        self._clock = clock
        self._publish = publish_event or (lambda _event: None)
        self._key = Key.account(authority.directory_url)

    def __repr__(self) -> str:
        return f"<Account at {self.authority}>"

    @property
    def url(self) -> str | None:
        """What the authority calls it; None as long as there is none.

        Raises:
            IssuanceError: What is stored is no account.
            StorageError: The storage cannot be read.
        """
        record = self._load()
        return None if record is None else record.url

    def connect(self, cancelled: threading.Event | None = None) -> Client:
        """Return a client that signs for the account, which is made where there is none. Close it after use.

        Args:
            cancelled: Set when no further request is to be sent.

        Raises:
            IssuanceError: The authority refuses, or its terms are not agreed to.
            StorageError: The account cannot be kept.
        """
        record = self._load()
        if record is None or record.next_key is not None or (self.contact and record.contact != self.contact):
            # Others may be at the same; the first one does it for all.
            with self._storage.lock([self.authority.directory_url], wait=True):
                record = self._settled(cancelled)
        return self._client(record.key, record.url, cancelled)

    def make_anew(self, cancelled: threading.Event | None = None) -> Client:
        """Do as `connect` where the authority has forgotten the account, as one that was set up again has.

        Raises:
            IssuanceError: The authority refuses, or its terms are not agreed to.
            StorageError: The account cannot be kept.
        """
        with self._storage.lock([self.authority.directory_url], wait=True):
            known = self._load()
            record = self._make(known.key if known else _new_account_key(), cancelled)
        return self._client(record.key, record.url, cancelled)

    def show(self) -> AccountSummary | None:
        """Return what the authority has on the account; None as long as there is none.

        Raises:
            IssuanceError: The authority does not say.
            StorageError: The storage cannot be read.
        """
        record = self._load()
        if record is None:
            return None
        client = self._client(record.key, record.url)
        try:
            body = client.account()
        finally:
            client.close()
        # The library leaves an account's status, unlike others, as it came.
        status = str(getattr(body.status, "name", body.status) or "valid")
        thumbprint = record.key.thumbprint()
        return AccountSummary(
            authority=self.authority.name,
            url=record.url,
            status=status,
            contact=tuple(map(str, body.contact or ())),
            thumbprint=_base64url(thumbprint),
            external_account=record.external_account,
        )

    def update_contact(self, contact: Sequence[str]) -> None:
        """Change how the account's owner is reached.

        Args:
            contact: E-mail addresses or URLs; none at all clears it.

        Raises:
            ConfigurationError: One is no address.
            IssuanceError: There is no account, or the authority refuses.
            StorageError: The account cannot be kept.
        """
        wanted = contact_urls(contact)
        with self._storage.lock([self.authority.directory_url], wait=True):
            self._change_contact(self._required(), wanted)
        self.contact = wanted

    def roll_over(self) -> None:
        """Give the account a new key (RFC 8555, 7.3.5), as when the old one may have been seen by somebody.

        Raises:
            IssuanceError: There is no account, or the authority refuses; the account keeps its key then.
            StorageError: The new key cannot be kept; the account keeps its key then.
        """
        with self._storage.lock([self.authority.directory_url], wait=True):
            record = self._required()
            if record.next_key is not None:
                record = self._recover(record, None)
            next_key = _new_account_key()
            self._store(dataclasses.replace(record, next_key=next_key))
            client = self._client(record.key, record.url)
            try:
                client.change_key(next_key)
            except IssuanceError as error:
                if error.problem_type is not None:
                    self._store(record)
                raise
            finally:
                client.close()
            self._store(dataclasses.replace(record, key=next_key, next_key=None))

    def deactivate(self) -> None:
        """Give the account up for ever (RFC 8555, 7.3.6). Certificates that it has stay valid.

        Raises:
            IssuanceError: There is no account, or the authority refuses.
            StorageError: The storage cannot be changed.
        """
        with self._storage.lock([self.authority.directory_url], wait=True):
            record = self._required()
            client = self._client(record.key, record.url)
            try:
                client.deactivate_account()
            finally:
                client.close()
            self._storage.delete(self._key)

    def _settled(self, cancelled: threading.Event | None) -> _Record:
        """Return the account as it should be, with the lock held."""
        record = self._load()
        if record is None:
            return self._make(_new_account_key(), cancelled)
        if record.next_key is not None:
            record = self._recover(record, cancelled)
        if self.contact and record.contact != self.contact:
            try:
                record = self._change_contact(record, self.contact, cancelled)
            except IssuanceError as error:
                if error.problem_name == _UNKNOWN:
                    return self._make(record.key, cancelled)
                _LOGGER.warning("%s The account keeps the contact that it has.", error)
        return record

    def _make(self, key: JWK, cancelled: threading.Event | None) -> _Record:
        client = self._client(key, None, cancelled)
        try:
            terms = client.terms_of_service
            if terms is not None and not self.accept_terms:
                remedy = "Read them and set acme_accept_terms."
                raise IssuanceError(
                    f"{self.authority}: making an account takes agreement to its terms of service, {terms}. {remedy}",
                    remedy=remedy,
                )
            if self.external_account is None and client.requires_external_account:
                remedy = (
                    "Get a key identifier and an HMAC key at the authority's web site and give them as "
                    "acme_eab_key_id and acme_eab_hmac_key_file."
                )
                raise IssuanceError(
                    f"{self.authority}: accounts have to be bound to one at its web site. {remedy}",
                    problem_type="urn:ietf:params:acme:error:externalAccountRequired",
                    remedy=remedy,
                )
            url = client.new_account(self.contact, self.external_account, terms=terms is not None)
        finally:
            client.close()
        external = None if self.external_account is None else self.external_account.key_id
        record = _Record(url, key, self.contact, external)
        self._store(record)
        _LOGGER.info("made an account at %s: %s", self.authority, url)
        self._publish(AccountMade(self.authority.name, url, self.contact))
        return record

    def _recover(self, record: _Record, cancelled: threading.Event | None) -> _Record:
        """Find out whether a roll-over that was interrupted took place."""
        if record.next_key is None:
            return record
        client = self._client(record.next_key, None, cancelled)
        try:
            took_place = client.find_account() == record.url
        except IssuanceError as error:
            if error.problem_name != _UNKNOWN:
                raise
            took_place = False
        finally:
            client.close()
        settled = dataclasses.replace(record, key=record.next_key if took_place else record.key, next_key=None)
        self._store(settled)
        return settled

    def _change_contact(
        self, record: _Record, contact: tuple[str, ...], cancelled: threading.Event | None = None
    ) -> _Record:
        client = self._client(record.key, record.url, cancelled)
        try:
            client.update_contact(contact)
        finally:
            client.close()
        changed = dataclasses.replace(record, contact=contact)
        self._store(changed)
        return changed

    def _client(self, key: JWK, url: str | None, cancelled: threading.Event | None = None) -> Client:
        return Client(self.authority, key, account_url=url, clock=self._clock, cancelled=cancelled)

    def _required(self) -> _Record:
        record = self._load()
        if record is None:
            remedy = "It is made with the first certificate."
            raise IssuanceError(f"There is no account at {self.authority} yet. {remedy}", remedy=remedy)
        return record

    def _load(self) -> _Record | None:
        data = self._storage.get(self._key)
        if data is None:
            return None
        try:
            return _Record.from_bytes(data)
        except (JOSEError, AttributeError, KeyError, TypeError, ValueError):
            remedy = "Restore it from a backup, or delete it to have a new account made."
            # The cause is left out: it may quote the key.
            raise IssuanceError(
                f"The account at {self.authority} in {self._storage} is damaged. {remedy}", remedy=remedy
            ) from None

    def _store(self, record: _Record) -> None:
        self._storage.put(self._key, record.to_bytes())


def contact_urls(contact: Sequence[str]) -> tuple[str, ...]:
    """Return how an account's owner is reached as URLs, e-mail addresses as ``mailto:`` ones.

    Raises:
        ConfigurationError: One is neither an address nor a URL.
    """
    given = (contact,) if isinstance(contact, str) else tuple(contact)
    return tuple(_contact_url(one.strip()) for one in given)


def _contact_url(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon:
        scheme, rest = "mailto", text
    local, at, domain = rest.rpartition("@")
    is_address = bool(local and at and domain) and rest.isprintable() and not set(rest) & set(" ,;?<>")
    if not scheme.isalpha() or not rest or (scheme == "mailto" and not is_address):
        raise ConfigurationError(
            "acme_email", text, "is no e-mail address", "Write one address, as in ops@example.org."
        )
    return f"{scheme}:{rest}"


def _parse_key(document: Any) -> JWK:
    key = JWK.from_json(document)
    if not isinstance(key, JWK):
        raise TypeError("not a key")
    return key


def _new_account_key() -> JWK:
    return JWKEC(key=new_key("ecdsa"))


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
