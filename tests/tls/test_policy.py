"""How strictly TLS is spoken: versions, suites, groups, and the doors that stay shut."""

from __future__ import annotations

import socket
import ssl
import stat
from typing import TYPE_CHECKING, Any

import pytest
from OpenSSL import SSL

from secureserve.certificates.store import CertificateStore
from secureserve.errors import ConfigurationError, HandshakeFailed
from secureserve.events import Events, KeyLogOpened
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.engines import ENGINES, capabilities
from secureserve.tls.engines.pyopenssl.binding import MISSING
from secureserve.tls.policy import GROUPS, INTERMEDIATE_CIPHERS, TLS13_CIPHERSUITES, TLSPolicy, TLSVersion
from tests.tls.lockstep import connected, limited
from tests.tls.serving import SmallServer
from tests.tls.test_acceptor import client_words, s_client

if TYPE_CHECKING:
    from pathlib import Path

    from secureserve.testing.authority import Authority


@pytest.fixture(scope="module")
def store(tls_authority: Authority) -> CertificateStore:
    """A store with an ECDSA credential for localhost."""
    return CertificateStore([tls_authority.issue("localhost").credential])


@pytest.mark.parametrize(
    ("policy", "version", "accepted"),
    [
        (TLSPolicy.INTERMEDIATE, "TLSv1.2", True),
        (TLSPolicy.INTERMEDIATE, "TLSv1.3", True),
        (TLSPolicy.MODERN, "TLSv1.2", False),
        (TLSPolicy.MODERN, "TLSv1.3", True),
        (TLSPolicy(maximum_version="TLSv1.2"), "TLSv1.2", True),
        (TLSPolicy(maximum_version="TLSv1.2"), "TLSv1.3", False),
    ],
)
def test_versions(  # noqa: PLR0917 - fixtures
    store: CertificateStore, engine: str, tls_authority: Authority, policy: TLSPolicy, version: str, accepted: bool
) -> None:
    """The profiles speak the versions they say, and refuse others with protocol_version."""
    with connected(TLSAcceptor(store, policy, engine=engine), limited(tls_authority.client_context(), version)) as pair:
        pair.shake_hands()
        if accepted:
            assert pair.server.tls is not None
            assert pair.server.tls.version == version
        else:
            assert isinstance(pair.server_error, HandshakeFailed)
            assert pair.server_error.alert == "protocol_version"
            assert "protocol version" in client_words(pair)


@pytest.mark.parametrize("suite", INTERMEDIATE_CIPHERS)
def test_suites_of_tls12(store: CertificateStore, engine: str, tls_authority: Authority, suite: str) -> None:
    """Every suite of INTERMEDIATE can be the only one, and a client without it gets handshake_failure."""
    key = "ecdsa" if "ECDSA" in suite else "rsa"
    store = CertificateStore([tls_authority.issue("localhost", key_type=key).credential])
    acceptor = TLSAcceptor(store, TLSPolicy(ciphers=suite), engine=engine)
    client = limited(tls_authority.client_context(), "TLSv1.2")
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        assert pair.server.tls.cipher == suite
    client.set_ciphers(":".join(each for each in INTERMEDIATE_CIPHERS if each != suite))
    with connected(acceptor, client) as pair:
        pair.shake_hands()
        assert isinstance(pair.server_error, HandshakeFailed)
        assert pair.server_error.alert == "handshake_failure"


def test_our_preference_counts(store: CertificateStore, engine: str, tls_authority: Authority) -> None:
    """Of the suites that both have the server's first is taken, not the client's."""
    ours = ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256")
    client = limited(tls_authority.client_context(), "TLSv1.2")
    client.set_ciphers(":".join(reversed(ours)))
    with connected(TLSAcceptor(store, TLSPolicy(ciphers=ours), engine=engine), client) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        assert pair.server.tls.cipher == ours[0]


@pytest.mark.parametrize("suite", TLS13_CIPHERSUITES)
def test_suites_of_tls13(store: CertificateStore, tls_authority: Authority, engine: str, suite: str) -> None:
    """Where the engine can, a single TLS 1.3 suite can be chosen; where it cannot that is an error."""
    policy = TLSPolicy(ciphersuites=[suite])
    if not capabilities(engine).chooses_ciphersuites:
        with pytest.raises(ConfigurationError, match=f"ciphersuites = '{suite}' cannot be chosen"):
            TLSAcceptor(store, policy, engine=engine)
        return
    with connected(TLSAcceptor(store, policy, engine=engine), tls_authority.client_context()) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        assert pair.server.tls.cipher == suite


