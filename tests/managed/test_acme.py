"""A managed server whose certificates come from an ACME authority: its settings, and what each of them does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from secureserve import ConfigurationError, ConfigurationErrors, FileStorage, Server, StartFailed
from secureserve.acme.authorities import AUTHORITIES
from secureserve.acme.solvers import HOOK_TIMEOUT
from secureserve.acme.storage import Key
from secureserve.certificates.issuance import KEY_TYPES
from secureserve.events import CertificateObtained, CredentialRotated, IssuanceFailed
from secureserve.managed.contradictions import contradictions
from secureserve.managed.control import ask
from secureserve.managed.settings import SETTINGS
from secureserve.testing import Problem
from tests.managed.clients import application, served_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secureserve.testing import ACMEAuthority

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]

DEADLINE = 45.0
"""Seconds for a certificate to be there."""


@dataclass
class Place:
    """An authority, the ports where it looks, and a directory."""

    authority: ACMEAuthority
    ca_file: str
    directory: Path
    port: int
    plain_port: int

    def server(self, **settings: Any) -> Server:
        """Return a server at the port where the authority looks; it obtains for shop.test and waits for that."""
        return Server(
            **{
                "application": application,
                "socket_host": "127.0.0.1",
                "socket_port": self.port,
                "acme_domain": "shop.test",
                "acme_accept_terms": True,
                "acme_directory": self.authority.directory_url,
                "acme_ca_file": self.ca_file,
                "acme_storage": self.directory / "acme",
                "acme_wait": DEADLINE,
                "shutdown_timeout": 1,
                **settings,
            }
        )

    def issuer_of(self, name: str) -> str:
        """Return who issued the certificate that a client is shown which asks for a name."""
        der = served_fingerprint(("127.0.0.1", self.port), name)
        return x509.load_der_x509_certificate(der).issuer.rfc4514_string()


@pytest.fixture
def place(tls_authority: Any, acme_authority: ACMEAuthority, tmp_path: Path) -> Iterator[Place]:
    """An authority that looks at two ports which nobody else is given."""
    with socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", 0))
        port, plain_port = first.getsockname()[1], second.getsockname()[1]
        acme_authority.validation.tls_port, acme_authority.validation.http_port = port, plain_port
        yield Place(acme_authority, str(tls_authority.cert_path), tmp_path, port, plain_port)


# The settings.


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("acme_domain", "example.org", (("example.org",),)),
        ("acme_domain", "example.org www.example.org", (("example.org",), ("www.example.org",))),
        (
            "acme_domain",
            "Example.ORG , www.example.org; 192.0.2.1",
            (("example.org", "www.example.org"), ("192.0.2.1",)),
        ),
        ("acme_domain", "*.bücher.example", (("*.xn--bcher-kva.example",),)),
        ("acme_email", "mailto:ops@example.org", "ops@example.org"),
        ("acme_directory", "letsencrypt, https://ca.test/dir", ("letsencrypt", "https://ca.test/dir")),
        ("acme_challenge", "HTTP-01 dns-01", ("http-01", "dns-01")),
        ("acme_dns_hook", "/bin/hook --zone 'my zone'", ("/bin/hook", "--zone", "my zone")),
        ("acme_dns_hook_timeout", "600", 600),
        ("acme_dns_propagation", "2.5", 2.5),
        ("acme_wait", "2.5", 2.5),
    ],
)
def test_text_is_read(name: str, text: str, value: object) -> None:
    """The environment and the command line write each setting as text."""
    assert SETTINGS[name].parse_text(text) == value


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("acme_domain", ["a.test", "b.test,www.b.test", ("c.test", "d.test")], "a b,www.b c,d"),
        ("acme_domain", "a.test", "a"),
        ("acme_dns_hook", ["/bin/hook", "with space"], ("/bin/hook", "with space")),
        ("acme_dns_hook", print, print),
    ],
)
def test_python_values_are_taken(name: str, given: object, value: object) -> None:
    """In Python a list, or a list of lists, says the same; a hook may be a function."""
    if name == "acme_domain":
        value = tuple(tuple(f"{one}.test" for one in names.split(",")) for names in str(value).split())
    assert SETTINGS[name].parse(given) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acme_domain", "under score.test,"),
        ("acme_domain", [["ok.test"], []]),
        ("acme_domain", 5),
        ("acme_domain", "1.2.3.4.5"),
        ("acme_email", "nobody"),
        ("acme_email", 5),
        ("acme_challenge", "tls-sni-01"),
        ("acme_dns_hook", "'unbalanced"),
        ("acme_dns_hook", " "),
        ("acme_dns_hook", [1]),
        ("acme_dns_hook_timeout", 0),
        ("acme_dns_hook_timeout", 7201),
        ("acme_dns_propagation", -1),
        ("acme_dns_propagation", "7201"),
        ("acme_storage", 5),
        ("acme_key_type", "dsa"),
        ("acme_wait", -1),
    ],
)
def test_what_is_not_of_its_kind_is_refused(name: str, value: object) -> None:
    """Each value that cannot be is told with its setting's name."""
    with pytest.raises(ConfigurationError, match=name):
        SETTINGS[name].parse(value)


