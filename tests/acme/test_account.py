"""Accounts: made once, kept with their key, changed on request."""

from __future__ import annotations

import importlib
import json
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from secureserve.acme.account import Account, contact_urls
from secureserve.acme.authorities import Authority, ExternalAccount
from secureserve.acme.issuer import Issuer
from secureserve.acme.protocol import JWKEC
from secureserve.acme.storage import FileStorage, Key
from secureserve.certificates.issuance import new_key
from secureserve.errors import ConfigurationError, IssuanceError, StorageError
from secureserve.events import AccountMade
from secureserve.testing import ACMEAuthority, Problem
from secureserve.testing import acme_authority as run_acme_authority

if TYPE_CHECKING:
    from secureserve.acme.solvers import DNS01Solver
    from secureserve.testing import Authority as TestAuthority

HMAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


def connected(account: Account) -> str:
    """Connect, and return the account's URL."""
    client = account.connect()
    try:
        assert client.account_url is not None
        return client.account_url
    finally:
        client.close()


def test_it_is_made_once(acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage) -> None:
    """The account is made when it is first needed, announced, and found by whoever comes later."""
    events: list[object] = []
    first = Account(authority, storage, contact=["ops@example.org"], accept_terms=True, publish_event=events.append)
    assert first.url is None
    url = connected(first)
    assert url == connected(Account(authority, FileStorage(storage.directory))) == first.url
    assert events == [AccountMade("testing", url, ("mailto:ops@example.org",))]
    assert [one.contact for one in acme_authority.accounts.values()] == [["mailto:ops@example.org"]]


def test_many_at_once_make_one(acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage) -> None:
    """Threads and processes that need an account at the same moment share the one that the first of them makes."""
    with ThreadPoolExecutor(4) as pool:
        urls = set(pool.map(lambda _: connected(Account(authority, storage, accept_terms=True)), range(4)))
    assert len(urls) == len(acme_authority.accounts) == 1


def test_its_key_is_for_nobody_else(authority: Authority, storage: FileStorage) -> None:
    """The file with the key is the owner's alone, and no repr shows the key."""
    account = Account(authority, storage, accept_terms=True)
    connected(account)
    path = storage.path_of(Key.account(authority.directory_url))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = json.loads(path.read_text())["key"]["d"]
    client = account.connect()
    client.close()
    assert all(secret not in repr(one) for one in (account, client, account.show()))


