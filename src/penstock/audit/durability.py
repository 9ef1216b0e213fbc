"""The durability classes: when a record is written, when the answer leaves, and what of it a crash may take.

A `Way` gets the records of each tick. `docs/audit.md` states what each class promises.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol, TypeAlias

import msgspec

from penstock.audit.accounts import Accounts
from penstock.audit.issued import Issued
from penstock.audit.run import Run, Tick, joined
from penstock.audit.segment import SegmentWriter
from penstock.errors import SegmentError

Durability: TypeAlias = Literal["off", "async", "write", "fsync", "strict"]
Answer: TypeAlias = Callable[[Tick, Exception | None], None]

SHEDDING: frozenset[Durability] = frozenset({"fsync", "strict"})
"""Classes in which a call whose record cannot be kept is answered with `RecordFailed`; the others serve and count."""


class AsyncBound(msgspec.Struct, frozen=True):
    """What "async" may lose: most `records` of answered calls that are not written, as a rule for `ms`."""

    records: int = 10_000
    ms: int = 100


ASYNC_BOUND = AsyncBound()


def bound_of(durability: Durability, bound: AsyncBound) -> str:
    """What a crash may take of answered calls' records, in words for operators."""
    return {
        "off": "nothing is recorded",
        "async": f"a killed process loses at most {bound.records} records of answered calls, as a rule those of the "
        f"last {bound.ms} ms; lost power those, and what the kernel had not written yet",
        "write": "a killed process loses no record of an answered call; lost power what the kernel had not written yet",
        "fsync": "neither a killed process nor lost power loses the record of an answered call",
        "strict": "as write; and a call whose record cannot be written is not answered",
    }[durability]


class Way(Protocol):
    """One durability class. Used on the event loop only; `close` leaves nothing under way."""

    def take(self, tick: Tick) -> None:
        """See to the records of `tick`, and let its callbacks be called."""
        ...

    def close(self, last: int) -> None:
        """Write what is left of the records up to `last`, call back, and close the run."""
        ...


