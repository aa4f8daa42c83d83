"""Which log hears of what."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from secureserve.front.settings import FrontSettings
from tests.http.serving import connect, read_all, running, wait_for

if TYPE_CHECKING:
    import pytest


def test_a_refused_request_is_told_where_errors_are(caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with a request stands in secureserve.error, at INFO, with the peer's address."""
    with caplog.at_level(logging.INFO), running() as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 400 ")
        wait_for(lambda: any("Host field" in record.getMessage() for record in caplog.records))
    (record,) = (record for record in caplog.records if "Host field" in record.getMessage())
    assert (record.name, record.levelno) == ("secureserve.error", logging.INFO)
    assert "127.0.0.1" in record.getMessage()


def test_silence_before_a_request_is_told_where_tls_is(caplog: pytest.LogCaptureFixture) -> None:
    """What peers do wrong before there is a request stands in secureserve.tls."""
    settings = FrontSettings(handshake_timeout=0.05)
    with caplog.at_level(logging.INFO), running(settings=settings) as server, connect(server) as client:
        assert read_all(client) == b""
        wait_for(lambda: any(record.name == "secureserve.tls" for record in caplog.records))
