"""The PROXY protocol, by the examples and the rules of its specification."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secureserve.errors import PeerError, ProxyHeaderError
from secureserve.front.proxy_protocol import (
    MAX_BLOCK_SIZE,
    ProxyCommand,
    ProxyHeader,
    ProxyHeaderParser,
    ProxyProgress,
    TLVType,
    crc32c,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FOLLOWS = b"\x16\x03\x01\x02\x00"


def v2(family: int, block: bytes, *, command: int = 0x21, size: int | None = None) -> bytes:
    """Build a version 2 header."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if size is None else size) + block


def inet(source: str = "192.0.2.1", destination: str = "198.51.100.7", ports: tuple[int, int] = (51234, 443)) -> bytes:
    """Build the addresses of an IPv4 or IPv6 connection."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    return socket.inet_pton(family, source) + socket.inet_pton(family, destination) + struct.pack("!HH", *ports)


def tlv(kind: int, value: bytes) -> bytes:
    """Build one piece of additional information."""
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(addresses: bytes, *others: bytes) -> bytes:
    """Build an IPv4 header whose checksum is right."""
    block = addresses + tlv(TLVType.CRC32C, bytes(4)) + b"".join(others)
    checksum = crc32c(v2(0x11, block))
    return v2(0x11, addresses + tlv(TLVType.CRC32C, struct.pack("!I", checksum)) + b"".join(others))


def whole(data: bytes) -> ProxyHeader:
    """Read a header that is complete."""
    header = ProxyHeaderParser().feed(data)
    assert isinstance(header, ProxyHeader)
    return header


def trickle(data: bytes) -> None:
    """Feed one byte at a time."""
    parser = ProxyHeaderParser()
    for at in range(len(data)):
        parser.feed(data[at : at + 1])


def facts(header: ProxyHeader) -> tuple[object, ...]:
    """Give what a header says, without how it arrived."""
    return (header.command, header.source, header.destination, header.version, header.unix_paths, header.tlvs)


GOOD = {
    "v1 TCP4": b"PROXY TCP4 192.0.2.1 198.51.100.7 51234 443\r\n",
    "v1 TCP6": b"PROXY TCP6 2001:db8::1 2001:db8::2 51234 443\r\n",
    "v1 longest": b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535 " + b"x" * 47 + b"\r\n",
    "v1 UNKNOWN": b"PROXY UNKNOWN\r\n",
    "v2 TCP4": v2(0x11, inet()),
    "v2 TCP6": v2(0x21, inet("2001:db8::1", "2001:db8::2")),
    "v2 unix": v2(0x31, b"/run/client".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")),
    "v2 LOCAL": v2(0x00, b"", command=0x20),
    "v2 LOCAL with a block": v2(0xFF, b"anything at all", command=0x20),
    "v2 unspecified": v2(0x00, b"whatever"),
    "v2 with information": v2(0x11, inet() + tlv(TLVType.ALPN, b"h2") + tlv(TLVType.NOOP, b"??") + tlv(0xE0, b"own")),
    "v2 with checksum": with_checksum(inet(), tlv(TLVType.AUTHORITY, b"app.example")),
}


@pytest.fixture(params=list(GOOD.values()), ids=list(GOOD))
def good(request: pytest.FixtureRequest) -> bytes:
    """Give each kind of well-formed header."""
    header = request.param
    assert isinstance(header, bytes)
    return header


class TestWellFormed:
    """What a header says."""

    def test_version_1_names_both_ends(self) -> None:
        """The client's address and port come first, then where it connected to."""
        header = whole(GOOD["v1 TCP4"] + FOLLOWS)
        assert header == ProxyHeader(
            ProxyCommand.PROXY, ("192.0.2.1", 51234), ("198.51.100.7", 443), 1, consumed=len(GOOD["v1 TCP4"])
        )
        assert whole(GOOD["v1 TCP6"]).source == ("2001:db8::1", 51234)

    def test_version_2_names_both_ends(self) -> None:
        """The binary form says the same."""
        header = whole(GOOD["v2 TCP4"] + FOLLOWS)
        assert facts(header)[:4] == (ProxyCommand.PROXY, ("192.0.2.1", 51234), ("198.51.100.7", 443), 2)
        assert header.consumed == len(GOOD["v2 TCP4"])
        assert whole(GOOD["v2 TCP6"]).destination == ("2001:db8::2", 443)

    def test_an_ipv4_client_of_a_dual_stack_proxy_is_an_ipv4_client(self) -> None:
        """An IPv4-mapped source is named as IPv4, so that limits and logs know one client by one name."""
        assert whole(v2(0x21, inet("::ffff:192.0.2.1", "::1"))).source == ("192.0.2.1", 51234)
        assert whole(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n").source == ("192.0.2.1", 1)

    @pytest.mark.parametrize(
        "kind", ["v1 UNKNOWN", "v1 longest", "v2 unspecified", "v2 LOCAL", "v2 LOCAL with a block"]
    )
    def test_where_the_proxy_does_not_say_the_connections_own_addresses_hold(self, kind: str) -> None:
        """UNKNOWN, unspecified and LOCAL headers have no source."""
        header = whole(GOOD[kind])
        assert (header.source, header.destination, header.tlvs) == (None, None, ())
        assert (header.command is ProxyCommand.LOCAL) is ("LOCAL" in kind)

    def test_unix_clients_have_paths(self) -> None:
        """The ends of a unix connection are paths, abstract names among them."""
        header = whole(GOOD["v2 unix"])
        assert (header.source, header.unix_paths) == (("", 0), ("/run/client", "\0abstract"))

    def test_additional_information_is_kept_in_order(self) -> None:
        """TLVs are handed on, padding and checksum aside."""
        assert whole(GOOD["v2 with information"]).tlvs == ((TLVType.ALPN, b"h2"), (0xE0, b"own"))
        assert whole(GOOD["v2 with checksum"]).tlvs == ((TLVType.AUTHORITY, b"app.example"),)

    def test_the_checksum_is_castagnolis(self) -> None:
        """The check value of CRC-32C comes out."""
        assert crc32c(b"123456789") == 0xE3069283


class TestPieces:
    """Headers arrive in pieces of any size, with anything behind them."""

    def test_split_at_every_position(self, good: bytes) -> None:
        """Two pieces say the same as one, and what follows is never taken."""
        expected = facts(whole(good))
        for position in range(len(good)):
            parser = ProxyHeaderParser()
            assert parser.feed(good[:position]) is ProxyProgress.NEED_MORE
            header = parser.feed(good[position:] + FOLLOWS)
            assert isinstance(header, ProxyHeader)
            assert facts(header) == expected
            assert header.consumed == len(good) - position

    def test_byte_by_byte(self, good: bytes) -> None:
        """One byte at a time says the same, and the last byte completes it."""
        parser = ProxyHeaderParser()
        progress = [parser.feed(good[at : at + 1]) for at in range(len(good))]
        assert set(progress[:-1]) <= {ProxyProgress.NEED_MORE}
        last = progress[-1]
        assert isinstance(last, ProxyHeader)
        assert facts(last) == facts(whole(good))
        assert last.consumed == 1
        assert parser.wants == ProxyHeaderParser().wants - len(good)

    @given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(1, 64), max_size=12), st.binary(max_size=32))
    def test_any_pieces(self, kind: str, sizes: list[int], behind: bytes) -> None:
        """However the bytes are cut, the header is the same and exactly its bytes are consumed."""
        data = GOOD[kind] + behind
        parser = ProxyHeaderParser()
        taken = 0
        for size in [*sizes, len(data)]:
            progress = parser.feed(data[taken : taken + size])
            if isinstance(progress, ProxyHeader):
                assert facts(progress) == facts(whole(GOOD[kind]))
                assert taken + progress.consumed == len(GOOD[kind])
                return
            taken += size
        pytest.fail("the header was never complete")


