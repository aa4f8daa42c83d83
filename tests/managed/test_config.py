"""The configuration: its formats, who wins, what it makes, and what it refuses."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from secureserve.errors import ConfigurationError, ConfigurationErrors
from secureserve.managed.config import Config, load
from secureserve.managed.engine import Engine
from secureserve.managed.process import Process
from secureserve.managed.server import Server
from secureserve.managed.settings import ENGINE_SETTINGS, SETTINGS, find, kinds
from secureserve.managed.sources import literal
from tests.managed.clients import application, fetch, show_environ

if TYPE_CHECKING:
    from pathlib import Path

INI = """
# A comment.
[global]
server.socket_port = 443
server.thread_pool: 30
server.max_request_body_size = 100 * 1024 * 1024
server.socket_host = '127.0.0.1'   # a comment
server.reverse_dns = True
server.admin.socket_port = 9000
engine.autoreload.on = False
"""

TOML = """
[server]
socket_port = 443
thread_pool = 30
max_request_body_size = 104857600
socket_host = "127.0.0.1"
reverse_dns = true

[server.admin]
socket_port = 9000

[engine]
autoreload = false
"""

EXPECTED = {
    "server.socket_port": 443,
    "server.thread_pool": 30,
    "server.max_request_body_size": 100 * 1024 * 1024,
    "server.socket_host": "127.0.0.1",
    "server.reverse_dns": True,
    "server.admin.socket_port": 9000,
    "engine.autoreload": False,
}


def write(directory: Path, name: str, text: str) -> Path:
    """Write a file and return its path."""
    path = directory / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("name", "text"), [("site.conf", INI), ("site.ini", INI), ("site.toml", TOML)])
def test_files_say_the_same_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    """INI in CherryPy's manner and TOML give the same settings."""
    assert dict(load(write(tmp_path, name, text)).items()) == EXPECTED


@pytest.mark.parametrize(
    "source",
    [
        EXPECTED,
        {"global": EXPECTED},
        {
            "server": {
                **{
                    key[7:]: value
                    for key, value in EXPECTED.items()
                    if key.count(".") == 1 and key.startswith("server")
                },
                "admin": {"socket_port": 9000},
            },
            "engine": {"autoreload": False},
        },
    ],
    ids=["flat", "global", "nested"],
)
def test_mappings_are_flat_or_nested(source: Any) -> None:
    """A mapping has dotted keys, a global section, or sections within sections."""
    assert dict(load(source).items()) == EXPECTED


def test_who_wins(tmp_path: Path) -> None:
    """A later file wins over an earlier one, the environment over both, and the program over all."""
    first = write(tmp_path, "first.toml", "[server]\nsocket_port = 1\nthread_pool = 1\nsocket_timeout = 1\n")
    second = write(tmp_path, "second.ini", "[global]\nserver.thread_pool = 2\nserver.socket_timeout = 2\n")
    configuration = load(first, second, environ={"SECURESERVE_SOCKET_TIMEOUT": "3", "PATH": "/bin"})
    assert configuration.server == {"socket_port": 1, "thread_pool": 2, "socket_timeout": 3}
    program = load({"server.socket_timeout": 4})
    assert program.over(configuration).server["socket_timeout"] == 4


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("SOCKET_PORT", "443", 443),
        ("SOCKET_TIMEOUT", "2.5", 2.5),
        ("REVERSE_DNS", "yes", True),
        ("REVERSE_DNS", "off", False),
        ("MAX_REQUEST_BODY_SIZE", "100MiB", 100 * 1024 * 1024),
        ("MAX_REQUEST_HEADER_SIZE", "8k", 8192),
        ("SOCKET_HOST", "none", None),
        ("SOCKET_HOST", "[::1]", "::1"),
        ("SOCKET_MODE", "660", 0o660),
        ("PROXY_ALLOW_IPS", "10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
        ("SSL_CIPHERS", "A:B", ("A", "B")),
        ("WSGI_VERSION", "(1, 0)", (1, 0)),
        ("SSL_CLIENT_VERIFY", "Required", "required"),
        ("THREAD_POOL_MAX", "-1", -1),
    ],
)
def test_the_environment_is_text(variable: str, text: str, value: object) -> None:
    """Variables are read by the kind of their setting."""
    assert load(environ={f"SECURESERVE_{variable}": text}).server == {variable.lower(): value}


