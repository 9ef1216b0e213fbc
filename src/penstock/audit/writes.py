"""Whole writes out of the middle of a segment, while it is being written: what the follower decodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec

from penstock.audit.commitment import erased
from penstock.audit.record import Record, read_record
from penstock.audit.segment import Commit, parse_commit, sha256_hex
from penstock.errors import SegmentError

Decode: TypeAlias = Callable[[bytes], Any]
"""What to make of a line: as `read_record`, or another value with the record's `seq` and `at`. Raises SegmentError for
what is no record."""

_COMMIT = b'{"commit":'
_HEADER = b'{"header":'
_STRIDE_BYTES = 256 * 1024
_TAIL_BYTES = 64 * 1024


class Chunk(msgspec.Struct, frozen=True):
    """Records of some whole writes in a row, which end at `to_bytes` of their segment and at the number `last`.

    `broken` says of the first write that is not what its commit line says; the chunk then ends behind or before it.
    """

    records: list[Record]
    to_bytes: int
    last: int
    broken: str | None = None


def read_chunk(path: Path, from_bytes: int, *, past_broken: bool = False, decode: Decode = read_record) -> Chunk | None:
    """The whole writes from `from_bytes` on, up to the next multiple of 256 KiB of the file but at least one; None
    where there is none yet. Readers that come to one place from different ones so go on with the same chunks.

    A write whose bytes are not those of its commit line may be on its way back (a full disk): the chunk ends before
    it. With `past_broken` it is left out and the chunk ends behind it. Raises FileNotFoundError and SegmentError.
    """
    end = (from_bytes // _STRIDE_BYTES + 1) * _STRIDE_BYTES
    if end - from_bytes < _STRIDE_BYTES // 8:
        end += _STRIDE_BYTES
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            while from_bytes < size_bytes:
                file.seek(from_bytes)
                data = file.read(end - from_bytes)
                chunk = _whole_writes(data, from_bytes, past_broken, decode)
                if chunk is not None or end >= size_bytes:
                    return chunk
                end += end - from_bytes  # one write is larger than that
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SegmentError(f"Expected a readable audit segment at {path}, but: {error.strerror}") from error
    return None


def _whole_writes(data: bytes, from_bytes: int, past_broken: bool, decode: Decode) -> Chunk | None:
    records: list[Record] = []
    begin = done = last = 0
    lines: list[bytes] = []
    for line in data.splitlines(keepends=True):
        if line.startswith(_HEADER):
            begin += len(line)
        elif not line.startswith(_COMMIT):
            lines.append(line)
        elif line.endswith(b"\n"):
            commit = parse_commit(line)
            if commit is None or not _is_of(commit, lines):
                broken = f"the write at byte {from_bytes + begin} is not what its commit line says"
                if not past_broken:
                    return Chunk(records, from_bytes + done, last, broken)
                end = begin + sum(map(len, lines)) + len(line)
                return Chunk(records, from_bytes + end, last if commit is None else commit.last, broken)
            records += map(decode, lines)
            begin = done = begin + sum(map(len, lines)) + len(line)
            last, lines = commit.last, []
    return Chunk(records, from_bytes + done, last) if done else None


def _is_of(commit: Commit, lines: list[bytes]) -> bool:
    covered = [erased(line) or b"" for line in lines]
    return len(lines) == commit.last - commit.first + 1 and sha256_hex(b"".join(covered)) == commit.sha256


def end_of(path: Path) -> tuple[int, int] | None:
    """As `end_in`, of the segment at `path`. Raises FileNotFoundError."""
    with path.open("rb") as file:
        return end_in(file)


def end_in(file: BinaryIO) -> tuple[int, int] | None:
    """The number of the last record in the whole writes of a segment, and the bytes of these, without reading all of
    it; None if there is no commit line.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    tail_bytes = _TAIL_BYTES
    while True:
        start = max(0, size_bytes - tail_bytes)
        file.seek(start)
        torn_bytes = 0
        for line in reversed(file.read(size_bytes - start).splitlines(keepends=True)):
            commit = parse_commit(line) if line.startswith(_COMMIT) else None
            if commit is not None:
                return commit.last, size_bytes - torn_bytes
            torn_bytes += len(line)
        if start == 0:
            return None
        tail_bytes *= 8
