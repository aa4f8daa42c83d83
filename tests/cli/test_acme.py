"""``secureserve acme`` without a running server: what it says, what it does, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secureserve import Server
from secureserve.cli import main
from secureserve.cli.serving import given
from secureserve.testing import Problem
from tests.managed.clients import application
from tests.processes import CompletedCommand, clean_environment, secureserve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.testing import ACMEAuthority

pytestmark = pytest.mark.timeout(120)


@dataclass
class User:
    """Somebody at a command line, with an authority that looks for answers at ports of theirs."""

    directory: Path
    authority: ACMEAuthority
    environment: dict[str, str]
    capsys: pytest.CaptureFixture[str] = field(repr=False)

    def run(self, *arguments: str, **environment: str) -> CompletedCommand:
        """Run ``secureserve acme ARGUMENTS``, here: starting Python each time would take longer than the rest."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", clean_environment(self.directory, {**self.environment, **environment}))
            with pytest.raises(SystemExit) as ended:
                main(["acme", *arguments])
        said = self.capsys.readouterr()
        return CompletedCommand(int(ended.value.code or 0), said.out, said.err)

    def ask(self, *arguments: str) -> Any:
        """Run it with ``--json``, and return what it says."""
        done = self.run(*arguments, "--json")
        assert done.status == 0, done.errors
        return json.loads(done.output)

    @property
    def storage(self) -> Path:
        """Where everything is kept unless something else is said."""
        return self.directory / ".local" / "state" / "secureserve" / "acme"


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Two ports that nobody else is given: for TLS, and for plain HTTP."""
    with socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", 0))
        yield first.getsockname()[1], second.getsockname()[1]


@pytest.fixture
def environment(tls_authority: Any, acme_authority: ACMEAuthority, ports: tuple[int, int]) -> dict[str, str]:
    """Variables that name the authority, accept its terms, and say where it looks."""
    acme_authority.validation.tls_port, acme_authority.validation.http_port = ports
    return {
        "SECURESERVE_ACME_DIRECTORY": acme_authority.directory_url,
        "SECURESERVE_ACME_CA_FILE": str(tls_authority.cert_path),
        "SECURESERVE_ACME_EMAIL": "ops@example.test",
        "SECURESERVE_ACME_ACCEPT_TERMS": "yes",
        "SECURESERVE_SOCKET_HOST": "127.0.0.1",
        "SECURESERVE_SOCKET_PORT": str(ports[0]),
        "SECURESERVE_REDIRECT_PORT": str(ports[1]),
    }


@pytest.fixture
def user(
    tmp_path: Path,
    acme_authority: ACMEAuthority,
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    restored_loggers: None,
) -> Iterator[User]:
    """Somebody in an empty directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        yield User(tmp_path, acme_authority, environment, capsys)


@pytest.mark.parametrize("challenge", ["tls-alpn-01", "http-01"])
def test_a_certificate_is_obtained_without_a_server(user: User, challenge: str) -> None:
    """The command listens itself, for as long as the authority looks, and says where the certificate is."""
    done = user.run("obtain", "shop.test", "--acme-challenge", challenge)
    assert done.status == 0, done.errors
    assert done.output.startswith("shop.test: obtained, from ")
    assert "acme: shop.test: ordering a certificate for shop.test" in done.errors
    assert [one.type for one in user.authority.challenges.values() if one.status == "valid"] == [challenge]
    (account,) = user.authority.accounts.values()
    assert account.contact == ["mailto:ops@example.test"]


def test_a_hook_proves_a_wildcard(user: User) -> None:
    """With dns-01 nothing listens at all; the hook finds its record in the environment."""
    zone = user.directory / "zone"
    hook = user.directory / "hook"
    hook.write_text('#!/bin/sh\necho "$1 $SECURESERVE_ACME_RECORD_NAME $SECURESERVE_ACME_RECORD_VALUE" >> zone\n')
    hook.chmod(0o700)
    user.authority.validation.look_up = lambda name: [
        line.split()[2] for line in zone.read_text().splitlines() if line.split()[:2] == ["present", name]
    ]
    done = user.run("obtain", "*.shop.test,shop.test", "--acme-dns-hook", "./hook", "--acme-challenge", "dns-01")
    assert done.status == 0, done.errors
    assert done.output.startswith("*.shop.test, shop.test: obtained")
    said = [line.split()[:2] for line in zone.read_text().splitlines()]
    assert said.count(["present", "_acme-challenge.shop.test"]) == 2
    assert said.count(["withdraw", "_acme-challenge.shop.test"]) == 2


