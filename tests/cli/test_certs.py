"""``secureserve certs``: run as a user runs it."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secureserve import cli
from secureserve.cli import certs as cli_certs
from secureserve.cli import trust
from secureserve.managed.server import Server
from secureserve.testing import Authority, CredentialDirectory, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAY = timedelta(days=1)


@pytest.fixture
def certs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run ``secureserve certs ARGUMENTS`` and return exit status, output and errors."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SECURESERVE_CONTROL_SOCKET", raising=False)

    def run(*arguments: object) -> tuple[Any, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(["certs", *map(str, arguments)])
        output, errors = capsys.readouterr()
        return ended.value.code or 0, output, errors

    return run


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Answer anything."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


class Running:
    """A running server with a control socket, over files that its watcher does not look at."""

    def __init__(self, directory: CredentialDirectory, control: Path, **settings: Any) -> None:
        self.directory, self.control = directory, control
        key = None if directory.private_key_path == directory.certificate_path else str(directory.private_key_path)
        self.server = Server(
            application,
            socket_host="127.0.0.1",
            socket_port=0,
            ssl_certificate=str(directory.certificate_path),
            ssl_private_key=key,
            ssl_certificate_chain=None if directory.chain_path is None else str(directory.chain_path),
            control_socket=str(control),
            **{"certificate_watch": False, **settings},
        )

    @property
    def address(self) -> str:
        """HOST:PORT."""
        host, port = self.server.bound_addr
        return f"{host}:{port}"

    @property
    def fingerprint(self) -> str:
        """Of what it serves."""
        return self.server.certificates[0].fingerprint


@pytest.fixture
def running(tls_authority: Authority, tmp_path: Path) -> Iterator[Running]:
    """A running server on a pair of files."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test", "127.0.0.1", chain_depth=1)
    running = Running(directory, tmp_path / "control")
    with running.server:
        yield running