class Nowhere:
    """`off`: nothing is written."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def take(self, tick: Tick) -> None:
        """Answer."""
        self._answer(tick, None)

    def close(self, last: int) -> None:
        """Nothing is left."""


class AtOnce:
    """`write` and `strict`: one write a tick, then its answers."""

    def __init__(self, run: Run, accounts: Accounts, answer: Answer) -> None:
        self._run = run
        self._accounts = accounts
        self._answer = answer

    def take(self, tick: Tick) -> None:
        """Write, then answer."""
        error = self._run.write(tick) if tick.records else None
        if error is None:
            self._accounts.wrote(tick, self._run.place)
        else:
            self._accounts.lost(tick, error)
        self._answer(tick, error)

    def close(self, last: int) -> None:
        """Close the run; records that were lost at the end are said in it."""
        _close_run(self._run, self._accounts, last)


class GroupCommit:
    """`fsync`: one write a tick, on the loop; a thread brings it to the disk (`fdatasync`), and the answers of all
    ticks that were written meanwhile leave after the next of these. The loop waits for none.

    What a disk says of a failed sync holds for that time only: the pages may be gone. So the segment is left for a new
    one, and the calls are not answered.
    """

    def __init__(self, run: Run, accounts: Accounts, answer: Answer, loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._accounts = accounts
        self._answer = answer
        self._loop = loop
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="penstock-audit")
        self._gathered: list[Tick] = []
        self._batch: list[Tick] = []
        self._batch_place: tuple[str, int] | None = None
        self._syncing: Future[None] | None = None
        self._retired: list[SegmentWriter] = []
        run.on_retired = self._retire

    def take(self, tick: Tick) -> None:
        """Write, and answer after the next sync."""
        error = self._run.write(tick) if tick.records else None
        if error is not None:
            self._accounts.lost(tick, error)
            self._answer(tick, error)
            return
        self._gathered.append(tick)
        if self._syncing is None:
            self._begin()

    def close(self, last: int) -> None:
        """Sync what is written, answer, and close the run."""
        while self._syncing is not None:
            syncing = self._syncing
            syncing.exception()  # waits
            self._synced(syncing)
        self._disk.shutdown()
        self._run.on_retired = SegmentWriter.close
        for segment in self._retired:
            segment.close()
        self._retired.clear()
        _close_run(self._run, self._accounts, last)

    def _retire(self, segment: SegmentWriter) -> None:
        self._retired.append(segment)
        self._loop.call_soon(self._let_go)

    def _let_go(self) -> None:
        """A segment that ended in an idle worker is not kept until the next call."""
        if self._retired and self._syncing is None:
            self._begin()

    def _begin(self) -> None:
        self._batch, self._gathered = self._gathered, []
        self._batch_place = self._run.place
        retired, current = self._retired.copy(), self._run.segment
        self._retired.clear()
        self._syncing = syncing = self._disk.submit(_sync, retired, current)
        syncing.add_done_callback(self._tell)

    def _tell(self, syncing: Future[None]) -> None:
        """From the thread: it is done."""
        try:
            self._loop.call_soon_threadsafe(self._synced, syncing)
        except RuntimeError:  # the loop is closed, so close() has waited for it, or nobody is there to be answered
            return

    def _synced(self, syncing: Future[None]) -> None:
        if syncing is not self._syncing:  # close() was sooner
            return
        error, batch = syncing.exception(), self._batch
        self._syncing, self._batch = None, []
        failure = error if isinstance(error, Exception) else None
        if failure is not None:
            self._run.segment.is_sound = False
        for tick in batch:
            self._accounts.wrote(tick, self._batch_place)
            if failure is not None:
                self._accounts.unconfirmed(tick, failure)
        if self._gathered:
            self._begin()
        for tick in batch:
            self._answer(tick, failure)


class Behind:
    """`async`: the answers leave at once, a thread writes the records when `bound.ms` are over or half of
    `bound.records` wait, whichever is first. Records beyond `bound.records` that are not written yet are dropped and
    counted: a slow disk costs records, not memory.
    """

    def __init__(
        self,
        run: Run,
        accounts: Accounts,
        answer: Answer,
        loop: asyncio.AbstractEventLoop,
        *,
        bound: AsyncBound,
    ) -> None:
        self._run = run
        self._accounts = accounts
        self._answer = answer
        self._loop = loop
        self._most_records = bound.records
        self._most_s = bound.ms / 1e3
        self._issued = Issued(run.directory, run.id)
        self._wake = threading.Condition()
        self._waiting: list[Tick] = []
        self._unwritten = 0
        self._is_closing = False
        self._done: deque[tuple[Tick, Exception | None, tuple[str, int] | None]] = deque()
        self._thread = threading.Thread(target=self._work, name="penstock-audit", daemon=True)
        self._thread.start()

    def take(self, tick: Tick) -> None:
        """Note the numbers, leave the records to the thread, answer."""
        if tick.records:
            self._issued.note(tick.last)
            if not self._leave(tick):
                self._issued.drop(tick.records)
                self._accounts.lost(tick, SegmentError(f"{self._most_records} records wait for a slow disk"))
        self._answer(tick, None)

    def close(self, last: int) -> None:
        """Wait until all is written, and close the run."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join()
        self._settle()
        error = _close_run(self._run, self._accounts, last)
        self._issued.close(is_settled=error is None)

    def _leave(self, tick: Tick) -> bool:
        """Whether there was room for the records."""
        with self._wake:
            if self._unwritten + tick.records > self._most_records:
                return False
            self._unwritten += tick.records
            self._waiting.append(tick)
            if len(self._waiting) == 1 or self._is_due:
                self._wake.notify()
        return True

    @property
    def _is_due(self) -> bool:
        return self._is_closing or 2 * self._unwritten >= self._most_records

    def _work(self) -> None:
        """The thread: waits for records, then for more of them, then writes."""
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._is_closing)
                self._wake.wait_for(lambda: self._is_due, self._most_s)
                ticks, self._waiting = self._waiting, []
            if not ticks:
                return
            for tick in joined(ticks):
                error = self._run.write(tick)
                if error is None:
                    self._issued.say(self._run.missing)
                else:
                    self._issued.fail(tick.records)
                self._done.append((tick, error, self._run.place))
            with self._wake:
                self._unwritten -= sum(tick.records for tick in ticks)
            self._tell()

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop is closed: the log was not, and nobody counts any more
            return

    def _settle(self) -> None:
        while self._done:
            tick, error, place = self._done.popleft()
            if error is None:
                self._accounts.wrote(tick, place)
            else:
                self._accounts.lost(tick, error)


def _sync(retired: list[SegmentWriter], current: SegmentWriter) -> None:
    """In the thread. Raises SegmentError where any of the files is not brought to the disk."""
    try:
        for segment in retired:
            segment.sync()
    finally:
        for segment in retired:
            segment.close()
    current.sync()


def _close_run(run: Run, accounts: Accounts, last: int) -> Exception | None:
    error = run.close(last)
    if error is not None:
        accounts.last_failure = error
    return error