def test_every_kind_of_key_can_be_chosen() -> None:
    """The setting offers what can be obtained, no more and no less."""
    assert SETTINGS["acme_key_type"].choices == KEY_TYPES


def test_a_hook_has_the_time_that_it_has_in_python() -> None:
    """The setting and the class agree on how long a hook may take where nobody says."""
    assert SETTINGS["acme_dns_hook_timeout"].default == HOOK_TIMEOUT


@pytest.mark.parametrize(
    ("settings", "key", "said"),
    [
        ({"acme_accept_terms": False}, "acme_accept_terms", "terms of service"),
        ({"acme_domain": "*.shop.test"}, "acme_domain", "acme_dns_hook"),
        ({"acme_challenge": "http-01"}, "acme_challenge", "redirect_port"),
        ({"acme_challenge": "dns-01"}, "acme_challenge", "acme_dns_hook"),
        ({"acme_challenge": ()}, "acme_challenge", "no challenge"),
        ({"acme_challenge": "tls-alpn-01", "acme_dns_hook": "/bin/hook"}, "acme_dns_hook", "dns-01"),
        ({"acme_dns_hook_timeout": 5}, "acme_dns_hook_timeout", "without acme_dns_hook"),
        ({"acme_dns_propagation": 5}, "acme_dns_propagation", "without acme_dns_hook"),
        ({"acme_domain": "192.0.2.1", "acme_challenge": "dns-01", "acme_dns_hook": "/x"}, "acme_domain", "addresses"),
        ({"acme_eab_key_id": "one"}, "acme_eab_hmac_key_file", "is missing"),
        ({"acme_eab_hmac_key_file": "one"}, "acme_eab_key_id", "is missing"),
        ({"acme_domain": (), "acme_on_demand": print, "acme_wait": 5}, "acme_wait", "no name"),
    ],
)
def test_what_cannot_be_had_together_is_told(settings: dict[str, Any], key: str, said: str, tmp_path: Path) -> None:
    """A start that could never obtain anything fails at once, and says what to change."""
    given = {"acme_domain": "shop.test", "acme_accept_terms": True, "acme_storage": tmp_path, **settings}
    values = Server(**given).values()
    (problem,) = contradictions(values)
    assert problem.key == key
    assert said in str(problem)


def test_terms_are_accepted_for_accounts_that_are_yet_to_be_made(tmp_path: Path) -> None:
    """An account in the storage will do, each authority needs one, and what cannot be read is told by its user."""
    settings = {"acme_domain": "shop.test", "acme_directory": "letsencrypt zerossl", "acme_storage": tmp_path / "acme"}
    values = Server(**settings).values()
    for name, missing in (("letsencrypt", "at letsencrypt and zerossl."), ("zerossl", "at zerossl.")):
        (problem,) = contradictions(values)
        assert (problem.key, missing in str(problem)) == ("acme_accept_terms", True), problem
        FileStorage(tmp_path / "acme").put(Key.account(AUTHORITIES[name].directory_url), b"{}")
    assert not contradictions(values)
    for path in (tmp_path / "acme").rglob("account.json"):
        path.chmod(0o644)
    assert not contradictions(values)
    assert not contradictions({**values, "acme_directory": ("letsencript",)})


