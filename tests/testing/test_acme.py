"""The small ACME authority, against a client of these tests and against certbot's."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.json_util import encode_b64jose
from josepy.jwa import ES256, HS256
from josepy.jwk import JWKEC, JWKRSA, JWKOct

from secureserve.certificates.credential import Credential
from secureserve.testing import ACMEAuthority, KeyRing, Problem
from secureserve.testing import acme_authority as run_acme_authority
from secureserve.testing.acme import certificate_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from secureserve.testing import Authority, TestServer

NAME = "www.example.test"

WEAK_JWK = JWKRSA(key=KeyRing().take("rsa-1024").public_key()).to_json()


class Client:
    """The least that speaks ACME, so that a test may also say what no library would."""

    def __init__(self, acme: ACMEAuthority, ca: Path) -> None:
        self.acme = acme
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(ca)
        self.key = JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
        self.kid: str | None = None
        self.directory = self.session.get(acme.directory_url, timeout=30).json()

    def nonce(self) -> str:
        """Return a fresh nonce."""
        return self.session.head(self.directory["newNonce"], timeout=30).headers["Replay-Nonce"]

    def sign(self, payload: Any, key: Any = None, **protected: Any) -> dict[str, str]:
        """Return a payload signed; None is POST-as-GET."""
        key = key or self.key
        algorithm = HS256 if isinstance(key, JWKOct) else ES256
        header = encode_b64jose(json.dumps({"alg": algorithm.name, **protected}).encode())
        body = encode_b64jose(b"" if payload is None else json.dumps(payload).encode())
        signature = algorithm.sign(key.key, f"{header}.{body}".encode())
        return {"protected": header, "payload": body, "signature": encode_b64jose(signature)}

    def post(self, url: str, payload: Any = None, /, *, status: int = 200, key: Any = None, **protected: Any) -> Any:
        """Post a signed request, expect a status and return the response."""
        who = {"kid": self.kid} if self.kid and key is None else {"jwk": (key or self.key).public_key().to_json()}
        protected = {"nonce": self.nonce(), "url": url, **who, **protected}
        response = self.session.post(
            url,
            data=json.dumps(self.sign(payload, key, **protected)),
            headers={"Content-Type": "application/jose+json"},
            timeout=30,
        )
        assert response.status_code == status, response.text
        return response

    def register(self, **wishes: Any) -> Any:
        """Make an account."""
        response = self.post(self.directory["newAccount"], {"termsOfServiceAgreed": True, **wishes}, status=201)
        self.kid = response.headers["Location"]
        return response

    def order(self, *names: str, status: int = 201, kind: str = "dns", **wishes: Any) -> Any:
        """Order a certificate."""
        identifiers = [{"type": kind, "value": name} for name in names]
        return self.post(self.directory["newOrder"], {"identifiers": identifiers, **wishes}, status=status)

    def challenges(self, order: dict[str, Any], kind: str) -> list[tuple[str, dict[str, Any], str]]:
        """Return name, challenge and key authorization for each authorization of an order."""
        found = []
        for url in order["authorizations"]:
            authorization = self.post(url).json()
            (challenge,) = [one for one in authorization["challenges"] if one["type"] == kind]
            thumbprint = encode_b64jose(self.key.thumbprint())
            found.append((authorization["identifier"]["value"], challenge, f"{challenge['token']}.{thumbprint}"))
        return found

    def prove_by_dns(self, order: dict[str, Any]) -> None:
        """Put TXT records into the zone and say so."""
        for name, challenge, key_authorization in self.challenges(order, "dns-01"):
            digest = encode_b64jose(hashlib.sha256(key_authorization.encode()).digest())
            self.acme.validation.zone.setdefault(f"_acme-challenge.{name}", []).append(digest)
            assert self.post(challenge["url"], {}).json()["status"] == "valid"

    def finalize(self, order: dict[str, Any], *names: str, status: int = 200, key: Any = None) -> Any:
        """Send a certificate request."""
        request = csr(names, key)
        return self.post(order["finalize"], {"csr": encode_b64jose(request)}, status=status)

    def obtain(self, *names: str, **wishes: Any) -> tuple[dict[str, Any], tuple[x509.Certificate, ...]]:
        """Order, prove, finalize and download."""
        order = self.order(*names, **wishes).json()
        self.prove_by_dns(order)
        order = self.finalize(order, *names).json()
        assert order["status"] == "valid"
        chain = x509.load_pem_x509_certificates(self.post(order["certificate"]).content)
        return order, tuple(chain)


def csr(names: tuple[str, ...], key: Any = None) -> bytes:
    """Return a certificate request in DER."""
    alternative = [x509.DNSName(name) for name in names]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


@pytest.fixture
def client(acme_authority: ACMEAuthority, tls_authority: Authority) -> Generator[Client]:
    """A client with an account."""
    made = Client(acme_authority, tls_authority.cert_path)
    made.register(contact=["mailto:ops@example.test"])
    yield made
    made.session.close()


@contextlib.contextmanager
def answering_http(answers: dict[str, bytes]) -> Generator[int]:
    """Serve answers by path on a plain HTTP port, and give that port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, *_arguments: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def alpn_credential(name: str, key_authorization: str, *, critical: bool = True) -> Credential:
    """Return the certificate that answers tls-alpn-01 (RFC 8737, 3)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "challenge")])
    now = datetime.now(timezone.utc)
    digest = hashlib.sha256(key_authorization.encode()).digest()
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"), b"\x04\x20" + digest)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(extension, critical=critical)
        .sign(key, hashes.SHA256())
    )
    return Credential(chain=(certificate,), private_key=key)


def test_obtains_by_dns(client: Client, tls_authority: Authority) -> None:
    """Two names and a wildcard are proven by TXT records, and the chain ends at the root that clients trust."""
    names = (NAME, "example.test", "*.example.test")
    order, chain = client.obtain(*names)
    leaf, intermediate = chain
    covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert covered.get_values_for_type(x509.DNSName) == list(names)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(tls_authority.certificate)
    assert client.acme.issued[0].certificate == leaf
    assert client.post(client.kid.replace("/account/", "/orders/")).json()["orders"]  # type: ignore[union-attr]
    assert order["identifiers"][0] == {"type": "dns", "value": NAME}


def test_validates_http(client: Client) -> None:
    """http-01 is looked up over HTTP; a missing or wrong answer fails the authorization and the order."""
    for answer, expected in ((None, "unauthorized"), (b"wrong", "unauthorized"), (b"right", None)):
        order = client.order(NAME)
        ((_, challenge, key_authorization),) = client.challenges(order.json(), "http-01")
        body = key_authorization.encode() if answer == b"right" else answer
        answers = {} if body is None else {f"/.well-known/acme-challenge/{challenge['token']}": body}
        with answering_http(answers) as port:
            client.acme.validation.http_port = port
            result = client.post(challenge["url"], {}).json()
        if expected is None:
            assert result["status"] == "valid"
        else:
            assert result["error"]["type"] == f"urn:ietf:params:acme:error:{expected}"
            assert client.post(order.headers["Location"]).json()["status"] == "invalid"


def test_http_that_nobody_answers(client: Client) -> None:
    """Without a listener the challenge fails with a connection problem."""
    with answering_http({}) as port:
        client.acme.validation.http_port = port
    ((_, challenge, _),) = client.challenges(client.order(NAME).json(), "http-01")
    assert client.post(challenge["url"], {}).json()["error"]["type"].endswith(":connection")


def test_validates_tls_alpn(client: Client, https_server: Callable[..., TestServer]) -> None:
    """tls-alpn-01 is looked up in a handshake: protocol, name and digest have to be right, and critical."""
    server = https_server()
    client.acme.validation.tls_port = server.port
    challenges = server.http_server.ssl_adapter.acceptor.alpn_challenges
    outcomes: list[str] = []
    for case in ("right", "wrong digest", "not critical", "nobody there"):
        ((_, challenge, key_authorization),) = client.challenges(
            client.order(f"{len(outcomes)}.test").json(), "tls-alpn-01"
        )
        name = f"{len(outcomes)}.test"
        digest_of = "something else" if case == "wrong digest" else key_authorization
        challenges.clear()
        if case != "nobody there":
            challenges[name] = alpn_credential(name, digest_of, critical=case != "not critical")
        outcomes.append(client.post(challenge["url"], {}).json()["status"])
    assert outcomes == ["valid", "invalid", "invalid", "invalid"]


def test_asking_is_not_answering(client: Client) -> None:
    """POST-as-GET of a challenge only asks: nothing is validated until an object is posted."""
    ((_, challenge, _),) = client.challenges(client.order(NAME).json(), "dns-01")
    assert client.post(challenge["url"]).json()["status"] == "pending"
    assert client.post(challenge["url"], {}).json()["status"] == "invalid"


def test_valid_authorizations_are_reused(client: Client) -> None:
    """What an account has proven it need not prove again."""
    client.obtain(NAME)
    order = client.order(NAME).json()
    assert order["status"] == "ready"


def test_ip_identifiers(client: Client) -> None:
    """An address is proven by http-01 or tls-alpn-01, never by DNS (RFC 8738)."""
    order = client.order("127.0.0.1", kind="ip").json()
    authorization = client.post(order["authorizations"][0]).json()
    assert {one["type"] for one in authorization["challenges"]} == {"http-01", "tls-alpn-01"}


def test_alternate_chain(client: Client, acme_authority: ACMEAuthority) -> None:
    """A second chain to another root is offered by link, for clients that prefer one."""
    order, chain = client.obtain(NAME)
    response = client.post(order["certificate"])
    other = x509.load_pem_x509_certificates(client.post(response.links["alternate"]["url"]).content)
    assert other[0] == chain[0]
    other[0].verify_directly_issued_by(other[1])
    other[1].verify_directly_issued_by(acme_authority.alternate_root.certificate)


def test_renewal_information(client: Client) -> None:
    """The window can be asked for by the certificate's identifier, and a renewal says what it replaces, once."""
    _, chain = client.obtain(NAME)
    identifier = certificate_identifier(chain[0])
    start = datetime(2026, 5, 1, tzinfo=timezone.utc)
    client.acme.renewal_window = lambda _certificate: (start, start + timedelta(days=1))
    answer = client.session.get(f"{client.directory['renewalInfo']}/{identifier}", timeout=30)
    assert answer.json() == {"suggestedWindow": {"start": "2026-05-01T00:00:00Z", "end": "2026-05-02T00:00:00Z"}}
    assert int(answer.headers["Retry-After"]) > 0
    assert client.order(NAME, replaces=identifier).json()["replaces"] == identifier
    assert client.order(NAME, replaces=identifier, status=409).json()["type"].endswith(":alreadyReplaced")
    assert client.session.get(f"{client.directory['renewalInfo']}/a.b", timeout=30).status_code == 404


