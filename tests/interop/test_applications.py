"""Real applications, each started by ``secureserve run`` and fetched by real clients that verify."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from requests import Session

    from tests.processes import ServerProcess

    Serve = Callable[..., ServerProcess]
    Sessions = Callable[..., Session]
    Curl = Callable[..., bytes]
    SClient = Callable[..., str]

VERSIONS = ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize(
    "application",
    [
        ["flask_app:app"],
        ["django_app:make", "--factory"],
        ["cherrypy_app:make", "--factory"],
        ["starlette_app:app", "--interface", "asgi"],
    ],
    ids=lambda words: words[0].partition(":")[0],
)
def test_every_client_gets_the_page(
    application: list[str], serve: Serve, curl: Curl, session: Sessions, s_client: SClient
) -> None:
    """curl, requests and openssl s_client verify the certificate and get the page, over TLS 1.2 and over TLS 1.3."""
    server = serve(*application)
    for version in VERSIONS:
        expected = f"hello over {version}\n"
        number = version.removeprefix("TLSv")
        pinned = ("--tlsv" + number, "--tls-max", number)
        assert curl("--http1.1", *pinned, server.url("/hello")).decode() == expected
        assert session(version).get(server.url("/hello"), timeout=30).text == expected
        request = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = s_client(server.port, request, "-tls" + number.replace(".", "_"))
        assert "Verify return code: 0 (ok)" in answer or "Verification: OK" in answer
        assert "HTTP/1.1 200 OK" in answer
        assert expected.strip() in answer


def test_flask_takes_a_form_with_a_file(serve: Serve, curl: Curl, session: Sessions, tmp_path: Path) -> None:
    """A file sent in a multipart form arrives bit for bit, and the redirect after it leads to an https page."""
    content = bytes(range(256)) * 4096
    (tmp_path / "picture.bin").write_bytes(content)
    server = serve("flask_app:app")
    digest = hashlib.sha256(content).hexdigest()
    with (tmp_path / "picture.bin").open("rb") as file:
        page = session().post(server.url(), data={"title": "requests"}, files={"file": file}, timeout=30)
    assert page.text == f"requests: picture.bin {digest}"
    assert page.history[0].headers["Location"] == server.url(f"/uploads/{digest}")
    form = ("--form", "title=curl", "--form", f"file=@{tmp_path / 'picture.bin'}")
    assert curl("--location", *form, server.url()).decode() == f"curl: picture.bin {digest}"


@pytest.mark.parametrize(
    "application", [["flask_app:app"], ["starlette_app:app", "--interface", "asgi"]], ids=["flask", "starlette"]
)
def test_a_streamed_download_is_whole(application: list[str], serve: Serve, curl: Curl, session: Sessions) -> None:
    """A response of unknown length arrives whole: chunked for HTTP/1.1, until the connection closes for HTTP/1.0."""
    server = serve(*application)
    expected = "".join(f"line {number}\n" for number in range(5000))
    answer = session().get(server.url("/download?lines=5000"), timeout=30)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.text == expected
    assert curl("--http1.0", server.url("/download?lines=5000")).decode() == expected


def test_django_admin_logs_its_user_in(serve: Serve, session: Sessions) -> None:
    """Django's admin shows its login page, sets secure cookies, checks the token, and lets its user in."""
    server = serve("django_app:make", "--factory")
    client = session()
    page = client.get(server.url("/admin/"), timeout=30)
    assert page.url == server.url("/admin/login/?next=/admin/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    assert all(cookie.secure for cookie in client.cookies)
    fields = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": "of a test", "next": "/admin/"}
    inside = client.post(page.url, data=fields, headers={"Referer": page.url}, timeout=30)
    assert inside.status_code == 200
    assert "Site administration" in inside.text


def test_cherrypy_takes_and_gives_json(serve: Serve, session: Sessions) -> None:
    """A CherryPy application reads a JSON body and answers with one."""
    server = serve("cherrypy_app:make", "--factory")
    assert session().post(server.url("/add"), json={"numbers": [1, 2, 39]}, timeout=30).json() == {"sum": 42}


def test_starlette_lives_from_start_to_stop(serve: Serve, session: Sessions) -> None:
    """The lifespan of an ASGI application starts before the first request and ends with the server."""
    server = serve("starlette_app:app", "--interface", "asgi")
    body = b"x" * 300_000
    assert session().post(server.url("/digest"), data=body, timeout=30).text == hashlib.sha256(body).hexdigest()
    chunks = (b"y" * 1000 for _ in range(300))
    chunked = session().post(server.url("/digest"), data=chunks, timeout=30)
    assert chunked.text == hashlib.sha256(b"y" * 300_000).hexdigest()
    assert server.output.wait_for("lifespan: started")
    server.process.terminate()
    assert server.wait() == 0
    assert "lifespan: stopped" in server.output.text


SIZE = 100_000_000


def test_a_hundred_megabytes_go_up_bit_for_bit(serve: Serve, curl: Curl, tmp_path: Path) -> None:
    """An upload of 100 MB arrives whole and unchanged."""
    from tests.interop.applications.plain_app import pieces

    digest = hashlib.sha256()
    path = tmp_path / "large"
    with path.open("wb") as file:
        for piece in pieces(SIZE):
            file.write(piece)
            digest.update(piece)
    server = serve("plain_app:large")
    assert curl("--upload-file", str(path), server.url()).decode() == f"{SIZE} {digest.hexdigest()}"
    path.unlink()


def test_a_hundred_megabytes_come_down_bit_for_bit(serve: Serve, session: Sessions) -> None:
    """A download of 100 MB arrives whole and unchanged."""
    from tests.interop.applications.plain_app import pieces

    expected = hashlib.sha256()
    for piece in pieces(SIZE):
        expected.update(piece)
    server = serve("plain_app:large")
    got, length = hashlib.sha256(), 0
    with session().get(server.url(f"/?{SIZE}"), stream=True, timeout=30) as answer:
        for chunk in answer.iter_content(1024 * 1024):
            got.update(chunk)
            length += len(chunk)
    assert (length, got.hexdigest()) == (SIZE, expected.hexdigest())


def test_wsgiref_validate_finds_nothing(serve: Serve, session: Sessions, curl: Curl) -> None:
    """Requests of every shape satisfy wsgiref's validator over TLS, and every value of the environ is a str."""
    server = serve("plain_app:make_validated", "--factory")
    client = session()
    results: list[tuple[int, Any]] = [
        (answer.status_code, answer.text)
        for answer in (
            client.get(server.url("/?a=b%20c&d=%C3%A9"), timeout=30),
            client.head(server.url("/"), timeout=30),
            client.post(server.url("/"), data="hello", timeout=30),
            client.put(server.url("/d%C3%A9/"), data=b"\x00\xff", headers={"X-Strange": "é"}, timeout=30),
        )
    ]
    assert [status for status, _ in results] == [200, 200, 200, 200], server.errors.text
    assert results[2][1] == "hello"
    assert curl("--http1.0", server.url()) == b"nothing"
    assert "Assertion" not in server.errors.text
