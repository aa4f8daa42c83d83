"""The Host field's grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureserve.errors import BadRequest
from secureserve.http.host import authority, parse_host

if TYPE_CHECKING:
    import ipaddress


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("app.example", ("app.example", None)),
        ("APP.Example:8443", ("app.example", 8443)),
        (b"app.example:", ("app.example", None)),
        ("app.example.", ("app.example.", None)),
        ("192.0.2.1:443", ("192.0.2.1", 443)),
        ("[2001:DB8:0::1]", ("2001:db8::1", None)),
        ("[::1]:8443", ("::1", 8443)),
        ("[64:ff9b::192.0.2.1]:1", ("64:ff9b::c000:201", 1)),
        ("under_score~a!$&'()*+,;=%41", ("under_score~a!$&'()*+,;=%41", None)),
        ("app.example:00443", ("app.example", 443)),
        ("x" * 255 + ":65535", ("x" * 255, 65535)),
    ],
)
def test_a_host_and_its_port(value: str | bytes, expected: tuple[str, int | None]) -> None:
    """What the grammar allows is split into the host in its one spelling and the port."""
    assert parse_host(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":443",
        " app.example",
        "app.example ",
        "a b",
        "a\r\nX: 1",
        "a\n",
        "a\x00",
        "user@app.example",
        "app.example/path",
        "app.example?q",
        "app.example#f",
        "http://app.example",
        "a\\b",
        "a,b:c",
        "app.example:http",
        "app.example:-1",
        "app.example:+1",
        "app.example:0",
        "app.example:65536",
        "app.example:000443",
        "app.example:443:443",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[::g]",
        "[1.2.3.4]",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "[::1]x",
        "a%4",
        "a%zz",
        "\u00e9.example",
        b"\xe9.example",
        "a\u0661",
        '"',
        "<x>",
        "x" * 300,
    ],
)
def test_anything_else_is_a_bad_request(value: str | bytes) -> None:
    """What the grammar does not allow is refused with 400, in a line that repeats nothing of it."""
    with pytest.raises(BadRequest) as failure:
        parse_host(value)
    assert failure.value.status_hint == 400
    assert str(failure.value).startswith("The Host field ")


@given(st.text() | st.text("[]:.0123456789abcdef%-"))
def test_what_is_accepted_is_accepted_again(value: str) -> None:
    """Whatever comes, it is refused, or it comes out in a form that is its own."""
    try:
        host, port = parse_host(value)
    except BadRequest:
        return
    assert parse_host(authority(host, port or 443, default_port=443)) == (host, None if port == 443 else port)
    assert host.isascii()
    assert host == host.lower()
    assert not set(host) & set(' /@?#\\\r\n"<>[]')


@given(st.ip_addresses(v=6), st.integers(1, 65535))
def test_every_ipv6_address_has_a_url(address: ipaddress.IPv6Address, port: int) -> None:
    """An IPv6 address is put into brackets and comes out again."""
    assert parse_host(authority(str(address), port, default_port=0)) == (str(address), port)
