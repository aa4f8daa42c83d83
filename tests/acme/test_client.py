"""What the client bears: an authority that is silent, slow, verbose, elsewhere, or no authority at all."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.acme.authorities import Authority
from secureserve.acme.client import Client
from secureserve.acme.problems import MAX_RETRY_AFTER, MAX_TEXT_LENGTH, problem_error, retry_after_seconds
from secureserve.acme.protocol import JWKEC
from secureserve.certificates.issuance import new_key
from secureserve.errors import IssuanceError
from secureserve.testing import ACMEAuthority, ManualClock, Problem
from secureserve.testing.acme_application import ACMEApplication
from tests.acme.pebble import reserved_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from secureserve.testing import Authority as TestAuthority


def fails(client: Client) -> IssuanceError:
    """Return how asking for the directory fails."""
    with pytest.raises(IssuanceError) as caught:
        _ = client.directory
    client.close()
    assert caught.value.remedy
    assert caught.value.remedy in str(caught.value)
    return caught.value


@contextlib.contextmanager
def listening(behave: Callable[[socket.socket], None]) -> Generator[str]:
    """Accept one connection at a time and behave in it; give the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = server.accept()
                    with sock:
                        behave(sock)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://localhost:{server.getsockname()[1]}/directory"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(30)


def test_nobody_listens() -> None:
    """A refused connection says who cannot be reached and why."""
    with reserved_port() as port:
        error = fails(Client(Authority("down", f"https://localhost:{port}/directory"), None))
    assert "down cannot be reached" in str(error)
    assert "onnection refused" in str(error)
    assert error.problem_type is None


def test_silence_has_an_end() -> None:
    """An authority that accepts and says nothing is given up after the deadline."""
    released = threading.Event()
    with listening(lambda _sock: bool(released.wait(60)) and None) as url:
        error = fails(Client(Authority("silent", url), None, request_timeout=0.5))
        released.set()
    assert "it did not answer in time" in str(error)


def test_a_dribble_has_an_end(https_server: Any, tls_authority: TestAuthority) -> None:
    """The deadline is for the answer as a whole, so one that comes byte by byte does not last for ever."""
    released = threading.Event()

    def dribble(environ: object, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "application/json")])
        yield b"{"
        while not released.wait(0.05):
            yield b" "

    server = https_server(dribble)
    try:
        error = fails(
            Client(Authority("slow", f"{server.url}/", str(tls_authority.cert_path)), None, request_timeout=1.0)
        )
    finally:
        released.set()
    assert "it did not answer in time" in str(error)


def answering(https_server: Any, tls_authority: TestAuthority, status: str, body: bytes, **headers: str) -> Authority:
    """Run a server that answers everything with the same; return it as an authority."""

    def app(environ: object, start_response: Any) -> list[bytes]:
        names = [(name.replace("_", "-"), value) for name, value in headers.items()]
        start_response(status, [*names, ("Content-Length", str(len(body)))])
        return [body]

    return Authority("odd", f"{https_server(app).url}/directory", str(tls_authority.cert_path))


def test_an_answer_that_is_too_large(https_server: Any, tls_authority: TestAuthority) -> None:
    """An authority cannot fill the memory."""
    body = json.dumps({"filler": "x" * 600_000}).encode()
    authority = answering(https_server, tls_authority, "200 OK", body, Content_Type="application/json")
    assert "more than 524288 bytes" in str(fails(Client(authority, None)))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("200 OK", b"<html>Welcome to nginx!</html>", "cannot be understood"),
        ("200 OK", b"[]", "cannot be understood"),
        ("200 OK", b'"directory"', "cannot be understood"),
        ("404 Not Found", b"<html>nothing</html>", "404 Not Found"),
        ("404 Not Found", b'{"error": "no such page"}', "404 Not Found"),
        ("503 Service Unavailable", b"", "503 Service Unavailable"),
        ("302 Found", b"", "it answered that this is at https://elsewhere.test/"),
    ],
)
def test_what_is_no_authority(
    https_server: Any, tls_authority: TestAuthority, status: str, body: bytes, said: str
) -> None:
    """A web site that is no ACME authority is told from one, and a redirection is not followed."""
    authority = answering(https_server, tls_authority, status, body, Location="https://elsewhere.test/")
    error = fails(Client(authority, None))
    assert said in str(error)


