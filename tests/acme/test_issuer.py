"""The issuer against the small authority, which can be made difficult in ways that Pebble cannot."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from secureserve.acme.authorities import Authority, ExternalAccount
from secureserve.acme.issuer import Issuer
from secureserve.acme.renewal import RenewalInformation
from secureserve.acme.solvers import DNS01Solver, HTTP01Solver, TLSALPN01Solver
from secureserve.acme.storage import FileStorage, Key, Kind
from secureserve.certificates.development import self_signed_credential
from secureserve.certificates.issuance import KEY_TYPES, certificate_request, new_key, private_key_pem
from secureserve.errors import ConfigurationError, IssuanceError, StorageError
from secureserve.testing import ACMEAuthority, ManualClock, Problem
from secureserve.testing import acme_authority as run_acme_authority
from tests.acme.conftest import listening_http, listening_tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from secureserve.certificates.credential import Credential
    from secureserve.testing import Authority as TestAuthority
    from secureserve.testing import IssuedCredential
    from secureserve.testing.acme_records import Order

NAME = "www.example.test"


@pytest.fixture
def issuer(authority: Authority, storage: FileStorage, zone_solver: DNS01Solver) -> Issuer:
    """An issuer that proves in the zone."""
    return Issuer(authority, storage, [zone_solver], accept_terms=True)


def stored(storage: FileStorage, authority: Authority, credential: Credential) -> None:
    """Store a certificate as its owner does."""
    key = Key.certificate(authority.directory_url, credential.names)
    storage.put(key, credential.private_key_pem() + credential.chain_pem())


def test_what_is_obtained(acme_authority: ACMEAuthority, issuer: Issuer, storage: FileStorage) -> None:
    """The certificate is for all names, whatever their spelling, with its chain and its key, and is not stored yet."""
    credential = issuer.obtain(["WWW.Example.test.", "*.example.test", "bücher.example.test"])
    assert set(credential.names) == {NAME, "*.example.test", "xn--bcher-kva.example.test"}
    assert credential.chain[1:] == acme_authority.issuer.chain
    assert credential.key_type == "ecdsa"
    credential.check()
    assert not storage.keys(Kind.CERTIFICATE)


def test_progress_is_told(issuer: Issuer) -> None:
    """Who waits is told what is going on."""
    told: list[str] = []
    issuer.obtain([NAME], progress=told.append)
    assert [line.partition(" ")[0] for line in told] == ["ordering", "putting", "asking", "asking", "downloading"]
    assert all("testing" in line or NAME in line or "certificate" in line for line in told)


@pytest.mark.parametrize("key_type", ["ecdsa", "ecdsa-p384", "rsa"])
def test_the_kind_of_the_key(
    authority: Authority, storage: FileStorage, zone_solver: DNS01Solver, key_type: str
) -> None:
    """The key is of the kind that was asked for."""
    issuer = Issuer(authority, storage, [zone_solver], accept_terms=True, key_type=key_type)
    credential = issuer.obtain([NAME])
    assert credential.key_type == key_type.partition("-")[0]
    size = {"ecdsa": 256, "ecdsa-p384": 384, "rsa": 2048}[key_type]
    assert credential.private_key.key_size == size  # type: ignore[union-attr]


@pytest.mark.parametrize(("key_type", "size"), [("rsa", 2048), ("rsa-3072", 3072), ("rsa-4096", 4096)])
def test_the_size_of_rsa_keys(monkeypatch: pytest.MonkeyPatch, key_type: str, size: int) -> None:
    """RSA keys are of the size that their name says."""
    asked: list[int] = []
    monkeypatch.setattr(
        "cryptography.hazmat.primitives.asymmetric.rsa.generate_private_key",
        lambda public_exponent, key_size: asked.append(key_size),
    )
    assert key_type in KEY_TYPES
    new_key(key_type)
    assert asked == [size]


def test_no_such_kind_of_key(authority: Authority, storage: FileStorage) -> None:
    """A kind of key that public authorities do not certify is refused at once."""
    with pytest.raises(ConfigurationError, match="acme_key_type"):
        Issuer(authority, storage, [], key_type="dsa")


def test_requests_have_no_common_name() -> None:
    """Names stand in the extension alone, addresses as addresses, so that a long name has room."""
    long = "a" * 60 + ".example.test"
    pem = certificate_request([long, "192.0.2.1"], private_key_pem(new_key()))
    request = x509.load_pem_x509_csr(pem)
    assert not request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [long]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]


def test_ip_addresses(acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage) -> None:
    """A certificate for addresses is proved by tls-alpn-01, which is asked for by the reverse name (RFC 8738)."""
    with listening_tls() as (port, mapping):
        acme_authority.validation.tls_port = port
        issuer = Issuer(authority, storage, [TLSALPN01Solver(mapping)], accept_terms=True)
        credential = issuer.obtain(["127.0.0.1", "2001:db8::1"])
    assert set(credential.names) == {"127.0.0.1", "2001:db8::1"}


def test_profiles(tls_authority: TestAuthority, storage: FileStorage) -> None:
    """The profile is asked for; one that the authority does not have is an error that names those that it has."""
    profiles = {"shortlived": timedelta(days=6), "classic": timedelta(days=90)}
    with run_acme_authority(tls_authority, profiles=profiles) as acme, listening_http() as (port, mapping):
        acme.validation.http_port = port
        authority = Authority("testing", acme.directory_url, str(tls_authority.cert_path))
        solvers = [HTTP01Solver(mapping)]
        issuer = Issuer(authority, storage, solvers, accept_terms=True, profile="shortlived")
        credential = issuer.obtain([NAME])
        assert credential.not_after - credential.not_before < timedelta(days=7)
        assert acme.issued[0].profile == "shortlived"
        with pytest.raises(IssuanceError, match="classic") as caught:
            Issuer(authority, storage, solvers, accept_terms=True, profile="tlsserver").obtain([NAME])
        assert caught.value.problem_name == "invalidProfile"


@pytest.mark.parametrize(
    ("preferred", "alternate"),
    [
        (None, False),
        ("secureserve testing ACME alternate root", True),
        ("SECURESERVE testing acme ALTERNATE root", True),
        ("nobody", False),
    ],
)
def test_the_preferred_chain(
    acme_authority: ACMEAuthority,
    authority: Authority,
    storage: FileStorage,
    zone_solver: DNS01Solver,
    caplog: pytest.LogCaptureFixture,
    *,
    preferred: str | None,
    alternate: bool,
) -> None:
    """The chain is the one that ends with the issuer that is preferred, else the first, and then the log says so."""
    issuer = Issuer(authority, storage, [zone_solver], accept_terms=True, preferred_chain=preferred)
    chain = (acme_authority.alternate_issuer if alternate else acme_authority.issuer).chain
    assert issuer.obtain([NAME]).chain[1:] == chain
    assert ("acme_preferred_chain" in caplog.text) is (preferred == "nobody")


def test_it_is_told_what_is_replaced(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """A renewal names the certificate that it replaces; one that was replaced already is renewed all the same."""
    first = issuer.obtain([NAME])
    second = issuer.obtain([NAME], replaces=first)
    assert second != first
    assert acme_authority.issued[0].replaced
    third = issuer.obtain([NAME, "more.example.test"], replaces=first)
    assert third.covers("more.example.test")
    assert [order.replaces is not None for order in acme_authority.orders.values()] == [False, True, False]


def test_a_certificate_from_elsewhere_is_replaced_too(issuer: Issuer) -> None:
    """What another authority or nobody issued can be replaced, without a word of it."""
    issuer.obtain([NAME], replaces=self_signed_credential([NAME]))


def test_renewal_information(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """The authority's window, its reason, and when to ask again."""
    credential = issuer.obtain([NAME])
    start = datetime(2026, 5, 1, tzinfo=timezone.utc)
    acme_authority.renewal_window = lambda _certificate: (start, start + timedelta(days=2))
    acme_authority.renewal_explanation = "https://ca.example.test/incident"
    assert issuer.renewal_information(credential) == RenewalInformation(
        start, start + timedelta(days=2), "https://ca.example.test/incident", 21600.0
    )


