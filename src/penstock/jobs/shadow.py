"""A shadow: a version that scores what the champion has answered, out of the log and beside the calls.

It follows the log, scores the same final features in runs of the same rows as the champion's, writes what it would have
said as records of its own, and keeps what the pairs say together with how far it is. It may be killed at any moment:
what it wrote and had not counted is counted by its next life, and not written again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.audit.follow import Follower, SealedLines
from penstock.audit.position import Position
from penstock.audit.readers import Readers
from penstock.audit.record import Record
from penstock.errors import ModelFailed, SchemaViolation
from penstock.jobs.answers import joined
from penstock.jobs.attempts import Attempt
from penstock.jobs.comparison import Comparison
from penstock.jobs.recorded import Seen
from penstock.jobs.scoring import Pairs, Scoring
from penstock.jobs.shadow_log import SHADOW_WORKER, ShadowLog, Written
from penstock.jobs.shadow_state import (
    Shadowed,
    ShadowState,
    make_folder,
    read_state,
    stem_of,
    write_state,
)
from penstock.jobs.taken import Tally
from penstock.schema.prediction import Prediction

CRASHED: Final = "shadow_crashed"
_EXACT: Final = 4_096  # the state is written every few seconds
_FLUSH_S: Final = 0.25
_SAVE_S: Final = 2.0
_READER_S: Final = 10.0
_PASSED_S: Final = 60.0


class Shadow:
    """One shadow at work, below `home`; one process has it at a time. Not thread-safe. `clock` gives Unix seconds."""

    def __init__(
        self,
        home: Path,
        of: Shadowed,
        scoring: Scoring,
        log: ShadowLog,
        *,
        max_lag_s: float,
        sealed_lines: SealedLines | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._home, self._of, self._scoring, self._log = home, of, scoring, log
        self._max_lag_s = max_lag_s
        self._clock = clock
        audit = home / "audit"
        self._readers, self._name = Readers(audit), of.reader
        self._written = Written(audit, sealed_lines)
        self._follower = Follower(audit, sealed_lines=sealed_lines, decode=scoring.decode, workers=range(SHADOW_WORKER))
        make_folder(home)
        self._attempt = Attempt(stem_of(home, of.model, of.version, ".attempt"))
        self.state = self._begun()
        self._known, self._known_until = self._written.after(self.state.written, of.model, of.version)
        self._reader = self._follower.reader(self.state.position)
        self._comparison = Comparison(self.state.comparison, most_exact=_EXACT)
        self._scored: list[Pairs] = []
        self._is_changed, self._is_told = True, False
        self._flushed_s = self._saved_s = self._told_s = 0.0

    def step(self) -> bool:
        """Take the next records of the log; False where there are none yet. Raises SegmentError."""
        batch = self._reader.read()
        if batch is None:
            self._known.clear()
            self._state_lag(None)
            self._log.flush()
            self._save_now_and_then()
            return False
        self._is_changed = True
        if self._known and batch.records[0].at.timestamp() > self._known_until + _PASSED_S:
            self._known.clear()  # retention took what the champion said of them
        seen: list[Any] = batch.records  # what the scoring's `decode` made of them
        calls = [call for call in seen if self._is_asked(call)]
        for group in runs_of(calls):
            if self._is_late(group[0]) and not self._known:
                self._skip(sum(call.seq >= group[0].seq for call in batch.records))
                break
            self._take(batch.run, group)
            self._flush_now_and_then()
        self._count()
        self._state_lag(max(batch.records[-1].at, self._of.since))
        self._log.flush()
        self._save_now_and_then()
        return True

    def save(self) -> None:
        """Keep how far it is, with what the pairs say. Raises SegmentError."""
        if self._known:
            return  # until what an earlier life wrote is counted, its state stands
        if self._is_changed:
            self._log.flush()
            self._count()
            state = self.state
            state.comparison = self._comparison.state()
            state.position, state.written = self._reader.position, self._written.end()
            state.suspects = state.suspects.behind(state.position.marks)
            state.at = self._now()
            state.lag_records = self._reader.lag().records if state.lag_s else 0
            write_state(self._home, state)
            self._is_changed, self._is_told = False, False
        if not self._is_told and self._clock() - self._told_s >= _READER_S:
            self._tell()

    def close(self) -> None:
        """Save, and give the files back."""
        self.save()
        self._log.close()
        self._attempt.close()

    def _tell(self) -> None:
        """Say to who seals the log how far it has come. What shadows write none of them reads, so it need not wait."""
        self._is_told, self._told_s = True, self._clock()
        self._readers.save(self._name, Position({**self.state.written.marks, **self.state.position.marks}))

    def _begun(self) -> ShadowState:
        """The state to go on with, in which the death of the life before is noted."""
        of, now = self._of, self._now()
        before = read_state(self._home, of.model, of.version)
        if before is None or not _is_same(before.of, of):
            begin = self._readers.position(self._name)
            position = begin if begin is not None else self._follower.end()
            state = ShadowState(of=of, began_at=now, at=now, position=position, written=self._written.end())
            self._attempt.end()
        elif before.of != of:  # another champion: pairs with the one before say nothing of it
            written = self._written.end()
            state = ShadowState(of=of, began_at=now, at=now, position=before.position, written=written)
        else:
            state = before
        left = self._attempt.left()
        if left is not None:
            state.suspects = state.suspects.after(left)
        # A shadow that dies again and again saves nothing else: how far behind that leaves it is told here.
        lag = self._follower.lag(state.position)
        state.at, state.lag_records, state.lag_s = now, lag.records, lag.seconds
        write_state(self._home, state)
        self._attempt.end()
        return state

    def _is_asked(self, call: Seen) -> bool:
        return (
            type(call) is not Seen
            and call.kind == "prediction"
            and call.version == self._of.champion
            and call.at >= self._of.since
        )

    def _take(self, run: str, group: Sequence[Seen]) -> None:
        suspects = self.state.suspects
        if not any(suspects.is_alone(run, call.seq) for call in group):
            self._score(run, group)
            return
        for call in group:
            if not suspects.is_deadly(run, call.seq):
                self._score(run, [call])
                continue
            self.state.crashed += 1
            self.state.last_failure = f"its process died over call {call.request_id}"
            self._write(call, code=CRASHED)

    def _score(self, run: str, group: Sequence[Seen]) -> None:
        self._attempt.begin(run, group[0].seq, group[-1].seq)
        pairs = self._scoring.score(group)
        self._attempt.end()
        self._scored.append(pairs)
        self._time(group, pairs)
        ran = len(pairs) + len(pairs.failed)
        for call, outputs, code in said_by(pairs, predictions_of(pairs, self._scoring), group):
            self._write(call, code=code, outputs=outputs, batch_rows=ran, run_ms=pairs.run_ms)

    def _time(self, group: Sequence[Seen], pairs: Pairs) -> None:
        """Set the time of a run beside the champion's, where it was of as many rows."""
        if len(pairs) == group[0].batch_rows and not pairs.failed:
            self._comparison.time(len(pairs), group[0].run_ms, pairs.run_ms)

    def _count(self) -> None:
        """Compare what was scored since the last time."""
        if self._scored:
            pairs = together(self._scored)
            self._scored.clear()
            self._comparison.add(pairs, self._scoring)
            for fault in (*pairs.refused[-1:], *pairs.failed[-1:]):
                self.state.last_failure = fault.why

    def _write(self, call: Seen, **said: Any) -> None:
        """A record of what would have been said to a call, unless an earlier life has written it."""
        if self._known.pop(call.request_id, None) is not None:
            return
        of = self._of
        total_ms = max(0.0, (self._clock() - call.at.timestamp()) * 1e3)
        self._log.append(
            Record(
                kind="shadow",
                request_id=call.request_id,
                at=call.at,
                model=of.model,
                version=of.version,
                digest=of.digest,
                key=call.key,
                rows=call.rows,
                total_ms=total_ms,
                **said,
            )
        )

    def _is_late(self, call: Seen) -> bool:
        return self._clock() - call.at.timestamp() > self._max_lag_s

    def _skip(self, unread: int) -> None:
        """Go on with what comes now; `unread` records of the batch at hand are passed as well."""
        self.state.skipped += unread + self._reader.lag().records
        self._reader = self._follower.reader(self._follower.end())

    def _state_lag(self, at: datetime | None) -> None:
        self.state.lag_s = 0.0 if at is None else max(0.0, self._clock() - at.timestamp())

    def _flush_now_and_then(self) -> None:
        if self._clock() - self._flushed_s >= _FLUSH_S:
            self._flushed_s = self._clock()
            self._log.flush()

    def _save_now_and_then(self) -> None:
        if self._clock() - self._saved_s >= _SAVE_S:
            self._saved_s = self._clock()
            self.save()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def runs_of(calls: Sequence[Seen]) -> Iterator[list[Seen]]:
    """Calls in groups, each of calls that the champion answered in one run, as far as the log shows it."""
    group: list[Seen] = []
    rows = 0
    for call in calls:
        is_one = bool(group) and (call.batch_rows, call.run_ms) == (group[0].batch_rows, group[0].run_ms)
        if group and (not is_one or rows + call.rows > call.batch_rows):
            yield group
            group, rows = [], 0
        group.append(call)
        rows += call.rows
    if group:
        yield group