def test_retry_after_of_a_bare_503(https_server: Any, tls_authority: TestAuthority) -> None:
    """How long an authority asks to wait is known even where it sends no problem document."""
    authority = answering(https_server, tls_authority, "503 Service Unavailable", b"", Retry_After="120")
    assert fails(Client(authority, None)).retry_after == 120


def test_a_directory_that_leads_to_plain_http(https_server: Any, tls_authority: TestAuthority) -> None:
    """Nothing is ever sent in the clear, wherever a directory leads."""
    with reserved_port() as port:
        directory = dict.fromkeys(("newNonce", "newAccount", "newOrder"), f"http://localhost:{port}/")
        body = json.dumps({**directory, "meta": {}}).encode()
        authority = answering(https_server, tls_authority, "200 OK", body, Content_Type="application/json")
        client = Client(authority, JWKEC(key=new_key()))
        with pytest.raises(IssuanceError, match="not https"):
            client.new_account((), None, terms=True)
        client.close()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("not_yet_valid", r"not valid yet, and this machine's clock says \d{4}-.* Set the clock"),
        ("expired", "has expired, and this machine's clock says"),
        ("untrusted_root", "is not trusted .* acme_ca_file"),
        ("wrong_host", "is not trusted"),
    ],
)
def test_the_certificate_of_the_authority_itself(
    https_server: Any, bad_credential: Any, tls_authority: TestAuthority, kind: str, said: str
) -> None:
    """An authority whose certificate does not fit says whether it is the clock, the roots or the name."""
    server = https_server(credential=bad_credential(kind))
    error = fails(Client(Authority("odd", f"{server.url}/", str(tls_authority.cert_path)), None))
    assert re.search(said, str(error)), str(error)


def test_what_does_not_speak_tls() -> None:
    """A port that speaks something else is not taken for an authority that is down."""
    with listening(lambda sock: sock.sendall(b"220 mail.example.test ESMTP\r\n")) as url:
        assert "TLS with it failed" in str(fails(Client(Authority("mail", url), None)))