def test_engine_settings_come_from_the_environment_too() -> None:
    """SECURESERVE_PID_FILE sets the process's pid file."""
    assert load(environ={"SECURESERVE_PID_FILE": "/run/x.pid"}).engine == {"pid_file": "/run/x.pid"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.ini",
            "[global]\n\nserver.socket_prot = 1\n",
            "a.ini:3: server.socket_prot is not a setting. Did you mean server.socket_port?",
        ),
        (
            "a.ini",
            "[global]\nserver.socket_port = 'x'\n",
            "a.ini:2: server.socket_port = 'x' is a str, not a whole number. Write a whole number, from 0 to 65535.",
        ),
        (
            "a.ini",
            "[global]\nserver.socket_host = localhost\n",
            "a.ini:2: server.socket_host = 'localhost' is not a Python value. Put text into quotes",
        ),
        ("a.ini", "[global]\nserver.socket_port\n", "a.ini:2: config is not an INI file"),
        ("a.ini", "server.socket_port = 1\n", "a.ini:1: config is not an INI file"),
        (
            "a.ini",
            "[/]\ntools.gzip.on = True\n",
            "a.ini:2: [/].tools.gzip.on is not a setting. Settings stand in [global]",
        ),
        ("a.ini", "[global]\nserver.socket_port = 1\nserver.socket_port = 2\n", "a.ini:3: config is not an INI file"),
        (
            "a.ini",
            "[global]\nengine.autorelaod = True\n",
            "a.ini:2: engine.autorelaod is not a setting. Did you mean engine.autoreload?",
        ),
        (
            "a.ini",
            "[global]\nserver.admin.socket_prot = 1\n",
            "a.ini:2: server.admin.socket_prot is not a setting. Did you mean socket_port?",
        ),
        (
            "a.ini",
            "[global]\nserver.ssl_context = 1\n",
            "a.ini:2: server.ssl_context is not a setting. A context made elsewhere",
        ),
        ("a.ini", "[global]\nserver.admin.on = 'no'\n", "a.ini:2: server.admin.on = 'no' is neither True nor False"),
        ("a.ini", "[global]\nserver.socket_port.x = 1\n", "a.ini:2: server.socket_port.x names no server"),
        (
            "a.ini",
            "[global]\nserver.ssl_private_key_password = 5\n",
            "a.ini:2: server.ssl_private_key_password is an int, not a password",
        ),
        (
            "a.toml",
            "[server]\nsocket_prot = 1\n",
            "a.toml:2: server.socket_prot is not a setting. Did you mean server.socket_port?",
        ),
        ("a.toml", "server.socket_port = 'x'\n", "a.toml:1: server.socket_port = 'x' is a str"),
        ("a.toml", "[server]\nsocket_port = \n", "a.toml:2: config is not TOML"),
        ("a.toml", "global = 5\n", "global = 5 is not a section"),
        ("a.toml", "[server.admin]\nx.y = 1\n", "a.toml:2: server.admin.x.y names no server"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    """What is unknown, of the wrong type or broken is told with file, line, key, what was expected, and the nearest."""
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, name, text))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    """All mistakes of two files and the environment are in the one error, a line each."""
    first = write(tmp_path, "one.ini", "[global]\nserver.socket_port = -1\nserver.thread_pol = 3\n")
    second = write(tmp_path, "two.toml", "server.socket_timeout = 'x'\n")
    environ = {"SECURESERVE_SOCKET_PROT": "1", "SECURESERVE_THREAD_POOL": "many", "SECURESERVE_LISTENERS": "[]"}
    with pytest.raises(ConfigurationErrors) as caught:
        load(first, second, environ=environ)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.problems) == 5
    for part in (
        "one.ini:2",
        "one.ini:3",
        "two.toml:1",
        "Did you mean SECURESERVE_SOCKET_PORT?",
        "SECURESERVE_THREAD_POOL",
    ):
        assert any(part in line for line in lines)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a directory, and bytes that are no text are refused by name."""
    (tmp_path / "binary.ini").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.ini", tmp_path, tmp_path / "binary.ini"):
        with pytest.raises(ConfigurationError, match=str(path)):
            load(path)


def test_a_secret_is_never_shown() -> None:
    """A refused password is not in the error."""
    with pytest.raises(ConfigurationError) as caught:
        SETTINGS["ssl_private_key_password"].parse(["hunter2"])
    assert "hunter2" not in str(caught.value)
    assert caught.value.value is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("'a'", "a"),
        ("[1, 'b']", [1, "b"]),
        ("None", None),
        ("10 / 4", 2.5),
        ("7 // 2 - 1", 2),
        ("-1", -1),
    ],
)
def test_values_are_python_literals_with_arithmetic(text: str, value: object) -> None:
    """Literals and calculations with numbers are values."""
    assert literal(text) == value


@pytest.mark.parametrize("text", ["open('x')", "a", "", "'a' * 10**9", "1 / 0", "2 ** 64", "(" * 500])
def test_nothing_else_is_a_value(text: str) -> None:
    """Names, calls, powers and text arithmetic are refused; nothing is executed."""
    with pytest.raises(ValueError, match=r"."):
        literal(text)


def test_update_is_all_or_nothing() -> None:
    """One mistake keeps everything else of an update from counting."""
    server = Server()
    process = Process(Engine(), server)
    config = Config(process.apply)
    config.update({"server.socket_port": 1})
    with pytest.raises(ConfigurationError):
        config.update({"server.thread_pool": 5, "server.socket_port": "x"})
    assert (server.socket_port, server.thread_pool) == (1, 10)
    assert dict(config) == {"server.socket_port": 1}
    assert config["server.socket_port"] == 1
    assert len(config) == 1
    config.reset()
    assert dict(config) == {}


def test_further_servers_are_made_started_and_removed() -> None:
    """server.NAME.X makes a further server, which starts with the engine; .on = False takes it away again."""
    engine = Engine()
    main = Server(application, engine=engine)
    main.subscribe()
    process = Process(engine, main)
    config = Config(process.apply)
    config.update(
        {
            "server": {"socket_host": "127.0.0.1", "socket_port": 0},
            "server.admin.socket_host": "127.0.0.1",
            "server.admin.socket_port": 0,
            "server.other.socket_host": "127.0.0.1",
            "server.other.socket_port": 0,
            "server.other.application": "tests.managed.clients:show_environ",
        }
    )
    seen = []
    ran = threading.Thread(
        target=process.run,
        kwargs={
            "ready": lambda: (
                seen.extend(
                    [
                        fetch(process.server.bound_addr, "/main"),
                        fetch(process.servers["admin"].bound_addr, "/admin"),
                        fetch(process.servers["other"].bound_addr, "/SERVER_PORT"),
                        process.servers["other"].bound_addr[1],
                    ]
                ),
                config.update({"server.other.on": False}),
                seen.append(sorted(process.servers)),
                engine.exit(),
            )
        },
    )
    ran.start()
    ran.join(20)
    assert not ran.is_alive()
    assert seen[:2] == [b"hello /main", b"hello /admin"]
    assert seen[2] == str(seen[3]).encode()
    assert seen[4] == ["admin"]
    assert not main.running
    assert show_environ is not application


def test_the_table_is_sound() -> None:
    """Every setting has a sentence, a default of its kind, unique names, and both columns of defaults parse."""
    tables = [SETTINGS, ENGINE_SETTINGS]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    for table in tables:
        for name, setting in table.items():
            assert name == setting.name
            assert setting.doc.endswith(".")
            for default in (setting.default, setting.default_for_command_line):
                assert setting.parse(default) == default
            assert setting.key == f"{setting.scope}.{name}"
            assert setting.option == "--" + name.replace("_", "-")
            assert setting.environment_variable == "SECURESERVE_" + name.upper()
    assert SETTINGS["socket_queue_size"].default_for_command_line == 1024
    assert SETTINGS["ssl_module"].choices == ("pyopenssl", "builtin")


def test_an_unknown_setting_names_the_nearest() -> None:
    """Find suggests what was probably meant, or points to the reference where nothing is near."""
    with pytest.raises(ConfigurationError, match=r"Did you mean socket_port\?"):
        find("socket_prot")
    with pytest.raises(ConfigurationError, match="reference page"):
        find("zzz")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kinds.FLAG, "maybe"),
        (kinds.PORT, "1e3"),
        (kinds.seconds(), "soon"),
        (kinds.seconds(), "nan"),
        (kinds.size(), "10 apples"),
        (kinds.MODE, "rw"),
        (kinds.PATH, ""),
        (kinds.PATH, "a\0b"),
        (kinds.TEXT, "two\nlines"),
        (kinds.USER, "no-such-user"),
        (kinds.GROUP, "no-such-group"),
        (kinds.NETWORK, "10.0.0.1/8"),
        (kinds.HOST, "host:80"),
        (kinds.WSGI_VERSION, "one"),
    ],
)
def test_text_that_is_not_of_its_kind(kind: kinds.Kind, text: str) -> None:
    """Text that cannot be read says what to write."""
    with pytest.raises(kinds.Unacceptable) as caught:
        kind.read(text)
    assert caught.value.remedy.endswith(".")
