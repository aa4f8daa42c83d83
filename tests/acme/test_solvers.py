"""What answers challenges, each by itself."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from secureserve.acme.challenges import Challenge
from secureserve.acme.solvers import DNS01Solver, HTTP01Solver, TLSALPN01Solver
from secureserve.errors import ConfigurationError, IssuanceError
from secureserve.testing.acme_validation import Validation
from tests.acme.conftest import listening_http, listening_tls

if TYPE_CHECKING:
    from pathlib import Path

    from secureserve.certificates.credential import Credential

PROOF = "token-of-the-test.thumbprint"


def challenge(kind: str, name: str = "www.example.test", which: str = "first", *, wildcard: bool = False) -> Challenge:
    """Return a challenge."""
    return Challenge(kind, name, f"token-{which}", PROOF, wildcard)


@pytest.mark.parametrize("name", ["www.example.test", "127.0.0.1", "2001:db8::1"])
def test_tls_alpn_01_as_an_authority_sees_it(name: str, engine: str) -> None:
    """What is presented convinces who looks at it, for names and addresses, and nobody after it was withdrawn."""
    with listening_tls(engine=engine) as (port, mapping):
        solver = TLSALPN01Solver(mapping)
        wanted = challenge("tls-alpn-01", name)
        solver.present(wanted)
        validation = Validation(tls_port=port)
        validation.validate("tls-alpn-01", name, wanted.token, PROOF)
        solver.withdraw(wanted)
        with pytest.raises(Exception, match=f"{name}"):
            validation.validate("tls-alpn-01", name, wanted.token, PROOF)
        solver.withdraw(wanted)


def test_the_certificate_of_tls_alpn_01_says_nothing_else() -> None:
    """It is for the one name, self-signed, and its acmeIdentifier is critical (RFC 8737, 3)."""
    mapping: dict[str, Credential] = {}
    TLSALPN01Solver(mapping).present(challenge("tls-alpn-01"))
    leaf = mapping["www.example.test"].leaf
    extension = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert extension.critical
    assert leaf.issuer == leaf.subject
    assert mapping["www.example.test"].names == ("www.example.test",)


def test_an_order_does_not_take_away_the_answer_of_another() -> None:
    """Of two orders that prove the same name, the first to end leaves the answer of the second alone."""
    mapping: dict[str, Credential] = {}
    solver = TLSALPN01Solver(mapping)
    first, second = challenge("tls-alpn-01", which="first"), challenge("tls-alpn-01", which="second")
    solver.present(first)
    solver.present(second)
    solver.withdraw(first)
    assert "www.example.test" in mapping
    solver.withdraw(second)
    assert not mapping


def test_http_01_as_an_authority_sees_it() -> None:
    """The proof is served while it is presented, and not after."""
    with listening_http() as (port, mapping):
        solver = HTTP01Solver(mapping)
        wanted = challenge("http-01")
        solver.present(wanted)
        validation = Validation(http_port=port)
        validation.validate("http-01", wanted.name, wanted.token, PROOF)
        solver.withdraw(wanted)
        with pytest.raises(Exception, match=r"www\.example\.test"):
            validation.validate("http-01", wanted.name, wanted.token, PROOF)


@pytest.mark.parametrize(
    ("kind", "name", "wildcard", "able"),
    [
        ("tls", "www.example.test", False, True),
        ("tls", "www.example.test", True, False),
        ("tls", "127.0.0.1", False, True),
        ("http", "www.example.test", False, True),
        ("http", "www.example.test", True, False),
        ("http", "::1", False, True),
        ("dns", "www.example.test", True, True),
        ("dns", "127.0.0.1", False, False),
    ],
)
def test_who_can_answer_for_what(kind: str, name: str, *, wildcard: bool, able: bool) -> None:
    """Wildcards are proved in the DNS alone, addresses anywhere else."""
    solvers = {"tls": TLSALPN01Solver({}), "http": HTTP01Solver({}), "dns": DNS01Solver(["true"])}
    assert solvers[kind].can_solve(name, wildcard=wildcard) is able


def test_a_challenge_does_not_show_its_proof() -> None:
    """The key authorization is not in the repr of a challenge."""
    assert PROOF not in repr(challenge("dns-01"))


def script(directory: Path, text: str) -> list[str]:
    """Return the command of a hook in Python."""
    path = directory / "hook.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_a_command_is_told_what_to_do(tmp_path: Path) -> None:
    """A hook gets its argument and its environment, and no shell changes either."""
    hook = script(
        tmp_path,
        "import json, os, sys\n"
        "told = {name: value for name, value in os.environ.items() if name.startswith('SECURESERVE_ACME')}\n"
        f"open({str(tmp_path / 'log')!r}, 'a').write(json.dumps([sys.argv[1:], told]) + '\\n')\n",
    )
    solver = DNS01Solver([*hook, "$HOME; `id`"])
    wanted = challenge("dns-01", wildcard=True)
    solver.present(wanted)
    solver.withdraw(wanted)
    told = {
        "SECURESERVE_ACME_NAME": "www.example.test",
        "SECURESERVE_ACME_RECORD_NAME": "_acme-challenge.www.example.test",
        "SECURESERVE_ACME_RECORD_VALUE": wanted.record_value,
    }
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == [[["$HOME; `id`", "present"], told], [["$HOME; `id`", "withdraw"], told]]


def test_a_function_is_told_what_to_do() -> None:
    """A hook in Python gets the action, the record's name and its value."""
    calls: list[tuple[str, str, str]] = []
    solver = DNS01Solver(lambda *given: calls.append(given))
    wanted = challenge("dns-01")
    solver.present(wanted)
    solver.withdraw(wanted)
    name, value = "_acme-challenge.www.example.test", wanted.record_value
    assert calls == [("present", name, value), ("withdraw", name, value)]


