"""A server that obtains its own certificates, as somebody runs it: against Pebble, with real clients."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest

from secureserve.certificates.credential import Credential
from tests.acme.site import APPLICATION, Load, Relay, Site, nobodys_url, wait_for_file
from tests.processes import secureserve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acme.pebble import Pebble

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def site(tmp_path: Path, pebble: Pebble) -> Site:
    """A directory with an application."""
    (tmp_path / "app.py").write_text(APPLICATION, encoding="utf-8")
    (tmp_path / "roots.pem").write_bytes(pebble.roots[0])
    return Site(tmp_path, pebble, tmp_path / "roots.pem")


@pytest.mark.parametrize("challenge", ["tls-alpn-01", "http-01"])
def test_it_obtains_and_serves_what_it_was_asked_for(site: Site, challenge: str) -> None:
    """From one command: an order, its proof in a handshake or on the plain port, and a client that verifies it."""
    name = f"first.{challenge}.test"
    options = ("--acme-domain", name, "--acme-challenge", challenge)
    with site.serve(*options, tls=challenge == "tls-alpn-01", plain=challenge == "http-01") as server:
        server.errors.wait_for(r"obtained a certificate for " + re.escape(name))
        server.errors.wait_for(r"now serving ACME " + re.escape(f"({name})"))
        assert site.fetch(name, server.port) == "hello\n"
        (shown,) = site.listed()
        assert (shown["names"], shown["state"]) == ([name], "valid")
        assert "self-signed placeholder stands in" in server.errors.text


def test_the_start_never_waits_unless_it_is_told_to(site: Site) -> None:
    """With ``--acme-wait`` the first client gets the real one; one that does not come fails the start, and says why."""
    with site.serve("--acme-domain", "wait.test", "--acme-wait", "60") as server:
        assert site.fetch("wait.test", server.port) == "hello\n"
    failing = site.serve("--acme-domain", "never.test", "--acme-wait", "0.5", url=nobodys_url())
    assert failing.wait() == 2
    assert "There is no certificate after 0.5 s (acme_wait). never.test: " in failing.errors.text
    assert "Serving on" not in failing.errors.text


def test_an_authority_that_is_down_keeps_nobody_waiting(site: Site) -> None:
    """A server serves what it has while the authority is down, and is given the rest once it is back."""
    with site.serve("--acme-domain", "stored.test", "--acme-wait", "60"):
        (before,) = site.listed()
    with Relay(site.pebble) as relay:
        names = ("--acme-domain", "stored.test", "--acme-domain", "missing.test")
        with site.serve(*names, url=relay.directory_url) as server:
            assert site.fetch("stored.test", server.port) == "hello\n"
            server.errors.wait_for(r"no new certificate for missing\.test: .* cannot be reached")
            down = {tuple(one["names"]): one for one in site.listed()}
            assert down["stored.test",]["fingerprint"] == before["fingerprint"]
            assert down["missing.test",]["state"] == "failing"
            still_down = site.acme("renew", "missing.test")
            assert still_down.status == 75
            assert "The server goes on trying" in still_down.errors
            relay.open()
            back = site.acme("renew", "missing.test")
            assert (back.status, back.output.split(",")[0]) == (0, "missing.test: obtained"), back.errors
            assert site.fetch("missing.test", server.port) == "hello\n"
            assert site.fetch("stored.test", server.port) == "hello\n"


def test_a_renewal_under_load_fails_no_request(site: Site) -> None:
    """Clients that keep their connections and clients that connect anew get every answer while certificates rotate."""
    with site.serve("--acme-domain", "busy.test", "--acme-wait", "60") as server:
        with Load(site, "busy.test", server.port, kept=4, new=2) as load:
            load.wait_for(2)
            for _ in range(2):
                renewed = site.acme("renew", "busy.test", "--force", "--json")
                assert renewed.status == 0, renewed.errors
                (outcome,) = json.loads(renewed.output)["certificates"]
                assert outcome["result"] == "renewed"
                load.wait_for(2)
        assert load.failures == []
        assert len(load.seen) == 3
        assert outcome["fingerprint"] in load.seen
        hung_up = re.findall("handshake", server.errors.text)
        assert not hung_up


def test_a_restart_in_the_middle_of_an_order_goes_on_with_it(site: Site) -> None:
    """A server that is killed while its order is under way goes on with that one when it comes back."""
    hook = site.directory / "hook"
    hook.write_text(
        "#!/bin/sh\n"
        "echo $1 >> called\n"
        "until [ -e proceed ] || [ $1 = withdraw ]; do sleep 0.05; done\n"
        "case $1 in present) action=set-txt ;; withdraw) action=clear-txt ;; esac\n"
        'curl --silent --noproxy "*" --data "{\\"host\\": \\"$SECURESERVE_ACME_RECORD_NAME.\\", '
        '\\"value\\": \\"$SECURESERVE_ACME_RECORD_VALUE\\"}" $MANAGEMENT/$action\n'.replace(
            "$MANAGEMENT", site.pebble.management
        )
    )
    hook.chmod(0o700)
    options = ("--acme-domain", "killed.test", "--acme-dns-hook", "./hook", "--acme-challenge", "dns-01")
    with site.serve(*options, tls=False, expected_status=-9) as server:
        wait_for_file(site.directory / "called")
        server.process.kill()
    (order,) = (site.directory / ".local" / "state" / "secureserve" / "acme").rglob("order.json")
    key_of_the_order = json.loads(order.read_text())["private_key"]
    (site.directory / "proceed").touch()
    with site.serve(*options, "--acme-wait", "60", tls=False) as server:
        assert site.fetch("killed.test", server.port) == "hello\n"
        (shown,) = site.listed()
        assert Credential.load(shown["place"]).private_key_pem().decode() == key_of_the_order
    assert not order.exists()


def test_a_hangup_looks_at_what_is_stored(site: Site) -> None:
    """SIGHUP takes up what another process has obtained, and what is served goes on being served."""
    with site.serve("--acme-domain", "hup.test", "--acme-wait", "60", "--no-certificate-watch") as server:
        (before,) = site.listed()
        server.process.send_signal(signal.SIGHUP)
        server.errors.wait_for("graceful")
        assert site.fetch("hup.test", server.port) == "hello\n"
        renewed = secureserve(
            *("acme", "renew", "hup.test", "--force", "--json", "--acme-accept-terms", "--redirect-port"),
            *(str(site.pebble.http_port), "--socket-host", "127.0.0.1", "--socket-port", str(site.pebble.tls_port)),
            *("--acme-directory", site.pebble.directory_url, "--acme-ca-file", str(site.pebble.ca_file)),
            directory=site.directory,
        )
        assert renewed.status == 0, renewed.errors
        (outcome,) = json.loads(renewed.output)["certificates"]
        assert outcome["result"] == "renewed"
        server.process.send_signal(signal.SIGHUP)
        server.errors.wait_for(f"now serving ACME .* {outcome['fingerprint']}")
        (after,) = site.listed()
        assert after["fingerprint"] == outcome["fingerprint"] != before["fingerprint"]


def test_a_server_replaces_what_is_revoked(site: Site) -> None:
    """`revoke` through the control socket has the server get another certificate before the old one is revoked."""
    with site.serve("--acme-domain", "stolen.test", "--acme-wait", "60") as server:
        (before,) = site.listed()
        old = Credential.load(before["place"])
        done = site.acme(
            *("revoke", "stolen.test", "--reason", "key-compromise"),
            *("--acme-directory", site.pebble.directory_url, "--acme-ca-file", str(site.pebble.ca_file)),
        )
        assert done.status == 0, done.errors
        assert before["fingerprint"] in done.output
        assert site.pebble.certificate_status(old.leaf.serial_number) == "Revoked"
        (after,) = site.listed()
        assert after["fingerprint"] != before["fingerprint"]
        assert site.pebble.certificate_status(Credential.load(after["place"]).leaf.serial_number) == "Valid"
        assert site.fetch("stolen.test", server.port) == "hello\n"
        text = site.acme("list").output
        assert text.startswith("stolen.test\n  state      valid\n  authority  https://")
        assert re.search(r"\n  next       at \d{4}-\d\d-\d\d ", text)


def test_the_account_of_a_server_is_shown_and_changed(site: Site) -> None:
    """`account` shows the account that the server made, and rolls its key over; the server goes on with the new one."""
    authority = ("--acme-directory", site.pebble.directory_url, "--acme-ca-file", str(site.pebble.ca_file))
    with site.serve("--acme-domain", "owner.test", "--acme-wait", "60"):
        shown = secureserve("acme", "account", "--json", *authority, directory=site.directory)
        (before,) = json.loads(shown.output)
        assert before["contact"] == ["mailto:ops@example.test"]
        rolled = secureserve("acme", "account", "--roll-over", "--json", *authority, directory=site.directory)
        assert rolled.status == 0, rolled.errors
        (after,) = json.loads(rolled.output)
        assert after["thumbprint"] != before["thumbprint"]
        assert after["url"] == before["url"]
        renewed = site.acme("renew", "--force")
        assert (renewed.status, renewed.output.split(",")[0]) == (0, "owner.test: renewed"), renewed.errors


def test_a_name_that_is_asked_for_is_obtained_in_the_handshake(site: Site) -> None:
    """A client that asks for a name which the application's function allows is shown a certificate for it."""
    with site.serve("--acme-on-demand", "app:decide") as server:
        assert site.fetch("first.demand.test", server.port) == "hello\n"
        assert [one["names"] for one in site.listed()] == [["first.demand.test"]]
        server.errors.wait_for(r"obtained a certificate for first\.demand\.test")