def test_terms_are_agreed_to_by_option_alone(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """Without the option there is no account, and the error leads to the terms."""
    with pytest.raises(IssuanceError, match=r"/terms.*acme_accept_terms"):
        Account(authority, storage).connect()
    assert not acme_authority.accounts


def test_terms_are_agreed_to_once(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, zone_solver: DNS01Solver
) -> None:
    """Whoever has an account need not agree again, unless the authority has lost it: then one is made anew."""
    url = connected(Account(authority, storage, accept_terms=True))
    later = Issuer(authority, storage, [zone_solver])
    assert later.obtain(["www.example.test"]).names == ("www.example.test",)
    assert later.account.url == url
    acme_authority.accounts.clear()
    with pytest.raises(IssuanceError, match=r"/terms.*acme_accept_terms"):
        later.obtain(["www.example.test"])
    assert not acme_authority.accounts


def test_it_is_bound_to_an_external_account(
    tls_authority: TestAuthority, storage: FileStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the authority wants it, the account is bound by identifier and HMAC key, which no log ever shows."""
    from secureserve.testing.acme_messages import decode_base64url

    caplog.set_level("DEBUG")
    with run_acme_authority(tls_authority, external_accounts={"kid-1": decode_base64url(HMAC_KEY)}) as acme:
        authority = Authority("testing", acme.directory_url, str(tls_authority.cert_path))
        with pytest.raises(IssuanceError, match="acme_eab_key_id") as caught:
            Account(authority, storage, accept_terms=True).connect()
        assert caught.value.problem_name == "externalAccountRequired"
        with pytest.raises(IssuanceError, match="There is no external account 'kid-2'"):
            Account(
                authority, storage, accept_terms=True, external_account=ExternalAccount("kid-2", HMAC_KEY)
            ).connect()
        account = Account(authority, storage, accept_terms=True, external_account=ExternalAccount("kid-1", HMAC_KEY))
        connected(account)
        shown = account.show()
        assert shown is not None
        assert shown.external_account == "kid-1"
        assert [one.external for one in acme.accounts.values()] == ["kid-1"]
    assert HMAC_KEY not in caplog.text


def test_it_is_shown_as_the_authority_has_it(authority: Authority, storage: FileStorage) -> None:
    """URL, status, contact and the thumbprint of the key can be looked at; of no account there is nothing to see."""
    account = Account(authority, storage, contact=["ops@example.org"], accept_terms=True)
    assert account.show() is None
    url = connected(account)
    shown = account.show()
    assert shown is not None
    assert (shown.authority, shown.url, shown.status, shown.contact) == (
        "testing",
        url,
        "valid",
        ("mailto:ops@example.org",),
    )
    assert len(shown.thumbprint) == 43


def test_another_contact_is_told_to_the_authority(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """A contact that was changed in the settings, or by the command, is changed at the authority, once."""
    connected(Account(authority, storage, contact=["old@example.org"], accept_terms=True))
    account = Account(authority, storage, contact=["new@example.org"])
    connected(account)
    (there,) = acme_authority.accounts.values()
    assert there.contact == ["mailto:new@example.org"]
    account.update_contact(["newer@example.org", "mailto:other@example.org"])
    assert there.contact == ["mailto:newer@example.org", "mailto:other@example.org"]
    acme_authority.fail_next("account", Problem("serverInternal", "Not asked.", status=500))
    connected(account)


def test_a_contact_that_is_refused_stops_nothing(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Certificates are obtained all the same; the log says what is wrong with the contact."""
    url = connected(Account(authority, storage, contact=["old@example.org"], accept_terms=True))
    acme_authority.fail_next("account", Problem("invalidContact", "No such domain."))
    assert connected(Account(authority, storage, contact=["ops@nowhere.test"])) == url
    assert "invalidContact" in caplog.text


@pytest.mark.parametrize("contact", ["nobody", "a@b@", "a b@example.org", "mailto:", "ops@example.org?x", "\n@x", ""])
def test_what_is_no_contact_is_refused(contact: str) -> None:
    """A contact that the authority could not use is found when it is set."""
    with pytest.raises(ConfigurationError, match="acme_email"):
        contact_urls([contact])


def test_contacts_are_urls() -> None:
    """Addresses become mailto: URLs; other URLs stay."""
    assert contact_urls(["ops@example.org", "mailto:a@example.org", "tel:+12025551212"]) == (
        "mailto:ops@example.org",
        "mailto:a@example.org",
        "tel:+12025551212",
    )


def test_the_key_is_rolled_over(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, zone_solver: DNS01Solver
) -> None:
    """The account stays, its key is another, and certificates are obtained with it."""
    issuer = Issuer(authority, storage, [zone_solver], accept_terms=True)
    url = connected(issuer.account)
    before = issuer.account.show()
    issuer.account.roll_over()
    after = issuer.account.show()
    assert before is not None
    assert after is not None
    assert before.url == after.url == url
    assert before.thumbprint != after.thumbprint
    assert issuer.obtain(["www.example.test"]).names == ("www.example.test",)


def test_a_roll_over_that_is_refused_changes_nothing(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """The account keeps its key when the authority wants no other."""
    account = Account(authority, storage, accept_terms=True)
    connected(account)
    before = account.show()
    acme_authority.fail_next("keyChange", Problem("conflict", "Somebody has that key.", status=409))
    with pytest.raises(IssuanceError, match="conflict"):
        account.roll_over()
    assert account.show() == before


@pytest.mark.parametrize("took_place", [True, False])
def test_a_roll_over_that_was_interrupted(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, *, took_place: bool
) -> None:
    """When a crash leaves open which key holds, the authority is asked, and the account goes on either way."""
    account = Account(authority, storage, accept_terms=True)
    url = connected(account)
    next_key = JWKEC(key=new_key())
    key = Key.account(authority.directory_url)
    document = json.loads(storage.get(key) or b"")
    storage.put(key, json.dumps({**document, "next_key": next_key.to_json()}).encode())
    if took_place:
        (there,) = acme_authority.accounts.values()
        there.key = next_key.public_key()
    assert connected(account) == url
    shown = account.show()
    assert shown is not None
    kept = json.loads(storage.get(key) or b"")
    assert kept["next_key"] is None
    assert (kept["key"] == next_key.to_json()) is took_place


def test_an_interrupted_roll_over_is_settled_before_the_next(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """As long as nobody can say which key holds, nothing is changed; then another roll-over begins where it stands."""
    account = Account(authority, storage, accept_terms=True)
    connected(account)
    key = Key.account(authority.directory_url)
    document = json.loads(storage.get(key) or b"")
    storage.put(key, json.dumps({**document, "next_key": JWKEC(key=new_key()).to_json()}).encode())
    with acme_authority.outage(), pytest.raises(IssuanceError, match="Down for maintenance"):
        account.roll_over()
    assert json.loads(storage.get(key) or b"")["next_key"]
    account.roll_over()
    kept = json.loads(storage.get(key) or b"")
    assert kept["next_key"] is None
    assert kept["key"] != document["key"]
    assert account.show() is not None


def test_a_new_contact_for_an_account_that_was_forgotten(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """An account that the authority has lost is made anew with the contact that it should have."""
    connected(Account(authority, storage, contact=["old@example.org"], accept_terms=True))
    acme_authority.accounts.clear()
    connected(Account(authority, storage, contact=["new@example.org"], accept_terms=True))
    assert [one.contact for one in acme_authority.accounts.values()] == [["mailto:new@example.org"]]


def test_rolling_over_on_a_full_disk(
    authority: Authority, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that cannot be stored is never given to the account, which keeps the one that it has."""
    account = Account(authority, storage, accept_terms=True)
    connected(account)
    before = account.show()

    def full(key: object, data: object) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "put", full)
        with pytest.raises(StorageError):
            account.roll_over()
    assert account.show() == before


def test_it_is_deactivated_for_ever(acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage) -> None:
    """The authority takes the account out of use, and nothing of it is kept."""
    account = Account(authority, storage, accept_terms=True)
    connected(account)
    account.deactivate()
    assert [one.status for one in acme_authority.accounts.values()] == ["deactivated"]
    assert account.show() is None
    with pytest.raises(IssuanceError, match="There is no account"):
        account.deactivate()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"url": 1, "key": "secret-d"}', b'{"url": "u", "key": {}}'])
def test_a_damaged_file_is_told(authority: Authority, storage: FileStorage, content: bytes) -> None:
    """A file that holds no account is named with its remedy, and not quoted: it may have the key."""
    storage.put(Key.account(authority.directory_url), content)
    with pytest.raises(IssuanceError, match="is damaged") as caught:
        Account(authority, storage, accept_terms=True).connect()
    assert "secret-d" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_authority_has_forgotten_it(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, zone_solver: DNS01Solver
) -> None:
    """After an authority was set up anew, the next certificate makes the account anew."""
    issuer = Issuer(authority, storage, [zone_solver], accept_terms=True)
    connected(issuer.account)
    acme_authority.accounts.clear()
    assert issuer.obtain(["www.example.test"]).names == ("www.example.test",)
    assert len(acme_authority.accounts) == 1


def test_nothing_is_made_after_it_was_called_off(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """A server that stops makes no account any more."""
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(IssuanceError, match="called off"):
        Account(authority, storage, accept_terms=True).connect(cancelled)
    assert not acme_authority.accounts


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the packages are not installed, the error says how to install them."""
    for name in ("acme", "josepy", "josepy.errors"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "secureserve.acme.protocol")
    with pytest.raises(ConfigurationError, match=r"pip install 'secureserve\[acme\]'"):
        importlib.import_module("secureserve.acme.protocol")
