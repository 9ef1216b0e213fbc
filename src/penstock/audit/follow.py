"""The follower: the one way in which monitoring, rollouts, shadow and sinks read the log while workers write it.

Each reader goes at its own pace through the runs of all workers, live segments and sealed ones alike; what one of them
has decoded serves the next. Nothing is read twice, nothing waits, and no lock of a worker is touched.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from penstock.audit.position import Mark, Position
from penstock.audit.record import Record, read_record
from penstock.audit.sealed import SealedSegment
from penstock.audit.shelf import ALL, Part, Shelf
from penstock.audit.writes import Chunk, Decode, end_of, read_chunk
from penstock.errors import SegmentError

SealedLines: TypeAlias = Callable[[Path, SealedSegment, int], Iterator[tuple[int, bytes]]]
"""As `sealed_lines.sealed_lines`."""

_LOG = logging.getLogger("penstock")
_LEAST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_KEPT_CHUNKS: Final = 32
_KEPT_FILES: Final = 4
_SEALED_RECORDS: Final = 500
_TICK_S: Final = 2.0
"""How coarse the times of files may be."""


class Batch(msgspec.Struct, frozen=True):
    """Committed records of one run of one worker, in order. `run` and `seq` together name a record for good. `records`
    are what the follower's `decode` made of them.
    """

    worker: int
    run: str
    records: list[Record]


class Lag(msgspec.Struct, frozen=True):
    """How far a reader is behind: records that are written and not read, and since when they wait (seconds)."""

    records: int
    seconds: float


class Reader:
    """One reader of the log. Thread-safe together with its follower's other readers.

    `position` is behind the batch that was given last: save it with what was made of that batch. A reader that starts
    again from there gets every record once; from an older one, some again, with the same run and number.
    """

    def __init__(self, follower: Follower, position: Position) -> None:
        self._follower = follower
        self.position = position

    def read(self) -> Batch | None:
        """The next records, of the run that is furthest back in time; None if all is read. Raises SegmentError."""
        batch, self.position = self._follower.after(self.position)
        return batch

    async def batches(self) -> AsyncIterator[Batch]:
        """The records as they come, read in a thread; looks for more after 50 ms to 1 s where there are none."""
        pause_s = _LEAST_PAUSE_S
        while True:
            batch = await asyncio.to_thread(self.read)
            if batch is not None:
                pause_s = _LEAST_PAUSE_S
                yield batch
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    def lag(self) -> Lag:
        """How far behind the log this reader is; records that were never written count. Raises SegmentError."""
        return self._follower.lag(self.position)


class Follower:
    """Reads the segments below `audit` (`<home>/audit`) for all readers of a process. Holds some hundred decoded
    writes, however large the log is. Thread-safe.

    `sealed_lines` reads what is sealed (it needs pyarrow); without it, segments must be kept until they are passed.
    `decode` makes something else of each line than its `Record`, for who reads much and needs little of it.
    `fresh_s` is for how long a look into the directories is believed. `workers` are the numbers of those whose records
    are read. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        audit: Path,
        *,
        sealed_lines: SealedLines | None = None,
        decode: Decode = read_record,
        fresh_s: float = _LEAST_PAUSE_S,
        workers: range = ALL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._audit = audit
        self._shelf = Shelf(audit, fresh_s=fresh_s, workers=workers)
        self._sealed_lines = sealed_lines
        self._decode = decode
        self._clock = clock
        self._lock = threading.Lock()
        self._chunks: OrderedDict[tuple[str, int], Chunk] = OrderedDict()
        self._files: OrderedDict[tuple[str, int], Iterator[tuple[int, bytes]]] = OrderedDict()
        self._suspects: dict[str, int] = {}
        self.decoded = 0
        """How many records were decoded, for whichever reader."""
        self.broken = 0
        """How many writes were left out, which are not what their commit lines say; the server's log has each."""

    def reader(self, position: Position | None = None) -> Reader:
        """A reader that goes on at `position`; from the first record there is, without one."""
        return Reader(self, position if position is not None else Position())

    def since(self, at: datetime) -> Position:
        """A place before all records that came `at` or later, and behind most that came before: segments that nothing
        was written to since are passed. Raises SegmentError.
        """
        found = {}
        with self._lock:
            for run, parts in self._shelf.look(is_anew=True).items():
                earlier = [part for part in parts if part.header.started <= at]
                if earlier:
                    last = earlier[-1]
                    found[run] = self._end_of([last], at) if self._rested_before(last, at) else _start_of(last)
        return Position(found)

    def end(self) -> Position:
        """Where the log ends now: for a reader that starts with what comes next. Raises SegmentError."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        with self._lock:
            runs = self._shelf.look(is_anew=True)
            return Position({run: self._end_of(parts, now) for run, parts in runs.items()})

    def after(self, position: Position) -> tuple[Batch | None, Position]:
        """The next batch behind `position`, and the position behind it; it may move on without records, too."""
        with self._lock:
            for is_anew in (False, True):
                try:
                    return self._after(position, self._shelf.look(is_anew=is_anew))
                except FileNotFoundError:  # sealed and removed since the look
                    continue
        return None, position

    def lag(self, position: Position) -> Lag:
        """How far `position` is behind what is written."""
        records, since_s = 0, self._clock()
        with self._lock:
            for run, parts in self._shelf.look().items():
                mark = position.marks.get(run)
                seq = parts[0].header.first - 1 if mark is None else mark.seq
                behind = self._end_of(parts, parts[0].header.started).seq - seq
                if behind > 0:
                    records += behind
                    since_s = min(since_s, (mark.at if mark is not None else parts[0].header.started).timestamp())
        return Lag(records, max(0.0, self._clock() - since_s) if records else 0.0)

    def _after(self, position: Position, runs: dict[str, list[Part]]) -> tuple[Batch | None, Position]:
        marks = {run: mark for run, mark in position.marks.items() if run in runs}
        for run, parts in sorted(runs.items(), key=lambda item: _since(marks.get(item[0]), item[1])):
            for part in parts:
                mark = marks.get(run)
                if mark is not None and (part.header.index < mark.index or mark.seq >= part.last):
                    continue
                records, mark = self._next(part, mark)
                if mark is not None:
                    marks[run] = mark
                if records:
                    return Batch(part.header.worker, run, records), Position(marks)
                if part.segment in self._suspects:
                    break
        return None, Position(marks)

    def _next(self, part: Part, mark: Mark | None) -> tuple[list[Record], Mark | None]:
        """Records of a segment behind `mark`, and the mark behind them. None of a segment's records is left out, so
        the next segment's may follow where there are no more.
        """
        seq = part.header.first - 1 if mark is None else mark.seq
        if part.is_live:
            is_within = mark is not None and mark.index == part.header.index
            from_bytes = mark.at_bytes if mark is not None and is_within else 0
            chunk = self._live(part, from_bytes)
        else:
            from_bytes = 0 if part.entry is None else part.entry.size_bytes
            chunk = self._sealed(part, seq)
        while chunk is not None:
            records = [record for record in chunk.records if record.seq > seq]
            at = records[-1].at if records else part.header.started if mark is None else mark.at
            mark = Mark(
                segment=part.segment,
                index=part.header.index,
                at_bytes=chunk.to_bytes,
                seq=max(seq, chunk.last),
                at=at,
            )
            if records or not part.is_live:
                return records, mark
            from_bytes = chunk.to_bytes  # commit lines without records, or records that were read before
            chunk = self._live(part, from_bytes)
        return [], mark

    def _live(self, part: Part, from_bytes: int) -> Chunk | None:
        """The chunk at a place of a segment, decoded or kept from another reader."""
        key = (part.segment, from_bytes)
        chunk = self._chunks.get(key)
        if chunk is None:
            chunk = read_chunk(self._audit / part.segment, from_bytes, decode=self._decode)
            if chunk is not None and chunk.broken is not None and chunk.to_bytes == from_bytes:
                chunk = self._past_broken(part, from_bytes)
            if chunk is None:
                return None
            self._keep(key, chunk)
        self._chunks.move_to_end(key)
        return chunk

    def _past_broken(self, part: Part, from_bytes: int) -> Chunk | None:
        """The chunk behind a write that was found broken at two looks: it will not be put right any more."""
        if self._suspects.get(part.segment) != from_bytes:
            self._suspects[part.segment] = from_bytes
            return None
        del self._suspects[part.segment]
        chunk = read_chunk(self._audit / part.segment, from_bytes, past_broken=True, decode=self._decode)
        if chunk is not None and chunk.broken is not None:
            self.broken += 1
            _LOG.error("audit: %s: %s; it is left out. Run `penstock audit verify`", part.segment, chunk.broken)
        return chunk

    def _sealed(self, part: Part, seq: int) -> Chunk | None:
        """The records behind number `seq` of a segment that is Parquet files only by now."""
        entry, key = part.entry, (part.segment, -1 - seq)
        if entry is None or self._sealed_lines is None:
            raise SegmentError(f"Expected the segment {part.segment}, which is sealed: read it with `sealed_lines`")
        chunk = self._chunks.get(key)
        if chunk is None:
            lines = self._files.pop(key, None) or self._sealed_lines(self._audit, entry, seq)
            records = [self._decode(line) for _, line in islice(lines, _SEALED_RECORDS)]
            last = records[-1].seq if len(records) == _SEALED_RECORDS else int(part.last)
            self._files[part.segment, -1 - last] = lines
            while len(self._files) > _KEPT_FILES:
                self._files.popitem(last=False)
            chunk = Chunk(records, entry.size_bytes, last)
            self._keep(key, chunk)
        self._chunks.move_to_end(key)
        return chunk

    def _keep(self, key: tuple[str, int], chunk: Chunk) -> None:
        self.decoded += len(chunk.records)
        self._chunks[key] = chunk
        if len(self._chunks) > _KEPT_CHUNKS:
            self._chunks.popitem(last=False)

    def _rested_before(self, part: Part, at: datetime) -> bool:
        """Whether a segment has nothing that came `at` or later, as far as can be told without reading it."""
        if part.is_live:
            try:
                return (self._audit / part.segment).stat().st_mtime < at.timestamp() - _TICK_S
            except FileNotFoundError:  # sealed meanwhile
                return False
        files = () if part.entry is None else part.entry.files
        left = [file for file in files if file.gone is None]
        return bool(left) and all(file.last_at < at for file in left)

    def _end_of(self, parts: list[Part], at: datetime) -> Mark:
        """The mark behind all that a run has written; `at` is taken for the time of its last record."""
        for part in reversed(parts):
            if not part.is_live:
                seq, at_bytes = int(part.last), 0
            else:
                try:
                    end = end_of(self._audit / part.segment)
                except FileNotFoundError:  # sealed meanwhile: the next look knows
                    end = None
                if end is None:
                    continue
                seq, at_bytes = end
            return Mark(segment=part.segment, index=part.header.index, at_bytes=at_bytes, seq=seq, at=at)
        return _start_of(parts[0], at)


def _start_of(part: Part, at: datetime | None = None) -> Mark:
    header = part.header
    at = header.started if at is None else at
    return Mark(segment=part.segment, index=header.index, at_bytes=0, seq=header.first - 1, at=at)


def _since(mark: Mark | None, parts: list[Part]) -> datetime:
    return mark.at if mark is not None else parts[0].header.started
