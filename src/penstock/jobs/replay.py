"""Replay: recorded calls scored again by another version, or by the same one as a proof that it answers as it did.

What is to be read is fixed at the start. Every few seconds how far it is and what the pairs say so far go into one file
(`<home>/jobs/replay-<question>.json`), so that a killed replay goes on where it was and counts every pair once. The
report goes to `<home>/replays`.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from penstock.audit.follow import Follower, SealedLines
from penstock.audit.position import Position
from penstock.durable import make_directory, write_whole
from penstock.errors import ModelFailed, SegmentError
from penstock.jobs.comparison import Comparison, ComparisonState
from penstock.jobs.recorded import Asked, Seen
from penstock.jobs.result import Result
from penstock.jobs.scoring import BATCH_ROWS, Pairs, Scoring
from penstock.routing import Decision
from penstock.runtime.model import Model

JOBS: Final = "jobs"
REPLAYS: Final = "replays"
SAVE_S: Final = 5.0
NEAR: Final = 1e-12
_TIMED_FIRST: Final = 10  # runs a batch, in as many batches; one in the others


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: the answers of `model`, by the version with this `digest` (its number is `version`, 0 of a bundle
    that is not published). `since` and `until` are as they were given ("7d"): a replay that goes on is still the same
    question a minute later. `decision` is by what the candidate's labels are decided; of an identical replay it is what
    each record says. `most_pairs`: it ends after the batch with which there are as many. The rest as in `Scoring`.
    """

    model: str
    version: int
    digest: str
    since: str | None = None
    until: str | None = None
    where: tuple[tuple[str, str], ...] = ()
    by: str | None = None
    is_whole: bool = False
    is_identical: bool = False
    decision: Decision | None = None
    most_pairs: int | None = None

    @property
    def id(self) -> str:
        """16 hexadecimal digits that stand for the question."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class ReplayState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a replay is: everything up to `position` is in `comparison`, once. `end` was the end of the log at the
    start, `records` what there was to read until there, `read` how many of them are read.
    """

    question: Question
    began_at: datetime
    asked: Asked
    end: Position
    position: Position
    records: int
    read: int = 0
    took_s: float = 0.0
    comparison: ComparisonState = ComparisonState()


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is: `share` of the records that are to be read, `rows_s` rows scored a second since it (re)started."""

    pairs: int
    share: float
    rows_s: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A replay's result, as it is kept. `resumed`: it was interrupted. `unread`: records that were there at the start
    and could not be read (retention took them meanwhile, or their write is broken: `penstock audit verify`).
    """

    id: str
    question: Question
    asked: Asked
    began_at: datetime
    took_s: float
    resumed: bool
    unread: int
    result: Result

    @property
    def is_identical(self) -> bool:
        """Whether the same content answers as it did, as far as anything could be scored."""
        result = self.result
        return result.pairs > 0 and not (result.identity.unequal or result.rows.refused or result.rows.failed)


@contextlib.contextmanager
def alone(home: Path, question: Question) -> Iterator[None]:
    """Nobody else asks this question here while the block runs. Raises SegmentError if somebody does."""
    path = home / JOBS / f"replay-{question.id}.lock"
    make_directory(path.parent)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.fstat(file.fileno()).st_ino == path.stat().st_ino  # else it was another's, and is gone
        except OSError:
            is_ours = False
        if not is_ours:
            raise SegmentError(f"Expected to replay this alone, but another process does so ({path}): wait for it")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


