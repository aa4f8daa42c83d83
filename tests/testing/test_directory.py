"""The directory whose credential is rotated and broken on command."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from secureserve.certificates.credential import Credential
from secureserve.errors import CredentialError
from secureserve.testing import FILE_FAULTS, CredentialDirectory, Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PEM_LAYOUTS = [layout for layout in Layout if layout is not Layout.PKCS12]


def served(directory: CredentialDirectory) -> str:
    """Return the fingerprint of what a server would load from the files, which must be a matching pair."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(directory.certificate_path, directory.private_key_path)
    leaf = x509.load_pem_x509_certificate(directory.certificate_path.read_bytes())
    return leaf.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("layout", PEM_LAYOUTS)
@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_rotation_replaces_the_pair_under_the_same_paths(
    credential_directory: Callable[..., CredentialDirectory], layout: Layout, key_type: str
) -> None:
    """After rotate() the same paths hold a new matching pair with a new key, and the fingerprint says which."""
    directory = credential_directory(layout=layout, key_type=key_type)
    paths = directory.certificate_path, directory.private_key_path
    before, first_key = directory.fingerprint, directory.credential.private_key
    assert served(directory) == before
    directory.rotate()
    assert served(directory) == directory.fingerprint != before
    assert directory.credential.private_key is not first_key
    assert (directory.certificate_path, directory.private_key_path) == paths


@pytest.mark.parametrize(
    ("layout", "fault"),
    [(layout, fault) for layout in Layout for fault in [*FILE_FAULTS, "missing"]]
    # A PKCS#12 store has no order, and holds no key of another certificate.
    + [(layout, fault) for layout in PEM_LAYOUTS for fault in ("key_mismatch", "wrong_order")],
)
def test_broken_files_cannot_be_loaded_until_mended(
    credential_directory: Callable[..., CredentialDirectory], layout: Layout, fault: str
) -> None:
    """Each fault of files keeps them from being loaded; mend() puts the last good credential back."""
    directory = credential_directory(layout=layout)
    good = directory.fingerprint
    directory.break_(fault)
    assert directory.fingerprint == good
    with pytest.raises(CredentialError):
        Credential.load(directory.certificate_path, directory.private_key_path, chain=directory.chain_path)
    directory.mend()
    mended = Credential.load(directory.certificate_path, directory.private_key_path, chain=directory.chain_path)
    assert mended.fingerprint == good


def test_bad_in_content(credential_directory: Callable[..., CredentialDirectory]) -> None:
    """A name of the catalogue puts files in place that load and must not be served."""
    directory = credential_directory()
    directory.break_("expired")
    problems = Credential.load(directory.certificate_path, directory.private_key_path).problems()
    assert [type(problem).__name__ for problem in problems] == ["Expired"]


def test_identities_and_options_stay_through_rotations(
    credential_directory: Callable[..., CredentialDirectory],
) -> None:
    """What was asked for at first holds for every rotation, and can differ once."""
    directory = credential_directory("a.example.test", key_type="ed25519", chain_depth=1)
    assert directory.rotate().identities == ("a.example.test",)
    assert len(directory.credential.chain) == 2
    assert directory.rotate(identities=("b.example.test",)).identities == ("b.example.test",)
    assert directory.rotate().identities == ("a.example.test",)


def test_removed_and_made_again(credential_directory: Callable[..., CredentialDirectory], tmp_path: Path) -> None:
    """The whole directory can vanish and come back with a new credential."""
    directory = credential_directory(layout="kubernetes")
    assert directory.directory.is_relative_to(tmp_path)
    directory.remove()
    assert not directory.directory.exists()
    directory.rotate()
    assert served(directory) == directory.fingerprint


def test_unknown_fault_names_the_known_ones(credential_directory: Callable[..., CredentialDirectory]) -> None:
    """A fault that does not exist is an error with those that do."""
    with pytest.raises(ValueError, match=r"write one of truncated, .*expired"):
        credential_directory().break_("rusty")
