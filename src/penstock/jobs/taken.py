"""From recorded calls to rows that a candidate can score: which ones are asked for, and why others cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from penstock.audit.tags import Masked
from penstock.errors import SchemaViolation
from penstock.jobs.recorded import Careful, Lacks, Seen, fitted
from penstock.schema import Check

_MISSING = "(missing)"
_MASKED = "(masked)"


class Fault(msgspec.Struct, frozen=True):
    """A row that the candidate refused, or failed on, where the champion answered: `why`, in words."""

    request_id: str
    row: int
    why: str


class Tally(msgspec.Struct, kw_only=True):
    """What became of the rows of answered calls; all are counts of rows, but for `calls`.

    - `scored`: paired. `refused`, `failed`: the candidate gave no answer.
    - `lacking`: some field is masked or not in the record; `masked` and `missing` say which (a row may be in several).
    - `without_features`, `without_answer`: the policy kept none, or they were erased.
    - `by_fallback`: not the model's own answer. `filtered`: not what `where` asks for.
    - `versions`: rows by the version that had answered them.
    """

    calls: int = 0
    rows: int = 0
    scored: int = 0
    refused: int = 0
    failed: int = 0
    lacking: int = 0
    without_features: int = 0
    without_answer: int = 0
    by_fallback: int = 0
    filtered: int = 0
    masked: dict[str, int] = {}
    missing: dict[str, int] = {}
    versions: dict[str, int] = {}

    @property
    def share(self) -> float | None:
        """The share of the rows asked for that could be scored; None where there are none."""
        wanted = self.rows - self.filtered - self.by_fallback
        return self.scored / wanted if wanted else None

    def add(self, other: Tally) -> None:
        """Add the counts of another part."""
        for name in self.__struct_fields__:
            mine = getattr(self, name)
            if isinstance(mine, dict):
                count(mine, getattr(other, name))
            else:
                setattr(self, name, mine + getattr(other, name))


class Rows(msgspec.Struct):
    """Rows for a run, as parallel lists: of which call, which row of it, the candidate's struct, the recorded answer,
    and its segment (empty where none are asked for).
    """

    calls: list[Seen] = []
    places: list[int] = []
    rows: list[Any] = []
    answers: list[Any] = []
    segments: list[str] = []

    def pick(self, kept: Sequence[int]) -> Rows:
        """Some of them, in this order."""
        return Rows(
            [self.calls[place] for place in kept],
            [self.places[place] for place in kept],
            [self.rows[place] for place in kept],
            [self.answers[place] for place in kept],
            [self.segments[place] for place in kept] if self.segments else [],
        )


class Taking(msgspec.Struct, frozen=True, kw_only=True):
    """How rows are taken; the fields are those of `Scoring`."""

    check: Check
    attributes: Mapping[str, str]
    is_whole: bool = False
    by: str | None = None
    where: Sequence[tuple[str, str]] = ()


class Taken:
    """Rows of some calls on their way to a run. After `finish`, `typed` have their answers as structs, and `plain` as
    objects; all of them are settled, and asked for.
    """

    def __init__(self, how: Taking) -> None:
        self._how = how
        self.typed, self.plain = Rows(), Rows()
        self.refused: list[Fault] = []
        self.tally = Tally()

    def add(self, calls: Iterable[Seen]) -> None:
        """Take the rows of recorded calls; of those that are not asked for, none. Nearly all of a call's cost is here,
        so that what they have in common is looked up once.
        """
        tally, typed, versions = self.tally, self.typed, Counter[int | str | None]()
        counted = rows = 0
        for call in calls:
            kind = type(call)
            if kind is Seen:
                continue
            counted += 1
            rows += call.rows
            if call.fallback:
                tally.by_fallback += call.rows
                continue
            versions[call.version] += call.rows
            if kind is Careful:
                self._careful(call)
                continue
            given, answers = call.input, call.outputs  # type: ignore[attr-defined]
            if given is None or answers is None or len(answers) != len(given):
                self._has_both(call, given, answers)
                continue
            typed.rows += given
            typed.answers += answers
            if len(given) == 1:
                typed.calls.append(call)
                typed.places.append(0)
            else:
                typed.calls += (call,) * len(given)
                typed.places += range(len(given))
        tally.calls += counted
        tally.rows += rows
        count(tally.versions, {str(version): times for version, times in versions.items()})

    def finish(self) -> None:
        """Settle the typed rows, all at once where none of them is refused; keep those that are asked for."""
        typed, how = self.typed, self._how
        if not typed.rows:
            return
        try:
            typed.rows = how.check.settle(typed.rows).rows
        except msgspec.ValidationError:
            self.typed = typed = self._settled(typed)
        for name, wanted in how.where:
            value = attrgetter(how.attributes[name])
            kept = [place for place, row in enumerate(typed.rows) if _is_text(value(row), wanted)]
            self.tally.filtered += len(typed.rows) - len(kept)
            self.typed = typed = typed.pick(kept)
        if how.by is not None:
            typed.segments = [_text(value) for value in map(attrgetter(how.attributes[how.by]), typed.rows)]

    def _has_both(self, call: Seen, given: Any, answers: Any) -> bool:
        if not isinstance(given, list):
            self.tally.without_features += call.rows
            return False
        if not isinstance(answers, list) or len(answers) != len(given):
            self.tally.without_answer += call.rows
            return False
        return True

    def _careful(self, call: Any) -> None:
        record = call.record
        given = record.raw if self._how.is_whole and record.raw is not None else record.input
        if self._has_both(call, given, record.outputs):
            for place, (row, answer) in enumerate(zip(given, record.outputs, strict=True)):
                self._plain(call, place, row, answer)

    def _settled(self, rows: Rows) -> Rows:
        """Row by row, without those that are refused."""
        kept, settled = [], []
        for place, row in enumerate(rows.rows):
            try:
                settled += self._how.check.settle([row]).rows
                kept.append(place)
            except msgspec.ValidationError as error:
                self._refuse(rows.calls[place], rows.places[place], str(error))
        found = rows.pick(kept)
        found.rows = settled
        return found

    def _plain(self, call: Seen, place: int, row: Any, answer: Any) -> None:
        found = fitted(row, self._how.check.schema)
        told = row if isinstance(row, dict) else found if isinstance(found, dict) else {}
        if not all(_is_text(told.get(name), wanted) for name, wanted in self._how.where):
            self.tally.filtered += 1
            return
        if isinstance(found, Lacks):
            self.tally.lacking += 1
            count(self.tally.masked, dict.fromkeys(found.masked, 1))
            count(self.tally.missing, dict.fromkeys(found.missing, 1))
            return
        try:
            self.plain.rows += self._how.check.from_objects([found]).rows
        except SchemaViolation as error:
            first = error.violations[0]
            self._refuse(call, place, f"Expected {first.expected} - at `{first.path.removeprefix('$[0].')}`")
            return
        self.plain.calls.append(call)
        self.plain.places.append(place)
        self.plain.answers.append(answer if isinstance(answer, dict) else {})
        if self._how.by is not None:
            self.plain.segments.append(_text(told.get(self._how.by)))

    def _refuse(self, call: Seen, place: int, why: str) -> None:
        self.tally.refused += 1
        self.refused.append(Fault(call.request_id, place, why))


def count(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Add `more` to `counts`."""
    for name, times in more.items():
        counts[name] = counts.get(name, 0) + times


def _text(value: object) -> str:
    """A value as the name of its segment."""
    if value is None or isinstance(value, Masked):
        return _MISSING if value is None else _MASKED
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_text(value: object, wanted: str) -> bool:
    """Whether a value is what was asked for; numbers by their value, nothing as the empty text."""
    if value is None:
        return not wanted
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    return _text(value) == wanted