def test_a_server_starts_again_without_accepting_terms(place: Place) -> None:
    """With the account that the first start has made, a later one obtains without agreeing to anything again."""
    with place.server():
        pass
    later = place.server(acme_accept_terms=False, acme_domain="new.shop.test")
    assert not later.problems()
    with later:
        assert "ACME" in place.issuer_of("new.shop.test")
    (account,) = place.authority.accounts.values()
    assert len(account.orders) == 2


def test_settings_without_a_name_have_no_effect_and_are_told() -> None:
    """Whoever forgets acme_domain hears of it instead of serving plain HTTP."""
    server = Server(application, acme_email="ops@example.test", acme_accept_terms=True)
    with pytest.raises(ConfigurationErrors) as caught:
        server.start()
    assert [problem.key for problem in caught.value.problems] == ["acme_email", "acme_accept_terms"]
    assert all("acme_domain" in str(problem) for problem in caught.value.problems)


def test_without_the_packages_it_says_what_to_install() -> None:
    """Where the extra is not installed, the first use names it; all else works without."""
    program = (
        "import sys\n"
        "sys.modules['acme'] = None\n"
        "from secureserve import *\n"
        "try:\n"
        "    Server(print, acme_domain='shop.test', acme_accept_terms=True).start()\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=45, check=False)
    assert "pip install 'secureserve[acme]'" in done.stdout, done.stderr


# What they do.


def test_it_obtains_serves_and_starts_again_with_what_it_has(place: Place) -> None:
    """A server obtains once, tells of it, and serves the same after a stop and a start."""
    server = place.server()
    events: list[object] = []
    server.events.subscribe(events.append)
    with server:
        (served,) = server.certificates
        assert served.names == ("shop.test",)
        assert "ACME" in place.issuer_of("shop.test")
        (status,) = server.acme.status() if server.acme else ()
        assert status.state.value == "valid"
        server.graceful()
        assert not server.alpn_challenges
    assert server.acme is None
    assert [type(event) for event in events if isinstance(event, (CertificateObtained, CredentialRotated))] == [
        CredentialRotated,
        CertificateObtained,
    ]
    with server:
        assert server.certificates[0].fingerprint == served.fingerprint
    assert len(place.authority.issued) == 1
    assert [one.contact for one in place.authority.accounts.values()] == [[]]


def test_each_name_has_a_certificate_of_its_own(place: Place) -> None:
    """Names joined by a comma share one; the first is the default."""
    with place.server(acme_domain=["one.test", "two.test,www.two.test"], acme_email="ops@example.test") as server:
        assert [each.names for each in server.certificates] == [("one.test",), ("two.test", "www.two.test")]
        assert [each.default for each in server.certificates] == [True, False]
    assert [one.contact for one in place.authority.accounts.values()] == [["mailto:ops@example.test"]]


@pytest.mark.parametrize("challenge", ["tls-alpn-01", "http-01"])
def test_challenges_are_answered_under_either_engine(place: Place, engine: str, challenge: str) -> None:
    """The allowed challenge is the one that is answered: in the handshake, or on the plain port."""
    with place.server(redirect_port=place.plain_port, acme_challenge=challenge, ssl_module=engine) as server:
        assert server.certificates[0].names == ("shop.test",)
    assert {one.type for one in place.authority.challenges.values() if one.status == "valid"} == {challenge}


def test_a_function_proves_a_wildcard(place: Place) -> None:
    """In Python the hook of dns-01 is a callable."""

    def hook(action: str, name: str, value: str) -> None:
        values = place.authority.validation.zone.setdefault(name, [])
        (values.append if action == "present" else values.remove)(value)

    with place.server(acme_domain="*.shop.test", acme_dns_hook=hook) as server:
        assert server.certificates[0].names == ("*.shop.test",)


def test_an_account_is_bound_to_one_at_the_authority_s_web_site(place: Place) -> None:
    """The key of the external account comes from a file, and a start without it waits in vain and says why."""
    place.authority.external_accounts["key-1"] = b"sixteen bytes or more"
    with pytest.raises(StartFailed, match="acme_eab_key_id"):
        place.server(acme_wait=1).start()
    secret = place.directory / "hmac"
    secret.write_text(urlsafe_b64encode(b"sixteen bytes or more").decode() + "\n")
    with place.server(acme_eab_key_id="key-1", acme_eab_hmac_key_file=secret, acme_storage=place.directory / "other"):
        assert [one.external for one in place.authority.accounts.values()] == ["key-1"]
    with pytest.raises(ConfigurationError, match=r"acme_eab_hmac_key_file.*cannot be read"):
        place.server(acme_eab_key_id="key-1", acme_eab_hmac_key_file=place.directory / "none").start()


def test_profile_chain_and_kind_of_key_are_asked_for(place: Place) -> None:
    """Each of the three shows in the certificate."""
    from datetime import timedelta

    place.authority.profiles["short"] = timedelta(days=6)
    root = "secureserve testing ACME alternate root"
    with place.server(acme_profile="short", acme_preferred_chain=root, acme_key_type="rsa-3072") as server:
        (served,) = server.certificates
        assert 5.5 < served.days_left < 6.5
        assert served.key_type == "rsa"
        assert server.acme is not None
        stored = server.acme.steward.source.certificates.best(["shop.test"])
        assert stored is not None
        assert root in stored.credential.chain[-1].issuer.rfc4514_string()


def test_the_next_authority_is_asked_when_the_first_does_not_issue(place: Place) -> None:
    """Of several authorities, the first that issues does."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"https://127.0.0.1:{gone.getsockname()[1]}/directory"
    with place.server(acme_directory=[url, place.authority.directory_url]) as server:
        assert server.acme is not None
        assert [one.authority for one in server.acme.status()] == [place.authority.directory_url]


def test_a_root_file_for_well_known_authorities_alone_is_refused(place: Place) -> None:
    """acme_ca_file is for private authorities; where there is none, it would weaken nothing and help nobody."""
    with pytest.raises(ConfigurationError, match="acme_ca_file"):
        place.server(acme_directory="letsencrypt").start()


def test_a_storage_of_the_programs_own_is_used(place: Place) -> None:
    """Anything that is a Storage can be put behind it."""
    storage = FileStorage(place.directory / "mine")
    with place.server(acme_storage=storage):
        assert list((place.directory / "mine").rglob("certificate.pem"))
    with pytest.raises(ConfigurationError, match="acme_storage"):
        place.server(acme_storage=object())


def test_looking_for_problems_touches_nothing(place: Place) -> None:
    """A check neither asks the authority nor makes the storage."""
    assert place.server().problems() == ()
    assert not (place.directory / "acme").exists()
    assert not place.authority.accounts


def test_names_are_added_and_taken_away_while_it_runs(place: Place) -> None:
    """A change obtains what is new, serves what is still wanted without a break, and nothing else any more."""
    obtained = threading.Event()
    with place.server(acme_domain=["shop.test", "old.test"]) as server:
        server.events.subscribe(lambda event: obtained.set() if isinstance(event, CertificateObtained) else None)
        before = {each.names: each.fingerprint for each in server.certificates}
        assert server.change({"acme_domain": ["shop.test", "new.test"]}) == ()
        assert obtained.wait(DEADLINE)
        after = {each.names: each.fingerprint for each in server.certificates}
        assert after.keys() == {("shop.test",), ("new.test",)}
        assert after["shop.test",] == before["shop.test",]
        with pytest.raises(ConfigurationError, match="acme_dns_hook"):
            server.change({"acme_domain": ["*.shop.test"]})


def test_a_first_name_waits_for_a_restart(tls_credential: Any) -> None:
    """A server that was started without ACME says that it cannot begin with it while it runs."""
    credential = tls_credential("localhost")
    files = {"ssl_certificate": credential.certificate_path, "ssl_private_key": credential.private_key_path}
    with Server(application, socket_host="127.0.0.1", socket_port=0, **files) as server:
        wanted = {"acme_domain": "shop.test", "acme_accept_terms": True}
        assert server.change(wanted) == ("acme_domain", "acme_accept_terms")


# When the authority does not issue.


def test_a_placeholder_answers_until_the_first_certificate_is_there(place: Place) -> None:
    """A start never waits for an authority: it serves a stand-in, says why, and goes on trying when it is told to."""
    failed = threading.Event()
    obtained = threading.Event()
    with place.authority.outage():
        server = place.server(acme_wait=0, control_socket=place.directory / "control")

        def hear(event: object) -> None:
            if isinstance(event, (IssuanceFailed, CertificateObtained)):
                (failed if isinstance(event, IssuanceFailed) else obtained).set()

        server.events.subscribe(hear)
        server.start()
        assert failed.wait(DEADLINE)
    try:
        assert "self-signed" in place.issuer_of("shop.test")
        (status,) = ask(place.directory / "control", "acme.status")
        assert (status["state"], status["failures"], status["fingerprint"]) == ("failing", 1, None)
        ask(place.directory / "control", "acme.renew")
        assert obtained.wait(DEADLINE)
        assert "ACME" in place.issuer_of("shop.test")
    finally:
        server.stop()


def test_a_start_that_waits_gives_up_when_the_engine_is_told_to_exit(place: Place) -> None:
    """A signal during the wait ends the start, and leaves nothing behind."""
    place.authority.refused["shop.test"] = Problem("rejectedIdentifier", "Not that one.")
    server = place.server()
    server.events.subscribe(lambda event: threading.Thread(target=server.engine.exit).start())
    server.subscribe()
    with pytest.raises(StartFailed, match="told to exit"):
        server.engine.start()
    assert not server.running
    with socket.create_server(("127.0.0.1", place.port)):
        pass


def test_a_renewal_that_fails_leaves_what_is_served_alone(place: Place) -> None:
    """A refusal is told by event and by the control socket; handshakes go on with what there was."""
    failed = threading.Event()
    control = place.directory / "control"
    with place.server(control_socket=control) as server:
        before = server.certificates[0].fingerprint
        place.authority.refused["shop.test"] = Problem("rejectedIdentifier", "Not any more.")
        server.events.subscribe(lambda event: failed.set() if isinstance(event, IssuanceFailed) else None)
        ask(control, "acme.renew", names=["shop.test"], force=True)
        assert failed.wait(DEADLINE)
        assert server.certificates[0].fingerprint == before
        assert "ACME" in place.issuer_of("shop.test")
        (status,) = ask(control, "acme.status")
        assert "Not any more." in status["last_error"]
        assert status["problem_type"] == "urn:ietf:params:acme:error:rejectedIdentifier"
        assert [one["identifier"]["value"] for one in status["subproblems"]] == ["shop.test"]
        assert status["is_passing"] is False


def test_a_storage_that_others_can_read_fails_the_start(place: Place) -> None:
    """Keys that others can read are not served: the error names the file and the command that closes it."""
    with place.server():
        pass
    (stored,) = (place.directory / "acme").rglob("certificate.pem")
    stored.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"acme_storage.*chmod 600"):
        place.server().start()


# Beside other certificates.


@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_a_file_is_served_until_the_authority_issues(place: Place, tls_credential: Any, key_type: str) -> None:
    """No stand-in takes the place of a certificate from elsewhere, whatever kind of key that has."""
    credential = tls_credential("shop.test", key_type=key_type)
    with place.authority.outage():
        server = place.server(
            acme_wait=0,
            ssl_certificate=credential.certificate_path,
            ssl_private_key=credential.private_key_path,
        )
        failed, obtained = threading.Event(), threading.Event()
        server.events.subscribe(lambda event: failed.set() if isinstance(event, IssuanceFailed) else None)
        server.events.subscribe(lambda event: obtained.set() if isinstance(event, CertificateObtained) else None)
        server.start()
        assert failed.wait(DEADLINE)
    try:
        assert [each.names for each in server.certificates] == [("shop.test",)]
        assert "self-signed" not in place.issuer_of("shop.test")
        assert server.acme is not None
        server.acme.renew()
        assert obtained.wait(DEADLINE)
        assert "ACME" in place.issuer_of("shop.test")
        assert [each.default for each in server.certificates] == [True, False]
    finally:
        server.stop()


def test_an_emergency_certificate_and_an_authority_go_together(place: Place) -> None:
    """Where the configured file is broken, the emergency certificate lets the owner in, and obtaining goes on."""
    (place.directory / "broken.pem").write_text("nothing")
    server = place.server(
        ssl_certificate=place.directory / "broken.pem",
        ssl_private_key=place.directory / "broken.pem",
        start_with_emergency_certificate=True,
    )
    with server:
        assert "ACME" in place.issuer_of("shop.test")


def test_a_certificate_is_obtained_in_the_handshake(place: Place) -> None:
    """On demand, a client gets a certificate for the name that it asks for if that is allowed, and else the default."""
    asked = []

    def decide(name: str) -> bool:
        asked.append(name)
        return name == "new.test"

    with place.server(acme_on_demand=decide, socket_timeout=DEADLINE):
        assert "ACME" in place.issuer_of("new.test")
        der = served_fingerprint(("127.0.0.1", place.port), "other.test")
        default = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert default.value.get_values_for_type(x509.DNSName) == ["shop.test"]
    assert set(asked) == {"new.test", "other.test"}
    assert len(place.authority.issued) == 2


def test_on_demand_alone_begins_with_a_placeholder(place: Place) -> None:
    """Without a single name of its own, a server obtains what it is asked for."""
    with place.server(acme_domain=(), acme_wait=0, acme_on_demand=lambda name: name.endswith(".new.test")):
        assert "self-signed" in place.issuer_of("localhost")
        assert "ACME" in place.issuer_of("www.new.test")


@pytest.mark.parametrize("value", ["nowhere:decide", "os:environ"])
def test_a_decision_function_that_is_none_is_refused(place: Place, value: str) -> None:
    """A name that leads nowhere, or to something that cannot be called, fails the start."""
    with pytest.raises(ConfigurationError, match="acme_on_demand"):
        place.server(acme_on_demand=value).start()


# As another user.

DROPS = """
import json, sys
from secureserve import serve

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

def show(server):
    print(json.dumps([[each.names, each.issuer] for each in server.certificates]))
    server.engine.exit()

serve(application, ready=show, **json.loads(sys.argv[1]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_what_is_obtained_belongs_to_the_user_who_serves(place: Place) -> None:
    """Started as root, it obtains as the user that it becomes, and the next start finds what that user has."""
    import pwd

    nobody = pwd.getpwnam("nobody")
    (place.directory / "program.py").write_text(DROPS)
    shown = []
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        shutil.copy(place.ca_file, f"{directory}/ca.pem")
        Path(directory, "ca.pem").chmod(0o644)
        settings = {
            "socket_host": "127.0.0.1",
            "socket_port": place.port,
            "acme_domain": ["shop.test"],
            "acme_accept_terms": True,
            "acme_directory": place.authority.directory_url,
            "acme_ca_file": f"{directory}/ca.pem",
            "acme_storage": f"{directory}/acme",
            "acme_wait": DEADLINE,
            "user": "nobody",
        }
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, str(place.directory / "program.py"), json.dumps(settings)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            shown.append(json.loads(done.stdout))
            assert ("placeholder" in done.stderr) is (len(shown) == 1)
        (stored,) = Path(directory).rglob("certificate.pem")
        assert stored.stat().st_uid == nobody.pw_uid
    assert shown[0] == shown[1]
    assert "ACME" in shown[0][0][1]
    assert len(place.authority.issued) == 1