BAD = {
    "HTTP": b"GET / HTTP/1.1\r\n",
    "TLS": FOLLOWS,
    "lower case": b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "no such family": b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
    "UDP": b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "two spaces": b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
    "trailing space": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
    "tab": b"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    "bare LF": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
    "bare CR": b"PROXY TCP4 1.2.3.4\r5.6.7.8 1 2\r\n",
    "nothing": b"PROXY \r\n",
    "a port missing": b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
    "port too large": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
    "port with zeros": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 0443\r\n",
    "port with sign": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 +443\r\n",
    "port of another script": "PROXY TCP4 1.2.3.4 5.6.7.8 1 \u0664\r\n".encode(),
    "IPv6 as TCP4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "IPv4 as TCP6": b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    "short address": b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
    "padded address": b"PROXY TCP4 001.2.3.4 5.6.7.8 1 2\r\n",
    "zone": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "NUL": b"PROXY TCP4 1.2.3.4\x00 5.6.7.8 1 2\r\n",
    "endless line": b"PROXY UNKNOWN " + b"x" * 200,
    "line of 108": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "wrong signature": SIGNATURE[:-1] + b"X" + bytes(4),
    "version 1 in binary": v2(0x11, inet(), command=0x11),
    "version 3": v2(0x11, inet(), command=0x31),
    "no such command": v2(0x11, inet(), command=0x22),
    "no such address family": v2(0x41, inet()),
    "no such protocol": v2(0x13, inet()),
    "unspecified family, no such protocol": v2(0x05, inet()),
    "datagrams": v2(0x12, inet()),
    "too short for IPv4": v2(0x11, inet()[:-1]),
    "too short for IPv6": v2(0x21, inet()),
    "too short for unix": v2(0x31, bytes(215)),
    "larger than allowed": v2(0x11, b"", size=MAX_BLOCK_SIZE + 1),
    "TLV cut in its head": v2(0x11, inet() + b"\x01\x00"),
    "TLV cut in its value": v2(0x11, inet() + b"\x01\x00\x05abcd"),
    "checksum of 3": v2(0x11, inet() + tlv(TLVType.CRC32C, bytes(3))),
    "wrong checksum": v2(0x11, inet() + tlv(TLVType.CRC32C, bytes(4))),
    "unique id too long": v2(0x11, inet() + tlv(TLVType.UNIQUE_ID, bytes(129))),
}


