"""``secureserve run``, as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import ServerProcess, clean_environment, secureserve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = ("--socket-host", "127.0.0.1", "--socket-port", "0")
PAIR = ("--ssl-certificate", "cert.pem", "--ssl-private-key", "key.pem")


def test_an_application_is_served_over_tls(
    place: Path, fetch: Callable[..., str], engine: str, tls_version: str
) -> None:
    """One command serves an application of the current directory over both versions of TLS, under both engines."""
    with ServerProcess(["run", "app:application", *HERE, *PAIR, "--ssl-module", engine], directory=place) as server:
        number = tls_version.removeprefix("TLSv")
        assert fetch(server.url("/x"), "--tlsv" + number, "--tls-max", number) == f"{tls_version} /x\n"


def test_an_application_of_another_directory_from_a_factory(
    place: Path, tmp_path_factory: pytest.TempPathFactory, fetch: Callable[..., str]
) -> None:
    """``--app-dir`` and ``--factory`` find and make the application; other files stay relative to where one is."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (place / "app.py").rename(elsewhere / "app.py")
    command = ["run", "app:make", "--factory", "--app-dir", str(elsewhere), *HERE, *PAIR]
    with ServerProcess(command, directory=place) as server:
        assert fetch(server.url()) == "TLSv1.3 /\n"


def test_a_self_signed_server_tells_how_to_verify_it(place: Path) -> None:
    """``--self-signed`` makes a certificate once, the user's alone, and the curl line that it prints works as it is."""
    command = ["run", "app", "--self-signed", *HERE]
    fingerprints = []
    for _ in range(2):
        with ServerProcess(command, directory=place) as server:
            curl = server.output.wait_for(r"^Fetch: +(curl .*)$")[1]
            fingerprints.append(server.output.wait_for(r"^Fingerprint: +SHA-256 ([0-9A-F:]{95})$")[1])
            assert server.output.wait_for(r"^Names: +(.*)$")[1] == "localhost, 127.0.0.1, ::1"
            server.output.wait_for(r"^Expires: +\d{4}-\d\d-\d\d \d\d:\d\d UTC$")
            page = subprocess.run(
                ["bash", "-c", curl],
                env=clean_environment(place),
                capture_output=True,
                text=True,
                timeout=45,
                check=True,
            )
            assert page.stdout == "TLSv1.3 /\n"
    assert fingerprints[0] == fingerprints[1]
    kept = place / ".local" / "state" / "secureserve" / "development"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}


def test_a_self_signed_certificate_for_names_of_ones_own(place: Path) -> None:
    """``--self-signed-name`` says what the certificate is for, within what the development authority may vouch for."""
    with ServerProcess(["run", "app", "--self-signed-name", "shop.test", *HERE], directory=place) as server:
        curl = server.output.wait_for(r"^Fetch: +(curl .*)$")[1]
        resolve = f"--resolve shop.test:{server.port}:127.0.0.1"
        page = subprocess.run(
            ["bash", "-c", f"{curl} {resolve}"], capture_output=True, text=True, timeout=45, check=True
        )
        assert page.stdout == "TLSv1.3 /\n"
    done = secureserve("run", "app", "--self-signed-name", "www.example.com", *HERE, directory=place)
    assert done.status == 2
    assert "may not vouch for 'www.example.com'" in done.errors


def test_the_environment_sets_what_the_command_line_does_not(place: Path, fetch: Callable[..., str]) -> None:
    """Each option is a variable as well; the option wins, and a configuration file yields to both."""
    (place / "site.ini").write_text(
        '[global]\nserver.socket_host = "127.0.0.1"\nserver.socket_port = 1\nserver.server_name = "of the file"\n'
        'server.ssl_certificate = "cert.pem"\nserver.ssl_private_key = "key.pem"\nserver.thread_pool = 3\n',
        encoding="utf-8",
    )
    environment = {"SECURESERVE_SOCKET_PORT": "0", "SECURESERVE_SERVER_NAME": "of the environment"}
    command = ["run", "app", "--config", "site.ini", "--server-name", "of the command line"]
    with ServerProcess(command, directory=place, environment=environment) as server:
        assert "Server: of the command line\n" in fetch(server.url(), "--head")
    with ServerProcess(command[:-2], directory=place, environment=environment) as server:
        assert "of the environment" in fetch(server.url(), "--head")