@pytest.mark.parametrize("group", GROUPS[1:])
def test_groups(store: CertificateStore, tls_authority: Authority, engine: str, group: str) -> None:
    """A single group can be chosen under both engines, and clients that offer others come back with it."""
    policy = TLSPolicy(groups=[group])
    if engine == "builtin" and group == "X25519" and not ssl_knows("X25519"):
        with pytest.raises(ConfigurationError, match="groups = 'X25519' is not known"):
            TLSAcceptor(store, policy, engine=engine)
        return
    with SmallServer(TLSAcceptor(store, policy, engine=engine)) as server:
        printed = s_client(server, "-tls1_3")
    assert {"X25519": "X25519", "P-256": "prime256v1", "P-384": "secp384r1"}[group] in printed or (
        f"ECDH, {group}" in printed
    )


def ssl_knows(group: str) -> bool:
    """Say whether this Python's ssl takes a group by name: up to some release of 3.11 only curves of the older kind."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(group)
    except (ssl.SSLError, ValueError):
        return False
    return True


def pyopenssl_client(server: SmallServer, authority: Authority) -> SSL.Connection:
    """Return a pyOpenSSL client that has shaken hands over a blocking socket."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    authority.configure_trust(context)
    sock = socket.create_connection(("127.0.0.1", server.port))
    connection = SSL.Connection(context, sock)
    connection.set_tlsext_host_name(b"localhost")
    connection.set_connect_state()
    connection.do_handshake()
    return connection


def test_post_quantum_key_exchange(store: CertificateStore, tls_authority: Authority) -> None:
    """Under pyopenssl a client that offers X25519MLKEM768 gets it, and both sides and the environ say so."""
    assert capabilities("pyopenssl").post_quantum
    with SmallServer(TLSAcceptor(store)) as server:
        connection = pyopenssl_client(server, tls_authority)
        assert connection.get_group_name() == "X25519MLKEM768"
        info = server.outcome()
        assert not isinstance(info, Exception)
        assert info.group == info.environ()["SSL_GROUP"] == "X25519MLKEM768"
        connection.shutdown()
        connection.sock_shutdown(2)
        connection.close()


def test_groups_that_are_not_ours_are_not_spoken(store: CertificateStore, tls_authority: Authority) -> None:
    """Under pyopenssl a client that has only P-521 is refused."""
    with SmallServer(TLSAcceptor(store)) as server:
        s_client(server, "-tls1_3", "-groups", "P-521")
        error = server.outcome()
    assert isinstance(error, HandshakeFailed)
    assert error.alert == "handshake_failure"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"minimum_version": "TLSv1.1"}, "minimum_version = 'TLSv1.1' is weaker than INTERMEDIATE"),
        ({"minimum_version": "SSLv3"}, "minimum_version = 'SSLv3' is not one of the choices"),
        ({"minimum_version": "TLSv1.3", "maximum_version": "TLSv1.2"}, "is newer than maximum_version"),
        ({"ciphers": "AES128-SHA"}, "ciphers = 'AES128-SHA' is unknown, or weaker"),
        ({"ciphers": "HIGH:!aNULL"}, "ciphers = 'HIGH' is unknown"),
        ({"ciphers": ""}, "ciphers = '' selects nothing"),
        ({"ciphers": 3}, "ciphers = 3 is not a list of names"),
        ({"ciphers": [3]}, "is not a list of names"),
        ({"ciphersuites": "TLS_AES_128_CCM_8_SHA256"}, "ciphersuites = 'TLS_AES_128_CCM_8_SHA256' is unknown"),
        ({"ciphersuites": ()}, "selects nothing"),
        ({"groups": "X448"}, "groups = 'X448' is unknown"),
        ({"groups": []}, "selects nothing"),
        ({"alpn_protocols": [""]}, "is not a protocol name"),
        ({"session_ticket_lifetime": 0.0}, "is not between"),
        ({"session_ticket_lifetime": 1e9}, "is not between"),
    ],
)
def test_what_is_weak_or_unknown_is_refused(values: dict[str, Any], problem: str) -> None:
    """Anything weaker than INTERMEDIATE, unknown or empty is an error that names it."""
    with pytest.raises(ConfigurationError, match=problem):
        TLSPolicy(**values)
    with pytest.raises(ConfigurationError):
        TLSPolicy.INTERMEDIATE.replace(**values)


