"""OCSP responses stapled to handshakes: from a file or a responder, and never a bad one."""

from __future__ import annotations

import http.server
import subprocess
import threading
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from secureserve.certificates.store import CertificateStore
from secureserve.errors import ConfigurationError
from secureserve.testing.template import Template
from secureserve.tls.acceptor import TLSAcceptor
from secureserve.tls.ocsp import StapleCache, UnusableResponse, check_response, responder_url
from secureserve.tls.policy import TLSPolicy
from tests.tls.serving import SmallServer
from tests.tls.test_acceptor import s_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

    from secureserve.testing.authority import Authority
    from secureserve.testing.credentials import IssuedCredential

STAPLED = "OCSP Response Status: successful"
PAUSE = threading.Event()


class Responder:
    """An OCSP responder over HTTP."""

    def __init__(self) -> None:
        self.answer = b""
        self.asked: list[bytes] = []
        responder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                responder.asked.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200 if responder.answer else 500)
                self.end_headers()
                self.wfile.write(responder.answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ocsp"


@pytest.fixture
def responder() -> Iterator[Responder]:
    """A responder that runs."""
    responder = Responder()
    thread = threading.Thread(target=responder.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield responder
    responder.server.shutdown()
    thread.join(30)
    responder.server.server_close()


def acceptor_for(issued: IssuedCredential, source: Path | str) -> TLSAcceptor:
    """Return an acceptor that staples."""
    return TLSAcceptor(CertificateStore([issued.credential]), TLSPolicy(ocsp_staple=source))


def test_a_response_from_a_file(tls_authority: Authority, tls_version: str, tmp_path: Path) -> None:
    """What lies in the file is stapled, and curl is content with it; who does not ask gets none."""
    issued = tls_authority.issue("localhost", chain_depth=1)
    file = tmp_path / "staple.der"
    file.write_bytes(tls_authority.ocsp_response(issued))
    acceptor = acceptor_for(issued, file)
    version = "-" + tls_version.lower().replace("v", "").replace(".", "_")
    with SmallServer(acceptor) as server:
        for _ in range(200):
            printed = s_client(server, version, "-status")
            if STAPLED in printed:
                break
            PAUSE.wait(0.05)
        assert "Cert Status: good" in printed
        assert STAPLED not in s_client(server, version)
        command = ["curl", "-sS", "--cert-status", "--cacert", str(tls_authority.cert_path), server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr


def test_a_response_from_the_responder(tls_authority: Authority, responder: Responder) -> None:
    """The certificate's own responder is asked about it, once, and its answer is stapled."""
    issued = tls_authority.issue("localhost", chain_depth=1, ocsp_url=responder.url)
    responder.answer = tls_authority.ocsp_response(issued)
    with SmallServer(acceptor_for(issued, "fetch")) as server:
        for _ in range(200):
            if STAPLED in s_client(server, "-status"):
                break
            PAUSE.wait(0.05)
        else:
            pytest.fail("no response was ever stapled")
        assert STAPLED in s_client(server, "-status")
    assert len(responder.asked) == 1
    assert ocsp.load_der_ocsp_request(responder.asked[0]).serial_number == issued.leaf.serial_number


def test_must_staple_waits_for_it(tls_authority: Authority, responder: Responder) -> None:
    """A certificate that clients refuse without a response has one from the first handshake on (RFC 7633)."""
    issued = tls_authority.issue("localhost", chain_depth=1, ocsp_url=responder.url, must_staple=True)
    responder.answer = tls_authority.ocsp_response(issued)
    with SmallServer(acceptor_for(issued, "fetch")) as server:
        assert STAPLED in s_client(server, "-status")


def test_without_a_responder_it_costs_nothing(tls_authority: Authority) -> None:
    """A certificate that names no responder is served without a response, and nothing is tried."""
    issued = tls_authority.issue("localhost", chain_depth=1)
    assert responder_url(issued.leaf) is None
    acceptor = acceptor_for(issued, "fetch")
    with SmallServer(acceptor) as server:
        assert "OCSP response: no response sent" in s_client(server, "-status")


def test_failures_are_logged_and_not_repeated_at_once(
    tls_authority: Authority, responder: Responder, caplog: pytest.LogCaptureFixture
) -> None:
    """A responder that fails is asked again only after a while, and the certificate is served meanwhile."""
    issued = tls_authority.issue("localhost", chain_depth=1, ocsp_url=responder.url)
    cache = StapleCache("fetch")
    assert not cache.load(issued.credential)
    assert "No OCSP response to staple for localhost: HTTP Error 500" in caplog.text
    for _ in range(3):
        assert cache.get(issued.credential) == b""
    assert len(responder.asked) == 1


class _Clock:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        """Return the present, and what was added."""
        return datetime.now(timezone.utc) + self.ahead

    def monotonic(self) -> float:
        """Return the same in seconds."""
        return self.now().timestamp()


def test_a_response_is_renewed_early_and_never_shown_stale(tls_authority: Authority, responder: Responder) -> None:
    """Past half of its validity the next one is looked for while it is still shown; past its end it is not shown."""
    issued = tls_authority.issue("localhost", chain_depth=1, ocsp_url=responder.url)
    credential, clock = issued.credential, _Clock()
    responder.answer = first = tls_authority.ocsp_response(issued, lifetime=timedelta(days=4))
    cache = StapleCache("fetch", clock=clock)
    assert cache.load(credential)
    clock.ahead = timedelta(days=1)
    assert cache.get(credential) == first
    assert len(responder.asked) == 1
    responder.answer = b""
    clock.ahead = timedelta(days=3)
    assert cache.get(credential) == first
    for _ in range(200):
        if len(responder.asked) == 2:
            break
        PAUSE.wait(0.05)
    assert len(responder.asked) == 2
    clock.ahead = timedelta(days=5)
    assert cache.get(credential) == b""
    cache.keep_only(())
    assert cache.get(credential) == b""


def test_builtin_says_that_it_cannot(tls_authority: Authority) -> None:
    """Stapling under builtin is a configuration error, not a silence."""
    store = CertificateStore([tls_authority.issue("localhost").credential])
    with pytest.raises(ConfigurationError, match="ocsp_staple = 'fetch' cannot be stapled"):
        TLSAcceptor(store, TLSPolicy(ocsp_staple="fetch"), engine="builtin")


NOW = datetime.now(timezone.utc).replace(microsecond=0)


def respond(  # noqa: PLR0917 - the parts of a response
    issued: IssuedCredential,
    issuer: x509.Certificate,
    signer: x509.Certificate,
    key: object,
    begin: datetime = NOW,
    end: datetime | None = NOW + timedelta(days=1),
) -> bytes:
    """Return a response with parts that may not fit together."""
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=issued.leaf,
        issuer=issuer,
        algorithm=hashes.SHA256(),
        cert_status=ocsp.OCSPCertStatus.GOOD,
        this_update=begin,
        next_update=end,
        revocation_time=None,
        revocation_reason=None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer).certificates([signer])
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def test_bad_responses_are_not_stapled(tls_authority: Authority) -> None:
    """Nonsense, another certificate's, a stranger's signature, out of date, revoked, or an error: each is refused."""
    issued = tls_authority.issue("localhost", chain_depth=1)
    other = tls_authority.issue("localhost", chain_depth=1)
    revoked = tls_authority.issue("localhost", chain_depth=1)
    tls_authority.revoke(revoked)
    issuer, key = issued.issuer.certificate, issued.issuer.private_key
    stranger = tls_authority.issue("stranger.test")
    refused = [
        (b"nonsense", issued, "cannot be read"),
        (tls_authority.ocsp_response(other), issued, "another certificate"),
        (respond(issued, issuer, stranger.leaf, stranger.private_key), issued, "not signed by"),
        (tls_authority.ocsp_response(issued, lifetime=timedelta(days=-8)), issued, "it is for"),
        (respond(issued, issuer, issuer, key, NOW + timedelta(1), NOW + timedelta(2)), issued, "it is for"),
        (tls_authority.ocsp_response(revoked), revoked, "the status is revoked"),
        (
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
            issued,
            "try_later",
        ),
    ]
    for data, about, problem in refused:
        with pytest.raises(UnusableResponse, match=problem):
            check_response(data, about.leaf, issuer, now=NOW)
    check_response(respond(issued, issuer, issuer, key, NOW, None), issued.leaf, issuer, now=NOW)


def test_delegated_responders(tls_authority: Authority) -> None:
    """A responder that the issuer certified for it may sign, one certified for something else may not (4.2.2.2)."""
    issued = tls_authority.issue("localhost", chain_depth=1)
    issuer = issued.issuer.certificate
    template = Template(common_name="responder", extended_key_usage=(ExtendedKeyUsageOID.OCSP_SIGNING,))
    delegate = tls_authority.issue_from(template, tls_authority.keys.take("rsa"), issued.issuer)
    check_response(respond(issued, issuer, delegate.leaf, delegate.private_key), issued.leaf, issuer, now=NOW)
    server = tls_authority.issue("other.test", chain_depth=1)
    with pytest.raises(UnusableResponse, match="not signed by"):
        check_response(respond(issued, issuer, server.leaf, server.private_key), issued.leaf, issuer, now=NOW)


def test_two_key_types_have_a_response_each(tls_authority: Authority, responder: Responder) -> None:
    """Where an ECDSA and an RSA certificate are served for one name, the one that is shown has its own response."""
    issued = {
        key: tls_authority.issue("localhost", key_type=key, chain_depth=1, ocsp_url=responder.url, must_staple=True)
        for key in ("ecdsa", "rsa")
    }
    answers = {one.leaf.serial_number: tls_authority.ocsp_response(one) for one in issued.values()}
    cache = StapleCache("fetch")
    for one in issued.values():
        responder.answer = answers[one.leaf.serial_number]
        assert cache.load(one.credential)
    acceptor = TLSAcceptor(
        CertificateStore([one.credential for one in issued.values()]), TLSPolicy(ocsp_staple="fetch")
    )
    acceptor._staples._staples.update(cache._staples)  # type: ignore[union-attr]
    with SmallServer(acceptor) as server:
        for key, schemes in (("ecdsa", "ECDSA+SHA256:RSA-PSS+SHA256"), ("rsa", "RSA-PSS+SHA256")):
            printed = s_client(server, "-status", "-sigalgs", schemes, "-tls1_3")
            assert STAPLED in printed
            assert f"Serial Number: {issued[key].leaf.serial_number:X}".lower() in printed.lower().replace(": 0", ": ")
