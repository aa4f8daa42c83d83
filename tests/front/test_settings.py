"""The Front's settings: what is refused, and what is derived."""

from __future__ import annotations

from typing import Any

import pytest

from secureserve.errors import ConfigurationError
from secureserve.front.settings import FrontSettings


def test_phases_take_their_deadlines_from_the_servers_timeout() -> None:
    """A timeout that is not set is the server's; one that is set is kept."""
    timeouts = FrontSettings(read_header_timeout=3).timeouts(7)
    assert (timeouts.handshake, timeouts.read_header, timeouts.read_body) == (7, 3, 7)
    assert (timeouts.keep_alive, timeouts.write, timeouts.linger) == (7, 7, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("handshake_timeout", 0),
        ("keep_alive_timeout", -1),
        ("reverse_dns_timeout", 0),
        ("max_connections", 0),
        ("max_connections", -1),
        ("max_buffered_body_size", 0),
        ("max_header_fields", 0),
        ("min_body_rate", -5),
        ("plain_http", "ignore"),
        ("hsts", "max-age=1\r\nX: y"),
        ("hsts", "forever"),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_by_name(name: str, value: Any) -> None:
    """The error has the setting and what it was set to."""
    with pytest.raises(ConfigurationError, match=name) as caught:
        FrontSettings(**{name: value})
    assert caught.value.key == name
    assert caught.value.value == value


@pytest.mark.parametrize("value", ["max-age=0", "max-age=63072000; includeSubDomains; preload"])
def test_hsts_takes_what_rfc_6797_defines(value: str) -> None:
    """A policy with its directives is taken as it is."""
    assert FrontSettings(hsts=value).hsts == value
