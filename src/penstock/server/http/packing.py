"""Packed bodies (`Content-Encoding`): unpacked in slices, so that no body holds the loop and a bomb costs one limit.

Each slice of at most 256 KiB takes about a millisecond, and between two of them the loop turns. Only the ASGI path
comes here; gzip and zlib are Python's own, Zstandard is the extra `zstd`.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

from penstock.errors import TooLarge, Unreadable, UnsupportedMedia
from penstock.server.http.media import quality
from penstock.server.intake import Intake, overloaded

SLICE_BYTES: Final = 262_144
LEAST_BYTES: Final = 1024
"""Answers up to here are never packed."""

_PIECE_BYTES: Final = 65_536
_WINDOW_LOG: Final = 23  # 8 MiB, what RFC 8878 asks every decoder to take: a frame cannot ask for more memory
_WINDOW_BITS: Final = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_QUICK: Final = 1


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def coding_of(value: bytes) -> bytes:
    """The coding that a Content-Encoding names; empty for a body that comes as it is. Raises UnsupportedMedia."""
    name = value.strip().lower()
    if name in (b"", b"identity"):
        return b""
    name = b"gzip" if name == b"x-gzip" else name
    if name in _WINDOW_BITS or (name == b"zstd" and _zstandard() is not None):
        return name
    if name == b"zstd":
        raise UnsupportedMedia(
            "this server does not unpack zstd: pip install 'penstock[zstd]' there, or send the body with "
            "Content-Encoding: gzip"
        )
    raise UnsupportedMedia(
        f"this route unpacks gzip, deflate{', zstd' if _zstandard() is not None else ''} (one of them, once): "
        "send the body so, or without Content-Encoding"
    )


async def unpacked(body: bytes, coding: bytes, limit_bytes: int, intake: Intake) -> bytes:
    """`body` without its packing; `intake` holds the result in its place, or on an error neither.

    Raises Unreadable (damaged, cut off, more behind it), TooLarge as soon as more than `limit_bytes` come out,
    Overloaded.
    """
    parts: list[bytes] = []
    size_bytes = 0
    try:
        for part in _slices(body, coding):
            size_bytes += len(part)
            if not intake.hold(len(part), size_bytes + len(body)):
                raise overloaded()
            if size_bytes > limit_bytes:
                raise TooLarge(
                    f"unpacked, the body is larger than server.max_body_bytes, which is {limit_bytes}: "
                    f"send fewer rows in each call"
                )
            parts.append(part)
            if len(part) == SLICE_BYTES:
                await asyncio.sleep(0)
    except BaseException:
        intake.held_bytes -= size_bytes + len(body)
        raise
    intake.held_bytes -= len(body)
    return b"".join(parts)


def answer_coding(accept: bytes) -> bytes:
    """How an answer may be packed for a caller who sends this Accept-Encoding; empty for not at all."""
    known = ((b"zstd",) if _zstandard() is not None else ()) + tuple(_WINDOW_BITS)
    if not accept.strip():
        return b""
    best = max(known, key=lambda name: _wanted(accept, name))
    return best if _wanted(accept, best) else b""


async def packed(body: bytes, coding: bytes) -> bytes:
    """`body` packed with `coding`, quickly rather than small."""
    zstandard = _zstandard()
    if coding == b"zstd" and zstandard is not None:
        packer = zstandard.ZstdCompressor(level=_QUICK)
    else:
        packer = zlib.compressobj(_QUICK, zlib.DEFLATED, _WINDOW_BITS[coding])
    parts: list[bytes] = []
    for start in range(0, len(body), SLICE_BYTES):
        if start:
            await asyncio.sleep(0)
        parts.append(packer.compress(body[start : start + SLICE_BYTES]))
    return b"".join([*parts, packer.flush()])


def _wanted(accept: bytes, coding: bytes) -> float:
    # Codings are listed and weighed as media types are, only without their second half.
    return quality(accept.replace(b"*", b"*/*"), coding)


def _slices(body: bytes, coding: bytes) -> Iterator[bytes]:
    unpacker = _unpacker(coding)
    for start in range(0, len(body), _PIECE_BYTES):
        piece = body[start : start + _PIECE_BYTES]
        while True:
            part = _slice(unpacker, piece, coding)
            if part:
                yield part
            if unpacker.eof:
                if unpacker.unused_data or start + _PIECE_BYTES < len(body):
                    raise Unreadable(f"the body has more behind its end of {coding.decode()}: pack it as one")
                return
            if len(part) < SLICE_BYTES and not getattr(unpacker, "unconsumed_tail", b""):
                break
            piece = getattr(unpacker, "unconsumed_tail", b"")  # Zstandard's keeps its own
    raise Unreadable(f"the body is cut off: its {coding.decode()} has no end (after byte {len(body)})")


def _slice(unpacker: _Unpacker, piece: bytes, coding: bytes) -> bytes:
    try:
        return unpacker.decompress(piece, SLICE_BYTES)
    except _faults() as error:
        raise Unreadable(f"the body is not what its Content-Encoding says ({coding.decode()}): {error}") from None


def _unpacker(coding: bytes) -> _Unpacker:
    zstandard = _zstandard()
    if coding == b"zstd" and zstandard is not None:
        window = {zstandard.DecompressionParameter.window_log_max: _WINDOW_LOG}
        unpacker: _Unpacker = zstandard.ZstdDecompressor(options=window)
        return unpacker
    return zlib.decompressobj(_WINDOW_BITS[coding])


@functools.cache
def _faults() -> tuple[type[Exception], ...]:
    zstandard = _zstandard()
    return (zlib.error,) if zstandard is None else (zlib.error, zstandard.ZstdError)


@functools.cache
def _zstandard() -> Any:
    """Python's own module since 3.14, the same under another name before; None where there is none."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
