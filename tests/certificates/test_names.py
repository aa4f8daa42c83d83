"""Server names: normalising and matching."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureserve.certificates import names


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("*.example.com", "*.example.com"),
        ("_acme.example", "_acme.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_normalise(given_name: str, expected: str) -> None:
    """Each name has one written form."""
    assert names.normalise(given_name) == expected
    assert names.normalise(expected) == expected


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ".",
        "..",
        "a..b",
        ".example.com",
        "exa mple.com",
        "example.com\x00.evil.example",
        "example.com\n",
        "-a.example",
        "a-.example",
        "*",
        "*example.com",
        "f*.example.com",
        "a.*.example.com",
        "*.*.example.com",
        "a" * 64 + ".example",
        ".".join(["a" * 60] * 5),
        "x" * 100_000,
        "1.2.3",
        "256.1.1.1",
        "xn--a\u0301",
        "\ud800.example",
        "user@example.com",
        "https://example.com",
    ],
)
def test_malformed(bad: str) -> None:
    """A name that no certificate can be for is refused, and matches nothing."""
    with pytest.raises(ValueError):  # noqa: PT011 - the value is what is wrong
        names.normalise(bad)
    assert not names.matches(bad, bad)
    assert not names.matches("*.example.com", bad)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("example.com", "EXAMPLE.com.", True),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "WWW.Example.Com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "*.example.com", True),
        ("www.example.com", "*.example.com", False),
        ("*.b.example", "*.a.b.example", False),
        ("*.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("*.xn--mnchen-3ya.example", "www.münchen.example", True),
    ],
)
def test_matches(pattern: str, name: str, expected: bool) -> None:
    """A wildcard stands for exactly one whole label (RFC 9525, 6.3)."""
    assert names.matches(pattern, name) is expected


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    """Whatever a peer sends, normalising gives a bounded name in one form, or a ValueError."""
    try:
        normal = names.normalise(text)
    except ValueError:
        return
    assert len(normal) <= names.MAX_NAME_LENGTH
    assert normal.isascii()
    assert names.normalise(normal) == normal
    assert names.matches(normal, text)