def test_show_files(certs: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """Files and directories are shown with names, issuer, days and fingerprint; a certificate needs no key for that."""
    one = tls_authority.issue("one.test", "192.0.2.1", lifetime=30 * DAY)
    CredentialDirectory(tls_authority, tmp_path / "many" / "two", "two.test", layout=Layout.CADDY)
    status, output, _ = certs("show", one.certificate_path, tmp_path / "many")
    assert status == 0
    for shown in (one.certificate_path, "one.test, 192.0.2.1", one.fingerprint, "two.test", "ecdsa", "in 29", "in 30"):
        assert str(shown) in output or shown in {"in 29", "in 30"}
    assert re.search(r"expires  in (29\.9|30\.0) days", output)
    status, output, _ = certs("show", "--json", one.pem_path, one.pkcs12_path)
    assert status == 0
    assert [each["fingerprint"] for each in json.loads(output)] == [one.fingerprint] * 2
    assert json.loads(output)[0]["problems"] == []


def test_show_what_cannot_be_shown(certs: Any, tmp_path: Path) -> None:
    """What is no certificate, or no target at all, is one clear line and exit status 2."""
    (tmp_path / "notes").write_text("nothing")
    for target, message in [
        (tmp_path / "notes", "is not PEM"),
        ("nowhere", "HOST:PORT"),
        (tmp_path, "no certificate with its private key"),
        ("127.0.0.1:1", "refused"),
    ]:
        status, output, errors = certs("show", target)
        assert (status, output) == (2, "")
        assert message in errors
        assert errors.count("\n") == 1
    status, _, errors = certs("show")
    assert status == 2
    assert "--control-socket" in errors


def test_show_what_can_be_shown(certs: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """One bad certificate in a directory, or one server that does not answer, does not hide the others."""
    good = CredentialDirectory(tls_authority, tmp_path / "many" / "one", "one.test")
    bad = CredentialDirectory(tls_authority, tmp_path / "many" / "two", "two.test")
    bad.break_("garbage")
    targets = (tmp_path / "many", "127.0.0.1:1")
    status, output, errors = certs("show", *targets)
    assert status == 2
    assert good.fingerprint in output
    assert errors.count("secureserve: ") == errors.count("\n") == 2
    status, output, _ = certs("show", "--json", *targets)
    assert status == 2
    assert [each["fingerprint"] for each in json.loads(output)] == [good.fingerprint]


def test_show_servers(certs: Any, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is shown by what it presents at HOST:PORT, and a running one of ours by its control socket."""
    status, output, _ = certs("show", "--json", running.address, "--server-name", "one.test")
    assert status == 0
    assert json.loads(output)[0]["fingerprint"] == running.fingerprint
    monkeypatch.setenv("SECURESERVE_CONTROL_SOCKET", str(running.control))
    status, output, _ = certs("show")
    assert status == 0
    assert running.fingerprint in output
    assert "none since the start" in output
    running.directory.break_("garbage")
    certs("reload")
    status, output, errors = certs("show", "--json")
    assert json.loads(output)["refused"][0]["source"] == str(running.directory.certificate_path)
    _, _, errors = certs("show")
    assert "refused since" in errors


def test_check(certs: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """Every problem is listed, with exit status 1; a good certificate passes; --name and --min-days are looked at."""
    good = tls_authority.issue("one.test", lifetime=30 * DAY)
    pair = (good.certificate_path, "--private-key", good.private_key_path)
    assert certs("check", *pair)[:2] == (0, "Nothing is wrong.\n")
    assert certs("check", *pair, "--name", "ONE.test", "--min-days", "20")[0] == 0
    status, output, _ = certs("check", *pair, "--name", "two.test", "--name", "one.test", "--min-days", "40")
    assert status == 1
    assert [line.split(":")[0] for line in output.splitlines()] == ["NameNotCovered", "Expired"]
    start = datetime.now(timezone.utc) - 90 * DAY
    bad = tls_authority.issue("one.test", usage="client", not_before=start, not_after=start + 30 * DAY)
    status, output, _ = certs("check", bad.certificate_path, "--json")
    assert status == 1
    assert [each["kind"] for each in json.loads(output)["problems"]] == ["Expired", "UsageNotAllowed"]
    status, output, _ = certs("check", good.certificate_path, "--private-key", bad.private_key_path, tmp_path / "none")
    assert status == 1
    assert "does not belong" in output


def test_check_goes_on_where_nobody_answers(certs: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """A server that does not answer is one problem in the list, named, and the other targets are looked at as well."""
    good = tls_authority.issue("one.test")
    status, output, errors = certs("check", "127.0.0.1:1", good.pem_path, tmp_path / "none", "--name", "one.test")
    assert (status, errors) == (1, "")
    first, second = output.splitlines()
    assert re.fullmatch(r"NoCredential: 127\.0\.0\.1:1 presents no certificate: .*refused.*", first)
    assert "none does not exist" in second


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (None, "connection reset by peer"),
        (b"", "the peer closed the connection"),
        (b"220 ready\r\n", "The TLS handshake failed: wrong version number"),
    ],
)
def test_show_says_why_there_is_nothing_to_show(certs: Any, said: bytes | None, reason: str) -> None:
    """Somebody who listens and speaks no TLS, or hangs up, is told from a server without a certificate."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                # Closed over what the client has sent, the socket resets the connection.
                sock.recv(1 if said is None else 65536)
                sock.sendall(said or b"")

        server = threading.Thread(target=answer)
        server.start()
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        status, _, errors = certs("show", target)
        server.join()
    assert status == 2
    assert f"{target} presents no certificate: {reason}." in errors


def test_last_minutes(certs: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """A certificate for an hour that has minutes left has not expired, nor has it as many days as are asked for."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test", lifetime=timedelta(minutes=6))
    pair = (directory.certificate_path, "--private-key", directory.private_key_path)
    assert re.search(r"expires  in [56]\.\d minutes", certs("show", *pair)[1])
    assert certs("check", *pair)[0] == 0
    assert certs("check", *pair, "--min-days", "1")[0] == 1
    running = Running(directory, tmp_path / "control")
    with running.server:
        socket = ("--control-socket", running.control)
        assert re.search(r"expires  in [56]\.\d minutes", certs("show", *socket)[1])
        assert certs("check", *socket)[0] == 0
        assert certs("check", *socket, "--min-days", "1")[0] == 1


def test_check_passwords(certs: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """An encrypted key is opened by --password-file; without it that is a problem."""
    issued = tls_authority.issue("one.test", password="s3cret")
    (tmp_path / "password").write_text("s3cret\n")
    assert certs("check", issued.pem_path, "--password-file", tmp_path / "password")[0] == 0
    status, output, _ = certs("check", issued.pem_path)
    assert status == 1
    assert "no password was given" in output


def test_check_servers(certs: Any, running: Running) -> None:
    """A server at HOST:PORT and the running one are checked in the same way."""
    assert certs("check", running.address, "--server-name", "one.test", "--name", "one.test")[0] == 0
    status, output, _ = certs("check", running.address, "--name", "two.test")
    assert status == 1
    assert "is for one.test, 127.0.0.1, not for two.test" in output
    socket = ("--control-socket", running.control)
    assert certs("check", *socket, "--name", "one.test")[0] == 0
    status, output, _ = certs("check", *socket, "--name", "two.test", "--min-days", "4000")
    assert status == 1
    assert [line.split(":")[0] for line in output.splitlines()] == ["Expired", "NameNotCovered"]


def test_reload(certs: Any, running: Running) -> None:
    """The running server takes what is new; when it refuses, exit status 1 says so and why."""
    socket = ("--control-socket", running.control)
    assert certs("reload", *socket)[:2] == (0, "Nothing has changed.\n")
    new = running.directory.rotate().fingerprint
    assert certs("reload", *socket) == (0, f"Now serving sha256 {new}.\n", "")
    running.directory.rotate(identities=("two.test",))
    status, _, errors = certs("reload", *socket)
    assert status == 1
    assert "does not cover one.test" in errors
    status, output, _ = certs("reload", *socket, "--force", "--revoke-sessions", "--json")
    assert status == 0
    assert json.loads(output)["rotated"] == [running.fingerprint]


@pytest.mark.parametrize("layout", [Layout.PAIR, Layout.SEPARATE, Layout.COMBINED, Layout.CERTBOT, Layout.KUBERNETES])
def test_rotate(certs: Any, tls_authority: Authority, tmp_path: Path, layout: Layout) -> None:
    """A new pair is put in the place of the old one, whatever its layout, modes kept, and seen served."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test", layout=layout, chain_depth=1)
    directory.certificate_path.chmod(0o640)
    new = tls_authority.issue("one.test", "two.test", chain_depth=1, fresh_key=True)
    running = Running(directory, tmp_path / "control")
    with running.server:
        status, output, errors = certs(
            "rotate",
            *("--certificate", new.certificate_path, "--private-key", new.private_key_path),
            *("--control-socket", running.control),
        )
        assert status == 0, errors
        assert running.fingerprint == new.fingerprint
        assert f"{running.address} serves it." in output
        assert output.endswith("Rotated.\n")
    assert stat.S_IMODE(directory.certificate_path.stat().st_mode) == 0o640
    again = Running(directory, tmp_path / "control")
    with again.server:
        assert again.fingerprint == new.fingerprint


@pytest.mark.parametrize("fault", ["expired", "key_mismatch", "names", "older", "refused", "never served"])
def test_rotate_puts_everything_back(
    certs: Any, running: Running, tls_authority: Authority, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong, the old files are in place again, the old certificate is served, and the status is 1."""
    now = datetime.now(timezone.utc)
    options: dict[str, Any] = {
        "expired": {"not_before": now - 9 * DAY, "not_after": now - DAY},
        "older": {"not_before": now - 9 * DAY, "not_after": now + 90 * DAY},
    }.get(fault, {})
    names = ("two.test",) if fault == "names" else ("one.test", "127.0.0.1")
    new = tls_authority.issue(*names, fresh_key=True, chain_depth=1, **options)
    key = tls_authority.issue("x.test", fresh_key=True).private_key_path if fault == "key_mismatch" else None
    before = running.fingerprint
    paths = (running.directory.certificate_path, running.directory.private_key_path)
    contents = [path.read_bytes() for path in paths]
    extra: tuple[object, ...] = ()
    if fault == "refused":

        def refuse(snapshot: Any) -> None:
            if any(one.fingerprint == new.fingerprint for one in snapshot.credentials):
                raise ValueError("no context for that")

        tls = running.server._tls
        assert tls is not None
        tls.manager.store.add_preparer(refuse)
    if fault == "never served":
        extra = ("--connect", "127.0.0.1:1", "--timeout", "0.3")
    status, output, errors = certs(
        "rotate",
        *("--certificate", new.certificate_path, "--private-key", key or new.private_key_path),
        *("--control-socket", running.control),
        *extra,
    )
    assert status == 1
    assert "not rotated" in errors
    assert [path.read_bytes() for path in paths] == contents
    assert running.fingerprint == before
    assert ("Put the old files back." in output) == (fault in {"refused", "never served"})


PROXY = {"proxy_protocol": True}
TLS_1_2 = {"tls_maximum_version": "TLSv1.2"}


@pytest.mark.parametrize("settings", [PROXY, TLS_1_2, {**TLS_1_2, **PROXY}], ids=["proxy", "clients", "both"])
@pytest.mark.parametrize("engine", ["pyopenssl", "builtin"])
def test_rotate_whom_not_everybody_may_talk_to(
    certs: Any, tls_authority: Authority, tmp_path: Path, settings: dict[str, Any], engine: str
) -> None:
    """A server that only proxies may talk to, or only clients with a certificate, is seen to serve the new one too."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test", chain_depth=1)
    if "tls_maximum_version" in settings:
        settings = {**settings, "ssl_client_ca": str(tls_authority.cert_path), "ssl_client_verify": "required"}
    new = tls_authority.issue("one.test", fresh_key=True)
    running = Running(directory, tmp_path / "control", ssl_module=engine, **settings)
    with running.server:
        socket = ("--control-socket", running.control)
        status, _, errors = certs("rotate", "--certificate", new.pem_path, *socket, "--timeout", "5")
        assert status == 0, errors
        assert running.fingerprint == new.fingerprint


@pytest.mark.parametrize("versions", [{}, {"tls_minimum_version": "TLSv1.3"}, TLS_1_2], ids=["any", "1.3", "1.2"])
@pytest.mark.parametrize("engine", ["pyopenssl", "builtin"])
def test_rotate_what_few_clients_are_shown(
    certs: Any, tls_authority: Authority, tmp_path: Path, engine: str, versions: dict[str, str]
) -> None:
    """An RSA certificate beside an ECDSA one is looked for as a client does that can verify no other."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test", key_type="rsa")
    other = CredentialDirectory(tls_authority, tmp_path / "others", "one.test")
    new = tls_authority.issue("one.test", fresh_key=True, key_type="rsa")
    settings = {"ssl_certificate_directory": str(other.directory), "ssl_module": engine}
    running = Running(directory, tmp_path / "control", **settings, **versions)
    with running.server:
        socket = ("--control-socket", running.control)
        status, _, errors = certs("rotate", "--certificate", new.pem_path, *socket, "--timeout", "5")
        assert status == 0, errors
        assert running.fingerprint == new.fingerprint


def test_rotate_beside_what_is_refused(certs: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """What is wrong with another certificate of the server, and was before, does not undo a rotation."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test")
    other = CredentialDirectory(tls_authority, tmp_path / "others", "two.test")
    new = tls_authority.issue("one.test", fresh_key=True)
    running = Running(directory, tmp_path / "control", ssl_certificate_directory=str(other.directory))
    with running.server:
        other.break_("garbage")
        socket = ("--control-socket", running.control)
        status, output, errors = certs("rotate", "--certificate", new.pem_path, *socket, "--timeout", "5")
        assert status == 0, errors
        assert "Also refused: " in output
        assert running.fingerprint == new.fingerprint


def test_rotate_waits_no_longer_than_it_says(certs: Any, running: Running, tls_authority: Authority) -> None:
    """A server that accepts and says nothing holds up the rotation for --timeout, and no longer."""
    new = tls_authority.issue("one.test", "127.0.0.1", fresh_key=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connect = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        status, output, errors = certs(
            *("rotate", "--certificate", new.pem_path, "--control-socket", running.control),
            *("--connect", connect, "--timeout", "0.5"),
        )
        assert time.monotonic() - began < 8
    assert status == 1
    assert f"{connect} still presents nothing" in errors
    assert "Put the old files back." in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_rotate_is_undone_when_it_is_ended(running: Running, tls_authority: Authority, number: signal.Signals) -> None:
    """A rotation that is ended from outside while it waits leaves the old files, and the old certificate served."""
    before, content = running.fingerprint, running.directory.certificate_path.read_bytes()
    new = tls_authority.issue("one.test", "127.0.0.1", fresh_key=True, chain_depth=1)
    command = [sys.executable, "-u", "-m", "secureserve", "certs", "rotate", "--certificate", str(new.pem_path)]
    command += ["--control-socket", str(running.control), "--connect", "127.0.0.1:1", "--timeout", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in {f"Installed {running.directory.certificate_path}.\n", ""}:
            pass
        process.send_signal(number)
        assert "Put the old files back." in process.stdout.read()
    assert process.returncode == 128 + number
    assert running.fingerprint == before
    assert running.directory.certificate_path.read_bytes() == content


def test_rotate_to_another_issuer(certs: Any, running: Running, tmp_path: Path) -> None:
    """As for the server itself: after a change of authority, an earlier beginning the same day is not older."""
    start = running.directory.credential.leaf.not_valid_before_utc - timedelta(hours=12)
    new = Authority(tmp_path / "other").issue("one.test", "127.0.0.1", not_before=start, not_after=start + 90 * DAY)
    status, _, errors = certs("rotate", "--certificate", new.pem_path, "--control-socket", running.control)
    assert status == 0, errors
    assert running.fingerprint == new.fingerprint


def test_rotate_by_the_watcher(certs: Any, tls_authority: Authority, tmp_path: Path) -> None:
    """Without a control socket the files are named, the server notices by itself, and that is waited for."""
    directory = CredentialDirectory(tls_authority, tmp_path / "certs", "one.test")
    new = tls_authority.issue("one.test", fresh_key=True)
    running = Running(directory, tmp_path / "control", certificate_watch=True)
    with running.server:
        status, output, errors = certs(
            "rotate",
            *("--certificate", new.pem_path),
            *("--install-certificate", directory.certificate_path),
            *("--install-private-key", directory.private_key_path),
            *("--connect", running.address),
        )
        assert status == 0, errors
        assert f"{running.address} serves it." in output
    status, _, errors = certs(
        "rotate", "--certificate", new.pem_path, "--install-certificate", directory.certificate_path
    )
    assert status == 1
    assert "--connect" in errors
    status, _, errors = certs("rotate", "--certificate", new.pem_path)
    assert status == 1
    assert "--control-socket" in errors


def test_make(certs: Any, tmp_path: Path) -> None:
    """A development certificate is made, once, in the state folder; on demand its files are written elsewhere too."""
    status, output, _ = certs("make")
    assert status == 0
    assert "localhost, 127.0.0.1, ::1" in output
    assert certs("make")[1] == output
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    status, output, _ = certs(
        "make", "--name", "a.test", "--name", "*.a.test", "--certificate", certificate, "--private-key", key
    )
    assert status == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert certs("check", certificate, "--private-key", key, "--name", "x.a.test")[0] == 0
    status, _, errors = certs("make", "--certificate", certificate)
    assert status == 2
    assert "--private-key is missing" in errors
    status, _, errors = certs("make", "--name", "www.example.com")
    assert status == 2
    assert "may not vouch" in errors
    status, _, errors = certs("make", "--name", "a b")
    assert status == 2
    assert "not a host name" in errors


@pytest.mark.parametrize("profile", sorted((Path(__file__).parents[2] / "certs" / "profiles").glob("*.toml")))
def test_profiles(certs: Any, tmp_path: Path, profile: Path) -> None:
    """Every profile that comes with the project makes the certificate that it says."""
    content = cli_certs.tomllib.loads(profile.read_text())
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = certs("make", "--profile", profile, "--certificate", certificate, "--private-key", key)
    assert made[0] == 0, made
    (shown,) = json.loads(certs("show", "--json", certificate)[1])
    assert shown["names"] == content["names"]
    assert content["lifetime_days"] - 0.1 < shown["days_left"] <= content["lifetime_days"]
    assert shown["key_type"] == content.get("key_type", "ecdsa")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ['a.test']", "Did you mean names?"),
        ("colour = 1", "names, lifetime_days, key_type"),
        ("lifetime_days = 'long'", "not a number of days"),
        ("lifetime_days = 100", "at most 90 days"),
        ("names = 'a.test'", "not a list of names"),
        ("key_type = 'dsa'", "'ecdsa' or 'rsa'"),
        ("= nonsense", "is not TOML"),
    ],
)
def test_wrong_profiles(certs: Any, tmp_path: Path, content: str, message: str) -> None:
    """What is wrong with a profile is one line that names it and says what to write."""
    profile = tmp_path / "profile.toml"
    profile.write_text(content)
    status, output, errors = certs("make", "--profile", profile)
    assert (status, output) == (2, "")
    assert message in errors
    assert str(profile) in errors


def test_trust(certs: Any, tmp_path: Path) -> None:
    """It says how to trust the authority, which it makes where there is none; it changes nothing else."""
    status, output, _ = certs("trust")
    ca = tmp_path / "state" / "secureserve" / "development" / "ca.pem"
    assert status == 0
    assert ca.is_file()
    assert f"curl --cacert {ca}" in output


@pytest.mark.parametrize(
    ("os_release", "family"),
    [
        ("ID=debian\n", "debian"),
        ("ID=ubuntu\nID_LIKE=debian\n", "debian"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "debian"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "fedora"),
        ("ID=arch\n", "arch"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "suse"),
        ("ID=alpine\n", "alpine"),
        ("ID=plan9\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_system_family(tmp_path: Path, os_release: str | None, family: str) -> None:
    """The distribution is known by os-release(5), and an unknown one gets general advice."""
    path = tmp_path / "os-release"
    if os_release is not None:
        path.write_text(os_release)
    assert trust.system_family(path) == family
