"""Certificates from Pebble, which validates every challenge for real."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from secureserve.acme.authorities import ExternalAccount
from secureserve.acme.issuer import Issuer
from secureserve.acme.protocol import JWKEC
from secureserve.acme.solvers import DNS01Solver, HTTP01Solver, TLSALPN01Solver
from secureserve.acme.storage import FileStorage, Key
from secureserve.certificates.issuance import new_key
from secureserve.errors import IssuanceError
from tests.acme.conftest import listening_http
from tests.acme.pebble import run_pebble

if TYPE_CHECKING:
    from pathlib import Path

    from secureserve.testing import Authority as TestAuthority
    from tests.acme.pebble import Pebble

pytestmark = pytest.mark.timeout(120)


def common_name(pem: bytes) -> str:
    """Return the common name of a certificate."""
    subject = x509.load_pem_x509_certificate(pem).subject
    return str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def test_tls_alpn_01_is_answered_in_the_handshake(
    pebble: Pebble, storage: FileStorage, tls_solver: TLSALPN01Solver
) -> None:
    """Pebble looks at the TLS port, which a real server of ours serves, and issues for two names."""
    issuer = Issuer(pebble.authority, storage, [tls_solver], contact=["ops@example.org"], accept_terms=True)
    credential = issuer.obtain(["one.alpn.test", "two.alpn.test"])
    assert credential.names == ("one.alpn.test", "two.alpn.test")
    assert len(credential.chain) == 2
    assert credential.chain[1].issuer == x509.load_pem_x509_certificate(pebble.roots[0]).subject


def test_http_01_is_answered_on_the_plain_port(pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver) -> None:
    """Pebble looks at the plain port, which a real server of ours serves, and issues."""
    issuer = Issuer(pebble.authority, storage, [http_solver], accept_terms=True)
    assert issuer.obtain(["www.http.test"]).names == ("www.http.test",)


def test_a_name_and_its_wildcard_by_dns_01(pebble: Pebble, storage: FileStorage) -> None:
    """Two names and a wildcard are proved through a hook, with two values under one name at the same time."""
    issuer = Issuer(pebble.authority, storage, [DNS01Solver(pebble.dns_hook)], accept_terms=True)
    credential = issuer.obtain(["dns.test", "*.dns.test", "other.dns.test"])
    assert set(credential.names) == {"dns.test", "*.dns.test", "other.dns.test"}


HOOK = """
import json, os, sys, urllib.request
name, value = os.environ["SECURESERVE_ACME_RECORD_NAME"], os.environ["SECURESERVE_ACME_RECORD_VALUE"]
action = {"present": "set-txt", "withdraw": "clear-txt"}[sys.argv[2]]
urllib.request.urlopen(sys.argv[1] + "/" + action, json.dumps({"host": name + ".", "value": value}).encode()).read()
"""


def test_dns_01_through_a_command(pebble: Pebble, storage: FileStorage, tmp_path: Path) -> None:
    """A program of the operator's changes the zone, told by its environment."""
    (tmp_path / "hook.py").write_text(HOOK)
    solver = DNS01Solver([sys.executable, str(tmp_path / "hook.py"), pebble.management])
    issuer = Issuer(pebble.authority, storage, [solver], accept_terms=True)
    assert issuer.obtain(["*.command.test"]).names == ("*.command.test",)


@pytest.mark.parametrize("number", [0, 1])
def test_each_chain_can_be_preferred(pebble: Pebble, storage: FileStorage, number: int) -> None:
    """Of the chains that Pebble offers, the one to the preferred root is taken."""
    root = x509.load_pem_x509_certificate(pebble.roots[number])
    solvers = [DNS01Solver(pebble.dns_hook)]
    issuer = Issuer(
        pebble.authority, storage, solvers, accept_terms=True, preferred_chain=common_name(pebble.roots[number])
    )
    credential = issuer.obtain([f"chain{number}.test"])
    credential.chain[-1].verify_directly_issued_by(root)


def test_ip_addresses(pebble: Pebble, storage: FileStorage, tls_solver: TLSALPN01Solver) -> None:
    """An address is proved by tls-alpn-01, and stands in the certificate as an address."""
    issuer = Issuer(pebble.authority, storage, [tls_solver], accept_terms=True)
    assert issuer.obtain(["127.0.0.1"]).names == ("127.0.0.1",)


def test_the_account_changes_its_contact_and_its_key(
    pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver
) -> None:
    """Contact and key of the account are changed, certificates are obtained with the new key, then it is given up."""
    issuer = Issuer(pebble.authority, storage, [http_solver], contact=["ops@example.org"], accept_terms=True)
    issuer.obtain(["before.key.test"])
    before = issuer.account.show()
    issuer.account.update_contact(["new@example.org"])
    issuer.account.roll_over()
    after = issuer.account.show()
    assert before is not None
    assert after is not None
    assert (before.contact, after.contact) == (("mailto:ops@example.org",), ("mailto:new@example.org",))
    assert before.url == after.url
    assert before.thumbprint != after.thumbprint
    issuer.obtain(["after.key.test"])
    issuer.account.deactivate()
    assert issuer.account.show() is None


def test_there_is_no_renewal_information(pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver) -> None:
    """An authority without renewal information is told from one that cannot be asked, and hears of no replacement."""
    issuer = Issuer(pebble.authority, storage, [http_solver], accept_terms=True)
    credential = issuer.obtain(["without.test"])
    assert issuer.renewal_information(credential) is None
    assert issuer.obtain(["without.test"], replaces=credential) != credential


