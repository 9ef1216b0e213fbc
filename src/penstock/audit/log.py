"""`AuditLog`: gathers the records of one event loop tick, has them written in one go, then lets the replies leave.

The hot path appends and registers what to do when the record is down; nothing is answered before. One write per tick
means that a `kill -9` leaves no reply without its record, and no half tick. What "down" means is the durability class.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.audit.accounts import Accounts
from penstock.audit.commitment import Salts
from penstock.audit.durability import (
    ASYNC_BOUND,
    SHEDDING,
    AsyncBound,
    AtOnce,
    Behind,
    Durability,
    GroupCommit,
    Nowhere,
    Way,
)
from penstock.audit.record import Answered, Content, Lines, Payload, Record
from penstock.audit.run import OnFlushed, Run, Tick
from penstock.audit.tail import Place
from penstock.errors import RecordFailed, SegmentError
from penstock.telemetry import Registry


class AuditLog:
    """The log of one worker; used on one event loop, by its thread only, and never across a fork.

    `directory` is the audit directory of the home; the segments go to `worker-<n>/` in it. `durability` says when a
    record is written and when the answer leaves, and so what a record that cannot be written means: "fsync" and
    "strict" fail the call with `RecordFailed`, the others answer all the same and count it as dropped. Either way the
    next tick tries again, and `last_failure` tells an operator what went wrong. `async_bound` is what "async" may lose.
    A new segment is begun after `segment_bytes`, or where given after `segment_s`. `clock` gives Unix seconds.

        async with AuditLog(home / "audit", worker=0) as log:
            log.append(record)
            log.on_flushed(reply)
    """

    def __init__(
        self,
        directory: Path,
        *,
        worker: int = 0,
        durability: Durability = "write",
        async_bound: AsyncBound = ASYNC_BOUND,
        segment_bytes: int = 128 * 1024 * 1024,
        segment_s: float = 3600.0,
        clock: Callable[[], float] = time.time,
        registry: Registry | None = None,
    ) -> None:
        self._durability = durability
        self._async_bound = async_bound
        self._segment_s = segment_s
        self._run = Run(directory, worker=worker, segment_bytes=segment_bytes, segment_s=segment_s, clock=clock)
        self._accounts = Accounts(registry if registry is not None else Registry(), clock)
        self._way: Way = Nowhere(self._answer)
        self._appended_s = 0.0
        self._salts = Salts()
        self._lines = Lines(self._salts, 1)
        self._callbacks: list[OnFlushed] = []
        self._is_scheduled = False
        self._answered_seq = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def run(self) -> str:
        """The name of this life of the log."""
        return self._run.id

    @property
    def last_failure(self) -> Exception | None:
        """What last went wrong with a file."""
        return self._run.last_failure or self._accounts.last_failure

    @property
    def recorded(self) -> int:
        """How many records are in the log."""
        return int(self._accounts.recorded.value)

    def add_recorded(self, records: int) -> None:
        """Count records that the run before, which died, wrote and had no time to tell."""
        self._accounts.recorded.inc(records)

    @property
    def dropped(self) -> int:
        """How many records could not be written."""
        return int(self._accounts.dropped.value)

    @property
    def path(self) -> Path:
        """The segment that is being written, or was last. Raises SegmentError where there is none."""
        return self._run.segment.path

    @property
    def where(self) -> str:
        """Where the records are, in words for operators."""
        return "none are kept (audit.durability is off)" if self._durability == "off" else str(self.path)

    @property
    def place(self) -> Place | None:
        """How far this log is counted, once open: asked between ticks, `recorded` ends there, and so does what the
        callbacks have counted.
        """
        place = self._accounts.place
        return None if place is None else Place(*place, self._answered_seq)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the first segment; the flushes will run on `loop`. Raises SegmentError."""
        if self._durability != "off":
            self._run.open()
            self._accounts.place = self._run.place
        self._way = self._way_on(loop)
        self._loop = loop
        self._turn_later(loop)

    def append(self, record: Record | Answered, opening: bytes = b"", payload: Payload | None = None) -> int:
        """Encode `record` for the write at the end of this tick and return its sequence number.

        An `Answered` comes with its `opening_of`, and with its payload where any of it is to be kept; a `Record` has
        all of that in it.

        Raises TypeError for a record that holds what JSON cannot; nothing is appended then.
        """
        seq = self._lines.add(record, opening, payload)
        if not self._is_scheduled:
            self._schedule()
        return seq

    def append_answer(self, record: Answered, opening: bytes, rows: Content, outputs: bytes) -> int:
        """The same in less time for an answered call of which the final `rows` are to be kept, and its `outputs`, which
        are JSON, and nothing else.
        """
        seq = self._lines.add_answer(record, opening, rows, outputs)
        if not self._is_scheduled:
            self._schedule()
        return seq

    def on_flushed(self, callback: OnFlushed) -> None:
        """Call `callback` once the records appended so far are down: with None, or with `RecordFailed`.

        All callbacks of a tick are called in the order of registration, right after its one write. What one of them
        raises goes to the loop's exception handler and stops no other.
        """
        self._callbacks.append(callback)
        if not self._is_scheduled:
            self._schedule()

    async def flushed(self, seq: int) -> None:
        """Wait until the record `seq` is down. Raises `RecordFailed` if it cannot be and the class is one that sheds.

        Must be called in the tick of the append; raises ValueError for a record that is not waiting to be written.
        """
        if not self._lines.first <= seq < self._lines.next:
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
        """See to what the tick has appended, and call back as the durability class says. The loop calls it; a drain
        may, too.
        """
        self._is_scheduled = False
        lines = self._lines
        if not self._callbacks and not lines.written:
            return
        tick = Tick(lines.written, lines.covered, lines.first, lines.next - 1, self._callbacks, self._appended_s)
        self._lines, self._callbacks = Lines(self._salts, lines.next), []
        self._way.take(tick)

    def turn(self) -> None:
        """Begin a new segment, if the one that is written has records: then it can be sealed, and erased from."""
        if self._durability != "off":
            self._run.turn(is_due=True)

    def close(self) -> None:
        """Flush, wait until all is down, then give the segment back. Nothing can be appended afterwards."""
        if self._loop is None:
            return
        self.flush()
        self._way.close(self._lines.next - 1)
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None

    async def __aenter__(self) -> Self:
        self.open(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _turn_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that a segment with records ends in time when nothing more is written."""

        def turn() -> None:
            self._run.turn()
            self._turn_later(loop)

        if self._durability != "off":
            self._timer = loop.call_later(self._segment_s, turn)

    def _way_on(self, loop: asyncio.AbstractEventLoop) -> Way:
        if self._durability == "off":
            return Nowhere(self._answer)
        if self._durability == "async":
            return Behind(self._run, self._accounts, self._answer, loop, bound=self._async_bound)
        if self._durability == "fsync":
            return GroupCommit(self._run, self._accounts, self._answer, loop)
        return AtOnce(self._run, self._accounts, self._answer)

    def _schedule(self) -> None:
        if self._loop is None:
            self._lines = Lines(self._salts, self._lines.first)
            raise SegmentError("Expected an open audit log, got one that is not open (yet, or any more)")
        self._is_scheduled = True
        self._appended_s = time.perf_counter()
        self._loop.call_soon(self.flush)

    def _answer(self, tick: Tick, error: Exception | None) -> None:
        """Call those back who wait for `tick`; `error` is why its records are not down."""
        self._answered_seq = tick.last
        failure = None
        if error is not None and self._durability in SHEDDING:
            failure = RecordFailed("Expected to record the answer before giving it, but the log is not writable: retry")
            failure.__cause__ = error
        for callback in tick.callbacks:
            try:
                callback(failure)
            except Exception as bug:  # the edge of a callback, as in asyncio: the others must have their replies
                self._report(bug, callback)

    def _report(self, bug: Exception, callback: OnFlushed) -> None:
        if self._loop is not None:
            self._loop.call_exception_handler(
                {"message": "A callback of the audit log failed", "exception": bug, "callback": callback}
            )