class Replay:
    """One replay, on one thread. Not thread-safe.

    `moments` are `since` and `until` of the question, for a new one. `again`: what an interrupted one has done is
    forgotten. Raises SegmentError for a state that cannot be read.
    """

    def __init__(
        self,
        home: Path,
        question: Question,
        model: Model,
        *,
        moments: tuple[datetime | None, datetime | None] = (None, None),
        sealed_lines: SealedLines | None = None,
        batch_rows: int = BATCH_ROWS,
        again: bool = False,
    ) -> None:
        self._home, self._question = home, question
        self._path = home / JOBS / f"replay-{question.id}.json"
        self._batch_rows = batch_rows
        held = None if again else self._held()
        since, until = moments
        digest = question.digest if question.is_identical else None
        self.asked = (
            held.asked if held is not None else Asked(model=question.model, since=since, until=until, digest=digest)
        )
        self._scoring = Scoring(
            model,
            self.asked,
            decision="recorded" if question.is_identical else question.decision,
            is_whole=question.is_whole,
            by=question.by,
            where=question.where,
            batch_rows=batch_rows,
        )
        self._follower = Follower(home / "audit", sealed_lines=sealed_lines, decode=self._scoring.decode)
        self._state = held if held is not None else self._begun()
        self.resumed_at = None if held is None else held.began_at
        """When the interrupted replay began that this one goes on with; None: it is new."""
        self._comparison = Comparison(
            self._state.comparison, tolerance=0.0 if question.is_identical and is_of_trees(model) else NEAR
        )
        self._turns = 0

    @property
    def pairs(self) -> int:
        """How many pairs there are so far."""
        return self._comparison.pairs

    def run(self, tell: Callable[[Progress], None] = lambda progress: None, *, save_s: float = SAVE_S) -> Report:
        """Read and score all that is left, and keep the report. `tell` is called after each batch. Raises SegmentError
        for a log or a home that cannot be read or written: what was saved stays.
        """
        gc.disable()  # rows and records hold no cycles, and looking for some takes a third of the time of decoding
        try:
            return self._run(tell, save_s)
        finally:
            gc.enable()

    def _run(self, tell: Callable[[Progress], None], save_s: float) -> Report:
        began_s = saved_s = time.monotonic()
        reader = self._follower.reader(self._state.position)
        pairs_before, read = self._comparison.pairs, self._state.read
        held: list[Seen] = []
        held_rows = idle = 0
        is_done = False
        while not is_done:
            batch = reader.read() or reader.read()  # a second look passes a write that is broken for good
            last = 0 if batch is None else _seq(self._state.end, batch.run)
            records = [] if batch is None else cast(list[Any], batch.records)  # what `decode` made
            if records and records[-1].seq > last:
                records = [record for record in records if record.seq <= last]
            read += len(records)
            held += records
            held_rows += sum([record.rows for record in records])
            idle = 0 if records else idle + 1
            # The run that is furthest back comes first, so what is gone meanwhile cannot hold this up for long.
            is_lost = batch is None or idle > 2 * len(reader.position.marks) + 2
            is_done = is_lost or not self._unread(reader.position)
            if held_rows < self._batch_rows and not is_done:
                continue
            self._compare(held)
            held, held_rows = [], 0
            most = self._state.question.most_pairs
            is_done = is_done or (most is not None and self._comparison.pairs >= most)
            now_s = time.monotonic()
            if now_s - saved_s >= save_s and not is_done:
                self._save(reader.position, read, now_s - began_s)
                gc.collect()
                saved_s = now_s
            done = self._comparison.pairs - pairs_before
            share = min(1.0, read / self._state.records) if self._state.records else 1.0
            tell(Progress(pairs=self._comparison.pairs, share=share, rows_s=done / max(now_s - began_s, 1e-9)))
        return self._report(self._state.took_s + time.monotonic() - began_s, self._unread(reader.position))

    def _compare(self, records: list[Seen]) -> None:
        pairs = self._scoring.score(records)
        self._comparison.add(pairs, self._scoring)
        self._time_some(pairs)

    def _time_some(self, pairs: Pairs) -> None:
        """Time the candidate in runs as large as those of some of the records, other ones each time."""
        for _ in range(_TIMED_FIRST if self._turns < _TIMED_FIRST**2 else 1):
            self._turns += 1
            call = pairs.calls[self._turns * 31 % len(pairs)] if len(pairs) else None
            if call is None or not 0 < call.batch_rows <= len(pairs) or call.run_ms <= 0:
                continue
            try:
                took_ms = self._scoring.timed_ms(pairs.rows[: call.batch_rows])
            except ModelFailed:  # of these rows alone
                continue
            self._comparison.time(call.batch_rows, call.run_ms, took_ms)

    def _begun(self) -> ReplayState:
        now = datetime.now(UTC)
        position = Position() if self.asked.since is None else self._follower.since(self.asked.since)
        end = self._follower.end()
        return ReplayState(
            question=self._question,
            began_at=now,
            asked=self.asked,
            end=end,
            position=position,
            records=self._follower.lag(position).records,
        )

    def _unread(self, position: Position) -> int:
        """How many of the records that were there at the start are not read."""
        marks = self._state.end.marks.items()
        return sum(max(0, mark.seq - max(_seq(position, run), _seq(self._state.position, run))) for run, mark in marks)

    def _save(self, position: Position, read: int, took_s: float) -> None:
        state = msgspec.structs.replace(
            self._state,
            position=position,
            read=read,
            took_s=self._state.took_s + took_s,
            comparison=self._comparison.state(),
        )
        _write(self._path, msgspec.json.encode(state))

    def _held(self) -> ReplayState | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=ReplayState)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SegmentError(
                f"Expected how far an interrupted replay is in {self._path}, but: {error}. Begin --again"
            ) from error

    def _report(self, took_s: float, unread: int) -> Report:
        state = self._state
        report = Report(
            id=f"{state.began_at:%Y%m%dT%H%M%S}-{self._question.id[:8]}",
            question=self._question,
            asked=state.asked,
            began_at=state.began_at,
            took_s=took_s,
            resumed=self.resumed_at is not None,
            unread=unread,
            result=self._comparison.result(),
        )
        _write(report_path(self._home, report), msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        self._path.unlink(missing_ok=True)
        return report


def report_path(home: Path, report: Report) -> Path:
    """Where a report is kept."""
    return home / REPLAYS / f"{report.id}.json"


def is_of_trees(model: Model) -> bool:
    """Whether each step of the graph is one of trees, written by us in double: such answers repeat to the last bit."""
    verdict = model.bundle.verdict
    return verdict.flavour == "onnx" and bool(verdict.recipe) and all(" trees " in step for step in verdict.recipe)


def _seq(position: Position, run: str) -> int:
    mark = position.marks.get(run)
    return 0 if mark is None else mark.seq


def _write(path: Path, data: bytes) -> None:
    try:
        make_directory(path.parent)
        write_whole(path, data, draft=path.with_name(f".{path.name}.{os.getpid()}"), mode=0o600)
    except OSError as error:
        raise SegmentError(f"Expected to write {path}, but: {error.strerror}: make room, or mend its rights") from error
