"""mod_ssl's variables, made of what was negotiated."""

from __future__ import annotations

import ssl
import subprocess
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from secureserve.certificates.store import CertificateStore
from secureserve.testing.template import Template
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.environ import certificate_environ, distinguished_name, environ_for
from secureserve.tls.policy import TLSPolicy
from tests.tls.lockstep import connected, limited

if TYPE_CHECKING:
    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential
    from secureserve.tls.info import TLSInfo

NAMES = ("client@example.test", "worker.example.test", "spiffe://example.test/worker", "192.0.2.7")


@pytest.fixture
def client(tls_authority: Authority) -> IssuedCredential:
    """A client's credential with names of every kind."""
    return tls_authority.issue(*NAMES, common_name="client", usage="client", chain_depth=1)


def negotiated(authority: Authority, issued: IssuedCredential | None, engine: str, version: str) -> TLSInfo:
    """Return what a connection says."""
    policy = TLSPolicy(client_verify="optional", client_ca=authority.cert_path)
    store = CertificateStore([authority.issue("localhost", chain_depth=1).credential])
    context = limited(authority.client_context(), version)
    if issued is not None:
        context.load_cert_chain(issued.certificate_path, issued.private_key_path)
    with connected(TLSAcceptor(store, policy, engine=engine), context) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        return pair.server.tls


def test_every_value_is_text(tls_authority: Authority, client: IssuedCredential, engine: str, tls_version: str) -> None:
    """All names are mod_ssl's or documented, and all values are str, as PEP 3333 wants."""
    environ = negotiated(tls_authority, client, engine, tls_version).environ()
    assert all(type(name) is type(value) is str for name, value in environ.items())
    assert all(name.startswith("SSL_") or name == "HTTPS" for name in environ)


def test_the_connection(tls_authority: Authority, engine: str, tls_version: str) -> None:
    """Version, suite, server name and resumption are there, and SSL_CLIENT_VERIFY without a certificate too."""
    info = negotiated(tls_authority, None, engine, tls_version)
    environ = info.environ()
    assert environ["HTTPS"] == "on"
    assert environ["SSL_PROTOCOL"] == tls_version
    assert environ["SSL_CIPHER"] == info.cipher
    assert environ["SSL_CIPHER_USEKEYSIZE"] == environ["SSL_CIPHER_ALGKEYSIZE"] == str(info.cipher_bits)
    assert environ["SSL_TLS_SNI"] == "localhost"
    assert environ["SSL_SESSION_RESUMED"] == "Initial"
    assert environ["SSL_COMPRESS_METHOD"] == "NULL"
    assert environ["SSL_CLIENT_VERIFY"] == "NONE"
    assert environ["SSL_VERSION_LIBRARY"].startswith("OpenSSL ")
    assert environ["SSL_SERVER_SAN_DNS_0"] == "localhost"
    assert not any(name.startswith("SSL_CLIENT_") for name in environ if name != "SSL_CLIENT_VERIFY")
    if engine == "pyopenssl":
        assert environ["SSL_GROUP"] == info.group == "X25519"


def test_the_client(tls_authority: Authority, client: IssuedCredential, engine: str, tls_version: str) -> None:
    """The client's certificate is there as OpenSSL itself describes it, with every name and its whole chain."""
    info = negotiated(tls_authority, client, engine, tls_version)
    environ = info.environ()
    assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert environ["SSL_CLIENT_M_VERSION"] == "3"
    assert environ["SSL_CLIENT_S_DN_CN"] == "client"
    assert environ["SSL_CLIENT_SAN_Email_0"] == "client@example.test"
    assert environ["SSL_CLIENT_SAN_DNS_0"] == "worker.example.test"
    assert environ["SSL_CLIENT_SAN_URI_0"] == "spiffe://example.test/worker"
    assert environ["SSL_CLIENT_SAN_IP_0"] == "192.0.2.7"
    assert environ["SSL_CLIENT_A_KEY"] == "id-ecPublicKey"
    assert environ["SSL_CLIENT_A_SIG"] == "ecdsa-with-SHA256"
    pems = [environ["SSL_CLIENT_CERT"], environ["SSL_CLIENT_CERT_CHAIN_0"], environ["SSL_CLIENT_CERT_CHAIN_1"]]
    assert tuple(map(ssl.PEM_cert_to_DER_cert, pems)) == info.peer_chain_der
    assert info.peer_certificate == client.leaf
    command = ["openssl", "x509", "-in", str(client.leaf_path), "-noout", "-serial", "-startdate", "-enddate"]
    command += ["-subject", "-issuer", "-nameopt", "RFC2253"]
    described = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    said = dict(line.split("=", 1) for line in described.stdout.splitlines())
    assert environ["SSL_CLIENT_M_SERIAL"] == said["serial"].lstrip("0")
    assert environ["SSL_CLIENT_V_START"] == said["notBefore"]
    assert environ["SSL_CLIENT_V_END"] == said["notAfter"]
    assert environ["SSL_CLIENT_S_DN"] == said["subject"]
    assert environ["SSL_CLIENT_I_DN"] == said["issuer"]