def test_renewal_identifier_is_that_of_the_rfc() -> None:
    """The identifier of the example in RFC 9773, 4.1 comes out."""

    class Extensions:
        def get_extension_for_class(self, _kind: Any) -> Any:
            key_id = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
            value = x509.AuthorityKeyIdentifier(key_id, None, None)
            return x509.Extension(value.oid, critical=False, value=value)

    class Certificate:
        extensions = Extensions()
        serial_number = 0x8765432100

    assert certificate_identifier(Certificate()) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyEA"  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["account", "certificate key", "stranger"])
def test_revocation(client: Client, tls_authority: Authority, by: str) -> None:
    """The owner's account and the certificate's key revoke; a stranger does not; the list says so."""
    key = ec.generate_private_key(ec.SECP256R1())
    order = client.order(NAME).json()
    client.prove_by_dns(order)
    order = client.finalize(order, NAME, key=key).json()
    leaf = x509.load_pem_x509_certificates(client.post(order["certificate"]).content)[0]
    payload = {"certificate": encode_b64jose(leaf.public_bytes(serialization.Encoding.DER)), "reason": 4}
    revoke = client.directory["revokeCert"]
    if by == "stranger":
        stranger = Client(client.acme, tls_authority.cert_path)
        stranger.register()
        stranger.post(revoke, payload, status=403)
        stranger.session.close()
        return
    signer = JWKEC(key=key) if by == "certificate key" else None
    client.post(revoke, payload, key=signer)
    assert client.post(revoke, payload, status=400).json()["type"].endswith(":alreadyRevoked")
    crl = x509.load_pem_x509_crl(tls_authority.revocations.crl(client.acme.issuer, timedelta(days=1)))
    assert crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None


