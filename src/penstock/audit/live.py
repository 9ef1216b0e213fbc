"""What the live segments hold, as one table: their new bytes decoded at each asking, the rest remembered.

Segments only grow, until they are sealed or erased from; so what was decoded of one holds up to where it ended.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from penstock.audit.columns import Detail, Source, joined, table_of
from penstock.audit.conditions import Conditions, Sieve
from penstock.audit.erase import ERASURES_FILE
from penstock.audit.sealed import Snapshot, snapshot
from penstock.audit.segment import parse_header
from penstock.audit.writes import end_in
from penstock.errors import QueryRefused, SegmentError

PLACE: Final = "place"
"""The column that says where the line of a live record stands: number of the segment, and byte in it."""

_SEGMENT_BITS: Final = 40  # of a place, for the byte; a segment is of some hundred megabytes
_BLOCK_BYTES: Final = 2 << 20  # some thousand records, which fit the processor's caches: twice as fast as 16 MiB
_NO_RECORD: Final = (b'{"commit":', b'{"header":')
_KEPT_BYTES: Final = 128 << 20
_ATTEMPTS: Final = 5

_Found: TypeAlias = list[tuple[int, bytes]]
"""Lines, each with the byte where it begins."""


class Allowance:
    """What one query may still take: seconds, and bytes of live records. Not thread-safe."""

    def __init__(self, time_s: float, live_bytes: int) -> None:
        self._time_s = time_s
        self._until = time.monotonic() + time_s
        self._live_bytes = self._left_bytes = live_bytes

    def left_s(self) -> float:
        """The seconds that are left."""
        return max(0.0, self._until - time.monotonic())

    def check(self) -> None:
        """Raise QueryRefused if the time is over."""
        if not self.left_s():
            raise self.late()

    def late(self) -> QueryRefused:
        """What is said when the time is over."""
        return QueryRefused(f"the query took longer than {self._time_s:.0f} s: ask for a shorter time, or less")

    def take(self, table: pa.Table) -> None:
        """Hold `table` until the query ends. Raises QueryRefused if that is too much."""
        self._left_bytes -= table.nbytes
        if self._left_bytes < 0:
            raise QueryRefused(
                f"the records that are not sealed yet take more than {self._live_bytes / 2**20:.0f} MB of memory for "
                "this query: ask for an id, a key, a model or a time, or for fewer columns (SELECT * and features "
                "take most); or have what is closed sealed first (`penstock audit seal`)"
            )


class _Part(msgspec.Struct, frozen=True):
    """Some thousand records of a segment, and where their lines begin in it."""

    table: pa.Table
    places: pa.Array

    @property
    def nbytes(self) -> int:
        return int(self.table.nbytes + self.places.nbytes)


class _Decoded(msgspec.Struct, frozen=True):
    """What one segment, a file of this identity, held up to a byte."""

    inode: int
    size_bytes: int
    mtime_ns: int
    to_bytes: int
    parts: tuple[_Part, ...]

    def is_of(self, file: BinaryIO) -> bool:
        """Whether the file is the one that was decoded, or that one grown."""
        found = os.fstat(file.fileno())
        if found.st_ino != self.inode or found.st_size < self.size_bytes:
            return False
        return found.st_size > self.size_bytes or found.st_mtime_ns == self.mtime_ns

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


class LiveSegments:
    """Reads the segments below `directory` that are not sealed. Remembers at most `kept_bytes` of what it decoded, and
    nothing that was decoded before somebody erased. Thread-safe.
    """

    def __init__(self, directory: Path, kept_bytes: int = _KEPT_BYTES) -> None:
        self._erasures = directory / ERASURES_FILE
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[str, Detail], _Decoded] = OrderedDict()
        self._erased_bytes = 0
        self._lock = threading.Lock()

    def table(
        self, files: Sequence[BinaryIO], conditions: Conditions, detail: Detail, allowance: Allowance
    ) -> pa.Table:
        """The committed records of the open segments `files`, with `detail`; of those that `conditions` do not ask for
        some may be left out. Raises QueryRefused and SegmentError.
        """
        self._forget(files)
        tables: list[pa.Table] = []
        places: list[pa.Array] = []
        for number, file in enumerate(files):
            for part in self._parts(file, conditions, detail, allowance):
                allowance.take(part.table)
                tables.append(part.table)
                places.append(pc.add(part.places, pa.scalar(number << _SEGMENT_BITS, pa.int64())))
        return joined(tables).append_column(PLACE, pa.chunked_array(places, pa.int64()))

    def _parts(self, file: BinaryIO, conditions: Conditions, detail: Detail, allowance: Allowance) -> Iterator[_Part]:
        with self._lock:
            kept = self._kept.get((file.name, detail))
        parts = list(kept.parts) if kept is not None else []
        yield from parts
        # What is remembered must be whole, so nothing is sieved out of it.
        sieve = Sieve(conditions if kept is None else Conditions())
        found, source, end = os.fstat(file.fileno()), _source_of(file), end_in(file)
        if source is None or end is None:  # cut at birth, or none of ours: `verify` says which
            return
        to_bytes = 0 if kept is None else kept.to_bytes
        for lines, lines_end in _lines(file, (to_bytes, end[1]), sieve, allowance):
            table = table_of([line for _, line in lines], source, detail)
            part = _Part(table, pa.array([place for place, _ in lines], pa.int64()))
            yield part
            if lines_end < end[1]:  # the last part is to grow
                parts.append(part)
                to_bytes = lines_end
        if sieve.is_open:
            decoded = _Decoded(found.st_ino, found.st_size, found.st_mtime_ns, to_bytes, tuple(parts))
            self._keep((file.name, detail), decoded)

    def _keep(self, name: tuple[str, Detail], decoded: _Decoded) -> None:
        with self._lock:
            self._kept[name] = decoded
            self._kept.move_to_end(name)
            while self._kept and sum(each.nbytes for each in self._kept.values()) > self._kept_bytes:
                self._kept.popitem(last=False)

    def _forget(self, files: Sequence[BinaryIO]) -> None:
        """What is of segments that are gone or were changed; all of it if something was erased since."""
        named = {file.name: file for file in files}
        erased_bytes = self._erasures.stat().st_size if self._erasures.exists() else 0
        with self._lock:
            for name, decoded in list(self._kept.items()):
                file = named.get(name[0])
                if erased_bytes != self._erased_bytes or file is None or not decoded.is_of(file):
                    del self._kept[name]
            self._erased_bytes = erased_bytes


def table_at(files: Sequence[BinaryIO], places: Sequence[int]) -> pa.Table:
    """The records whose lines stand at `places` of the open segments, with their texts. Raises SegmentError."""
    tables = []
    for place in places:
        number = place >> _SEGMENT_BITS
        source = _source_of(files[number])
        files[number].seek(place - (number << _SEGMENT_BITS))
        if source is not None:
            tables.append(table_of([files[number].readline()], source, Detail(typed=False)))
    return joined(tables).append_column(PLACE, pa.array([0] * len(tables), pa.int64()))


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[tuple[Snapshot, list[BinaryIO]]]:
    """What there is to read below the audit directory, with its live segments open: they stay as they are, whatever is
    sealed meanwhile. Raises SegmentError.
    """
    for _ in range(_ATTEMPTS):
        taken = snapshot(directory)
        with contextlib.ExitStack() as files:
            try:
                live: list[BinaryIO] = [files.enter_context(path.open("rb")) for path in taken.live]
            except FileNotFoundError:  # sealed meanwhile: it is in the index by now
                continue
            yield taken, live
            return
    raise SegmentError(f"{directory}: segments vanish faster than they can be opened")


def _source_of(file: BinaryIO) -> Source | None:
    file.seek(0)
    header = parse_header(file.readline())
    return None if header is None else Source(header.worker, header.run)


def _lines(file: BinaryIO, span: tuple[int, int], sieve: Sieve, allowance: Allowance) -> Iterator[tuple[_Found, int]]:
    """The lines of records within `span` that pass the sieve, some thousands at a time, and where these end."""
    found: _Found = []
    found_bytes = 0
    for at, block in _blocks(file, *span):
        allowance.check()
        if sieve.may_be_among(block):
            found += [each for each in _numbered(block, at) if sieve.is_open or sieve.may_be(each[1])]
            found_bytes += len(block)
        if found_bytes >= _BLOCK_BYTES or (found and at + len(block) == span[1]):
            yield found, at + len(block)
            found, found_bytes = [], 0


def _numbered(block: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    lines = block.splitlines(keepends=True)
    places = accumulate(map(len, lines), initial=at)
    return (each for each in zip(places, lines, strict=False) if not each[1].startswith(_NO_RECORD))


def _blocks(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file from `begin` to `end`, in blocks. Read, not mapped: a torn tail may be cut meanwhile, and
    who touches what was cut from a mapped file is killed.
    """
    file.seek(begin)
    while begin < end:
        block = file.read(min(_BLOCK_BYTES, end - begin))
        if begin + len(block) < end:
            block += file.readline()
        if not block:
            return
        yield begin, block
        begin += len(block)
