"""Recorded calls scored by another version: lines of the log in, pairs of answers out. Replay and shadow stand on it.

`Scoring.decode` is what the follower is to make of a line; `Scoring.score` scores the rows of many records in runs of
`batch_rows` and pairs each answer with the recorded one. A row that cannot be scored is counted, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np

from penstock.bundle.outputs import Outputs
from penstock.errors import ModelFailed, OutputRefused
from penstock.jobs.answers import Answers, Layout, joined, picked
from penstock.jobs.recorded import Asked, Seen, lenient, line_decoder
from penstock.jobs.taken import Fault, Taken, Taking, Tally
from penstock.routing import Decision
from penstock.runtime.model import Model
from penstock.runtime.version import require_sound
from penstock.schema import Check

BATCH_ROWS: Final = 1000
_LONGEST_TEXT: Final = 1 << 20  # what was served was not too long
_decode_decision = msgspec.json.Decoder(Decision | None).decode


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """What came of some records: n rows that both have answered, and what else there was.

    - `calls`: the record of each pair; `places`: the row within it; `rows`: the candidate's row structs.
    - `champion`, `candidate`: the answers. `outputs`: the candidate's, as `Model.predictions` takes them.
    - `segments`: the values of the field that rows are told apart by; None where that was not asked for.
    - `refused`, `failed`: rows that the champion answered and the candidate did not. `tally`: counts of all rows.
    - `run_ms`: what the candidate's runs took, for all rows together.
    """

    calls: list[Seen]
    places: list[int]
    rows: list[Any]
    champion: Answers
    candidate: Answers
    outputs: Outputs
    segments: list[str] | None
    refused: list[Fault]
    failed: list[Fault]
    tally: Tally
    run_ms: float

    def __len__(self) -> int:
        return len(self.calls)


class Scoring:
    """Scores recorded calls of one model by one version. Not thread-safe; holds nothing of the records.

    - `model`: the candidate, loaded. `decision`: by what its labels are decided (None: they are its own; "recorded": by
      what each record says, for a proof that nothing has changed).
    - `is_whole`: from what was sent, through the candidate's own defaults and mappings; else the final features.
    - `by`: a field whose values are the segments. `where`: pairs of a field and a value as text (empty: missing), all
      of which must hold of a row.
    """

    def __init__(
        self,
        model: Model,
        asked: Asked,
        *,
        decision: Decision | Literal["recorded"] | None = None,
        is_whole: bool = False,
        by: str | None = None,
        where: Sequence[tuple[str, str]] = (),
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self.model = model
        self.layout = Layout(model.bundle.outputs)
        self._decision = decision
        self._batch_rows = batch_rows
        names = model.schema.names
        check = Check(model.schema if is_whole else lenient(model.schema), max_text=_LONGEST_TEXT)
        self._how = Taking(
            check=check,
            attributes={name: f"f{place}" for place, name in enumerate(names)},
            is_whole=is_whole,
            by=by,
            where=tuple(where),
        )
        told_by = {name for name in (by, *dict(where)) if name is not None}
        self.decode = line_decoder(
            check, model.bundle.outputs, asked, is_whole=is_whole, is_wide=not told_by.issubset(names)
        )
        """What the follower is to make of a line. Raises SegmentError for what is no record."""

    def score(self, seen: Iterable[Seen]) -> Pairs:
        """Score the rows of some records, as `decode` made them. Never raises for what is in them."""
        taken = Taken(self._how)
        taken.add(seen)
        taken.finish()
        typed, plain = taken.typed, taken.plain
        calls, places, rows = typed.calls + plain.calls, typed.places + plain.places, typed.rows + plain.rows
        segments = typed.segments + plain.segments
        runs = _Runs(self.model, self._batch_rows)
        runs.run(rows)
        champion = self.layout.typed(typed.answers)
        if plain.answers:
            champion = joined([champion, self.layout.plain(plain.answers)])
        failed = [Fault(calls[place].request_id, places[place], why) for place, why in runs.failed]
        if failed:
            kept = runs.kept
            calls = [calls[place] for place in kept]
            places = [places[place] for place in kept]
            rows = [rows[place] for place in kept]
            segments = [segments[place] for place in kept] if segments else segments
            champion = picked(champion, kept)
        taken.tally.failed += len(failed)
        taken.tally.scored += len(calls)
        outputs = runs.outputs()
        candidate = self.layout.computed(outputs) if outputs else self.layout.typed([])
        return Pairs(
            calls=calls,
            places=places,
            rows=rows,
            champion=champion,
            candidate=self._decided(candidate, calls),
            outputs=outputs,
            segments=None if self._how.by is None else segments,
            refused=taken.refused,
            failed=failed,
            tally=taken.tally,
            run_ms=runs.run_ms,
        )

    def timed_ms(self, rows: Sequence[Any]) -> float:
        """How long one run of these rows takes, measured as the server's `run_ms`. Raises ModelFailed."""
        began_ns = time.perf_counter_ns()
        self.model.run(self.model.check.columns(rows))
        return (time.perf_counter_ns() - began_ns) / 1e6

    def features(self, row: Any) -> dict[str, Any]:
        """A row struct by the names of its fields."""
        return dict(zip(self.model.schema.names, msgspec.structs.astuple(row), strict=True))

    def _decided(self, answers: Answers, calls: Sequence[Seen]) -> Answers:
        if self._decision != "recorded":
            return self.layout.decided(answers, self._decision)
        rules = [bytes(call.decision) for call in calls]
        labels = answers.labels
        for rule in set(rules) - {b""}:
            decided = self.layout.decided(answers, _decode_decision(rule)).labels
            labels = np.where(np.array([one == rule for one in rules]), decided, labels)
        return msgspec.structs.replace(answers, labels=labels)


class _Runs:
    """Runs of a model over rows: those that fail are halved until it is known which rows they are."""

    def __init__(self, model: Model, batch_rows: int) -> None:
        self._model = model
        self._batch_rows = batch_rows
        self._parts: list[Outputs] = []
        self.kept: list[int] = []
        self.failed: list[tuple[int, str]] = []
        self.run_ms = 0.0

    def run(self, rows: list[Any]) -> None:
        """Run all of them, in order."""
        for start in range(0, len(rows), self._batch_rows):
            self._run(rows, start, min(len(rows), start + self._batch_rows))

    def outputs(self) -> Outputs:
        """The outputs of the rows that were kept; empty if there are none."""
        if not self._parts:
            return {}
        return {name: np.concatenate([part[name] for part in self._parts]) for name in self._model.bundle.outputs.names}

    def _run(self, rows: list[Any], start: int, end: int) -> None:
        model, spec = self._model, self._model.bundle.outputs
        columns = model.check.columns(rows[start:end])
        began_ns = time.perf_counter_ns()
        try:
            outputs = model.run(columns)
            require_sound(outputs, spec, end - start)
            if spec.kind == "classification" and int(outputs["label"].min()) < 0:
                raise OutputRefused("the model answered a label that is none of its classes")
        except ModelFailed as error:
            self.run_ms += (time.perf_counter_ns() - began_ns) / 1e6
            if end - start == 1:
                self.failed.append((start, str(error)))
                return
            middle = (start + end) // 2
            self._run(rows, start, middle)
            self._run(rows, middle, end)
            return
        self.run_ms += (time.perf_counter_ns() - began_ns) / 1e6
        self._parts.append(outputs)
        self.kept += range(start, end)