def test_accounts(client: Client, tls_authority: Authority) -> None:
    """An account is made once per key, found again, changed, given another key, and ended."""
    new_account = client.directory["newAccount"]
    again = client.post(new_account, {"onlyReturnExisting": True}, key=client.key)
    assert again.headers["Location"] == client.kid
    assert again.json()["contact"] == ["mailto:ops@example.test"]
    assert client.kid is not None
    changed = client.post(client.kid, {"contact": ["mailto:new@example.test"]})
    assert changed.json()["contact"] == ["mailto:new@example.test"]
    url, new_key = client.directory["keyChange"], JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    claim = {"account": client.kid, "oldKey": client.key.public_key().to_json()}
    client.post(url, client.sign(claim, new_key, jwk=new_key.public_key().to_json(), url=url))
    client.post(client.kid, {}, status=403)
    client.key = new_key
    assert client.post(client.kid, {"status": "deactivated"}).json()["status"] == "deactivated"
    client.post(client.kid, {}, status=403)
    stranger = Client(client.acme, tls_authority.cert_path)
    assert stranger.post(new_account, {"onlyReturnExisting": True}, status=400).json()["type"].endswith("DoesNotExist")
    assert stranger.post(new_account, {}, status=403).json()["type"].endswith(":userActionRequired")
    stranger.session.close()