def together(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of several runs as those of one, to be compared at once."""
    tally = Tally()
    for part in parts:
        tally.add(part.tally)
    return Pairs(
        calls=[call for part in parts for call in part.calls],
        places=[place for part in parts for place in part.places],
        rows=[row for part in parts for row in part.rows],
        champion=joined([part.champion for part in parts]),
        candidate=joined([part.candidate for part in parts]),
        outputs={},
        segments=None,
        refused=[fault for part in parts for fault in part.refused],
        failed=[fault for part in parts for fault in part.failed],
        tally=tally,
        run_ms=sum(part.run_ms for part in parts),
    )


def predictions_of(pairs: Pairs, scoring: Scoring) -> list[Prediction]:
    """The candidate's answers as replies have them, with labels as they were decided."""
    if not len(pairs):
        return []
    found = scoring.model.predictions(pairs.outputs, len(pairs))
    if not scoring.layout.is_probability:
        return found
    classes = scoring.layout.outputs.classes
    codes = pairs.candidate.labels.tolist()
    return [
        Prediction(classes[code] if code < len(classes) else None, one.probabilities)  # behind the classes: it abstains
        for code, one in zip(codes, found, strict=True)
    ]


def said_by(
    pairs: Pairs, predictions: Sequence[Prediction], group: Sequence[Seen]
) -> Iterator[tuple[Seen, list[Prediction | None] | None, str]]:
    """Each call for which there is something to write: the answers, in the order of its rows (None for a row without
    one), and how it ended.
    """
    codes = {fault.request_id: SchemaViolation.code for fault in pairs.refused}
    codes |= {fault.request_id: ModelFailed.code for fault in pairs.failed}
    answers: dict[str, list[Prediction | None]] = {}
    for call, place, prediction in zip(pairs.calls, pairs.places, predictions, strict=True):
        answers.setdefault(call.request_id, [None] * call.rows)[place] = prediction
    for call in group:
        if call.request_id in answers or call.request_id in codes:
            yield call, answers.get(call.request_id), codes.get(call.request_id, "ok")


def _is_same(before: Shadowed, now: Shadowed) -> bool:
    return msgspec.structs.replace(before, champion=now.champion) == now