def test_a_hook_that_takes_too_long(user: User) -> None:
    """A hook that hangs is killed when its time is over, and the error says how to give it more."""
    done = user.run("obtain", "*.shop.test", "--acme-dns-hook", "sh -c 'sleep 3600'", "--acme-dns-hook-timeout", "0.2")
    assert done.status == 1
    assert "The DNS hook sh could not present the record _acme-challenge.shop.test" in done.errors
    assert "took more than 0.2 s and was killed" in done.errors
    assert "acme_dns_hook_timeout" in done.errors


def test_records_get_time_to_spread(user: User) -> None:
    """The authority is not asked to look before the time is over, which is said while it is waited."""
    zone = user.directory / "zone"
    hook = user.directory / "hook"
    hook.write_text('#!/bin/sh\necho "$1 $SECURESERVE_ACME_RECORD_VALUE" >> zone\n')
    hook.chmod(0o700)
    ages: list[float] = []

    def look_up(_name: str) -> list[str]:
        ages.append(time.time() - zone.stat().st_mtime)
        return [line.split()[1] for line in zone.read_text().splitlines()]

    user.authority.validation.look_up = look_up
    done = user.run("obtain", "*.shop.test", "--acme-dns-hook", "./hook", "--acme-dns-propagation", "0.3")
    assert done.status == 0, done.errors
    assert "acme: *.shop.test: waiting 0.3 s for the answers to spread" in done.errors
    # Files are dated by a clock that ticks a hundred times a second.
    assert min(ages) > 0.28


def test_what_is_there_is_kept_renewed_by_force_and_listed(user: User) -> None:
    """A second `obtain` asks nobody; `renew` waits for its time, ``--force`` does not; `list` shows the new one."""
    first = user.ask("obtain", "shop.test", "api.shop.test,www.shop.test")["certificates"]
    assert [(one["names"], one["result"]) for one in first] == [
        (["shop.test"], "obtained"),
        (["api.shop.test", "www.shop.test"], "obtained"),
    ]
    again = user.ask("obtain", "shop.test")["certificates"]
    assert [(one["result"], one["fingerprint"]) for one in again] == [("kept", first[0]["fingerprint"])]
    waiting = user.ask("renew")["certificates"]
    assert [one["result"] for one in waiting] == ["kept", "kept"]
    forced = user.ask("renew", "shop.test", "--force")["certificates"]
    assert [one["result"] for one in forced] == ["renewed"]
    assert len(user.authority.issued) == 3
    listed = user.ask("list")
    by_names = {tuple(one["names"]): one for one in listed["certificates"]}
    assert by_names["shop.test",]["fingerprint"] == forced[0]["fingerprint"] != first[0]["fingerprint"]
    assert by_names["shop.test",]["authority"] == user.authority.directory_url
    assert by_names["shop.test",]["days_left"] > 80
    assert Path(by_names["shop.test",]["place"]).stat().st_mode & 0o777 == 0o600
    assert listed["storage"] == str(user.storage)
    shown = user.run("list").output
    assert "api.shop.test, www.shop.test\n  authority  https://" in shown


def test_a_renewal_is_made_when_it_is_due(user: User) -> None:
    """Where the authority's window has begun, `renew` renews everything without being told the names."""
    user.ask("obtain", "shop.test")
    user.authority.renewal_window = lambda one: (
        one.not_valid_before_utc,
        one.not_valid_before_utc + timedelta(seconds=1),
    )
    (renewed,) = user.ask("renew")["certificates"]
    assert (renewed["names"], renewed["result"]) == (["shop.test"], "renewed")