def test_external_accounts(tls_authority: Authority) -> None:
    """With external accounts, a new account needs a binding signed with the right MAC key for this account key."""
    with run_acme_authority(tls_authority, external_accounts={"kid-1": b"secret" * 6}) as acme:
        client = Client(acme, tls_authority.cert_path)
        assert client.directory["meta"]["externalAccountRequired"] is True
        new_account = client.directory["newAccount"]
        agreed = {"termsOfServiceAgreed": True}
        assert client.post(new_account, agreed, status=403).json()["type"].endswith(":externalAccountRequired")
        jwk = client.key.public_key().to_json()
        wrong = client.sign(jwk, JWKOct(key=b"guess" * 8), kid="kid-1", url=new_account)
        client.post(new_account, {**agreed, "externalAccountBinding": wrong}, status=403)
        right = client.sign(jwk, JWKOct(key=b"secret" * 6), kid="kid-1", url=new_account)
        client.register(externalAccountBinding=right)
        assert [account.external for account in acme.accounts.values()] == ["kid-1"]
        client.session.close()


def test_profiles_decide_the_lifetime(tls_authority: Authority) -> None:
    """A profile is announced, chosen by the order, and decides how long the certificate lasts."""
    with run_acme_authority(tls_authority, profiles={"shortlived": timedelta(days=6)}) as acme:
        client = Client(acme, tls_authority.cert_path)
        client.register()
        assert list(client.directory["meta"]["profiles"]) == ["shortlived"]
        _, chain = client.obtain(NAME, profile="shortlived")
        assert chain[0].not_valid_after_utc - datetime.now(timezone.utc) < timedelta(days=6)
        assert client.order(NAME, profile="other", status=400).json()["type"].endswith(":invalidProfile")
        client.session.close()