def test_the_application_may_be_configured_too(place: Path, fetch: Callable[..., str]) -> None:
    """``server.application`` in a file replaces the argument, and relative to ``--app-dir`` as well."""
    (place / "site.toml").write_text('[server]\napplication = "app:application"\n', encoding="utf-8")
    with ServerProcess(["run", "-c", "site.toml", *HERE, *PAIR], directory=place) as server:
        assert fetch(server.url()) == "TLSv1.3 /\n"


def test_responses_are_logged_to_standard_output(place: Path, fetch: Callable[..., str]) -> None:
    """Each response is a line on standard output, as JSON if wanted; everything else is on standard error."""
    with ServerProcess(["run", "app", *HERE, *PAIR], directory=place) as server:
        fetch(server.url("/seen?x=1"))
        line = server.output.wait_for("/seen")
    assert re.search(
        r'"GET /seen\?x=1 HTTP/1.1" 200 \d+ "-" "curl/\S+" TLSv1.3 TLS_\w+ \S+ "localhost" "-"$', line.string
    )
    with ServerProcess(["run", "app", *HERE, *PAIR, "--log-format", "json"], directory=place) as server:
        fetch(server.url("/seen"))
        record = json.loads(server.output.wait_for("/seen").string)
    assert (record["target"], record["status"], record["tls"]["version"]) == ("/seen", 200, "TLSv1.3")


def test_a_unix_socket(place: Path) -> None:
    """``--socket-file`` serves at a unix socket, and a self-signed server says how to fetch through it."""
    command = ["run", "app", "--self-signed", "--socket-file", str(place / "s")]
    with ServerProcess(command, directory=place) as server:
        curl = server.output.wait_for(r"^Fetch: +(curl .*)$")[1]
        page = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=45, check=True)
        assert page.stdout == "TLSv1.3 /\n"
    assert not (place / "s").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(place: Path, number: int) -> None:
    """Ctrl-C and SIGTERM end the server with status 0, without a traceback, and release its port."""
    server = ServerProcess(["run", "app", *HERE, *PAIR], directory=place)
    with server:
        port = server.port
        server.process.send_signal(number)
        assert server.wait() == 0
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_the_installed_command_is_the_module(place: Path) -> None:
    """``secureserve`` and ``python -m secureserve`` are the same program."""
    command = Path(sys.executable).with_name("secureserve")
    done = subprocess.run(
        [command, "--version"], env=clean_environment(place), capture_output=True, text=True, timeout=45, check=True
    )
    assert done.stdout == secureserve("--version", directory=place).output
    assert re.fullmatch(r"secureserve \d+\.\d+\.\d+\n", done.stdout)


