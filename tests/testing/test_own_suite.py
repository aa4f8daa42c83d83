"""The project's own suite takes its certificates from the fixtures, so that those are tried by whoever wrote them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

SUITE: Final = Path(__file__).parents[1]

OWN_MAKING: Final = re.compile(
    r"""
      \bimport\b.*\btrustme\b | \bfrom\s+trustme\b
    | \b(Certificate|RevokedCertificate|CertificateRevocationList)Builder\b
    | \bopenssl["',\s]+(req|ca)\b | -newkey\b | \bmkcert\b
    """,
    re.VERBOSE,
)
"""What makes certificates and revocation lists without the fixtures."""

STORED: Final = frozenset({".cer", ".crl", ".crt", ".der", ".key", ".p12", ".pem", ".pfx"})
"""How the files are called that hold certificates and keys."""


def files() -> list[Path]:
    """Return what belongs to the suite, without the tests of the fixtures themselves and what Python keeps."""
    mine = Path(__file__).parent
    return [
        path
        for path in sorted(SUITE.rglob("*"))
        if path.is_file() and mine not in path.parents and "__pycache__" not in path.parts
    ]


def test_no_test_makes_certificates_by_itself() -> None:
    """No test outside those of the fixtures imports trustme, builds a certificate or list, or has OpenSSL make one."""
    programs = [path for path in files() if path.suffix == ".py"]
    assert len(programs) > 50
    found = [
        f"{path.relative_to(SUITE)}:{number}: {line.strip()}"
        for path in programs
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if OWN_MAKING.search(line)
    ]
    assert found == [], "Take it from tls_authority, tls_credential, bad_credential or secureserve.testing.Template."


def test_no_certificate_is_stored() -> None:
    """The suite holds no file of a certificate or key, which would one day be out of date."""
    assert [path for path in files() if path.suffix in STORED] == []


@pytest.mark.parametrize(
    "line",
    [
        "import trustme",
        "import ssl, trustme",
        "from trustme import CA",
        "    builder = x509.CertificateBuilder()",
        "from cryptography.x509 import CertificateRevocationListBuilder",
        '    make = ["openssl", "req", "-x509"]',
        '    make = "openssl req -x509"',
        '    make += ["-newkey", "rsa:2048"]',
    ],
)
def test_what_is_looked_for_is_found(line: str) -> None:
    """Each way around the fixtures is noticed."""
    assert OWN_MAKING.search(line)


@pytest.mark.parametrize("line", ['    "trustme",', '["openssl", "x509", "-in", path]', '["openssl", "crl", "-in"]'])
def test_what_is_harmless_is_not(line: str) -> None:
    """Naming trustme as something that is not imported, and reading certificates with OpenSSL, is no making."""
    assert not OWN_MAKING.search(line)