def test_nonces_are_good_once(client: Client) -> None:
    """A nonce is taken once, and one in so many is refused on purpose when asked for."""
    assert client.kid is not None
    nonce = client.nonce()
    client.post(client.kid, {}, nonce=nonce)
    assert client.post(client.kid, {}, nonce=nonce, status=400).json()["type"].endswith(":badNonce")
    client.acme.reject_every = 1
    assert client.post(client.kid, {}, status=400).json()["type"].endswith(":badNonce")


def test_signatures_are_verified(client: Client, tls_authority: Authority) -> None:
    """A request is refused if it was signed for another URL, by another key, or if its body was changed."""
    assert client.kid is not None
    client.post(client.kid, {}, url=client.directory["newOrder"], status=403)
    signed = client.sign({"contact": []}, kid=client.kid, nonce=client.nonce(), url=client.kid)
    forged = {**signed, "payload": encode_b64jose(b'{"status": "deactivated"}')}
    headers = {"Content-Type": "application/jose+json"}
    answer = client.session.post(client.kid, data=json.dumps(forged), headers=headers, timeout=30)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/problem+json")
    for body in ("{}", "[]", "nonsense", json.dumps({**signed, "header": {}})):
        assert client.session.post(client.kid, data=body, headers=headers, timeout=30).status_code == 400
    client.post(client.kid, {}, alg="none", status=400)
    assert client.session.get(client.kid, timeout=30).status_code == 405
    assert client.session.get(client.acme.base_url + "/nowhere", timeout=30).status_code == 404


def test_orders_that_are_refused(client: Client) -> None:
    """A refused name is named in a sub-problem; names that are none and empty orders are problems too."""
    client.acme.refused["bank.example.test"] = Problem("rejectedIdentifier", "A bank.", status=403)
    refusal = client.order(NAME, "bank.example.test", status=403).json()
    assert refusal["subproblems"][0]["identifier"] == {"type": "dns", "value": "bank.example.test"}
    assert client.order("not a name", status=400).json()["type"].endswith(":rejectedIdentifier")
    assert client.order(status=400).json()["type"].endswith(":malformed")
    assert client.order("x.test", kind="email", status=400).json()["type"].endswith(":unsupportedIdentifier")


def test_finalization_is_checked(client: Client) -> None:
    """A request before its time, for other names, or with the account's key gets nothing."""
    order = client.order(NAME).json()
    assert client.finalize(order, NAME, status=403).json()["type"].endswith(":orderNotReady")
    client.prove_by_dns(order)
    assert client.finalize(order, "other.example.test", status=400).json()["type"].endswith(":badCSR")
    assert client.finalize(order, NAME, key=client.key.key._wrapped, status=400).json()["type"].endswith(":badCSR")
    client.post(order["finalize"], {"csr": "AAAA"}, status=400)
    assert not client.acme.issued


def test_failures_on_demand(client: Client) -> None:
    """A test makes the authority fail: once for one resource, or altogether for a while."""
    client.acme.fail_next("newOrder", Problem("rateLimited", "Too many.", status=429, retry_after=3600))
    answer = client.order(NAME, status=429)
    assert answer.headers["Retry-After"] == "3600"
    assert answer.json()["type"] == "urn:ietf:params:acme:error:rateLimited"
    with client.acme.outage():
        assert client.session.get(client.acme.directory_url, timeout=30).status_code == 503
    client.order(NAME)


def test_renewal_window_is_the_last_third_by_default(client: Client) -> None:
    """Unless a test says otherwise, renewal is suggested when two thirds of the life are over."""
    _, chain = client.obtain(NAME)
    url = f"{client.directory['renewalInfo']}/{certificate_identifier(chain[0])}"
    window = client.session.get(url, timeout=30).json()["suggestedWindow"]
    start, end = (datetime.strptime(window[one], "%Y-%m-%dT%H:%M:%S%z") for one in ("start", "end"))
    life = chain[0].not_valid_after_utc - chain[0].not_valid_before_utc
    assert abs((start - chain[0].not_valid_before_utc) / life - 2 / 3) < 0.01
    assert start < end < chain[0].not_valid_after_utc