def test_it_is_computed_once(tls_authority: Authority, engine: str) -> None:
    """A connection's variables are made on the first call and kept."""
    info = negotiated(tls_authority, None, engine, "TLSv1.3")
    assert info.environ() is info.environ()


def certificate(subject: x509.Name, authority: Authority, *, until: datetime | None = None) -> x509.Certificate:
    """Return a certificate with an odd subject."""
    template = Template(subject=subject, serial_number=0xABC, not_after=until, lifetime=timedelta(days=10))
    return authority.issue_from(template, authority.keys.take()).leaf


def test_a_comma_forges_nothing(tls_authority: Authority) -> None:
    """A common name that looks like more attributes stays one, escaped as RFC 4514 says."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Guests"),
            x509.NameAttribute(NameOID.COMMON_NAME, "bob,O=Admins"),
        ]
    )
    environ = certificate_environ("X", certificate(subject, tls_authority), now=datetime.now(timezone.utc))
    assert environ["X_S_DN"] == "CN=bob\\,O=Admins,O=Guests"
    assert environ["X_S_DN_CN"] == "bob,O=Admins"
    assert environ["X_S_DN_O"] == "Guests"
    assert x509.Name.from_rfc4514_string(environ["X_S_DN"]) == subject


@pytest.mark.parametrize("value", ["a+b", 'a"b', "a\\b", "a<b>", " a", "a ", "#a", "a;b", "a\x00b", "ä=ö", "a\nb"])
def test_names_survive_the_way_there_and_back(value: str) -> None:
    """Whatever stands in an attribute, the text means that attribute and nothing else."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)])
    assert x509.Name.from_rfc4514_string(distinguished_name(name)) == name


def test_attributes_that_repeat_are_numbered(tls_authority: Authority) -> None:
    """Of several attributes of a kind the first has the plain name, and each its number."""
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, value) for value in ("one", "two")])
    environ = certificate_environ("X", certificate(subject, tls_authority), now=datetime.now(timezone.utc))
    assert (environ["X_S_DN_OU"], environ["X_S_DN_OU_0"], environ["X_S_DN_OU_1"]) == ("one", "one", "two")
    assert environ["X_M_SERIAL"] == "ABC"


def test_the_days_that_remain(tls_authority: Authority) -> None:
    """V_REMAIN counts whole days from now to the end, and is 0 after it."""
    now = datetime.now(timezone.utc)
    one = certificate(x509.Name([]), tls_authority, until=now + timedelta(days=5, hours=1))
    assert certificate_environ("X", one, now=now)["X_V_REMAIN"] == "5"
    assert certificate_environ("X", one, now=now + timedelta(days=5))["X_V_REMAIN"] == "0"
    assert certificate_environ("X", one, now=now + timedelta(days=50))["X_V_REMAIN"] == "0"


def test_a_resumed_session_says_so(tls_authority: Authority, engine: str, tls_version: str) -> None:
    """SSL_SESSION_RESUMED tells a resumed session from a first one."""
    acceptor = TLSAcceptor(CertificateStore([tls_authority.issue("localhost").credential]), engine=engine)
    context = limited(tls_authority.client_context(), tls_version)
    with connected(acceptor, context) as pair:
        pair.shake_hands()
        pair.to_client(b"x")
        session = pair.client.tls.session
    with connected(acceptor, context, session=session) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        assert environ_for(pair.server.tls)["SSL_SESSION_RESUMED"] == "Resumed"


def test_the_pem_is_whole(tls_authority: Authority, engine: str) -> None:
    """SSL_SERVER_CERT is our own certificate."""
    info = negotiated(tls_authority, None, engine, "TLSv1.3")
    pem = info.credential.leaf.public_bytes(Encoding.PEM).decode()
    assert info.environ()["SSL_SERVER_CERT"] == pem
