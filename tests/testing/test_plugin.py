"""The plugin itself: what it does to a suite that uses it, and nothing to one that does not."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.testing.inner import ALONE

if TYPE_CHECKING:
    from pathlib import Path

FIXTURES = (
    "tls_authority",
    "tls_credential",
    "client_credential",
    "tls_client_context",
    "https_server",
    "https_url",
    "bad_credentials",
    "bad_credential",
    "credential_directory",
    "hostile_client",
    "acme_authority",
)


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run a suite in this process, in order and without this suite's own plugins."""
    return pytester.runpytest_inprocess(*ALONE, *options)


def test_imports_nothing_heavy(tmp_path: Path) -> None:
    """A suite that uses no fixture of it pays for one small module, in less than 50 ms."""
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "HEAVY = ('cryptography', 'trustme', 'OpenSSL', 'cheroot', 'secureserve.testing', 'secureserve.tls', 'typer')\n"
        "def test_nothing_is_loaded(request):\n"
        "    assert request.config.pluginmanager.get_plugin('secureserve') is not None\n"
        "    assert not [name for name in HEAVY if name in sys.modules]\n"
    )
    suite = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_nothing.py"]
    answer = subprocess.run(suite, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50)
    assert answer.returncode == 0, answer.stdout
    # pytest loads plugins in a way that is not timed, so the same import is timed without it.
    command = [sys.executable, "-X", "importtime", "-c", "import pytest, secureserve.pytest_plugin"]
    best = 1_000_000
    for _ in range(3):
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=50).stderr
        timed = re.findall(r"\| +(\d+) \| +(secureserve[\w.]*)$", told, re.MULTILINE)
        cumulative = {name: int(microseconds) for microseconds, name in timed}
        best = min(best, cumulative["secureserve"] + cumulative["secureserve.pytest_plugin"])
        if best < 50_000:
            return
    pytest.fail(f"Importing the plugin takes {best} microseconds.")


def test_fixtures_read_well(pytester: pytest.Pytester) -> None:
    """``pytest --fixtures`` lists every fixture with its scope and a sentence about it."""
    output = run(pytester, "--fixtures").stdout.str()
    for name in FIXTURES:
        found = re.search(rf"^{name}( \[session scope\])? -- [^\n]+\n    (.+)", output, re.MULTILINE)
        assert found is not None, name
        assert found[2].rstrip().endswith((".", ":", ",")) or len(found[2]) > 40
    assert "tls_authority [session scope]" in output


def test_marker_is_known(pytester: pytest.Pytester) -> None:
    """Under --strict-markers the marker chooses, adds and leaves out kinds."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.bad_credentials(also=["revoked"], without=["sha1_signature"])
        def test_it(bad_credentials):
            assert bad_credentials.name != "sha1_signature"

        @pytest.mark.bad_credentials("expired")
        def test_one(bad_credentials):
            assert bad_credentials.name == "expired"
        """
    )
    result = run(pytester, "--strict-markers", "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_it?revoked? PASSED*", "*test_one?expired? PASSED*"])
    result.stdout.no_fnmatch_line("*sha1_signature*")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            '"expierd"',
            "*test_it: @pytest.mark.bad_credentials: 'expierd' is no bad credential; did you mean 'expired'*",
        ),
        ("only='expired'", "*test_it: @pytest.mark.bad_credentials: *unexpected keyword argument 'only'*"),
    ],
)
def test_marker_misuse(pytester: pytest.Pytester, arguments: str, message: str) -> None:
    """A name or argument that there is not stops the collection with the right one."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.bad_credentials({arguments})
        def test_it(bad_credentials):
            pass
        """
    )
    result = run(pytester)
    assert result.ret != 0
    (result.stdout.fnmatch_lines if "test_it" in result.stdout.str() else result.stderr.fnmatch_lines)([message])