def test_terms_are_accepted_once(user: User) -> None:
    """With an account in the storage nothing asks for ``--acme-accept-terms``; without one, everything does."""
    user.ask("obtain", "shop.test")
    unaccepted = {"SECURESERVE_ACME_ACCEPT_TERMS": "no"}
    for arguments in (["renew", "--force"], ["obtain", "other.test"], ["account", "--create"]):
        done = user.run(*arguments, **unaccepted)
        assert done.status == 0, done.errors
    assert len(user.authority.accounts) == 1
    elsewhere = user.run("renew", "--force", "shop.test", "--acme-storage", "elsewhere", **unaccepted)
    assert (elsewhere.status, "acme_accept_terms is not set" in elsewhere.errors) == (2, True), elsewhere.errors


def test_changed_terms_are_told_with_where_to_agree(user: User) -> None:
    """An account whose owner has to agree anew gets the authority's own instructions, and status 1."""
    user.ask("obtain", "shop.test")
    page = f"{user.authority.base_url}/agree"
    changed = Problem("userActionRequired", "New terms.", status=403, extra={"instance": page})
    user.authority.fail_next("newOrder", changed)
    done = user.run("renew", "--force")
    assert done.status == 1
    assert f"It says how at {page}." in done.errors


def test_a_refusal_ends_with_status_1_and_names_each_name(user: User) -> None:
    """What the authority refuses comes with its type, its words, and its words about each name."""
    user.authority.refused["bad.test"] = Problem("rejectedIdentifier", "Not that one.")
    done = user.run("obtain", "bad.test,shop.test", "--json")
    assert done.status == 1
    (outcome,) = json.loads(done.output)["certificates"]
    assert outcome["result"] == "failed"
    assert outcome["problem_type"] == "urn:ietf:params:acme:error:rejectedIdentifier"
    assert outcome["subproblems"][0]["identifier"]["value"] == "bad.test"
    plain = user.run("obtain", "bad.test")
    assert plain.status in {1, 75}
    assert plain.output == ""
    assert plain.errors.splitlines()[-1].startswith("secureserve: bad.test: ")


def test_nobody_there_and_a_rate_limit_end_with_status_75(user: User) -> None:
    """What passes by itself has a status of its own, so that a script tries again later."""
    user.authority.fail_next("newOrder", Problem("rateLimited", "Too many.", status=429, retry_after=3600))
    limited = user.run("obtain", "shop.test", "--json")
    assert limited.status == 75
    (outcome,) = json.loads(limited.output)["certificates"]
    assert (outcome["result"], outcome["retry_after"]) == ("later", 3600)
    asked_too_soon = user.run("obtain", "shop.test")
    assert asked_too_soon.status == 75
    assert "left alone" in asked_too_soon.errors
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"https://127.0.0.1:{gone.getsockname()[1]}/directory"
    away = user.run("obtain", "other.test", "--acme-directory", url)
    assert away.status == 75, away.errors
    assert "cannot be reached" in away.errors


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (["obtain"], {}, "NAME is missing"),
        (["obtain", "shop.test"], {"SECURESERVE_ACME_ACCEPT_TERMS": "no"}, "acme_accept_terms"),
        (["obtain", "*.shop.test"], {}, "acme_dns_hook"),
        (["obtain", "sh op.test,"], {}, "is no name"),
        (["obtain", "shop.test"], {"SECURESERVE_ACME_DIRECTORY": "letsencript"}, "Did you mean 'letsencrypt'?"),
        (["obtain", "shop.test"], {"SECURESERVE_ACME_DIRECTORY": "http://ca.test/"}, "https"),
        (["obtain", "shop.test"], {"SECURESERVE_ACME_EAB_KEY_ID": "one"}, "acme_eab_hmac_key_file is missing"),
        (["revoke", "nowhere.test"], {}, "is neither a file nor the name of a stored certificate"),
        (["account", "--update-contact"], {"SECURESERVE_ACME_EMAIL": "none"}, "--acme-email is missing"),
        (["account", "--deactivate", "--roll-over"], {}, "--deactivate goes with nothing else"),
        (["account", "--create"], {"SECURESERVE_ACME_ACCEPT_TERMS": "no"}, "--acme-accept-terms is missing"),
        (["list", "--control-socket", "nowhere"], {}, "No server answers"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    user: User, arguments: list[str], changes: dict[str, str], said: str
) -> None:
    """Mistakes of the command line ask nobody anything, and say what to write instead."""
    done = user.run(*arguments, **changes)
    assert (done.status, done.output) == (2, ""), done.errors
    assert said in done.errors
    assert not user.authority.orders