@pytest.mark.parametrize(
    ("wishes", "kind"),
    [
        ({"contact": "mailto:a@example.test"}, "invalidContact"),
        ({"contact": ["tel:1"]}, "unsupportedContact"),
        (["not an object"], "malformed"),
    ],
)
def test_accounts_that_are_refused(client: Client, wishes: Any, kind: str) -> None:
    """What is no contact, and what is no object, is a problem of its own kind."""
    assert client.kid is not None
    assert client.post(client.kid, wishes, status=400).json()["type"].endswith(f":{kind}")


@pytest.mark.parametrize(
    ("jwk", "kind"),
    [
        ({"kty": "EC"}, "malformed"),
        ("text", "malformed"),
        ({"kty": "oct", "k": "AAAA"}, "badPublicKey"),
        (WEAK_JWK, "badPublicKey"),
    ],
)
def test_keys_that_are_refused(client: Client, jwk: Any, kind: str) -> None:
    """A new account needs a public key, whole, asymmetric and strong."""
    client.kid = None
    answer = client.post(client.directory["newAccount"], {"termsOfServiceAgreed": True}, jwk=jwk, status=400)
    assert answer.json()["type"].endswith(f":{kind}")


def test_keys_and_accounts_are_not_mixed_up(client: Client) -> None:
    """Orders are signed by account, new accounts by key, and account URLs are those of this authority."""
    directory, kid = client.directory, client.kid
    client.post(directory["newOrder"], {}, key=client.key, status=400)
    client.post(directory["newAccount"], {}, status=400)
    client.kid = f"{kid}0"
    assert client.post(directory["newOrder"], {}, status=400).json()["type"].endswith(":accountDoesNotExist")
    client.kid = kid
    answer = client.session.post(directory["newOrder"], data="{}", timeout=30)
    assert answer.status_code == 415


def test_another_accounts_key_is_a_conflict(client: Client, tls_authority: Authority) -> None:
    """A key roll-over needs the old key, the right account, and a key that nobody has."""
    other = Client(client.acme, tls_authority.cert_path)
    other.register()
    url = client.directory["keyChange"]

    def roll_over(new_key: JWKEC, claim: dict[str, Any], status: int) -> None:
        inner = client.sign(claim, new_key, jwk=new_key.public_key().to_json(), url=url)
        client.post(url, inner, status=status)

    old = client.key.public_key().to_json()
    fresh = JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    roll_over(other.key, {"account": client.kid, "oldKey": old}, 409)
    roll_over(fresh, {"account": other.kid, "oldKey": old}, 400)
    roll_over(fresh, {"account": client.kid, "oldKey": other.key.public_key().to_json()}, 400)
    other.session.close()


def test_authorizations_can_be_given_up(client: Client) -> None:
    """A deactivated authorization makes its order invalid, and a later order proves anew."""
    order, _ = client.obtain(NAME)
    assert client.post(order["authorizations"][0], {"status": "deactivated"}).json()["status"] == "deactivated"
    assert client.order(NAME).json()["status"] == "pending"


def test_revocations_that_are_refused(client: Client) -> None:
    """What is no certificate, not issued here, or has no good reason is not revoked."""
    _, chain = client.obtain(NAME)
    revoke = client.directory["revokeCert"]
    client.post(revoke, {"certificate": "AAAA"}, status=400)
    ders = [encode_b64jose(one.public_bytes(serialization.Encoding.DER)) for one in chain]
    client.post(revoke, {"certificate": ders[1]}, status=404)
    refused = client.post(revoke, {"certificate": ders[0], "reason": 99}, status=400)
    assert refused.json()["type"].endswith(":badRevocationReason")
    assert not client.acme.issued[0].revoked


def test_somebody_elses_things(client: Client, tls_authority: Authority) -> None:
    """Orders, authorizations, challenges and certificates are their account's alone."""
    order, _ = client.obtain(NAME)
    authorization = client.post(order["authorizations"][0]).json()
    stranger = Client(client.acme, tls_authority.cert_path)
    stranger.register()
    urls = [order["authorizations"][0], order["finalize"], order["certificate"], authorization["challenges"][0]["url"]]
    for url in urls:
        stranger.post(url, status=404)
    assert client.kid is not None
    stranger.post(client.kid, status=403)
    stranger.session.close()


