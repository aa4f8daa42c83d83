"""What templates say beyond what the authority's own arguments do."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from secureserve.testing import Template

if TYPE_CHECKING:
    from secureserve.testing import Authority


def test_a_subject_of_ones_own(tls_authority: Authority) -> None:
    """A whole subject stands as it was given, a comma in it too, and so does a serial number; OpenSSL agrees."""
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, name) for name in ("one", "two")]
    subject = x509.Name([*units, x509.NameAttribute(NameOID.COMMON_NAME, "bob,O=Admins")])
    template = Template(subject=subject, common_name="not this one", serial_number=0xABC)
    issued = tls_authority.issue_from(template, tls_authority.keys.take())
    assert issued.leaf.subject == subject
    assert issued.leaf.issuer == tls_authority.certificate.subject
    command = ["openssl", "x509", "-in", str(issued.leaf_path), "-noout", "-serial", "-subject", "-nameopt", "RFC2253"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert told == "serial=0ABC\nsubject=CN=bob\\,O=Admins,OU=two,OU=one\n"


def test_an_issuer_has_the_subject_it_was_given(tls_authority: Authority) -> None:
    """A root that signs itself is its own issuer under a subject of one's own too."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    root = tls_authority.issue_self_signed(Template(subject=subject, is_authority=True), tls_authority.keys.take())
    assert root.leaf.issuer == root.leaf.subject == subject
    below = tls_authority.issue_from(Template(common_name="below"), tls_authority.keys.take(), root.issuer)
    assert below.leaf.issuer == subject


def test_no_key_usage_leaves_the_extension_out(tls_authority: Authority) -> None:
    """Without a single usage there is no extension, with some it holds exactly these."""
    public_key = tls_authority.keys.take().public_key()
    without = tls_authority.root.sign(Template(key_usage=()), public_key)
    with pytest.raises(x509.ExtensionNotFound):
        without.extensions.get_extension_for_class(x509.KeyUsage)
    usage = tls_authority.root.sign(Template(key_usage=("key_agreement",)), public_key)
    said = usage.extensions.get_extension_for_class(x509.KeyUsage).value
    assert said.key_agreement
    assert not said.digital_signature


def test_a_root_signs_itself_with_sha1(tls_authority: Authority) -> None:
    """A root that is to be old is: its signature is SHA-1's, and right."""
    template = Template(common_name="old root", is_authority=True, extended_key_usage=(), signed_with_sha1=True)
    root = tls_authority.issue_self_signed(template, tls_authority.keys.take("rsa"))
    assert root.leaf.signature_hash_algorithm is not None
    assert root.leaf.signature_hash_algorithm.name == "sha1"
    path = str(root.leaf_path)
    command = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-check_ss_sig", "-CAfile", path, path]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def test_a_curve_too_small(tls_authority: Authority) -> None:
    """A key on a curve that is too small can be had, for what is to refuse it."""
    assert tls_authority.keys.take("ecdsa-p224").key_size == 224
