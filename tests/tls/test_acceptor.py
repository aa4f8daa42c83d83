"""What a handshake presents: by server name, by key type, over rotations and resumptions."""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import ssl
import subprocess
import sys
import weakref
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.certificates.store import CertificateStore
from secureserve.errors import ConfigurationError, HandshakeFailed
from secureserve.events import Events, TicketKeysRenewed
from secureserve.tls.acceptor import TICKET_KEY_LIFETIME, TLSAcceptor
from secureserve.tls.engines.base import Want
from secureserve.tls.policy import ACME_PROTOCOL, TLSPolicy
from tests.tls.lockstep import DEADLINE, Pair, connected, limited
from tests.tls.serving import SmallServer

if TYPE_CHECKING:
    from secureserve.certificates.credential import Credential
    from secureserve.testing.authority import Authority


def presented(pair: Pair) -> bytes | None:
    """Return what the client was shown."""
    return pair.client.tls.getpeercert(binary_form=True)


def client_words(pair: Pair) -> str:
    """Return what the client says of its failure, in small words."""
    return str(pair.client_error).lower().replace("_", " ")


def der(credential: Credential) -> bytes:
    """Return a credential's leaf."""
    return ssl.PEM_cert_to_DER_cert(
        credential.chain_pem().decode().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    )


@pytest.fixture
def client(tls_client_context: ssl.SSLContext, tls_version: str) -> ssl.SSLContext:
    """A client that verifies and speaks one version."""
    return limited(tls_client_context, tls_version)