def test_revocation(pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver, tmp_path: Path) -> None:
    """A certificate is revoked by its owner, another by whoever has its key."""
    issuer = Issuer(pebble.authority, storage, [http_solver], accept_terms=True)
    first, second = issuer.obtain(["one.revoked.test"]), issuer.obtain(["two.revoked.test"])
    issuer.revoke(first)
    Issuer(pebble.authority, FileStorage(tmp_path / "other"), []).revoke(second, 1)
    assert pebble.certificate_status(first.serial_number) == "Revoked"
    assert pebble.certificate_status(second.serial_number) == "Revoked"


def test_a_restart_in_the_middle(pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver) -> None:
    """An order that was stopped at the proof is gone on with by the next process, and none is made twice."""
    cancelled = threading.Event()

    def stop(text: str) -> None:
        if text.startswith("putting up"):
            cancelled.set()

    def orders() -> int:
        return sum("There are now" in line and "orders in the db" in line for line in pebble.log)

    with pytest.raises(IssuanceError, match="called off"):
        Issuer(pebble.authority, storage, [http_solver], accept_terms=True).obtain(
            ["restart.test"], progress=stop, cancelled=cancelled
        )
    made = orders()
    told: list[str] = []
    later = Issuer(pebble.authority, FileStorage(storage.directory), [http_solver], accept_terms=True)
    assert later.obtain(["restart.test"], progress=told.append).names == ("restart.test",)
    assert told[0] == "going on with the order for restart.test"
    assert orders() == made > 0


def test_a_name_that_is_refused(pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver) -> None:
    """A name on Pebble's block list is an error that says which problem it is and what to do."""
    issuer = Issuer(pebble.authority, storage, [http_solver], accept_terms=True)
    with pytest.raises(IssuanceError, match=r"blocked\.test") as caught:
        issuer.obtain(["www.blocked.test"])
    assert caught.value.problem_name == "rejectedIdentifier"
    assert caught.value.remedy


def test_a_challenge_that_fails(pebble: Pebble, storage: FileStorage) -> None:
    """When nobody listens where Pebble looks, the error names the name, and how Pebble could not connect."""
    issuer = Issuer(pebble.authority, storage, [TLSALPN01Solver({})], accept_terms=True)
    with pytest.raises(IssuanceError, match=r"Failed to connect to .*check that the DNS records") as caught:
        issuer.obtain(["nobody.test"])
    assert caught.value.problem_name == "unauthorized"
    assert list(caught.value.problems_by_name) == ["nobody.test"]


def test_another_way_is_tried(pebble: Pebble, storage: FileStorage) -> None:
    """When one challenge fails for real, the other one proves the name."""
    with listening_http(pebble.http_port) as (_, mapping):
        issuer = Issuer(pebble.authority, storage, [TLSALPN01Solver({}), HTTP01Solver(mapping)], accept_terms=True)
        assert issuer.obtain(["otherwise.test"]).names == ("otherwise.test",)
        assert not mapping


HMAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


def test_an_external_account(tls_authority: TestAuthority, storage: FileStorage, tmp_path: Path) -> None:
    """Where Pebble wants accounts bound to another, it takes the one with the right key alone."""
    config: dict[str, Any] = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": HMAC_KEY}}
    environ = {"PEBBLE_WFE_NONCEREJECT": "40", "PEBBLE_ALTERNATE_ROOTS": "0"}
    with run_pebble(tls_authority, tmp_path, environ=environ, **config) as pebble:
        solvers = [DNS01Solver(pebble.dns_hook)]
        with pytest.raises(IssuanceError, match="acme_eab_key_id"):
            Issuer(pebble.authority, storage, solvers, accept_terms=True).obtain(["eab.test"])
        other = ExternalAccount("kid-1", HMAC_KEY[::-1])
        with pytest.raises(IssuanceError, match="pebble: making an account"):
            Issuer(pebble.authority, storage, solvers, accept_terms=True, external_account=other).obtain(["eab.test"])
        right = ExternalAccount("kid-1", HMAC_KEY)
        issuer = Issuer(pebble.authority, storage, solvers, accept_terms=True, external_account=right)
        assert issuer.obtain(["eab.test"]).names == ("eab.test",)
        issuer.account.update_contact(["ops@example.org"])
        shown = issuer.account.show()
        assert shown is not None
        assert shown.contact == ("mailto:ops@example.org",)


def test_pebble_has_the_terms_agreed_to_once(pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver) -> None:
    """With the account that was made, Pebble issues to who agrees to nothing any more."""
    with pytest.raises(IssuanceError, match="acme_accept_terms"):
        Issuer(pebble.authority, storage, [http_solver]).obtain(["terms.test"])
    Issuer(pebble.authority, storage, [], accept_terms=True).account.connect().close()
    assert Issuer(pebble.authority, storage, [http_solver]).obtain(["terms.test"]).names == ("terms.test",)


def test_pebble_has_forgotten_the_account(pebble: Pebble, storage: FileStorage, http_solver: HTTP01Solver) -> None:
    """An account that this Pebble has never heard of is made anew, with the key that it had."""
    issuer = Issuer(pebble.authority, storage, [http_solver], accept_terms=True)
    issuer.account.connect().close()
    key = Key.account(pebble.directory_url)
    document = json.loads(storage.get(key) or b"")
    other = {**document, "url": document["url"] + "0", "key": JWKEC(key=new_key()).to_json()}
    storage.put(key, json.dumps(other).encode())
    assert issuer.obtain(["anew.test"]).names == ("anew.test",)
    made = json.loads(storage.get(key) or b"")
    assert made["key"] == other["key"]
    assert made["url"] not in {document["url"], other["url"]}