def test_ports_that_are_taken_are_told(user: User, ports: tuple[int, int]) -> None:
    """Where neither port can be had, both are named, and what to do; one of them is enough."""
    with socket.create_server(("127.0.0.1", ports[0])):
        done = user.run("obtain", "one.test")
        assert done.status == 0, done.errors
        with socket.create_server(("127.0.0.1", ports[1])):
            done = user.run("obtain", "two.test")
    assert done.status == 2
    assert str(ports[0]) in done.errors
    assert str(ports[1]) in done.errors
    assert "--control-socket" in done.errors


def test_a_certificate_is_revoked(user: User) -> None:
    """The authority revokes it, and the storage has it no longer; one in a file stays there."""
    user.ask("obtain", "shop.test", "other.test")
    done = user.run("revoke", "shop.test", "--reason", "key-compromise")
    assert done.status == 0, done.errors
    assert done.output.startswith("Revoked shop.test: sha256 ")
    assert [one.revoked for one in user.authority.issued] == [True, False]
    (left,) = user.ask("list")["certificates"]
    assert left["names"] == ["other.test"]
    revoked = user.ask("revoke", left["place"])
    assert (revoked["names"], revoked["fingerprint"]) == (["other.test"], left["fingerprint"])
    assert [one.revoked for one in user.authority.issued] == [True, True]
    again = user.run("revoke", left["place"])
    assert again.status == 1
    assert "alreadyRevoked" in again.errors


def test_the_account_is_made_shown_changed_and_given_up(user: User) -> None:
    """`account` shows what the authority has, and changes its address and its key."""
    none = user.run("account")
    assert none.status == 0
    assert "no account" in none.output
    (made,) = user.ask("account", "--create")
    assert (made["status"], made["contact"]) == ("valid", ["mailto:ops@example.test"])
    (changed,) = user.ask("account", "--update-contact", "--acme-email", "new@example.test", "--roll-over")
    assert changed["contact"] == ["mailto:new@example.test"]
    assert changed["url"] == made["url"]
    assert changed["thumbprint"] != made["thumbprint"]
    assert "thumbprint" in user.run("account").output
    (gone,) = user.ask("account", "--deactivate")
    assert gone["exists"] is False
    assert [one.status for one in user.authority.accounts.values()] == ["deactivated"]


def test_no_key_material_is_shown(user: User) -> None:
    """Nothing that the commands print holds a private key, with ``--debug`` as well."""
    done = user.run("obtain", "shop.test", "--debug", "--json")
    listed, shown = user.run("list", "--json"), user.run("account", "--json")
    for text in (done.output, done.errors, listed.output, shown.output):
        assert "PRIVATE KEY" not in text
        assert '"d"' not in text


def test_a_configuration_file_is_enough(user: User, ports: tuple[int, int]) -> None:
    """The commands read the server's own configuration: its names, its authority, its ports."""
    environment = user.environment
    (user.directory / "server.toml").write_text(
        "[server]\n"
        'acme_domain = ["shop.test"]\n'
        "acme_accept_terms = true\n"
        f'acme_directory = "{environment["SECURESERVE_ACME_DIRECTORY"]}"\n'
        f'acme_ca_file = "{environment["SECURESERVE_ACME_CA_FILE"]}"\n'
        'acme_storage = "certificates"\n'
        'socket_host = "127.0.0.1"\n'
        f"socket_port = {ports[0]}\n"
    )
    done = secureserve("acme", "obtain", "--config", "server.toml", directory=user.directory)
    assert done.status == 0, done.errors
    assert list((user.directory / "certificates").rglob("certificate.pem"))
    listed = secureserve("acme", "list", "-c", "server.toml", "--json", directory=user.directory)
    assert json.loads(listed.output)["storage"] == "certificates"