class TestMalformed:
    """What is no header is refused, at once."""

    @pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
    def test_whole(self, data: bytes) -> None:
        """Each break of the rules is a peer's error with nothing to answer."""
        with pytest.raises(ProxyHeaderError) as failure:
            ProxyHeaderParser().feed(data)
        assert isinstance(failure.value, PeerError)
        assert failure.value.status_hint is None
        assert failure.value.reason == "proxy_header"

    @pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
    def test_byte_by_byte(self, data: bytes) -> None:
        """It is refused as well when it trickles in, at its last byte at the latest."""
        with pytest.raises(ProxyHeaderError):
            trickle(data)

    @pytest.mark.parametrize("first", [b"G", b"\x16", b"PROXX", b"\r\n\r\n\r"])
    def test_the_first_wrong_byte_is_enough(self, first: bytes) -> None:
        """A client that sends no header is noticed by its first byte and not by a deadline."""
        with pytest.raises(ProxyHeaderError, match="does not begin with"):
            ProxyHeaderParser().feed(first)

    def test_any_change_breaks_the_checksum(self) -> None:
        """With a checksum every changed bit of the addresses is noticed."""
        good = bytearray(with_checksum(inet()))
        for bit in range(16 * 8, 28 * 8):
            good[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ProxyHeaderError, match="checksum"):
                ProxyHeaderParser().feed(bytes(good))
            good[bit // 8] ^= 1 << bit % 8

    @given(
        st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"])
    )
    @example(b"\x00\x0c" + bytes(12), SIGNATURE + b"\x21\x11")
    def test_nothing_else_ever_happens(self, tail: bytes, start: bytes) -> None:
        """Any bytes at all give a header, a wish for more or a peer's error, and memory stays bounded."""
        parser = ProxyHeaderParser()
        try:
            progress = parser.feed(start + tail)
        except ProxyHeaderError:
            return
        if isinstance(progress, ProxyHeader):
            assert 0 < progress.consumed <= len(start + tail)

    def test_no_peer_makes_it_keep_more_than_the_largest_header(self) -> None:
        """Of a flood only what a header may have is kept."""
        parser = ProxyHeaderParser(max_block_size=64)
        header = parser.feed(v2(0x00, bytes(64)) + bytes(1_000_000))
        assert isinstance(header, ProxyHeader)
        assert header.consumed == 80
        assert len(parser._buffer) == 80
        assert parser.wants == 0
