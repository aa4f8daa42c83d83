"""Cutting request heads out of a byte stream, however it arrives."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureserve.errors import BadRequest
from secureserve.front.head import HeadCutter

HEAD = b"GET /path HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


def cut(pieces: list[bytes], max_size: int = 1000, max_line_size: int = 100) -> tuple[bytes, bytes] | int | None:
    """Return the head and what follows it, the status of a refusal, or None where more is needed."""
    cutter = HeadCutter(max_size, max_line_size)
    for number, piece in enumerate(pieces):
        try:
            found = cutter.feed(piece)
        except BadRequest as error:
            return error.status_hint
        if found is not None:
            head, rest = found
            return head, rest + b"".join(pieces[number + 1 :])
    return None


def splits(data: bytes) -> list[list[bytes]]:
    """Return `data` whole, byte by byte, and in two at every position."""
    singles = [data[at : at + 1] for at in range(len(data))]
    return [[data], singles, *([data[:at], data[at:]] for at in range(1, len(data)))]


@pytest.mark.parametrize("rest", [b"", b"body", HEAD, b"\r\n", b"\r\n\r\n\x00"])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_a_head_is_cut_out_wherever_the_stream_is_split(before: bytes, rest: bytes) -> None:
    """A head ends with its empty line, and empty lines before it do not count, however the bytes arrive."""
    for pieces in splits(before + HEAD + rest):
        assert cut(pieces) == (HEAD, rest)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\n", 400),
        (b"\rGET ", 400),
        (b"\r\rGET / HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\nX: y", 400),
        (b"G(T / HTTP/1.1\r\nHost", 400),
        (b" GET / HTTP/1.1\r\nHost", 400),
        (b"M" * 33, 501),
        (b"GET /" + b"a" * 100, 414),
        (b"GET /" + b"a" * 87 + b" HTTP/1.1\r\nHost", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 1000, 413),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200, 413),
    ],
)
def test_what_can_become_no_request_is_refused_before_it_ends(data: bytes, status: int) -> None:
    """Nobody waits for the rest of a head that breaks a rule or a limit already."""
    for pieces in splits(data) if len(data) < 300 else [[data], splits(data)[1]]:
        assert cut(pieces) == status


def test_a_head_may_be_as_large_as_its_limit_and_not_larger() -> None:
    """The limit counts the empty line at the end, complete heads as well as dribbled ones."""
    for size, expected in ((len(HEAD), (HEAD, b"")), (len(HEAD) - 1, 413)):
        for pieces in splits(HEAD):
            assert cut(pieces, size, size) == expected


def test_a_request_line_may_be_as_long_as_its_limit_and_not_longer() -> None:
    """The limit does not count the end of the line."""
    line = HEAD.find(b"\r\n")
    for size, expected in ((line, (HEAD, b"")), (line - 1, 414)):
        for pieces in splits(HEAD):
            assert cut(pieces, max_line_size=size) == expected


def test_no_limit_means_none() -> None:
    """A limit of 0 lets a head of any size pass."""
    head = HEAD[:-2] + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n"
    assert cut([head], 0) == (head, b"")
    assert cut([head[:-1], head[-1:]], 0) == (head, b"")


def test_it_knows_whether_a_head_has_begun() -> None:
    """Empty lines are no beginning."""
    cutter = HeadCutter(1000, 100)
    assert not cutter
    cutter.feed(b"\r\n\r\n")
    assert not cutter
    cutter.feed(b"G")
    assert cutter
    cutter.feed(b"ET / HTTP/1.1\r\n\r\n")
    assert not cutter


class CountingBuffer(bytearray):
    """A buffer that counts the bytes which are searched in it."""

    searched = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        """Count, and find."""
        self.searched += (len(self) if end is None else end) - start
        return super().find(sub, start, len(self) if end is None else end)


def test_a_dribbled_head_costs_no_more_than_its_length() -> None:
    """Each byte is searched a small and constant number of times, so a head sent byte by byte costs no square of it."""
    cutter = HeadCutter(0, 20_000)
    head = b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + b"X: yyyyyyyyyyyyyyyy\r\n" * 1000
    assert cutter.feed(head[:1]) is None
    cutter._buffer = buffer = CountingBuffer(cutter._buffer)
    for at in range(1, len(head)):
        assert cutter.feed(head[at : at + 1]) is None
    assert len(head) < buffer.searched <= 10 * len(head)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=20))
def test_random_bytes_never_raise_anything_else(pieces: list[bytes]) -> None:
    """Whatever arrives is a head, or needs more, or is refused."""
    cut(pieces)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(HEAD) * 2), max_size=8))
def test_random_splits_make_no_difference(positions: list[int]) -> None:
    """Pieces of any size, empty ones too, give the same head."""
    data = HEAD + HEAD
    edges = [0, *sorted(positions), len(data)]
    assert cut([data[start:end] for start, end in itertools.pairwise(edges)]) == (HEAD, HEAD)
