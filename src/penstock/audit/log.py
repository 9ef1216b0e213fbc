"""`AuditLog`: takes the records of one event loop tick, writes them in one go, then lets the replies leave.

The hot path appends and registers what to do when the record is down; nothing is answered before. One write per tick
means that a `kill -9` leaves no reply without its record, and no half tick.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

from penstock.audit.record import Answered, Record, write_record
from penstock.audit.segment import FORMAT, SUFFIX, Header, SegmentWriter
from penstock.audit.tail import Place
from penstock.errors import RecordFailed, SegmentError
from penstock.telemetry import Recent, Registry

FailureRule: TypeAlias = Literal["serve", "strict"]
OnFlushed: TypeAlias = Callable[[Exception | None], None]

_LOG = logging.getLogger("penstock")
_TELL_EVERY_S = 60.0
_LAG_SPAN_S = 30.0
_LAG_HELP = "The longest that a record waited for its write, of the last half to whole minute."


class AuditLog:
    """The log of one worker; used on one event loop, by its thread only, and never across a fork.

    `directory` is the audit directory of the home; the segments go to `worker-<n>/` in it. `rule` says what a record
    that cannot be written means: "serve" answers all the same and counts it as dropped, "strict" fails the call with
    `RecordFailed`. Either way the next tick tries again, and `last_failure` tells an operator what went wrong.
    `segment_bytes` is the size after which a new segment is begun. `clock` gives Unix seconds.

        async with AuditLog(home / "audit", worker=0) as log:
            log.append(record)
            log.on_flushed(reply)
    """

    def __init__(
        self,
        directory: Path,
        *,
        worker: int = 0,
        rule: FailureRule = "serve",
        segment_bytes: int = 128 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
        registry: Registry | None = None,
    ) -> None:
        self._directory = directory / f"worker-{worker}"
        self._worker = worker
        self._rule = rule
        self._segment_bytes = segment_bytes
        self._clock = clock
        registry = registry if registry is not None else Registry()
        self._recorded = registry.counter("penstock_audit_records_total", "Records written to the audit log.").child()
        self._dropped = registry.counter("penstock_audit_dropped_total", "Records that could not be written.").child()
        self._lag = Recent(clock=time.perf_counter, span_s=_LAG_SPAN_S)
        registry.peak("penstock_audit_lag_seconds", _LAG_HELP).adopt(self._lag)
        self._appended_s = self._tell_s = 0.0
        self._buffer = bytearray()
        self._callbacks: list[OnFlushed] = []
        self._is_scheduled = False
        self._next_seq = 1
        self._tick_first = 1
        self._lost_records = 0
        self._segment: SegmentWriter | None = None
        self._segments = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.run = secrets.token_hex(8)
        self.last_failure: Exception | None = None

    @property
    def recorded(self) -> int:
        """How many records are in the log."""
        return int(self._recorded.value)

    def add_recorded(self, records: int) -> None:
        """Count records that the run before, which died, wrote and had no time to tell."""
        self._recorded.inc(records)

    @property
    def dropped(self) -> int:
        """How many records could not be written."""
        return int(self._dropped.value)

    @property
    def path(self) -> Path:
        """The segment that is being written, or was last."""
        if self._segment is None:
            raise SegmentError("Expected an audit log that was opened, got one that was not: call open() first")
        return self._segment.path

    @property
    def place(self) -> Place | None:
        """How far this log is written, once open; asked between ticks, it is where what is counted so far ends."""
        return None if self._segment is None else Place(str(self._segment.path), self._segment.size_bytes)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the first segment; the flushes will run on `loop`. Raises SegmentError."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SegmentError(f"Expected to make the directory {self._directory}, but: {error.strerror}") from error
        self._segment = self._begin_segment(self._next_seq, prev=None)
        self._loop = loop

    def append(self, record: Record | Answered, opening: bytes = b"") -> int:
        """Encode `record` for the write at the end of this tick and return its sequence number.

        An `Answered` comes with its `opening_of`.

        Raises TypeError for a record that holds what JSON cannot; nothing is appended then.
        """
        seq = self._next_seq
        write_record(record, seq, self._buffer, opening)
        self._next_seq = seq + 1
        if not self._is_scheduled:
            self._schedule()
        return seq

    def on_flushed(self, callback: OnFlushed) -> None:
        """Call `callback` once the records appended so far are written: with None, or with `RecordFailed`.

        All callbacks of a tick are called in the order of registration, right after its one write. What one of them
        raises goes to the loop's exception handler and stops no other.
        """
        self._callbacks.append(callback)
        if not self._is_scheduled:
            self._schedule()

    async def flushed(self, seq: int) -> None:
        """Wait until the record `seq` is written. Raises `RecordFailed` if it cannot be and the rule is "strict".

        Must be called in the tick of the append; raises ValueError for a record that is not waiting to be written.
        """
        if not self._tick_first <= seq < self._next_seq:
            raise ValueError(f"Expected a record appended in this tick, got seq {seq}: await right after append()")
        future = asyncio.get_running_loop().create_future()

        def settle(error: Exception | None) -> None:
            if future.done():  # the waiting task was cancelled
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.on_flushed(settle)
        await future

    def flush(self) -> None:
        """Write what the tick has appended and call back. The loop calls it; a drain may, too."""
        self._is_scheduled = False
        callbacks, self._callbacks = self._callbacks, []
        error = None
        if self._buffer:
            error = self._write_tick()
            self._lag.ended(self._appended_s)
        for callback in callbacks:
            try:
                callback(error)
            except Exception as failure:  # the edge of a callback, as in asyncio: the others must have their replies
                self._report(failure, callback)

    def close(self) -> None:
        """Flush, then give the segment back. Nothing can be appended afterwards."""
        if self._segment is None:
            return
        self.flush()
        if self._lost_records and self._segment.is_sound:
            self._write_loss(self._segment)
        self._segment.close()
        self._loop = None

    async def __aenter__(self) -> Self:
        self.open(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _schedule(self) -> None:
        if self._loop is None:
            self._buffer.clear()
            raise SegmentError("Expected an open audit log, got one that is not open (yet, or any more)")
        self._is_scheduled = True
        self._appended_s = time.perf_counter()
        self._loop.call_soon(self.flush)

    def _write_tick(self) -> RecordFailed | None:
        """Write the buffer as one write; the error that the callbacks get, or None."""
        lines, self._buffer = self._buffer, bytearray()
        first, self._tick_first = self._tick_first, self._next_seq
        records = self._next_seq - first
        try:
            self._ready_segment(first).write(lines, first=first, last=self._next_seq - 1, dropped=self._lost_records)
        except (SegmentError, OSError, MemoryError) as error:
            self._lose(records, error)
            if self._rule == "serve":
                return None
            failed = RecordFailed("Expected to record the answer before giving it, but the log is not writable: retry")
            failed.__cause__ = error
            return failed
        if self._lost_records:
            _LOG.warning("audit: records are written again, after %d were lost", self._lost_records)
            self._lost_records = 0
        self._recorded.inc(records)
        return None

    def _lose(self, records: int, error: Exception) -> None:
        """Count records that are lost, and say so: at the first, then once a minute."""
        self.last_failure = error
        self._dropped.inc(records)
        now_s = self._clock()
        if not self._lost_records or now_s >= self._tell_s:
            self._tell_s = now_s + _TELL_EVERY_S
            _LOG.error(
                "audit: %d records could not be written since the last that was: %s",
                self._lost_records + records,
                error,
            )
        self._lost_records += records

    def _ready_segment(self, first: int) -> SegmentWriter:
        """The segment to write to, which is a new one when the last is full or can no longer be trusted."""
        segment = self._segment
        if segment is None:
            raise SegmentError("Expected an open audit log, got one that is not open")
        if segment.is_sound and segment.size_bytes < self._segment_bytes:
            return segment
        try:
            fresh = self._begin_segment(first - self._lost_records, prev=segment.head)
        except (SegmentError, OSError) as error:
            if not segment.is_sound:
                raise
            self.last_failure = error  # no file to be had (too many open, say): a large segment is better than none
            return segment
        segment.close()
        self._segment = fresh
        return fresh

    def _begin_segment(self, first: int, *, prev: str | None) -> SegmentWriter:
        started = datetime.fromtimestamp(self._clock(), UTC)
        name = f"{started:%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        header = Header(
            format=FORMAT,
            worker=self._worker,
            run=self.run,
            index=self._segments,
            started=started,
            pid=os.getpid(),
            host=socket.gethostname(),
            penstock=importlib.metadata.version("penstock"),
            first=first,
            prev=prev,
        )
        segment = SegmentWriter(self._directory / name, header)
        self._segments += 1
        return segment

    def _write_loss(self, segment: SegmentWriter) -> None:
        """Leave word of the records lost last: a commit line without records. A disk that is still full refuses it."""
        try:
            segment.write(bytearray(), first=self._next_seq, last=self._next_seq - 1, dropped=self._lost_records)
        except SegmentError as error:
            self.last_failure = error

    def _report(self, failure: Exception, callback: OnFlushed) -> None:
        if self._loop is not None:
            self._loop.call_exception_handler(
                {"message": "A callback of the audit log failed", "exception": failure, "callback": callback}
            )