def test_bad_credentials_without_parameters(pytester: pytest.Pytester) -> None:
    """Asking for bad_credentials where a test cannot be repeated says what to write instead."""
    pytester.makepyfile(
        """
        def test_it(request):
            request.getfixturevalue("bad_credentials")
        """
    )
    result = run(pytester)
    result.stdout.fnmatch_lines(['*secureserve.testing.bad_kinds() with self.subTest()*bad_credential("expired")*'])


def test_log_is_shown_when_the_test_fails(pytester: pytest.Pytester) -> None:
    """A failing test shows what its server saw, a passing one nothing."""
    pytester.makepyfile(
        """
        import requests

        def ask(https_server, tls_authority, path):
            server = https_server()
            assert requests.get(server.url + path, verify=str(tls_authority.cert_path), timeout=30).ok

        def test_fails(https_server, tls_authority):
            ask(https_server, tls_authority, "/of-the-failing-test")
            assert False

        def test_passes(https_server, tls_authority):
            ask(https_server, tls_authority, "/of-the-passing-test")
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*log of https_server 1*", "*GET /of-the-failing-test -> 200 OK*"])
    result.stdout.no_fnmatch_line("*of-the-passing-test*")


def test_unittest_classes_can_use_the_fixtures(pytester: pytest.Pytester) -> None:
    """A TestCase run by pytest takes the fixtures through an autouse fixture of its class."""
    pytester.makepyfile(
        """
        import unittest

        import pytest
        import requests

        class Works(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _server(self, https_server, tls_authority):
                self.server, self.ca = https_server(), str(tls_authority.cert_path)

            def test_it(self):
                self.assertEqual(requests.get(self.server.url, verify=self.ca, timeout=30).text, "hello\\n")
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_works_with_xdist_randomly_and_timeout(pytester: pytest.Pytester) -> None:
    """Spread over two processes, in random order and under a time limit, each process has an authority of its own."""
    for plugin in ("xdist", "pytest_randomly", "pytest_timeout"):
        pytest.importorskip(plugin)
    pytester.makepyfile(
        """
        import pytest
        import requests

        @pytest.mark.parametrize("number", range(3))
        def test_good(https_server, tls_authority, number):
            assert requests.get(https_server().url, verify=str(tls_authority.cert_path), timeout=30).ok

        @pytest.mark.bad_credentials("expired", "wrong_host", "self_signed")
        def test_bad(https_server, tls_authority, bad_credentials):
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(
                    https_server(credential=bad_credentials).url, verify=str(tls_authority.cert_path), timeout=30
                )
        """
    )
    result = pytester.runpytest_subprocess(
        "-n", "2", "-p", "randomly", "-p", "no:hypothesispytest", "--timeout", "50", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=3 + 3)


def test_two_hundred_servers_are_quick(pytester: pytest.Pytester) -> None:
    """A server of its own adds at most 20 ms of processor time to each of 200 tests."""
    test = """
        import pytest

        @pytest.mark.parametrize("number", range(200))
        def test_it({}, number):
            {}
        """
    pytester.makepyfile(
        test_with=test.format("https_server", 'assert https_server().url.startswith("https://localhost:")'),
        test_without=test.format("tmp_path", "assert tmp_path"),
    )
    taken = {}
    for name in ("without", "with"):
        before = time.process_time()
        run(pytester, f"test_{name}.py").assert_outcomes(passed=200)
        taken[name] = time.process_time() - before
    assert (taken["with"] - taken["without"]) / 200 < 0.02


def test_can_be_turned_off(pytester: pytest.Pytester) -> None:
    """``-p no:secureserve`` takes every fixture away."""
    pytester.makepyfile("def test_it(https_url): pass")
    result = run(pytester, "-p", "no:secureserve")
    result.stdout.fnmatch_lines(["*fixture 'https_url' not found*"])


def test_collection_makes_nothing(pytester: pytest.Pytester) -> None:
    """Collecting a suite that uses the fixtures issues no credential and starts no server."""
    pytester.makepyfile("def test_it(bad_credentials, https_server): raise AssertionError")
    result = run(pytester, "--collect-only", "-q", "--basetemp", "base")
    assert result.ret == 0
    assert not list(pytester.path.glob("base/*"))
