"""The plain-HTTP side: redirects that go nowhere else, challenges, and the answer on the TLS port."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureserve.errors import BadRequest, ConfigurationError
from secureserve.http.plain import RedirectApp, answer_to_plain_http, hsts_header, redirect_location

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVED = {"app.example", "www.app.example", "2001:db8::1", "192.0.2.1"}
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
PROOF = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


def serves(host: str) -> bool:
    """Tell whether a host is served in these tests."""
    return host in SERVED


class Answer:
    """What a WSGI application answered."""

    def __init__(self, app: Any, environ: Mapping[str, Any]) -> None:
        complete: dict[str, Any] = {
            "wsgi.errors": io.StringIO(),
            "wsgi.input": io.BytesIO(),
            "QUERY_STRING": "",
            **environ,
        }
        setup_testing_defaults(complete)
        if "HTTP_HOST" not in environ:
            del complete["HTTP_HOST"]
        checked: Any = validator(app)
        with contextlib.closing(checked(complete, self._start)) as body:
            self.body = b"".join(body)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        self.status = int(status[:3])
        self.headers = dict(headers)


def ask(
    target: str = "/",
    *,
    host: str | None = "app.example",
    method: str = "GET",
    https_port: int = 443,
    challenges: Mapping[str, str] | None = None,
    raw: bool = True,
) -> Answer:
    """Send a request to a redirecting application, as a server that tells the raw target or not."""
    path, _, query = target.partition("?")
    environ = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method, "SCRIPT_NAME": ""}
    if raw:
        environ["REQUEST_URI"] = target
    if host is not None:
        environ["HTTP_HOST"] = host
    return Answer(RedirectApp(https_port, serves, challenges), environ)


class TestRedirect:
    """From http to https."""

    @pytest.mark.parametrize("raw", [True, False])
    @pytest.mark.parametrize(
        ("host", "https_port", "target", "location"),
        [
            ("app.example", 443, "/", "https://app.example/"),
            ("app.example", 443, "/a/b?c=d&e=%2F", "https://app.example/a/b?c=d&e=%2F"),
            ("APP.example:80", 443, "/", "https://app.example/"),
            ("app.example.", 443, "/", "https://app.example/"),
            ("app.example:8080", 8443, "/x", "https://app.example:8443/x"),
            ("[2001:db8::1]", 443, "/", "https://[2001:db8::1]/"),
            ("[2001:DB8:0::1]:8080", 8443, "/", "https://[2001:db8::1]:8443/"),
            ("192.0.2.1", 443, "//evil.example/x", "https://192.0.2.1//evil.example/x"),
        ],
    )
    def test_the_same_url_with_https(self, host: str, https_port: int, target: str, location: str, raw: bool) -> None:
        """A redirect leads to the served host that was asked for, at the TLS port, with the same path and query."""
        answer = ask(target, host=host, https_port=https_port, raw=raw)
        assert (answer.status, answer.headers["Location"]) == (308, location)

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
    def test_the_method_is_kept(self, method: str) -> None:
        """308 has the client repeat the very request, whatever its method."""
        answer = ask(method=method)
        assert answer.status == 308
        assert bool(answer.body) is (method != "HEAD")
        assert answer.headers["Content-Length"] == "11"

    @pytest.mark.parametrize(
        "host", ["evil.example", "app.example.evil.example", "evil.example:80", "[::1]", "app.exampl"]
    )
    def test_no_way_to_a_host_that_is_not_served(self, host: str) -> None:
        """A host that is not served here is misdirected, and never in a Location."""
        answer = ask(host=host)
        assert answer.status == 421
        assert "Location" not in answer.headers
        assert host.encode() not in answer.body

    @pytest.mark.parametrize("host", [None, "", "app.example@evil.example", "app.example/evil", "a b", "[::1", ":80"])
    def test_a_malformed_host_is_a_bad_request(self, host: str | None) -> None:
        """Without a well-formed Host there is nowhere to go."""
        assert ask(host=host).status == 400

    def test_an_encoded_line_break_stays_encoded(self) -> None:
        """What the server decoded is encoded again before it goes into a header."""
        answer = ask("/a\r\nSet-Cookie: x=1 \xe9", raw=False)
        assert answer.headers["Location"] == "https://app.example/a%0D%0ASet-Cookie:%20x=1%20%E9"

    @pytest.mark.parametrize(
        "target", ["/a\r\nX: 1", "/a b", "/\xe9", "/a\x00", "/a\x7f", "*", "http://evil.example/", ""]
    )
    def test_a_target_that_could_break_the_header_is_refused(self, target: str) -> None:
        """Only a path of visible ASCII can be redirected."""
        with pytest.raises(BadRequest) as failure:
            redirect_location("app.example", target, serves=serves)
        assert failure.value.status_hint == 400

    def test_an_over_long_target_is_refused(self) -> None:
        """A Location has bounds."""
        assert ask("/" + "x" * 9000).status == 414

    @given(st.text(), st.text())
    def test_a_location_is_always_a_served_https_url(self, host: str, path: str) -> None:
        """Whatever comes in, a Location begins with https, a served host and a slash, in one line."""
        with contextlib.suppress(BadRequest):
            location = redirect_location(host, "/" + path, serves=lambda each: each in {*SERVED, "a"})
            assert location.startswith(tuple(f"https://{known}/" for known in [*SERVED, "a", "[2001:db8::1]"]))
            assert location.isascii()
            assert location.isprintable()


class TestChallenges:
    """ACME http-01 on the plain port."""

    @pytest.mark.parametrize("host", ["app.example", "not-served-yet.example", None])
    def test_a_known_token_is_answered_for_any_host(self, host: str | None) -> None:
        """The proof is handed out, also for a name whose first certificate it is for."""
        answer = ask(f"/.well-known/acme-challenge/{TOKEN}", host=host, challenges={TOKEN: PROOF})
        assert (answer.status, answer.body) == (200, PROOF.encode())
        assert answer.headers["Content-Type"] == "application/octet-stream"

    def test_head_has_no_body(self) -> None:
        """HEAD gets the length alone."""
        answer = ask(f"/.well-known/acme-challenge/{TOKEN}", method="HEAD", challenges={TOKEN: PROOF})
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Length"] == str(len(PROOF))

    @pytest.mark.parametrize(
        "token", ["unknown", "", "../" + TOKEN, TOKEN + "/", TOKEN + "\n", "a.b", "%2e", "x" * 300, "caf\xe9"]
    )
    def test_other_tokens_are_redirected_like_anything_else(self, token: str) -> None:
        """What is no known token is never looked up as one; another client may answer it on https."""
        looked_up = []

        class Lookup:
            def get(self, token: str, /) -> str | None:
                looked_up.append(token)
                return None

        answer = ask(f"/.well-known/acme-challenge/{token}", challenges=Lookup(), raw=False)  # type: ignore[arg-type]
        assert answer.status == 308
        assert looked_up in ([], ["unknown"])

    def test_only_get_and_head_are_answered(self) -> None:
        """A challenge is fetched, not posted to."""
        assert ask(f"/.well-known/acme-challenge/{TOKEN}", method="POST", challenges={TOKEN: PROOF}).status == 308

    def test_without_challenges_there_are_none(self) -> None:
        """Without a lookup the path is nothing special."""
        assert ask(f"/.well-known/acme-challenge/{TOKEN}").status == 308


class TestOnTheTLSPort:
    """Plain HTTP where TLS is spoken."""

    @pytest.mark.parametrize("location", [None, "https://app.example/x"])
    def test_the_answer_is_a_complete_response(self, location: str | None) -> None:
        """A client reads a whole response that says why and that the connection ends."""
        fields: dict[bytes, bytes] = {}
        bodies = []

        class Reader:
            complete = False

            def on_header(self, name: bytes, value: bytes) -> None:
                fields[name] = value

            def on_body(self, body: bytes) -> None:
                bodies.append(body)

            def on_message_complete(self) -> None:
                self.complete = True

        reader = Reader()
        parser = httptools.HttpResponseParser(reader)
        parser.feed_data(answer_to_plain_http(location))
        assert reader.complete
        assert fields[b"Connection"] == b"close"
        if location is None:
            assert parser.get_status_code() == 400
            assert b"speaks HTTPS" in b"".join(bodies)
        else:
            assert parser.get_status_code() == 308
            assert fields[b"Location"] == location.encode()


class TestStrictTransportSecurity:
    """The HSTS field."""

    @pytest.mark.parametrize(
        ("max_age", "include_subdomains", "preload", "value"),
        [
            (0, False, False, "max-age=0"),
            (300, False, False, "max-age=300"),
            (31536000, True, False, "max-age=31536000; includeSubDomains"),
            (31536000, True, True, "max-age=31536000; includeSubDomains; preload"),
        ],
    )
    def test_values(self, max_age: int, include_subdomains: bool, preload: bool, value: str) -> None:
        """The field has the directives asked for."""
        field = hsts_header(max_age, include_subdomains=include_subdomains, preload=preload)
        assert field == ("Strict-Transport-Security", value)

    @pytest.mark.parametrize(
        ("max_age", "include_subdomains", "preload"),
        [(-1, False, False), (31535999, True, True), (31536000, False, True)],
    )
    def test_what_browsers_would_not_accept_is_an_error(
        self, max_age: int, include_subdomains: bool, preload: bool
    ) -> None:
        """A negative age, and a preload without its conditions, are refused with what to write."""
        with pytest.raises(ConfigurationError) as failure:
            hsts_header(max_age, include_subdomains=include_subdomains, preload=preload)
        assert failure.value.key == "hsts"
        assert failure.value.remedy
