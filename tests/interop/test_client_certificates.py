"""Who a client is, from ``curl --cert`` through ``secureserve run`` to real applications."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.processes import ServerProcess

    Serve = Callable[..., ServerProcess]
    Fetch = Callable[..., "Answer"]

DEADLINE = 45


class Answer(NamedTuple):
    """What curl got."""

    status: int
    text: str


@pytest.fixture
def asking(ca_path: Path) -> tuple[str, ...]:
    """The options of a server that asks for certificates."""
    return ("--ssl-client-ca", str(ca_path), "--ssl-client-verify", "optional")


@pytest.fixture
def fetch(ca_path: Path) -> Fetch:
    """A function that has curl fetch a URL, with a certificate or without."""

    def run(url: str, issued: Any = None, version: str = "1.3") -> Answer:
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", str(ca_path), "--path-as-is"]
        command += ["--tlsv" + version, "--tls-max", version, "--write-out", "\n%{http_code}"]
        if issued is not None:
            command += ["--cert", str(issued.certificate_path), "--key", str(issued.private_key_path)]
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr
        text, _, status = done.stdout.rpartition("\n")
        return Answer(int(status), text)

    return run


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_django_sees_the_client(
    serve: Serve, asking: tuple[str, ...], fetch: Fetch, client_credential: Any, version: str
) -> None:
    """The how-to's view gets at the verified identity with no middleware, and knows a stranger for one."""
    server = serve("django_clients_app:make", "--factory", *asking)
    assert fetch(server.url(), client_credential, version) == Answer(200, "Hello, client.\n")
    assert fetch(server.url(), None, version) == Answer(403, "I do not know you.\n")


def test_django_logs_the_client_in(serve: Serve, asking: tuple[str, ...], fetch: Fetch, client_credential: Any) -> None:
    """With ssl_client_remote_user Django's own RemoteUserMiddleware logs a verified client in, and nobody else."""
    field = ("--ssl-client-remote-user", "SSL_CLIENT_SAN_Email_0")
    server = serve("django_clients_app:make_with_users", "--factory", *asking, *field)
    assert fetch(server.url("/user"), client_credential) == Answer(200, "True client@example.test")
    assert fetch(server.url("/user")) == Answer(200, "False ")


def test_options_say_who_gets_in_and_by_what_name(
    serve: Serve, asking: tuple[str, ...], fetch: Fetch, client_credential: Any, tls_credential: Any
) -> None:
    """ssl_client_allow answers 403 to a verified client that no rule allows; the other is REMOTE_USER."""
    rules = ("--ssl-client-allow", "email:*@example.test", "--ssl-client-remote-user", "SSL_CLIENT_S_DN_CN")
    server = serve("plain_app:whoami", *asking, *rules)
    assert fetch(server.url(), client_credential) == Answer(200, "client")
    other = tls_credential("client@elsewhere.test", common_name="client", usage="client")
    assert fetch(server.url(), other).status == 403
    assert fetch(server.url()).status == 403
    server.output.wait_for(r'"GET / HTTP/1\.1" 200 .*CN=client')
    server.output.wait_for(r'"GET / HTTP/1\.1" 403 ')


def test_rules_by_path(serve: Serve, asking: tuple[str, ...], fetch: Fetch, client_credential: Any) -> None:
    """A client gets 403 below a path whose rules do not allow it, however the path is written, and 200 elsewhere."""
    server = serve("plain_app:make_guarded", "--factory", *asking)
    assert fetch(server.url(), client_credential) == Answer(200, "client@example.test")
    assert fetch(server.url("/admin/help"), client_credential).status == 200
    for path in ("/admin", "/admin/", "/admin/x", "/x/../admin", "//admin", "/%61dmin", "/admin/help/../x"):
        assert fetch(server.url(path), client_credential).status == 403, path