def test_renewal_information_that_makes_no_sense(
    acme_authority: ACMEAuthority, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nonsense is an IssuanceError; a certificate that cannot be named has no renewal information."""
    credential = issuer.obtain([NAME])
    assert issuer.renewal_information(self_signed_credential([NAME])) is None
    monkeypatch.setattr("secureserve.testing.acme_documents._time", lambda _moment: "soon")
    with pytest.raises(IssuanceError, match="cannot be understood"):
        issuer.renewal_information(credential)
    acme_authority.fail_next("renewalInfo", Problem("malformed", "Not issued here.", status=404))
    with pytest.raises(IssuanceError, match="Not issued here"):
        issuer.renewal_information(credential)


def test_it_is_revoked_by_its_owner(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """A certificate is revoked by the account that ordered it, once."""
    credential = issuer.obtain([NAME])
    issuer.revoke(credential, 4)
    assert [one.revoked for one in acme_authority.issued] == [True]
    with pytest.raises(IssuanceError, match="alreadyRevoked"):
        issuer.revoke(credential)
    assert issuer.obtain([NAME]) != credential


@pytest.mark.parametrize("has_account", [True, False])
def test_it_is_revoked_with_its_own_key(
    acme_authority: ACMEAuthority,
    authority: Authority,
    issuer: Issuer,
    tmp_path_factory: pytest.TempPathFactory,
    *,
    has_account: bool,
) -> None:
    """Whoever holds the key of a certificate can revoke it, even without the account that ordered it."""
    credential = issuer.obtain([NAME])
    other = Issuer(authority, FileStorage(tmp_path_factory.mktemp("other")), [], accept_terms=True)
    if has_account:
        other.account.connect().close()
    other.revoke(credential, 1)
    assert [one.revoked for one in acme_authority.issued] == [True]
    assert len(acme_authority.accounts) == 1 + has_account


def test_a_reason_that_is_none(issuer: Issuer) -> None:
    """The authority's objection to a reason reaches the user."""
    with pytest.raises(IssuanceError, match="badRevocationReason"):
        issuer.revoke(issuer.obtain([NAME]), 99)


def test_another_way_is_tried(acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage) -> None:
    """When a challenge fails, another order proves the name another way, and what worked is tried first next time."""
    with listening_http() as (port, mapping):
        acme_authority.validation.http_port = port
        # Nobody listens where tls-alpn-01 is looked for, and the zone stays empty.
        solvers = [TLSALPN01Solver({}), DNS01Solver(lambda *_given: None), HTTP01Solver(mapping)]
        issuer = Issuer(authority, storage, solvers, accept_terms=True)
        told: list[str] = []
        issuer.obtain([NAME], progress=told.append)
        orders = len(acme_authority.orders)
        assert 1 <= orders <= 3
        assert sum("Trying another way" in line for line in told) == orders - 1
        for number in range(3):
            told.clear()
            issuer.obtain([f"{number}.example.test"], progress=told.append)
            assert f"putting up the answer to http-01 for {number}.example.test" in told
        assert len(acme_authority.orders) == orders + 3
        assert not mapping


def test_all_ways_fail(acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage) -> None:
    """When every challenge fails, the error has the name, and no answer and no order is left behind."""
    proofs: dict[str, str] = {}
    certificates: dict[str, Credential] = {}
    solvers = [TLSALPN01Solver(certificates), HTTP01Solver(proofs)]
    issuer = Issuer(authority, storage, solvers, accept_terms=True)
    with pytest.raises(IssuanceError, match="check the DNS records") as caught:
        issuer.obtain([NAME, "other.example.test"])
    assert caught.value.problem_name == "connection"
    assert caught.value.problems_by_name[NAME]["type"].endswith(":connection")
    assert set(caught.value.problems_by_name) == {NAME, "other.example.test"}
    assert len(acme_authority.orders) == 2
    assert not proofs
    assert not certificates
    assert not storage.keys(Kind.ORDER)
    assert "pending" not in {one.status for one in acme_authority.authorizations.values()}


def test_proofs_of_one_name_are_given_up_with_those_of_another(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """A hook that fails for one name ends the order, and pending authorizations are given back."""

    def hook(action: str, name: str, value: str) -> None:
        if name.startswith("_acme-challenge.bad"):
            raise ValueError("no such zone")

    issuer = Issuer(authority, storage, [DNS01Solver(hook)], accept_terms=True)
    with pytest.raises(IssuanceError, match="no such zone") as caught:
        issuer.obtain(["bad.example.test", "good.example.test"])
    assert list(caught.value.problems_by_name) == ["bad.example.test"]
    assert {one.status for one in acme_authority.authorizations.values()} == {"deactivated"}


def test_an_answer_is_there_while_it_is_pending_alone(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """Proofs can be found while the authority looks, and are gone when it has seen them."""
    with listening_http() as (port, mapping):
        acme_authority.validation.http_port = port
        issuer = Issuer(authority, storage, [HTTP01Solver(mapping)], accept_terms=True)
        told: list[int] = []
        issuer.obtain([NAME], progress=lambda _text: told.append(len(mapping)))
        assert told == [0, 0, 1, 0, 0]
        told.clear()
        issuer.obtain([NAME, "other.example.test"], progress=lambda _text: told.append(len(mapping)))
        assert max(told) == 1


def test_nothing_that_could_answer(authority: Authority, storage: FileStorage) -> None:
    """A wildcard without a DNS hook fails with advice, before anything is tried."""
    issuer = Issuer(authority, storage, [HTTP01Solver({}), TLSALPN01Solver({})], accept_terms=True)
    with pytest.raises(IssuanceError, match=r"\*\.example\.test.*acme_dns_hook"):
        issuer.obtain(["*.example.test"])


def test_challenges_that_nobody_knows(
    acme_authority: ACMEAuthority, issuer: Issuer, authority: Authority, storage: FileStorage
) -> None:
    """Types of challenges that are newer than this client are passed over, and named where nothing else is left."""
    acme_authority.more_challenge_types = ("dns-account-01", "quantum-07")
    assert issuer.obtain([NAME]).names == (NAME,)
    wanted = "dns-01 or dns-account-01 or http-01 or quantum-07 or tls-alpn-01 for other.example.test"
    with pytest.raises(IssuanceError, match=f"{wanted}, of which this server can answer nothing"):
        Issuer(authority, storage, [], accept_terms=True).obtain(["other.example.test"])


def test_nothing_else_is_proved_than_what_was_ordered(
    acme_authority: ACMEAuthority, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority that asks for proof of another name gets none."""
    authorize = acme_authority._authorization
    monkeypatch.setattr(
        acme_authority,
        "_authorization",
        lambda account, one: authorize(account, {**one, "value": "other.example.test"}),
    )
    with pytest.raises(IssuanceError, match=r"wants 'other\.example\.test' proved, which was not ordered"):
        issuer.obtain([NAME])
    assert not acme_authority.validation.zone


def test_slow_hooks_take_nothing_from_the_authoritys_time(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, zone_solver: DNS01Solver
) -> None:
    """How long the authority may take is counted from when the last answer is up."""
    clock = ManualClock(datetime.now(timezone.utc))
    acme_authority.validation_patience = 0

    def progress(text: str) -> None:
        if text.startswith("putting up"):
            clock.advance(timedelta(hours=1))

    issuer = Issuer(authority, storage, [zone_solver], accept_terms=True, clock=clock)
    assert len(issuer.obtain([NAME, "other.example.test"], progress=progress).names) == 2


@pytest.mark.parametrize("kind", ["rateLimited", "serverInternal"])
def test_what_may_pass_costs_no_order(acme_authority: ACMEAuthority, issuer: Issuer, kind: str) -> None:
    """A request for the certificate that is refused for a while is made again for the same order."""
    acme_authority.fail_next("finalize", Problem(kind, "Later.", status=503))
    with pytest.raises(IssuanceError, match="Later"):
        issuer.obtain([NAME])
    issuer.obtain([NAME])
    assert len(acme_authority.orders) == 1


@pytest.mark.parametrize("names", [[], ["a b.example.test"], [""]])
def test_names_that_are_none(issuer: Issuer, names: list[str]) -> None:
    """A name that no certificate can be for is refused before anybody is asked."""
    with pytest.raises(ValueError, match="name"):
        issuer.obtain(names)


def test_the_authority_takes_its_time(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """An order that is processed for a while, and a proof that is looked at late, are waited for."""
    acme_authority.looks_before_issuing = 3
    acme_authority.validation_patience = 0
    assert issuer.obtain([NAME]).names == (NAME,)
    assert len(acme_authority.orders) == 1


def test_not_ready_is_asked_again(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """An authority that is not ready after all is asked again."""
    acme_authority.fail_next("finalize", Problem("orderNotReady", "One moment.", status=403))
    assert issuer.obtain([NAME]).names == (NAME,)
    assert len(acme_authority.orders) == 1


def test_the_authority_never_finishes(
    acme_authority: ACMEAuthority, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes too long is given up for now, and the next attempt goes on with the same order."""
    monkeypatch.setattr("secureserve.acme.fulfilment.ISSUANCE_TIMEOUT", 0.5)
    acme_authority.looks_before_issuing = 1000
    with pytest.raises(IssuanceError, match="took too long to issue"):
        issuer.obtain([NAME])
    for order in acme_authority.orders.values():
        order.looks = 0
    assert issuer.obtain([NAME]).names == (NAME,)
    assert len(acme_authority.issued) == 1


def test_the_authority_never_looks(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof that nobody looks at is taken away after a while, and put up again when the order is gone on with."""
    monkeypatch.setattr("secureserve.acme.fulfilment.PROOF_TIMEOUT", 0.5)
    acme_authority.validation_patience = 0
    looked = threading.Event()
    acme_authority.validation.look_up = lambda _name: [value] if looked.wait(30) and (value := values.get("it")) else []
    values: dict[str, str] = {}

    def hook(action: str, name: str, value: str) -> None:
        values["it"] = value if action == "present" else ""

    issuer = Issuer(authority, storage, [DNS01Solver(hook)], accept_terms=True)
    with pytest.raises(IssuanceError, match="took too long to look at"):
        issuer.obtain([NAME])
    assert values == {"it": ""}
    monkeypatch.undo()
    told: list[str] = []

    def progress(text: str) -> None:
        told.append(text)
        if text.startswith("putting up"):
            threading.Timer(0.2, looked.set).start()

    assert issuer.obtain([NAME], progress=progress).names == (NAME,)
    assert told[0].startswith("going on with the order")
    assert len(acme_authority.orders) == 1


class Crash(BaseException):
    """The process ends here."""


def crash_at(word: str) -> Callable[[str], None]:
    """Return a listener to progress that ends everything at a certain step."""

    def progress(text: str) -> None:
        if text.startswith(word):
            raise Crash

    return progress


@pytest.mark.parametrize("step", ["putting up", "asking testing to look", "asking for the certificate", "downloading"])
def test_a_restart_in_the_middle(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, zone_solver: DNS01Solver, step: str
) -> None:
    """Whatever step a process ends at, the next one goes on with the order, and orders nothing twice."""
    with pytest.raises(Crash):
        Issuer(authority, storage, [zone_solver], accept_terms=True).obtain([NAME], progress=crash_at(step))
    assert not acme_authority.validation.zone
    told: list[str] = []
    later = Issuer(authority, FileStorage(storage.directory), [zone_solver], accept_terms=True)
    credential = later.obtain([NAME], progress=told.append)
    assert credential.names == (NAME,)
    assert told[0] == f"going on with the order for {NAME}"
    assert len(acme_authority.orders) == len(acme_authority.issued) == 1


def test_what_could_not_be_stored_is_not_ordered_again(
    acme_authority: ACMEAuthority, authority: Authority, issuer: Issuer, storage: FileStorage
) -> None:
    """What its owner could not store comes from the same order once more; what was stored does not."""
    first = issuer.obtain([NAME])
    again = issuer.obtain([NAME])
    assert first == again
    assert first.private_key_pem() == again.private_key_pem()
    stored(storage, authority, again)
    assert issuer.obtain([NAME]) != first
    assert len(acme_authority.issued) == 2


def test_settling_forgets_the_order(issuer: Issuer, storage: FileStorage) -> None:
    """After the certificate was stored, nothing of its order is kept, its key least of all."""
    first = issuer.obtain([NAME])
    assert storage.keys(Kind.ORDER)
    issuer.settle([NAME])
    assert not storage.keys(Kind.ORDER)
    assert issuer.obtain([NAME]) != first


@pytest.mark.parametrize("change", ["key_type", "profile", "account", "gone", "damaged", "invalid"])
def test_an_order_that_does_not_fit_is_not_gone_on_with(
    acme_authority: ACMEAuthority,
    authority: Authority,
    issuer: Issuer,
    storage: FileStorage,
    zone_solver: DNS01Solver,
    *,
    change: str,
) -> None:
    """Other settings, another account, or an order that the authority has dropped lead to a new order."""
    with pytest.raises(Crash):
        issuer.obtain([NAME], progress=crash_at("putting up"))
    key = Key.order(authority.directory_url, [NAME])
    document = json.loads(storage.get(key) or b"")
    options = {"key_type": "rsa"} if change == "key_type" else {}
    if change in {"profile", "account"}:
        document |= {"profile": "other"} if change == "profile" else {"account_url": "https://elsewhere.test/1"}
        storage.put(key, json.dumps(document).encode())
    elif change == "damaged":
        storage.put(key, b"{")
    elif change == "gone":
        acme_authority.orders.clear()
    elif change == "invalid":
        acme_authority.orders[next(iter(acme_authority.orders))].error = Problem("caa", "CAA says no.")
    told: list[str] = []
    later = Issuer(authority, storage, [zone_solver], accept_terms=True, **options)
    assert later.obtain([NAME], progress=told.append).key_type == ("rsa" if change == "key_type" else "ecdsa")
    assert told[0].startswith("ordering")


def test_an_order_needs_room_on_the_disk(
    acme_authority: ACMEAuthority, issuer: Issuer, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that cannot be stored is not gone on with: nothing is issued that could be lost."""
    issuer.account.connect().close()

    def full(key: object, data: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(storage, "put", full)
    with pytest.raises(StorageError, match="no space left"):
        issuer.obtain([NAME])
    assert not acme_authority.issued


def test_a_disk_that_fills_up_meanwhile_loses_nothing(
    acme_authority: ACMEAuthority,
    issuer: Issuer,
    storage: FileStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A certificate that was issued is handed over whether the disk has room or not."""

    def full(key: object, data: object) -> None:
        raise StorageError("no space left.")

    def progress(text: str) -> None:
        if text.startswith("downloading"):
            monkeypatch.setattr(storage, "put", full)

    assert issuer.obtain([NAME], progress=progress).names == (NAME,)
    assert "no space left. The certificate for www.example.test is there all the same." in caplog.text


@pytest.mark.parametrize("step", ["ordering", "putting up", "asking testing to look", "asking for the certificate"])
def test_it_is_called_off(acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, step: str) -> None:
    """Wherever it is called off, it ends soon, and no answer stays behind."""
    cancelled = threading.Event()
    acme_authority.validation_patience = 0
    with listening_http() as (port, mapping):
        acme_authority.validation.http_port = port
        issuer = Issuer(authority, storage, [HTTP01Solver(mapping)], accept_terms=True)

        def progress(text: str) -> None:
            if text.startswith(step):
                cancelled.set()

        with pytest.raises(IssuanceError, match="called off"):
            issuer.obtain([NAME], progress=progress, cancelled=cancelled)
        assert not mapping
        assert issuer.obtain([NAME]).names == (NAME,)
    assert len(acme_authority.orders) <= 2


def test_it_is_called_off_while_it_waits(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage
) -> None:
    """Waiting for the authority ends at once when it is called off."""
    cancelled, looked = threading.Event(), threading.Event()
    acme_authority.validation_patience = 0

    def look_up(_name: str) -> list[str]:
        cancelled.set()
        looked.wait(30)
        return []

    acme_authority.validation.look_up = look_up
    issuer = Issuer(authority, storage, [DNS01Solver(lambda *_given: None)], accept_terms=True)
    with pytest.raises(IssuanceError, match="called off"):
        issuer.obtain([NAME], cancelled=cancelled)
    looked.set()


def test_an_outage_in_the_middle(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """An authority that is down for a while is an error for now, and the order is gone on with after."""

    def progress(text: str) -> None:
        acme_authority.is_down = text.startswith("asking for the certificate")

    with pytest.raises(IssuanceError, match="Down for maintenance") as caught:
        issuer.obtain([NAME], progress=progress)
    assert caught.value.retry_after == 1
    acme_authority.is_down = False
    assert issuer.obtain([NAME]).names == (NAME,)
    assert len(acme_authority.orders) == 1


class WaitingRoom(threading.Event):
    """Somebody who could call it off: waits no time, notes for how long it should have, and what there was then."""

    def __init__(self, look: Callable[[], object], *, is_impatient: bool = False) -> None:
        super().__init__()
        self.waits: list[tuple[float | None, object]] = []
        self._look = look
        self._is_impatient = is_impatient

    def wait(self, timeout: float | None = None) -> bool:
        """Note it."""
        self.waits.append((timeout, self._look()))
        if self._is_impatient:
            self.set()
        return self.is_set()


def test_records_get_time_to_spread(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, zone_solver: DNS01Solver
) -> None:
    """The time is waited once, when all records are published and before the authority is asked to look at any."""
    zone_solver.propagation = 900.0
    issuer = Issuer(authority, storage, [zone_solver], accept_terms=True)
    told: list[str] = []

    def look() -> tuple[int, set[str]]:
        values = acme_authority.validation.zone.values()
        return sum(map(len, values)), {one.status for one in acme_authority.challenges.values()}

    room = WaitingRoom(look)
    names = ["example.test", "*.example.test", "www.example.test"]
    assert set(issuer.obtain(names, cancelled=room, progress=told.append).names) == set(names)
    assert [wait for wait in room.waits if wait[0] == 900] == [(900.0, (3, {"pending"}))]
    assert "waiting 900 s for the answers to spread" in told
    again = WaitingRoom(look)
    issuer.obtain(names, cancelled=again)
    assert again.waits == []


def test_waiting_for_records_can_be_called_off(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, zone_solver: DNS01Solver
) -> None:
    """A server that stops does not wait until the records have spread, and takes them away; the order goes on later."""
    zone_solver.propagation = 900.0
    issuer = Issuer(authority, storage, [zone_solver], accept_terms=True)
    room = WaitingRoom(lambda: None, is_impatient=True)
    with pytest.raises(IssuanceError, match="for the answers to spread was called off"):
        issuer.obtain([NAME], cancelled=room)
    assert not acme_authority.validation.zone
    assert issuer.obtain([NAME], cancelled=WaitingRoom(lambda: None)).names == (NAME,)
    assert len(acme_authority.orders) == 1


def test_the_staging_twin(
    acme_authority: ACMEAuthority, authority: Authority, storage: FileStorage, zone_solver: DNS01Solver
) -> None:
    """An issuer knows the one for the staging twin of its authority, with the same settings and its own account."""
    real = Authority("real", "https://localhost:1/directory", staging=authority)
    issuer = Issuer(real, storage, [zone_solver], contact=["ops@example.org"], accept_terms=True, key_type="rsa")
    staging = issuer.staging()
    assert staging is not None
    assert staging.obtain([NAME]).key_type == "rsa"
    assert staging.account.contact == ("mailto:ops@example.org",)
    assert staging.staging() is None
    bound = Issuer(real, storage, [], external_account=ExternalAccount("kid-1", "c" * 32))
    assert bound.staging() is None


def test_what_is_issued_is_looked_at(
    acme_authority: ACMEAuthority, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate for other names, or for another key, is refused."""
    other = self_signed_credential(["other.example.test"]).chain_pem()
    monkeypatch.setattr(acme_authority, "chain_pem", lambda _issued, alternate=False: other)
    with pytest.raises(IssuanceError, match="issued what cannot be used"):
        issuer.obtain([NAME])


def test_names_that_were_left_out(
    acme_authority: ACMEAuthority, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, storage: FileStorage
) -> None:
    """A certificate that lacks a name is refused, says which, and its order is not gone on with."""
    issue = acme_authority.issue

    def forgetful(order: Order, public_key: object) -> object:
        order.identifiers = order.identifiers[1:]
        return issue(order, public_key)

    monkeypatch.setattr(acme_authority, "issue", forgetful)
    with pytest.raises(IssuanceError, match=r"is not for one\.example\.test"):
        issuer.obtain(["one.example.test", "two.example.test"])
    assert not storage.keys(Kind.ORDER)


def test_an_order_that_is_given_up_without_a_word(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """An order that becomes invalid for no reason that is given is an error with advice."""

    def progress(text: str) -> None:
        if text.startswith("asking for the certificate"):
            next(iter(acme_authority.authorizations.values())).status = "revoked"

    with pytest.raises(IssuanceError, match=r"did not say why\. Try again"):
        issuer.obtain([NAME], progress=progress)
    acme_authority.authorizations.clear()
    assert issuer.obtain([NAME]).names == (NAME,)


def test_a_damaged_certificate_in_the_storage(
    acme_authority: ACMEAuthority, issuer: Issuer, storage: FileStorage, authority: Authority
) -> None:
    """What is stored and cannot be read is not taken for what was obtained: it comes from the same order again."""
    credential = issuer.obtain([NAME])
    storage.put(Key.certificate(authority.directory_url, [NAME]), b"damaged")
    assert issuer.obtain([NAME]) == credential


def test_a_key_that_cannot_ask_for_its_revocation(
    authority: Authority, storage: FileStorage, tls_credential: Callable[..., IssuedCredential]
) -> None:
    """The library signs with EC and RSA keys alone; another kind needs the account, and the error says so."""
    credential = tls_credential("www.example.test", key_type="ed25519").credential
    with pytest.raises(IssuanceError, match=r"ed25519 key cannot sign .* with the account"):
        Issuer(authority, storage, []).revoke(credential)


def test_revoking_while_the_authority_is_down(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """An authority that does not answer is no reason to try with another key."""
    credential = issuer.obtain([NAME])
    with acme_authority.outage(), pytest.raises(IssuanceError, match="Down for maintenance"):
        issuer.revoke(credential)
    assert not acme_authority.issued[0].revoked


def test_going_on_while_the_authority_is_down(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """An order is not given up because nobody can say how it is."""
    with pytest.raises(Crash):
        issuer.obtain([NAME], progress=crash_at("putting up"))
    acme_authority.fail_next("order", Problem("serverInternal", "One moment.", status=500))
    with pytest.raises(IssuanceError, match="One moment"):
        issuer.obtain([NAME])
    issuer.obtain([NAME])
    assert len(acme_authority.orders) == 1


def test_no_secret_in_the_log_or_in_a_repr(
    issuer: Issuer, storage: FileStorage, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """The log at its most talkative has neither the account's key nor the certificate's."""
    caplog.set_level("DEBUG")
    credential = issuer.obtain([NAME])
    account = json.loads(storage.get(Key.account(authority.directory_url)) or b"")
    lines = credential.private_key_pem().decode().splitlines()[1:-2]
    for secret in (account["key"]["d"], *lines):
        assert secret not in caplog.text
        assert secret not in repr(issuer)


def test_many_orders_at_once(acme_authority: ACMEAuthority, issuer: Issuer) -> None:
    """Orders for different names go on side by side with one issuer."""
    from concurrent.futures import ThreadPoolExecutor

    names = [f"{number}.example.test" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: issuer.obtain([name]).names, names))
    assert found == [(name,) for name in names]
    assert len(acme_authority.accounts) == 1