def test_a_server_that_the_file_names_is_asked_if_it_runs(user: User, ports: tuple[int, int]) -> None:
    """With the server's own configuration the commands do by themselves what they have a running server do."""
    (user.directory / "server.toml").write_text(
        f'[server]\nacme_domain = "shop.test"\ncontrol_socket = "{user.directory}/control"\n'
    )
    config = ("--config", "server.toml")
    alone = user.run("obtain", *config)
    assert (alone.status, "by the server" in alone.output) == (0, False), alone.errors
    with Server(
        application,
        socket_host="127.0.0.1",
        socket_port=ports[0],
        control_socket=user.directory / "control",
        acme_domain="shop.test",
        acme_accept_terms=True,
        acme_directory=user.authority.directory_url,
        acme_ca_file=user.environment["SECURESERVE_ACME_CA_FILE"],
        acme_storage=user.storage,
    ):
        kept = user.run("obtain", *config)
        assert (kept.status, kept.output.split(",")[0]) == (0, "shop.test: kept"), kept.errors
        renewed = user.run("renew", "--force", *config)
        assert (renewed.status, "renewed, by the server" in renewed.output) == (0, True), renewed.errors
        (listed,) = user.ask("list", *config)["certificates"]
        assert listed["state"] == "valid"
        unknown = user.run("renew", "other.test", *config)
        assert unknown.status == 2
        assert "has no certificate for just other.test; it has: shop.test" in unknown.errors
        user.authority.refused["shop.test"] = Problem("rejectedIdentifier", "Not any more.")
        refused = user.run("revoke", "shop.test", *config)
        assert refused.status == 1
        assert "Not any more." in refused.errors
        assert not [one for one in user.authority.issued if one.revoked]


@pytest.mark.parametrize(
    ("options", "ports"),
    [
        ({"acme_domain": ["example.org"]}, (443, 80)),
        ({"acme_domain": ["example.org"], "redirect_port": "none"}, (443, None)),
        ({"acme_domain": ["example.org"], "socket_port": "8443"}, (8443, None)),
        ({}, (None, None)),
    ],
)
def test_public_ports_are_listened_at_unless_others_are_named(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], ports: tuple[int | None, int | None]
) -> None:
    """With a name to obtain a certificate for and no port, `run` listens where an authority and clients look."""
    monkeypatch.setattr(os, "environ", {})
    server = given([], options).whole.server
    assert (server.get("socket_port"), server.get("redirect_port")) == ports


def test_check_asks_nobody(user: User, capsys: pytest.CaptureFixture[str]) -> None:
    """`check` says what is wrong with the options about ACME, without asking an authority or making a storage."""
    (user.directory / "app.py").write_text("def app(environ, start_response):\n    return []\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", clean_environment(user.directory))
        for options, status, said in (
            (["--acme-accept-terms"], 0, "Nothing is wrong."),
            ([], 2, "acme_accept_terms is not set"),
            (["--acme-accept-terms", "--acme-directory", "letsencript"], 2, "Did you mean 'letsencrypt'?"),
        ):
            with pytest.raises(SystemExit) as ended:
                main(["check", "app:app", "--acme-domain", "example.org", *options])
            heard = capsys.readouterr()
            assert (ended.value.code or 0, said in heard.out + heard.err) == (status, True), heard
    assert not user.storage.exists()


def test_a_terminal_shows_one_line_that_changes(user: User) -> None:
    """On a terminal, what is being done takes one line, which is gone at the end; the outcome stays."""
    leader, follower = pty.openpty()
    with open(leader, "rb", buffering=0) as terminal, open(follower, "wb", buffering=0) as slave:  # noqa: PTH123 - descriptors
        process = subprocess.Popen(
            [sys.executable, "-m", "secureserve", "acme", "obtain", "shop.test"],
            cwd=user.directory,
            env=clean_environment(user.directory, {**user.environment, "TERM": "xterm"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave,
        )
        slave.close()
        shown = b""
        with contextlib.suppress(OSError):
            while part := terminal.read(65536):
                shown += part
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, shown
    assert output.startswith(b"shop.test: obtained, from ")
    assert b"acme: shop.test: downloading the certificate" in shown
    assert b"\x1b[2K" in shown
