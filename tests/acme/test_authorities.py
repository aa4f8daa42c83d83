"""Authorities by name and by URL, and external accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from secureserve.acme.authorities import AUTHORITIES, ExternalAccount, authority
from secureserve.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_public_ones_are_known_by_name() -> None:
    """Let's Encrypt is found by name with its staging twin, in any case."""
    found = authority("LetsEncrypt")
    assert found.directory_url == "https://acme-v02.api.letsencrypt.org/directory"
    assert found.staging == authority("letsencrypt-staging")
    assert str(found) == "letsencrypt"


def test_every_known_one_speaks_https() -> None:
    """No authority that is known by name is spoken to without TLS."""
    assert {one.directory_url.partition(":")[0] for one in AUTHORITIES.values()} == {"https"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://ca.example.org/acme/directory", "ca.example.org"),
        ("https://ca.example.org:14000/dir", "ca.example.org:14000"),
        ("https://[2001:db8::1]:14000/dir", "[2001:db8::1]:14000"),
    ],
)
def test_any_other_is_given_by_its_url(url: str, name: str) -> None:
    """A directory's URL is taken as it is, and the authority is called by its host."""
    found = authority(url)
    assert (found.name, found.directory_url, found.staging) == (name, url, None)


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    """Who writes letsencypt is told what was meant."""
    with pytest.raises(ConfigurationError, match="Did you mean 'letsencrypt'") as caught:
        authority("letsencypt")
    assert caught.value.key == "acme_directory"


@pytest.mark.parametrize(
    "url",
    [
        *("http://ca.example.org/dir", "ftp://ca.example.org/", "https:///dir", "https://ca.example.org/a b"),
        *("ca.example.org", "https://ca.example.org:99999/dir", "https://ca.example.org/dir#here", ""),
    ],
)
def test_what_is_no_https_url_is_refused(url: str) -> None:
    """An authority is spoken to over https alone (RFC 8555, 6.1)."""
    with pytest.raises(ConfigurationError) as caught:
        authority(url)
    assert caught.value.remedy


def test_a_password_in_the_url_is_not_repeated() -> None:
    """A URL with a password is refused, and the password does not reach the message."""
    with pytest.raises(ConfigurationError) as caught:
        authority("https://somebody:hunter2@ca.example.org/dir")
    assert "hunter2" not in str(caught.value)


def test_the_roots_of_a_private_one_go_for_its_staging_twin_too(tmp_path: Path) -> None:
    """A file of roots is kept with the authority and its twin."""
    roots = tmp_path / "roots.pem"
    roots.touch()
    found = authority("letsencrypt", roots)
    assert found.ca_file == str(roots)
    assert found.staging is not None
    assert found.staging.ca_file == str(roots)


def test_missing_roots_are_noticed_at_once(tmp_path: Path) -> None:
    """A file of roots that is not there is named."""
    with pytest.raises(ConfigurationError, match=r"nothing\.pem"):
        authority("letsencrypt", tmp_path / "nothing.pem")


HMAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


@pytest.mark.parametrize("written", [HMAC_KEY, f" {HMAC_KEY}\n", "-_-_-_-_-_-_-_-_-_-_-_", "+/+/+/+/+/+/+/+/+/+/+/8="])
def test_an_hmac_key_is_taken_in_each_of_its_spellings(written: str) -> None:
    """Both alphabets, padding and a line end make no difference, and the key is not shown."""
    account = ExternalAccount("kid-1", written)
    assert not set("+/= \n") & set(account.hmac_key)
    assert account.hmac_key not in repr(account)


@pytest.mark.parametrize(
    ("key_id", "hmac_key"), [("", HMAC_KEY), ("kid-1", "c2hvcnQ"), ("kid-1", "ähm"), ("kid-1", "")]
)
def test_what_cannot_be_an_external_account_is_refused(key_id: str, hmac_key: str) -> None:
    """An empty identifier or a key that is no key is refused, without repeating the key."""
    with pytest.raises(ConfigurationError) as caught:
        ExternalAccount(key_id, hmac_key)
    assert not hmac_key or hmac_key not in str(caught.value)
