"""Packed bodies: unpacked in slices, within the limit; damaged and cut ones are the caller's fault."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import CallFailure, Overloaded, TooLarge, Unreadable, UnsupportedMedia
from penstock.server.http.packing import SLICE_BYTES, answer_coding, coding_of, packed, unpacked
from penstock.server.intake import Intake

PACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"zstd": zstd.compress,
}
LIMIT_BYTES = 3 * SLICE_BYTES
codings = pytest.mark.parametrize("coding", PACKERS)


def unpack(body: bytes, coding: bytes, intake: Intake | None = None) -> bytes:
    """The body without its packing; the intake holds it beforehand, as when it has arrived."""
    intake = Intake(1 << 30) if intake is None else intake
    intake.held_bytes += len(body)
    return asyncio.run(unpacked(body, coding, LIMIT_BYTES, intake))


@codings
@settings(max_examples=40, deadline=None)
@given(body=st.binary(max_size=2000), times=st.sampled_from([1, 300]))
def test_what_is_packed_is_unpacked(coding: bytes, body: bytes, times: int) -> None:
    """Every body comes out as it went in, over several slices too, and the intake holds just that."""
    intake = Intake(1 << 30)
    assert body * times == unpack(PACKERS[coding](body * times), coding, intake)
    assert len(body) * times == intake.held_bytes
    assert body * times == unpack(asyncio.run(packed(body * times, coding)), coding)


@codings
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_body_is_refused_or_unpacked(coding: bytes, data: st.DataObject) -> None:
    """Whatever a byte is changed to, there is a refusal or there are bytes, and the intake keeps count."""
    body = bytearray(PACKERS[coding](b'{"instances": [{"age": 31}]}' * 20))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    intake = Intake(1 << 30)
    try:
        found = unpack(bytes(body), coding, intake)
    except CallFailure as failure:
        assert isinstance(failure, Unreadable | TooLarge)
        found = b""
    assert len(found) == intake.held_bytes


@codings
@pytest.mark.parametrize("cut", [0, 1, -1])
def test_a_body_that_is_cut_off_is_refused(coding: bytes, cut: int) -> None:
    """An end that is missing is seen, also where all rows would be there."""
    with pytest.raises(Unreadable, match="cut off"):
        unpack(PACKERS[coding](b"x" * 1000)[:cut], coding)


@codings
def test_what_comes_behind_the_end_is_refused(coding: bytes) -> None:
    """Several packed bodies in one are refused, rather than all but the first being lost."""
    with pytest.raises(Unreadable, match="more behind its end"):
        unpack(PACKERS[coding](b"x" * 1000) * 2, coding)


@codings
def test_a_bomb_costs_one_limit(coding: bytes) -> None:
    """Unpacking ends with the first slice above the limit, and everything is let go of."""
    intake = Intake(1 << 30)
    with pytest.raises(TooLarge, match="unpacked, the body is larger than server.max_body_bytes"):
        unpack(PACKERS[coding](bytes(200 * SLICE_BYTES)), coding, intake)
    assert 0 == intake.held_bytes


def test_a_full_server_does_not_unpack() -> None:
    """What comes out counts as held, and is refused where there is no room."""
    intake = Intake(SLICE_BYTES)
    intake.held_bytes = 10
    with pytest.raises(Overloaded):
        unpack(gzip.compress(bytes(2 * SLICE_BYTES)), b"gzip", intake)
    assert 10 == intake.held_bytes


def test_a_frame_with_a_large_window_is_refused() -> None:
    """A frame of Zstandard cannot ask for more memory than the format asks of every decoder."""
    options = {int(zstd.CompressionParameter.window_log): 27}
    packer = zstd.ZstdCompressor(options=options)
    with pytest.raises(Unreadable, match="Content-Encoding"):
        unpack(packer.compress(bytes(SLICE_BYTES)) + packer.flush(), b"zstd")


@pytest.mark.parametrize(
    ("value", "coding"), [(b"gzip", b"gzip"), (b"X-GZIP", b"gzip"), (b" identity", b""), (b"", b""), (b"zstd", b"zstd")]
)
def test_codings_have_their_names(value: bytes, coding: bytes) -> None:
    """Names are read in any case; identity is no packing."""
    assert coding == coding_of(value)


@pytest.mark.parametrize("value", [b"br", b"gzip, gzip", b"\xff"])
def test_an_unknown_coding_is_refused(value: bytes) -> None:
    """The refusal names what is unpacked; packed twice is not."""
    with pytest.raises(UnsupportedMedia, match="unpacks gzip, deflate, zstd"):
        coding_of(value)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, zstd", b"zstd"),
        (b"gzip;q=1, zstd;q=0.5", b"gzip"),
        (b"*", b"zstd"),
        (b"zstd;q=0, gzip;q=0, deflate", b"deflate"),
        (b"br, identity", b""),
        (b"*;q=0", b""),
    ],
)
def test_answers_are_packed_as_is_accepted(accept: bytes, coding: bytes) -> None:
    """The coding with the highest weight, Zstandard first of equals; nothing where none is named."""
    assert coding == answer_coding(accept)