def test_what_a_failing_command_said_last_is_repeated(tmp_path: Path) -> None:
    """The error has the command, its status and its last line, on one line."""
    hook = script(tmp_path, "import sys\nprint('first')\nsys.exit('no such \\x1b[31mzone')")
    with pytest.raises(IssuanceError) as caught:
        DNS01Solver(hook).present(challenge("dns-01"))
    message = str(caught.value)
    assert "_acme-challenge.www.example.test" in message
    assert "status 1 and said" in message
    assert "zone" in message
    assert "\x1b" not in message
    assert caught.value.remedy in message


def test_a_hook_that_fails_to_clean_up_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A record that stays behind is worth a warning, not a failed order."""
    DNS01Solver(["false"]).withdraw(challenge("dns-01"))
    assert "could not withdraw the record _acme-challenge.www.example.test" in caplog.text


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """A hook that cannot be started is named."""
    with pytest.raises(IssuanceError, match="no such file"):
        DNS01Solver([str(tmp_path / "nothing")]).present(challenge("dns-01"))


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    """A hook has bounded time; what it started ends with it."""
    hook = ["sh", "-c", f"sleep 3600 & echo $! > {tmp_path / 'pid'}; wait"]
    began = time.monotonic()
    with pytest.raises(IssuanceError, match=r"took more than 2 s and was killed.*acme_dns_hook_timeout"):
        DNS01Solver(hook, timeout=2.0).present(challenge("dns-01"))
    assert time.monotonic() - began < 30
    assert ends(int((tmp_path / "pid").read_text()))


def ends(pid: int) -> bool:
    """Return whether a process that was killed is gone within the deadline."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = select.select([descriptor], [], [], 20)
        return bool(ready)
    finally:
        os.close(descriptor)


def test_a_function_that_hangs_is_given_up() -> None:
    """A hook in Python has bounded time too."""
    released = threading.Event()
    try:
        with pytest.raises(IssuanceError, match=r"more than 0\.2 s.*acme_dns_hook_timeout"):
            DNS01Solver(lambda *_given: released.wait(60), timeout=0.2).present(challenge("dns-01"))
    finally:
        released.set()


@pytest.mark.parametrize("error", [KeyError("zone"), TimeoutError("the name server\nis slow"), SystemExit(3)])
def test_a_function_that_fails(error: BaseException) -> None:
    """Whatever a hook in Python raises is the reason of an IssuanceError."""

    def hook(*_given: str) -> None:
        raise error

    with pytest.raises(IssuanceError, match="could not present") as caught:
        DNS01Solver(hook).present(challenge("dns-01"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hook", ["a string", [], [1]])
def test_what_is_no_hook_is_refused(hook: object) -> None:
    """A command is a list of its arguments: a string would need a shell to take it apart."""
    with pytest.raises(ConfigurationError, match="acme_dns_hook"):
        DNS01Solver(hook)  # type: ignore[arg-type]


def test_signals_are_named() -> None:
    """A hook that a signal ended is told from one that failed."""
    with pytest.raises(IssuanceError, match=f"signal {signal.SIGKILL.value} ended it"):
        DNS01Solver(["sh", "-c", "kill -9 $$"]).present(challenge("dns-01"))