@pytest.fixture
def taken() -> Any:
    """A port that somebody else listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


FAILURES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "no such module": (("absent:app", *HERE, *PAIR), "there is no module absent"),
    "no such attribute": (("app:applicatio", *HERE, *PAIR), "Did you mean application?"),
    "nothing to serve": ((*HERE, *PAIR), "Name it as MODULE:APP"),
    "no such certificate": (("app", *HERE, "--ssl-certificate", "absent.pem"), "absent.pem"),
    "a certificate that is none": (("app", *HERE, "--ssl-certificate", "app.py"), "app.py"),
    "a key without its certificate": (("app", *HERE, "--ssl-private-key", "key.pem"), "ssl_certificate"),
    "no such configuration": (("app", "--config", "absent.ini"), "absent.ini"),
    "a port that is none": (("app", "--socket-port", "http"), "--socket-port = 'http' is not a whole number"),
    "an engine that is none": (("app", "--ssl-module", "gnutls"), "--ssl-module"),
    "an unknown option": (("app", "--socket-prt", "1"), "--socket-port"),
    "two certificates": (("app", "--self-signed", *HERE, *PAIR), "is set beside --self-signed"),
    "an address that is not ours": (("app", "--socket-host", "192.0.2.1", "--socket-port", "0", *PAIR), "192.0.2.1"),
}


def test_plain_http_is_warned_of(place: Path) -> None:
    """Without a certificate plain HTTP is served, with a warning that says what to set; with one there is none."""
    with ServerProcess(["run", "app", *HERE], directory=place) as server:
        server.errors.wait_for(r"WARNING secureserve.error: http://\S+ is plain HTTP: .*Set ssl_certificate")
    with ServerProcess(["run", "app", *HERE, *PAIR], directory=place) as server:
        pass
    assert "plain HTTP" not in server.errors.text


def test_a_signal_as_soon_as_it_serves_is_no_error(place: Path) -> None:
    """A service manager that stops it the moment it says that it serves sees it end well, and no error in its log."""
    with ServerProcess(["run", "app", *HERE, *PAIR], directory=place) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "ERROR" not in server.errors.text
    assert "Stopped serving on" in server.errors.text


def test_the_limit_of_open_files_is_raised(place: Path) -> None:
    """As many files as max_connections needs may be open, however low the soft limit was."""
    command = ["run", "app", *HERE, *PAIR, "--max-connections", "500"]
    with ServerProcess(command, directory=place, limits=(256, 1024)) as server:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text(encoding="ascii")
    soft = re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)
    assert soft is not None
    assert 500 < int(soft[1]) <= 1024
    assert "open files" not in server.errors.text


def test_a_limit_of_open_files_that_cannot_be_raised_is_told(place: Path) -> None:
    """Where the hard limit is below what max_connections needs, a warning says what is possible and what to raise."""
    command = ["run", "app", *HERE, *PAIR, "--max-connections", "5000"]
    with ServerProcess(command, directory=place, limits=(256, 512)) as server:
        said = server.errors.wait_for(
            r"WARNING \S+ .* room for (\d+) connections, not max_connections = 5000.*LimitNOFILE"
        )
    assert int(said[1]) < 512


def test_what_fails_is_in_the_error_log_too(place: Path) -> None:
    """With an error log of its own, what kept it from starting is in that file, once, and on the terminal, once."""
    done = secureserve("run", "app", *HERE, "--ssl-private-key", "key.pem", "--error-log", "log", directory=place)
    assert done.status == 2
    assert (place / "log").read_text(encoding="utf-8").count("ssl_certificate is missing") == 1
    assert done.errors.count("ssl_certificate is missing") == 1


@pytest.mark.parametrize("case", FAILURES)
def test_what_cannot_be_served_is_one_line(place: Path, case: str) -> None:
    """A mistake gives one line that names what is wrong, exit status 2, and no traceback."""
    arguments, message = FAILURES[case]
    done = secureserve("run", *arguments, directory=place)
    assert done.status == 2
    said = [line for line in done.errors.splitlines() if " INFO " not in line]
    assert len(said) == 1, done.errors
    assert said[0].startswith("secureserve: ")
    assert message in said[0]


def test_a_port_in_use_is_one_line(place: Path, taken: str) -> None:
    """A port that somebody listens at is named, with exit status 2."""
    done = secureserve("run", "app", "--socket-host", "127.0.0.1", "--socket-port", taken, *PAIR, directory=place)
    assert done.status == 2
    said = [line for line in done.errors.splitlines() if " INFO " not in line]
    assert len(said) == 1
    assert taken in said[0]
    assert "Traceback" not in done.errors


def test_a_mistake_in_the_environment_names_the_variable(place: Path) -> None:
    """A variable with a bad value, and one that is none, are named as they are spelt."""
    done = secureserve("run", "app", directory=place, environment={"SECURESERVE_SOCKET_PORT": "x"})
    assert (done.status, "SECURESERVE_SOCKET_PORT = 'x'" in done.errors) == (2, True)
    done = secureserve("run", "app", directory=place, environment={"SECURESERVE_SOCKET_PRT": "1"})
    assert (done.status, "Did you mean SECURESERVE_SOCKET_PORT?" in done.errors) == (2, True)


def test_debug_shows_the_traceback(place: Path) -> None:
    """With ``--debug`` the traceback stands above the line."""
    (place / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    done = secureserve("run", "broken:app", "--debug", directory=place)
    assert done.status == 2
    assert "ZeroDivisionError" in done.errors.split("Traceback", 1)[1]
    assert done.errors.splitlines()[-1].startswith("secureserve: APPLICATION = 'broken:app' cannot be imported")


def test_no_key_material_is_shown(place: Path) -> None:
    """Neither an error nor its traceback shows what a key file holds."""
    (place / "cert.pem").write_bytes((place / "key.pem").read_bytes())
    done = secureserve("run", "app", *HERE, "--ssl-certificate", "cert.pem", "--debug", directory=place)
    assert done.status == 2
    secret = (place / "key.pem").read_text(encoding="utf-8").splitlines()[1]
    assert secret not in done.errors + done.output


def test_check_says_everything_that_is_wrong_at_once(place: Path) -> None:
    """``secureserve check`` lists every mistake of a configuration, with file and line, and serves nothing."""
    (place / "site.ini").write_text(
        "[global]\nserver.socket_port = 70000\nserver.thred_pool = 3\nserver.ssl_module = 'gnutls'\n", encoding="utf-8"
    )
    done = secureserve("check", "--config", "site.ini", directory=place)
    assert done.status == 2
    for message in ("site.ini:2: ", "site.ini:3: ", "Did you mean server.thread_pool?", "site.ini:4: "):
        assert message in done.errors
    assert "Traceback" not in done.errors


def test_check_of_what_would_serve(place: Path) -> None:
    """A configuration in order, with its application and its certificate, passes with status 0."""
    (place / "site.ini").write_text(
        f"[global]\nserver.ssl_certificate = {os.fspath(place / 'cert.pem')!r}\n"
        f"server.ssl_private_key = {os.fspath(place / 'key.pem')!r}\n",
        encoding="utf-8",
    )
    done = secureserve("check", "app:application", "--config", "site.ini", directory=place)
    assert (done.status, done.output) == (0, "Nothing is wrong.\n")
    (place / "key.pem").write_bytes(b"")
    assert secureserve("check", "app:application", "--config", "site.ini", directory=place).status == 2


def test_help_lists_every_setting(place: Path) -> None:
    """``run --help`` has an option for every setting that the table gives one, with its variable."""
    from secureserve.cli.options import command_line_settings

    done = secureserve("run", "--help", directory=place, environment={"COLUMNS": "300"})
    assert done.status == 0
    for setting in command_line_settings().values():
        assert re.search(rf"(?<!\S){re.escape(setting.option)}(?![-\w])", done.output), setting.option
        assert setting.environment_variable in done.output


@pytest.mark.parametrize("command", ["run", "demo", "check"])
def test_help_can_be_read_in_a_narrow_terminal(place: Path, command: str) -> None:
    """At 80 columns no option, variable or default is cut, and the sections have their titles."""
    from secureserve.cli.options import command_line_settings

    done = secureserve(command, "--help", directory=place, environment={"COLUMNS": "80"})
    assert "\u2026" not in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    words = done.output.split()
    for setting in command_line_settings().values():
        if command == "run" or setting.option in words:
            assert setting.option in words
            assert f"{setting.environment_variable};" in words
            assert f"\n{setting.section.value}:\n" in done.output
    assert "default: 8080]" in " ".join(words) or command == "demo"


def test_without_a_command_there_is_help(place: Path) -> None:
    """The bare command shows what commands there are."""
    done = secureserve(directory=place)
    assert all(name in done.output + done.errors for name in ("run", "demo", "check"))
    assert "secureserve: " not in done.errors