@pytest.mark.parametrize("content", [None, b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_roots_that_are_none(https_server: Any, tmp_path: Path, content: bytes | None) -> None:
    """A file of roots that is gone or holds none is named as the fault."""
    roots = tmp_path / "roots.pem"
    if content is not None:
        roots.write_bytes(content)
    error = fails(Client(Authority("private", f"{https_server().url}/", str(roots)), None))
    assert "acme_ca_file" in error.remedy


def test_nothing_is_sent_after_it_was_called_off() -> None:
    """Once it is called off, no request leaves."""
    cancelled = threading.Event()
    cancelled.set()
    with reserved_port() as port, pytest.raises(IssuanceError, match="called off"):
        _ = Client(Authority("any", f"https://localhost:{port}/"), None, cancelled=cancelled).directory


def test_nonces_may_be_refused_often(acme_authority: ACMEAuthority, authority: Authority) -> None:
    """Requests get through an authority that refuses every other good nonce."""
    acme_authority.reject_every = 2
    client = Client(authority, JWKEC(key=new_key()))
    url = client.new_account(("mailto:ops@example.test",), None, terms=True)
    assert client.account().contact == ("mailto:ops@example.test",)
    assert client.find_account() == url
    client.close()


def test_the_nonce_of_a_refusal_is_used(
    acme_authority: ACMEAuthority, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose nonce was refused is repeated with the one that came with the error (RFC 8555, 6.5)."""
    asked: list[str] = []
    take_problem = acme_authority.take_problem

    def noting(resource: str) -> None:
        asked.append(resource)
        take_problem(resource)

    monkeypatch.setattr(acme_authority, "take_problem", noting)
    acme_authority.reject_every = 2
    client = Client(authority, JWKEC(key=new_key()))
    client.new_account((), None, terms=True)
    client.find_account()
    client.account()
    client.close()
    assert (asked.count("newNonce"), asked.count("newAccount") + asked.count("account")) == (1, 5)


@pytest.mark.parametrize("nonce", [None, "", "not base64url!", "A"])
def test_a_refusal_without_a_nonce(
    https_server: Any, tls_authority: TestAuthority, acme_authority: ACMEAuthority, nonce: str | None
) -> None:
    """An authority that sends none with the error, or one that cannot be, is asked for another."""
    served = ACMEApplication(acme_authority)
    asked: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        asked.append(environ["PATH_INFO"])

        def start(status: str, headers: list[tuple[str, str]]) -> Any:
            if status.startswith("400"):
                headers = [(name, value) for name, value in headers if name != "Replay-Nonce"]
                headers += [] if nonce is None else [("Replay-Nonce", nonce)]
            return start_response(status, headers)

        return served(environ, start)

    server = https_server(application)
    acme_authority.base_url = server.url
    acme_authority.reject_every = 2
    client = Client(Authority("odd", acme_authority.directory_url, str(tls_authority.cert_path)), JWKEC(key=new_key()))
    url = client.new_account((), None, terms=True)
    assert client.find_account() == url
    client.close()
    assert asked.count("/newNonce") == 2


def test_nonces_may_not_be_refused_for_ever(acme_authority: ACMEAuthority, authority: Authority) -> None:
    """An authority that refuses every nonce is given up in the end."""
    acme_authority.reject_every = 1
    client = Client(authority, JWKEC(key=new_key()))
    with pytest.raises(IssuanceError) as caught:
        client.new_account((), None, terms=True)
    client.close()
    assert caught.value.problem_name == "badNonce"


def test_who_we_are(https_server: Any, tls_authority: TestAuthority) -> None:
    """Every request says which program makes it (RFC 8555, 6.1)."""
    server = https_server()
    fails(Client(Authority("odd", f"{server.url}/", str(tls_authority.cert_path)), None))
    agent = server.requests[0].headers["user-agent"]
    assert agent.startswith("secureserve/")
    assert " acme/" in agent


NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Fri, 01 May 2026 12:02:00 GMT", 120.0),
        ("Fri, 01 May 2026 11:00:00 GMT", 0.0),
        ("Fri, 01 May 2026 12:02:00 -0000", 120.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 400, MAX_RETRY_AFTER),
        ("Fri, 01 May 9999 12:02:00 GMT", MAX_RETRY_AFTER),
        ("²", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Both forms of Retry-After are read, and nothing in it makes us wait for years."""
    assert retry_after_seconds(value, ManualClock(NOW)) == seconds


def test_the_words_of_an_authority_are_bounded() -> None:
    """What an authority says is shown on one line and in bounded length, whatever it sends."""
    document = {
        "type": ["urn"],
        "detail": "first\r\nINFO injected\x1b[2J" + "x" * 100_000,
        "subproblems": [{"identifier": "odd"}, 7, {"identifier": {"value": None}}] * 1000,
    }
    error = problem_error("odd", "ordering", document)
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)
    assert len(error.detail or "") == MAX_TEXT_LENGTH
    assert len(error.subproblems) == 100


def test_secrets_stay_out_of_the_log(
    acme_authority: ACMEAuthority, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the log at its most talkative nor a repr has the private part of the account's key."""
    key = JWKEC(key=new_key())
    with caplog.at_level(logging.DEBUG):
        client = Client(authority, key)
        client.new_account((), None, terms=True)
        client.close()
    assert key.to_json()["d"] not in caplog.text
    assert key.to_json()["d"] not in repr(client)


def test_an_outage_says_when_to_come_back(acme_authority: ACMEAuthority, authority: Authority) -> None:
    """The Retry-After of a problem document reaches the error."""
    acme_authority.fail_next("directory", Problem("rateLimited", "Too many.", status=429, retry_after=3600))
    error = fails(Client(authority, None))
    assert (error.retry_after, error.problem_name) == (3600.0, "rateLimited")
    assert "3600 s" in str(error)
