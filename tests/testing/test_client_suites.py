"""The suite that the author of a client library would write, run against careful and careless clients."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import pytest

from secureserve.testing import bad_kinds
from tests.testing.inner import ALONE

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE: Final = '''
import pytest

import weather


def test_gets_the_weather(https_server, tls_credential, tls_authority):
    """A good certificate is accepted, below an intermediate and with an RSA key too."""
    for credential in (tls_credential(), tls_credential(chain_depth=2), tls_credential(key_type="rsa")):
        server = https_server(credential=credential)
        assert weather.fetch(server.url, str(tls_authority.cert_path)) == "hello"
        assert len(server.requests) == 1


def test_refuses_bad_certificates(https_server, bad_credentials, tls_authority):
    """Nothing is sent to a server that cannot prove who it is."""
    server = https_server(credential=bad_credentials)
    with pytest.raises(weather.Refused):
        weather.fetch(server.url, str(tls_authority.cert_path))
    assert not server.requests
'''

REQUESTS: Final = """
import requests

class Refused(Exception):
    pass

def fetch(url, ca):
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, verify=VERIFY, timeout=30).text.strip()
    except requests.exceptions.SSLError as error:
        raise Refused(str(error)) from error
"""

HTTPX: Final = """
import httpx, ssl

class Refused(Exception):
    pass

def fetch(url, ca):
    try:
        return httpx.get(url, verify=VERIFY, timeout=30, trust_env=False).text.strip()
    except httpx.ConnectError as error:
        raise Refused(str(error)) from error
"""

AIOHTTP: Final = """
import aiohttp, asyncio, ssl

class Refused(Exception):
    pass

async def get(url, verify):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=verify)) as session:
        async with session.get(url) as response:
            return (await response.text()).strip()

def fetch(url, ca):
    try:
        return asyncio.run(get(url, VERIFY))
    except aiohttp.ClientSSLError as error:
        raise Refused(str(error)) from error
"""

CURL: Final = """
import subprocess

class Refused(Exception):
    pass

def fetch(url, ca):
    command = ["curl", "-sS", *VERIFY, url]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if answer.returncode in {35, 51, 60}:
        raise Refused(answer.stderr)
    answer.check_returncode()
    return answer.stdout.strip()
"""

NO_HOST_CHECK: Final = """
import contextlib, http.client, ssl, urllib.parse

class Refused(Exception):
    pass

def fetch(url, ca):
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPSConnection(parts.hostname, parts.port, context=context)) as connection:
        try:
            connection.request("GET", "/")
        except ssl.SSLCertVerificationError as error:
            raise Refused(str(error)) from error
        return connection.getresponse().read().decode().strip()
"""

CAREFUL: Final = {
    "requests": REQUESTS.replace("VERIFY", "ca"),
    "httpx": HTTPX.replace("VERIFY", "ssl.create_default_context(cafile=ca)"),
    "aiohttp": AIOHTTP.replace("VERIFY", "ssl.create_default_context(cafile=ca)"),
    "curl": CURL.replace("VERIFY", '["--cacert", ca]'),
}

CARELESS: Final = {
    "requests": REQUESTS.replace("VERIFY", "False"),
    "aiohttp": AIOHTTP.replace("VERIFY", "False"),
    "curl": CURL.replace("VERIFY", '["--insecure"]'),
}

# A security level is the library's own, not the client's, so a client that verifies nothing still refuses a weak key.
BEYOND_CARELESSNESS: Final = frozenset({"weak_key"})

KINDS: Final = [kind.name for kind in bad_kinds()]


def run_suite(pytester: pytest.Pytester, client: str) -> tuple[set[str], set[str]]:
    """Run the suite against a client and return the names of what passed and what failed."""
    pytester.makepyfile(weather=client, test_weather=SUITE)
    pytester.syspathinsert()
    result = pytester.inline_run(*ALONE, "-W", "ignore", "--tb=no")
    passed, skipped, failed = result.listoutcomes()
    assert not skipped
    return _names(passed), _names(failed)


@pytest.mark.parametrize("name", CAREFUL)
def test_a_careful_client_passes(pytester: pytest.Pytester, name: str) -> None:
    """A client that verifies accepts every good credential and refuses every bad one."""
    if name == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    passed, failed = run_suite(pytester, CAREFUL[name])
    assert not failed
    assert passed == {
        "test_gets_the_weather",
        *(f"test_refuses_bad_certificates[{kind}]" for kind in KINDS),
    }


@pytest.mark.parametrize("name", CARELESS)
def test_a_careless_client_is_caught(pytester: pytest.Pytester, name: str) -> None:
    """A client that verifies nothing fails for every bad credential that its TLS library would carry at all."""
    if name == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    passed, failed = run_suite(pytester, CARELESS[name])
    assert "test_gets_the_weather" in passed
    assert failed >= {f"test_refuses_bad_certificates[{kind}]" for kind in KINDS if kind not in BEYOND_CARELESSNESS}


def test_a_client_without_host_check_is_caught(pytester: pytest.Pytester) -> None:
    """A client that verifies chains and never compares names fails exactly for those that name another."""
    passed, failed = run_suite(pytester, NO_HOST_CHECK)
    assert "test_gets_the_weather" in passed
    assert failed == {f"test_refuses_bad_certificates[{kind}]" for kind in ("wrong_host", "no_san", "wildcard_misuse")}


def _names(reports: Sequence[pytest.TestReport | pytest.CollectReport]) -> set[str]:
    return {report.nodeid.rpartition("::")[2] for report in reports}