def test_each_name_gets_its_certificate(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """The ClientHello's name chooses, whatever its case; no name and unknown names get the default."""
    first = tls_authority.issue("localhost").credential
    second = tls_authority.issue("other.test", "*.wild.test").credential
    client.check_hostname = False
    acceptor = TLSAcceptor(CertificateStore([first, second]), engine=engine)
    for name, expected in [
        ("localhost", first),
        ("other.test", second),
        ("OTHER.test", second),
        ("a.wild.test", second),
        (None, first),
        ("unknown.test", first),
    ]:
        with connected(acceptor, client, server_name=name) as pair:
            pair.shake_hands()
            assert presented(pair) == der(expected)
            assert pair.server.tls is not None
            assert pair.server.tls.credential is expected
            assert pair.server.tls.server_name == (name.lower() if name else None)


def test_a_strict_store_refuses_unknown_names(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """With sni_strict a name that nobody covers is refused with unrecognized_name, as the client sees too."""
    store = CertificateStore([tls_authority.issue("localhost").credential], sni_strict=True)
    with connected(TLSAcceptor(store, engine=engine), client, server_name="unknown.test") as pair:
        pair.shake_hands()
        assert "unrecognized name" in client_words(pair)
        assert isinstance(pair.server_error, HandshakeFailed)
        assert pair.server_error.alert == "unrecognized_name"
        assert not pair.server_error.alert_sent_by_peer
        assert "unknown.test" in str(pair.server_error)


@pytest.mark.parametrize("name", [b"b\xc3\xbccher.test", b"\xff\xfe\xfd\xfc.test"])
def test_a_name_that_is_not_ascii_is_refused(
    tls_authority: Authority, engine: str, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not a host name (RFC 6066, 3): the client is told so, and nobody else is, on whatever channel."""
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    stand_in = "x" * (len(name) - 5) + ".test"
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=stand_in).do_handshake()
    hello = outgoing.read().replace(stand_in.encode(), name)
    acceptor = TLSAcceptor(CertificateStore([tls_authority.issue().credential]), engine=engine)
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.sendall(hello)
        connection = acceptor.accept(near)
        with pytest.raises(HandshakeFailed, match="no certificate for the name") as caught:
            connection.handshake()
        assert caught.value.alert == "unrecognized_name"
        connection.close()
        content_type, *_, description = far.recv(100)
        assert (content_type, description) == (21, 112)
    assert told == []


def test_an_address_is_matched_without_a_name(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """A client that connects to an IP address and can send no name gets the certificate for that address."""
    named = tls_authority.issue("localhost").credential
    addressed = tls_authority.issue("127.0.0.1").credential
    acceptor = TLSAcceptor(CertificateStore([named, addressed]), engine=engine)
    with connected(acceptor, client, server_name="127.0.0.1") as pair:
        pair.shake_hands()
        assert presented(pair) == der(addressed)


def test_the_whole_chain_is_sent(
    tls_authority: Authority, engine: str, tls_version: str, client: ssl.SSLContext
) -> None:
    """A client that knows the root alone can verify a leaf under two intermediates, and sees three certificates."""
    issued = tls_authority.issue("localhost", chain_depth=2)
    with connected(TLSAcceptor(CertificateStore([issued.credential]), engine=engine), client) as pair:
        pair.shake_hands()
        assert pair.client_error is None
    with SmallServer(TLSAcceptor(CertificateStore([issued.credential]), engine=engine)) as server:
        shown = s_client(server, "-showcerts", f"-{tls_version.lower().replace('v', '').replace('.', '_')}")
    assert chain_length(shown) == 3


def test_a_rotation_reaches_new_handshakes_only(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """After replace() new handshakes get the new certificate, and connections from before go on unharmed."""
    old = tls_authority.issue("localhost").credential
    new = tls_authority.issue("localhost").credential
    store = CertificateStore([old])
    acceptor = TLSAcceptor(store, engine=engine)
    with connected(acceptor, client) as before:
        before.shake_hands()
        store.replace([new])
        with connected(acceptor, client) as after:
            after.shake_hands()
            assert presented(after) == der(new)
        assert before.to_server(b"still here") == b"still here"
        assert before.to_client(b"so am I") == b"so am I"
        assert presented(before) == der(old)


def test_a_refused_rotation_changes_nothing(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """When anything refuses a snapshot, the handshakes after it get what those before it got."""
    old = tls_authority.issue("localhost").credential
    store = CertificateStore([old])
    acceptor = TLSAcceptor(store, engine=engine)

    def refuse(snapshot: Any) -> None:
        if snapshot.default is not old:
            raise RuntimeError

    store.add_preparer(refuse)
    with pytest.raises(RuntimeError):
        store.replace([tls_authority.issue("localhost").credential])
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        assert presented(pair) == der(old)


def test_a_closed_acceptor_prepares_no_more(tls_authority: Authority, engine: str) -> None:
    """An acceptor that was closed is forgotten by its store."""
    store = CertificateStore([tls_authority.issue("localhost").credential])
    acceptor = TLSAcceptor(store, engine=engine)
    table = acceptor._presented
    acceptor.close()
    store.replace([tls_authority.issue("localhost").credential])
    assert acceptor._presented is table


def session_of(acceptor: TLSAcceptor, client: ssl.SSLContext) -> ssl.SSLSession:
    """Make a connection and return the session that it can be resumed with."""
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        assert not pair.client.tls.session_reused
        pair.to_client(b"with TLS 1.3 tickets come after the handshake")
        session = pair.client.tls.session
        assert session is not None
        # OpenSSL keeps no session of a connection that broke.
        pair.server.close_notify()
        return session


def resumes(acceptor: TLSAcceptor, client: ssl.SSLContext, session: ssl.SSLSession) -> bool:
    """Whether a session can be resumed; both sides have to agree on that."""
    with connected(acceptor, client, session=session) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        assert pair.to_server(b"x") == b"x"
        assert pair.server.tls.resumed == pair.client.tls.session_reused
        return pair.server.tls.resumed


def test_sessions_resume_over_rotations(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """A ticket from before a rotation resumes after it, in both versions."""
    store = CertificateStore([tls_authority.issue("localhost").credential])
    acceptor = TLSAcceptor(store, engine=engine)
    session = session_of(acceptor, client)
    store.replace([tls_authority.issue("localhost").credential])
    assert resumes(acceptor, client, session)


def test_sessions_can_be_forgotten(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """After forget_sessions() no earlier session resumes, later ones do, and an event says why."""
    events, seen = Events(), []
    events.subscribe(seen.append)
    store = CertificateStore([tls_authority.issue("localhost").credential])
    acceptor = TLSAcceptor(store, engine=engine, publish_event=events.publish)
    session = session_of(acceptor, client)
    acceptor.forget_sessions("the key was stolen")
    assert not resumes(acceptor, client, session)
    assert resumes(acceptor, client, session_of(acceptor, client))
    assert seen == [TicketKeysRenewed("the key was stolen")]


def test_keys_may_be_renewed_in_the_middle_of_a_handshake(tls_authority: Authority, engine: str) -> None:
    """A client that has to retry (RFC 8446, 4.1.4) is asked for its name again, by a context that is still there."""
    store = CertificateStore([tls_authority.issue("localhost").credential])
    acceptor = TLSAcceptor(store, TLSPolicy(groups=("P-384",)), engine=engine)
    base: weakref.ref[Any] = weakref.ref(acceptor._engine._base)
    with connected(acceptor, tls_authority.client_context()) as pair:
        pair.client.handshake()
        select.select([pair.server.fileno()], [], [], DEADLINE)
        assert pair.server.handshake() is Want.READ
        assert pair.server.tls is None
        acceptor.forget_sessions("the key was stolen")
        gc.collect()
        assert base() is not None
        pair.shake_hands()
        assert pair.to_server(b"x") == b"x"


class _LaterClock:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        """Return the present."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """Return what it was put to."""
        return self.seconds


def test_ticket_keys_have_a_lifetime(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """A day after its keys were made a ticket no longer resumes, and the keys are new."""
    clock = _LaterClock()
    store = CertificateStore([tls_authority.issue("localhost").credential])
    acceptor = TLSAcceptor(store, engine=engine, clock=clock)
    session = session_of(acceptor, client)
    clock.seconds += TICKET_KEY_LIFETIME - 1
    assert resumes(acceptor, client, session)
    clock.seconds += 2
    assert not resumes(acceptor, client, session)


def test_tickets_can_be_turned_off(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """With session_tickets=False nothing is resumed, and connections work."""
    store = CertificateStore([tls_authority.issue("localhost").credential])
    acceptor = TLSAcceptor(store, TLSPolicy(session_tickets=False), engine=engine)
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        pair.to_client(b"x")
        session = pair.client.tls.session
        pair.server.close_notify()
    if session is not None:
        assert not resumes(acceptor, client, session)


def test_the_lifetime_of_tickets(tls_authority: Authority, engine: str) -> None:
    """Pyopenssl tells clients the lifetime that was set; builtin refuses one that it cannot set."""
    store = CertificateStore([tls_authority.issue("localhost").credential])
    policy = TLSPolicy(session_ticket_lifetime=600.0)
    if engine == "builtin":
        with pytest.raises(ConfigurationError, match=r"session_ticket_lifetime = 600\.0 cannot be changed"):
            TLSAcceptor(store, policy, engine=engine)
        return
    with SmallServer(TLSAcceptor(store, policy, engine=engine)) as server:
        assert "lifetime hint: 600 (seconds)" in s_client(server, "-tls1_2")


def s_client(server: SmallServer, *options: str) -> str:
    """Return what ``openssl s_client`` prints after one request."""
    done = subprocess.run(
        [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{server.port}",
            "-servername",
            "localhost",
            "-ign_eof",
            *options,
        ],
        input=b"GET / HTTP/1.1\r\n\r\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    return (done.stdout + done.stderr).decode()


def chain_length(printed: str) -> int:
    """Return how many certificates ``openssl s_client -showcerts`` was sent."""
    return printed.partition("Server certificate")[0].count("BEGIN CERTIFICATE")


@pytest.mark.parametrize(("client_can", "shown"), [("ECDSA+SHA256:RSA-PSS+SHA256", "ecdsa"), ("RSA-PSS+SHA256", "rsa")])
def test_two_key_types(tls_authority: Authority, engine: str, tls_version: str, client_can: str, shown: str) -> None:
    """Of an ECDSA and an RSA certificate for a name, ECDSA is shown to who can verify it, each with its own chain."""
    issued = {
        "rsa": tls_authority.issue("localhost", key_type="rsa", chain_depth=1),
        "ecdsa": tls_authority.issue("localhost", key_type="ecdsa", chain_depth=2),
    }
    acceptor = TLSAcceptor(CertificateStore([one.credential for one in issued.values()]), engine=engine)
    version = "-" + tls_version.lower().replace("v", "").replace(".", "_")
    options = ["-sigalgs", client_can, "-showcerts", "-CAfile", str(tls_authority.cert_path), "-verify_return_error"]
    with SmallServer(acceptor) as server:
        printed = s_client(server, version, *options)
        info = server.outcome()
    assert not isinstance(info, Exception), printed
    assert info.credential == issued[shown].credential
    assert chain_length(printed) == len(issued[shown].chain)
    assert "Verify return code: 0 (ok)" in printed


def test_an_expiring_partner_is_left_out(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """A certificate of another key type is shown in place of the chosen one only if it lasts as long."""
    now = datetime.now(timezone.utc)
    soon = tls_authority.issue("localhost", key_type="ecdsa", not_after=now + timedelta(hours=1)).credential
    late = tls_authority.issue("localhost", key_type="rsa", not_after=now + timedelta(days=9)).credential
    acceptor = TLSAcceptor(CertificateStore([soon, late]), engine=engine)
    assert acceptor._presented[soon].credentials == (soon, late)
    assert acceptor._presented[late].credentials == (late,)
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        assert presented(pair) == der(soon)


def test_no_common_protocol_is_refused(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """A client that offers only protocols which we do not speak gets no_application_protocol (RFC 7301, 3.2)."""
    client.set_alpn_protocols(["h2", "spdy/3"])
    acceptor = TLSAcceptor(CertificateStore([tls_authority.issue("localhost").credential]), engine=engine)
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        assert "no application protocol" in client_words(pair)
        assert isinstance(pair.server_error, HandshakeFailed)
        assert pair.server_error.alert == "no_application_protocol"


def test_without_protocols_offers_are_ignored(tls_authority: Authority, engine: str, client: ssl.SSLContext) -> None:
    """With no protocols in the policy any offer is let through unanswered."""
    client.set_alpn_protocols(["h2"])
    store = CertificateStore([tls_authority.issue("localhost").credential])
    with connected(TLSAcceptor(store, TLSPolicy(alpn_protocols=()), engine=engine), client) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        assert pair.server.tls.alpn_protocol is None


def test_acme_challenges_are_answered(
    tls_authority: Authority, engine: str, tls_version: str, client: ssl.SSLContext
) -> None:
    """While a challenge is there, exactly its name and protocol get its certificate, and the connection then ends."""
    normal = tls_authority.issue("localhost").credential
    challenge = tls_authority.issue("localhost").credential
    acceptor = TLSAcceptor(CertificateStore([normal]), engine=engine)
    acme = ssl.create_default_context(cadata=tls_authority.cert_pem.bytes().decode())
    acme.set_alpn_protocols([ACME_PROTOCOL])
    limited(acme, tls_version)
    with connected(acceptor, acme) as pair:
        pair.shake_hands()
        assert "no application protocol" in client_words(pair)
    acceptor.alpn_challenges["localhost"] = challenge
    with connected(acceptor, acme) as pair:
        pair.shake_hands()
        assert presented(pair) == der(challenge)
        assert pair.client.tls.selected_alpn_protocol() == ACME_PROTOCOL
        assert pair.server.receive(100) == b""
    client.set_alpn_protocols(["http/1.1"])
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        assert presented(pair) == der(normal)
        assert pair.to_server(b"business as usual") == b"business as usual"
    client.set_alpn_protocols([ACME_PROTOCOL, "http/1.1"])
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        assert presented(pair) == der(normal)
        assert pair.server.tls is not None
        assert pair.server.tls.alpn_protocol == "http/1.1"
    del acceptor.alpn_challenges["localhost"]
    with connected(acceptor, acme) as pair:
        pair.shake_hands()
        assert "no application protocol" in client_words(pair)


def test_an_unknown_engine_is_an_error(tls_authority: Authority) -> None:
    """An engine that does not exist is refused with the names of those that do."""
    store = CertificateStore([tls_authority.issue("localhost").credential])
    with pytest.raises(ConfigurationError, match="Choose one of pyopenssl, builtin"):
        TLSAcceptor(store, engine="gnutls")
