"""What a ClientHello offers, read from bytes that anybody may have sent."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureserve.tls.client_hello import ClientHello, parse_client_hello


def hello_of(*, alpn: list[str], version: ssl.TLSVersion) -> bytes:
    """Return a real client's ClientHello message, without the record's header."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()[5:]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("alpn", [[], ["http/1.1"], ["h2", "http/1.1"], ["acme-tls/1"]])
def test_real_clients_are_understood(alpn: list[str], version: ssl.TLSVersion) -> None:
    """Protocols, signature schemes and versions of a real client come out as it put them in."""
    hello = parse_client_hello(hello_of(alpn=alpn, version=version))
    assert hello is not None
    assert list(hello.alpn_protocols) == alpn
    assert hello.verifies_ecdsa
    assert hello.speaks_tls13 == (version is ssl.TLSVersion.TLSv1_3)


def test_a_hello_cut_off_anywhere_is_malformed() -> None:
    """No prefix of a ClientHello is taken for one, but for the one that ends before the extensions."""
    whole = hello_of(alpn=["http/1.1"], version=ssl.TLSVersion.TLSv1_3)
    found = [parse_client_hello(whole[:size]) for size in range(len(whole))]
    assert [hello for hello in found if hello is not None] in ([], [ClientHello()])


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_anything_is_borne(message: bytes) -> None:
    """Whatever the bytes, the answer is a ClientHello or None."""
    assert isinstance(parse_client_hello(message), ClientHello | None)


@settings(deadline=None)
@given(st.data())
def test_damaged_hellos_are_borne(data: st.DataObject) -> None:
    """A real ClientHello with any byte changed is parsed or refused, never an error."""
    whole = bytearray(hello_of(alpn=["http/1.1"], version=ssl.TLSVersion.TLSv1_3))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    parse_client_hello(bytes(whole))