def test_the_insecure_door(tls_authority: Authority, engine: str) -> None:
    """insecure() speaks TLS 1.0 with old suites to who needs it, and an unknown suite is an error even there."""
    store = CertificateStore([tls_authority.issue("localhost", key_type="rsa").credential])
    policy = TLSPolicy.insecure(minimum_version="TLSv1", ciphers="AES128-SHA:ECDHE-RSA-AES128-SHA")
    assert policy.minimum_version is TLSVersion.TLSv1
    client = tls_authority.client_context()
    client.set_ciphers("AES128-SHA:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        client.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        client.maximum_version = ssl.TLSVersion.TLSv1
    with connected(TLSAcceptor(store, policy, engine=engine), client) as pair:
        pair.shake_hands()
        assert pair.server.tls is not None
        assert (pair.server.tls.version, pair.server.tls.cipher) == ("TLSv1", "AES128-SHA")
    with pytest.raises(ConfigurationError, match="ciphers = 'NONSENSE' is not known to OpenSSL"):
        TLSAcceptor(store, TLSPolicy.insecure(ciphers="NONSENSE"), engine=engine)


def test_policies_are_values() -> None:
    """A policy cannot be changed, equal ones are equal, and the profiles are themselves."""
    with pytest.raises(AttributeError):
        TLSPolicy.INTERMEDIATE.ciphers = ()  # type: ignore[misc]
    assert TLSPolicy() == TLSPolicy.INTERMEDIATE
    assert TLSPolicy.MODERN == TLSPolicy(minimum_version="TLSv1.3") != TLSPolicy.INTERMEDIATE
    assert hash(TLSPolicy()) == hash(TLSPolicy.INTERMEDIATE)


def test_doors_that_stay_shut(store: CertificateStore, engine: str) -> None:
    """No compression, no renegotiation asked for by the client, no early data."""
    with SmallServer(TLSAcceptor(store, engine=engine)) as server:
        printed = s_client(server, "-tls1_2", "-comp", "-legacy_renegotiation")
        assert "Compression: NONE" in printed
        assert "Max Early Data: 0" in s_client(server, "-tls1_3")


def test_renegotiation_is_refused(store: CertificateStore, engine: str, tls_authority: Authority) -> None:
    """A client that renegotiates does not get through with it."""
    with connected(TLSAcceptor(store, engine=engine), limited(tls_authority.client_context(), "TLSv1.2")) as pair:
        pair.shake_hands()
        assert pair.to_server(b"before") == b"before"
    with SmallServer(TLSAcceptor(store, engine=engine)) as server:
        assert renegotiates(server, tls_authority) is False


def renegotiates(server: SmallServer, authority: Authority) -> bool:
    """Whether a second handshake on a connection succeeds."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    authority.configure_trust(context)
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        connection = SSL.Connection(context, sock)
        connection.set_tlsext_host_name(b"localhost")
        connection.set_connect_state()
        connection.do_handshake()
        assert connection.renegotiate()
        try:
            connection.do_handshake()
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection.recv(1000)
        except SSL.Error:
            return False
        return connection.total_renegotiations() > 0


def test_the_key_log(  # noqa: PLR0917 - fixtures
    store: CertificateStore,
    tls_authority: Authority,
    engine: str,
    tls_version: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With keylog_file the secrets of a connection are written to a file of mode 0600, with a warning and an event."""
    path, events, seen = tmp_path / "keys.log", Events(), []
    events.subscribe(seen.append)
    acceptor = TLSAcceptor(store, TLSPolicy(keylog_file=path), engine=engine, publish_event=events.publish)
    assert seen == [KeyLogOpened(str(path))]
    assert "anyone with it can read" in caplog.text
    with connected(acceptor, limited(tls_authority.client_context(), tls_version)) as pair:
        pair.shake_hands()
    label = {"TLSv1.2": "CLIENT_RANDOM ", "TLSv1.3": "CLIENT_TRAFFIC_SECRET_0 "}[tls_version]
    assert label in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    acceptor.close()
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        TLSAcceptor(store, TLSPolicy(keylog_file=path), engine=engine)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        TLSAcceptor(store, TLSPolicy(keylog_file=tmp_path / "no" / "where"), engine=engine)


def test_no_key_log_without_the_option(
    store: CertificateStore, tls_authority: Authority, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSLKEYLOGFILE in the environment alone has no effect."""
    path = tmp_path / "keys.log"
    client = tls_authority.client_context()
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    with connected(TLSAcceptor(store, engine=engine), client) as pair:
        pair.shake_hands()
    assert not path.exists()


def test_the_table_of_engines() -> None:
    """The table tells for each engine what it can, and what the installed libraries offer is what is asked of them."""
    assert list(ENGINES) == ["pyopenssl", "builtin"]
    assert MISSING == ()
    for name in ENGINES:
        rows = dict(capabilities(name).rows())
        assert rows["library"].startswith("OpenSSL ")
        assert set(rows.values()) <= {"yes", "no", rows["library"]}


def test_public_calls_that_would_replace_the_binding() -> None:
    """PyOpenSSL has no public call yet for what goes through the binding; when one appears, use it and change this."""
    for name in ("set_groups", "set_curves", "set1_groups_list", "set_groups_list"):
        assert not hasattr(SSL.Context, name)
    for name in ("session_reused", "get_session_reused", "is_session_reused"):
        assert not hasattr(SSL.Connection, name)
