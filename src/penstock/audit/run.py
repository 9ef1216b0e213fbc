"""`Run`: one life of a worker's log, its segments one after the other; and `Tick`, what goes to it in one write."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from penstock.audit.segment import FORMAT, SUFFIX, Header, SegmentWriter
from penstock.errors import SegmentError

OnFlushed: TypeAlias = Callable[[Exception | None], None]
_UNWRITABLE = (SegmentError, OSError, MemoryError)


class Tick(msgspec.Struct):
    """The records `first`..`last` (none if `last` is `first - 1`) as `lines` and `covered`, as `Lines` makes them, and
    who waits for them. `began_s` is when the first was appended, on `time.perf_counter`'s clock.
    """

    lines: list[bytes]
    covered: list[bytes]
    first: int
    last: int
    callbacks: list[OnFlushed]
    began_s: float

    @property
    def records(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    def join(self, later: Tick) -> None:
        """Take in the records of the tick that follows without a gap."""
        self.lines.extend(later.lines)
        self.covered.extend(later.covered)
        self.last = later.last


class Run:
    """Writes ticks to the segments of one run; used by one thread at a time, but for `turn`. A segment ends at
    `segment_bytes`, or `segment_s` after its beginning if it has records.

    A tick that does not follow the last one written comes after records that are lost: its commit line says so.
    `on_retired` gets each segment that is full or can no longer be trusted; it closes it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        worker: int,
        segment_bytes: int,
        segment_s: float,
        clock: Callable[[], float],
        on_retired: Callable[[SegmentWriter], None] = SegmentWriter.close,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.directory = directory / f"worker-{worker}"
        self.on_retired = on_retired
        self.last_failure: Exception | None = None
        """Why no new segment could be begun, where the old one had to go on."""
        self.missing = 0
        """How many records the segments say are lost."""
        self._worker = worker
        self._segment_bytes = segment_bytes
        self._segment_s = segment_s
        self._turning = threading.Lock()
        self._clock = clock
        self._segment: SegmentWriter | None = None
        self._segments = 0
        self._began_s, self._first = 0.0, 1
        self._written = 0

    @property
    def segment(self) -> SegmentWriter:
        """The segment that is being written, or was last. Raises SegmentError before `open`."""
        if self._segment is None:
            raise SegmentError("Expected an audit log that was opened, got one that was not: call open() first")
        return self._segment

    @property
    def place(self) -> tuple[str, int] | None:
        """The segment's path and the bytes of whole writes in it, once open."""
        return None if self._segment is None else (str(self._segment.path), self._segment.size_bytes)

    def open(self) -> None:
        """Begin the first segment. Raises SegmentError."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SegmentError(f"Expected to make the directory {self.directory}, but: {error.strerror}") from error
        self._segment = self._begin_segment(prev=None)

    def write(self, tick: Tick) -> Exception | None:
        """Write the lines of `tick`; what went wrong, after which nothing of it is in the file."""
        with self._turning:
            lost = tick.first - self._written - 1
            try:
                self._ready_segment().write(tick.lines, tick.covered, first=tick.first, last=tick.last, dropped=lost)
            except _UNWRITABLE as error:
                return error
            self._written = tick.last
            self.missing += lost
        return None

    def turn(self, *, is_due: bool = False) -> None:
        """Begin a new segment if this one has records and is old, or `is_due` whatever its age; by any thread."""
        with self._turning:
            if self._segment is not None and self._segment.is_sound and (self._is_old or (is_due and self._is_used)):
                self._next_segment(self._segment)

    def close(self, last: int) -> Exception | None:
        """Leave word that the records up to `last` are lost which were not written, and give the segment back.

        A commit line without records says it; the error is why a disk that is still full refuses it.
        """
        segment, error = self.segment, None
        if last > self._written and segment.is_sound:
            error = self.write(Tick([], [], last + 1, last, [], 0.0))
        segment.close()
        return error

    def _ready_segment(self) -> SegmentWriter:
        """The segment to write to, which is a new one when the last is full or can no longer be trusted."""
        segment = self.segment
        if segment.is_sound and segment.size_bytes < self._segment_bytes and not self._is_old:
            return segment
        return self._next_segment(segment)

    def _next_segment(self, segment: SegmentWriter) -> SegmentWriter:
        try:
            fresh = self._begin_segment(prev=segment.head)
        except _UNWRITABLE as error:
            if not segment.is_sound:
                raise
            self.last_failure = error  # no file to be had (too many open, say): a large segment is better than none
            return segment
        self._segment = fresh
        self.on_retired(segment)
        return fresh

    @property
    def _is_old(self) -> bool:
        return self._is_used and self._clock() - self._began_s >= self._segment_s

    @property
    def _is_used(self) -> bool:
        return self._written >= self._first

    def _begin_segment(self, *, prev: str | None) -> SegmentWriter:
        started = datetime.fromtimestamp(self._clock(), UTC)
        name = f"{started:%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        header = Header(
            format=FORMAT,
            worker=self._worker,
            run=self.id,
            index=self._segments,
            started=started,
            pid=os.getpid(),
            host=socket.gethostname(),
            penstock=importlib.metadata.version("penstock"),
            first=self._written + 1,
            prev=prev,
        )
        segment = SegmentWriter(self.directory / name, header)
        self._segments += 1
        self._began_s, self._first = started.timestamp(), header.first
        return segment


def joined(ticks: Iterable[Tick]) -> list[Tick]:
    """The same records in as few ticks as can be: those with a gap between them stay apart. No callbacks."""
    found: list[Tick] = []
    for tick in ticks:
        if found and found[-1].last + 1 == tick.first:
            found[-1].join(tick)
        else:
            found.append(Tick(tick.lines, tick.covered, tick.first, tick.last, [], tick.began_s))
    return found
