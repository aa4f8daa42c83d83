"""Every snippet of the documentation does what the page says.

The blocks of one page run in order, in a directory that holds what a reader is assumed to have: the applications of
`workplace`, ``fullchain.pem`` and ``privkey.pem`` for localhost, and ``ca.pem`` to verify it with. Python blocks of a
page share one namespace, whose ``__name__`` is not ``__main__``. A ``secureserve run`` or ``demo`` in a console block
runs until the page ends or serves something else at the same port. It really gets a free one, which replaces the one
that the page names in the commands after it.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.blocks import ROOT, Block, Command, blocks, commands, pages
from tests.docs.workplace import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from secureserve.testing import ACMEAuthority

DEADLINE = 45.0
"""Seconds for one command, or for a server to say where it serves."""

ELSEWHERE = re.compile(
    r"^(sudo|apt-get|apt|pip|git clone|systemctl|kubectl|docker|certbot|lego|acme\.sh|step|python3 -m venv)\b"
    r"|\.venv/|example\.(org|com)"
)
"""Commands that need the internet, root, or another machine: bash checks their grammar. .ci/run runs README's."""

SERVES = re.compile(r"(python3? -m )?secureserve (run|demo)\b")
DEFAULT_PORTS = {"run": "8080", "demo": "8443"}


def page_id(page: Path) -> str:
    """Name a page in the test's name."""
    return page.relative_to(ROOT).as_posix()


def with_blocks(language: str) -> list[Path]:
    """Return the pages that have blocks of a language."""
    return [page for page in pages() if any(block.language == language for block in blocks(page))]


@pytest.fixture
def workplace(tmp_path: Path, tls_authority: Any, tls_credential: Any) -> Path:
    """A directory with what a reader is assumed to have."""
    credential = tls_credential("localhost", "127.0.0.1", "::1")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o700 if name.startswith("bin/") else 0o600)
    (tmp_path / "fullchain.pem").write_bytes(Path(credential.certificate_path).read_bytes())
    (tmp_path / "privkey.pem").write_bytes(Path(credential.private_key_path).read_bytes())
    (tmp_path / "privkey.pem").chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(Path(tls_authority.cert_path).read_bytes())
    return tmp_path


@pytest.fixture
def environment(workplace: Path) -> dict[str, str]:
    """A reader's environment: this Python's commands first on PATH, a home of one's own."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE") or name == "TERM"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{workplace / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {
        **kept,
        "PATH": path,
        "HOME": str(workplace),
        "PYTHONUNBUFFERED": "1",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "120",
    }


@pytest.mark.parametrize("page", with_blocks("python"), ids=page_id)
def test_python_blocks_run(page: Path, workplace: Path, environment: dict[str, str]) -> None:
    """The Python blocks of a page run one after the other without an error or a warning."""
    parts = [block for block in blocks(page) if block.language == "python"]
    # Blank lines in front make a traceback name the line of the page.
    sources = [repr("\n" * block.line + block.text) for block in parts]
    program = "namespace = {'__name__': 'documentation'}\n" + "".join(
        f"exec(compile({source}, {str(page)!r}, 'exec'), namespace)\n" for source in sources
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=workplace,
        env={**environment, "PYTHONPATH": str(workplace)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def public_port(
    page: Path, request: pytest.FixtureRequest, workplace: Path, environment: dict[str, str]
) -> Iterator[int]:
    """On a page about ACME: the port where an authority looks, which the environment names; elsewhere 0."""
    if "secureserve acme" not in page.read_text(encoding="utf-8"):
        yield 0
        return
    authority: ACMEAuthority = request.getfixturevalue("acme_authority")
    records = workplace / "records"
    authority.validation.look_up = lambda name: [
        words[5]
        for line in records.read_text().splitlines()
        if (words := line.split())[:3] == ["update", "add", f"{name}."]
    ]
    with socket.socket() as sock:
        # Bound and not listened at: nobody else is given it, and a server that asks for it gets it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        port = authority.validation.tls_port = sock.getsockname()[1]
        environment["SECURESERVE_ACME_DIRECTORY"] = authority.directory_url
        environment["SECURESERVE_ACME_CA_FILE"] = str(workplace / "ca.pem")
        environment["SECURESERVE_SOCKET_HOST"] = "127.0.0.1"
        environment["SECURESERVE_SOCKET_PORT"] = str(port)
        yield port


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", with_blocks("console"), ids=page_id)
def test_console_blocks_do_what_they_show(
    page: Path, workplace: Path, environment: dict[str, str], public_port: int
) -> None:
    """Every command of a page succeeds, and prints what the page shows for it."""
    shell = Shell(workplace, environment, public_port)
    with shell:
        for block in blocks(page):
            if block.language == "console":
                for command in commands(block):
                    shell.run(command, block)


def test_every_block_says_what_it_is() -> None:
    """No block goes unchecked for want of a language."""
    unnamed = [f"{page_id(page)}:{block.line}" for page in pages() for block in blocks(page) if not block.language]
    assert not unnamed
    assert not [
        f"{page_id(page)}:{block.line}"
        for page in pages()
        for block in blocks(page)
        if block.language == "console" and not commands(block)
    ]


class Shell:
    """Runs the commands of one page, servers in the background."""

    def __init__(self, directory: Path, environment: dict[str, str], port: int = 0) -> None:
        self._port = port
        self._directory = directory
        self._environment = environment
        self._ports: dict[str, str] = {}
        self._servers: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with ExitStack() as stack:
            for process in self._servers.values():
                stack.callback(_end, process)

    def run(self, command: Command, block: Block) -> None:
        """Run one command and compare its output."""
        text = command.text
        if ELSEWHERE.search(text):
            self._bash(["-n", "-c", text])
        elif SERVES.match(text):
            self._serve(text)
        else:
            for named, real in self._ports.items():
                text = re.sub(rf"\b(localhost|127\.0\.0\.1|\[::1\]):{named}\b", rf"\1:{real}", text)
            done = self._bash(["-c", text])
            assert done.returncode == 0, f"line {block.line}: {text}\n{done.stdout}{done.stderr}"
            if command.output.strip():
                self._compare(command, done, block)

    def _compare(self, command: Command, done: subprocess.CompletedProcess[str], block: Block) -> None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        got = done.stdout + done.stderr
        for named, real in self._ports.items():
            got = got.replace(f":{real}", f":{named}")
        matches = doctest.OutputChecker().check_output(command.output, got, flags)
        assert matches, f"line {block.line}: {command.text}\n{got}"

    def _bash(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", *arguments],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def _serve(self, text: str) -> None:
        match = SERVES.match(text)
        assert match is not None
        named = re.search(r"--socket-port[ =](\d+)", text)
        port = named[1] if named else DEFAULT_PORTS[match[2]]
        if port in self._servers:
            _end(self._servers.pop(port))
        command = f"exec {text.removesuffix('&').rstrip()} --socket-host 127.0.0.1 --socket-port {self._port}"
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=self._directory,
            env=self._environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._servers[port] = process
        watchdog = threading.Timer(DEADLINE, process.kill)
        watchdog.start()
        try:
            self._ports[port] = _announced_port(process)
        finally:
            watchdog.cancel()


def _announced_port(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    heard = []
    for line in process.stderr:
        heard.append(line)
        if match := re.search(r"Serving .*https?://[^/\s]*?:(\d+)", line):
            return match[1]
    pytest.fail("The server did not say where it serves:\n" + "".join(heard))


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