def test_clients_can_be_made_to_poll(tls_authority: Authority) -> None:
    """Without patience the answer to a challenge comes before its outcome."""
    release = threading.Event()

    def look_up(_name: str) -> list[str]:
        release.wait(30)
        return []

    with run_acme_authority(tls_authority, validation_patience=0) as acme:
        acme.validation.look_up = look_up
        client = Client(acme, tls_authority.cert_path)
        client.register()
        ((_, challenge, _),) = client.challenges(client.order(NAME).json(), "dns-01")
        assert client.post(challenge["url"], {}).json()["status"] == "processing"
        release.set()
        client.session.close()


def test_issuing_can_take_looks_or_fail(client: Client) -> None:
    """An order stays in processing for as many looks as are wanted, or becomes invalid with its problem."""
    client.acme.looks_before_issuing = 2
    order = client.order(NAME)
    client.prove_by_dns(order.json())
    assert client.finalize(order.json(), NAME).json()["status"] == "processing"
    looks = [client.post(order.headers["Location"]).json() for _ in range(3)]
    assert [look["status"] for look in looks] == ["processing", "processing", "valid"]
    assert ["certificate" in look for look in looks] == [False, False, True]
    client.acme.issuance_problem = Problem("caa", "CAA says no.")
    invalid = client.finalize(client.order(NAME).json(), NAME).json()
    assert (invalid["status"], invalid["error"]["detail"]) == ("invalid", "CAA says no.")


def test_unknown_challenges_can_be_offered(client: Client) -> None:
    """Clients meet types of challenges that they do not know, beside those that they do."""
    client.acme.more_challenge_types = ("quantum-07",)
    authorization = client.post(client.order(NAME).json()["authorizations"][0]).json()
    assert [one["type"] for one in authorization["challenges"]] == ["quantum-07", "http-01", "tls-alpn-01", "dns-01"]


def test_renewal_can_be_explained(client: Client) -> None:
    """Renewal information has the URL of an explanation where the test gives one."""
    _, chain = client.obtain(NAME)
    client.acme.renewal_explanation = "https://ca.example.test/incident"
    url = f"{client.directory['renewalInfo']}/{certificate_identifier(chain[0])}"
    assert client.session.get(url, timeout=30).json()["explanationURL"] == "https://ca.example.test/incident"


def test_certbots_client_gets_a_certificate(acme_authority: ACMEAuthority, tls_authority: Authority) -> None:
    """Certbot's own ``acme`` package registers, orders, proves by http-01, finalizes, and revokes."""
    acme_client = pytest.importorskip("acme.client")
    messages = pytest.importorskip("acme.messages")

    class Ready:
        """An empty object that is sent as one: the package takes its own for nothing to send."""

        def json_dumps(self, **_options: Any) -> str:
            return "{}"

    key = JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    network = acme_client.ClientNetwork(key, alg=ES256, verify_ssl=str(tls_authority.cert_path))
    directory = acme_client.ClientV2.get_directory(acme_authority.directory_url, network)
    client = acme_client.ClientV2(directory, net=network)
    client.new_account(messages.NewRegistration.from_data(email="a@example.test", terms_of_service_agreed=True))
    pem = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    order = client.new_order(pem)
    (challenge,) = [one for one in order.authorizations[0].body.challenges if one.chall.typ == "http-01"]
    _, validation = challenge.response_and_validation(key)
    with answering_http({challenge.chall.path: validation.encode()}) as port:
        acme_authority.validation.http_port = port
        client._post(challenge.uri, Ready())
        order = client.poll_and_finalize(order)
    chain = x509.load_pem_x509_certificates(order.fullchain_pem.encode())
    assert chain[0] == acme_authority.issued[0].certificate
    client.revoke(chain[0], 0)
    assert acme_authority.issued[0].revoked
