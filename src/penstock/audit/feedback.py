"""The join of what was served with what came true: records of kind `feedback` beside those of predictions.

All statements are in the log, late and changed ones too; of several about the same row the latest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from penstock.audit.record import Record
from penstock.audit.tags import Masked

KIND = "feedback"
_Place: TypeAlias = tuple[str, str, int]
"""A key, a model, and the number of a statement about these."""


class Actual(msgspec.Struct, frozen=True, kw_only=True):
    """What came true of a row: `value`, known since `at`, in a record that arrived `said_at`. The value is `Masked`
    where it was a text that no model of the server knew as a label.
    """

    value: Any
    at: datetime
    said_at: datetime

    @property
    def is_listed(self) -> bool:
        """Whether the value is there."""
        return not isinstance(self.value, Masked)


class Labelled(msgspec.Struct, frozen=True):
    """One row as it was served, and what came true of it: row `index` of the record's `input` and `outputs`."""

    record: Record
    index: int
    actual: Actual


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that found no row: its call is not in the log (any more), or has no such row."""

    request_id: str | None = None
    key: str | None = None
    model: str | None = None
    index: int
    actual: Actual


class Labels:
    """The latest statement for each row, out of all that are given. Holds these, and calls that a key waits for.

    1. `Labels(records)` takes the statements, in any order; other records are left alone.
    2. `join(records)` gives each row that was served and has a label, once; records in any order, each once.
    3. `unknown` then tells the statements that found none. Not thread-safe.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_call: dict[str, dict[int, Actual]] = {}
        self._by_key: dict[tuple[str, str], list[tuple[int, Actual]]] = {}
        self.statements = 0
        """How many were given, changed and repeated ones included."""
        self.unknown: list[Unknown] = []
        for record in records:
            if record.kind == KIND:
                self._take(record)

    def join(self, records: Iterable[Record]) -> Iterator[Labelled]:
        """The rows of answered calls that have a label; those by key come last."""
        known: set[str] = set()
        nearest: dict[_Place, Record] = {}
        for record in records:
            if record.kind != "prediction":
                continue
            if record.request_id in self._by_call:
                known.add(record.request_id)
                yield from self._of_call(record)
            if record.key is not None and (record.key, record.model or "") in self._by_key:
                self._note_nearest(record, nearest)
        yield from self._of_keys(nearest)
        for request_id, rows in self._by_call.items():
            if request_id not in known:
                self.unknown += [Unknown(request_id=request_id, index=index, actual=one) for index, one in rows.items()]

    def _take(self, record: Record) -> None:
        self.statements += 1
        if not isinstance(record.input, list) or not record.input:  # erased
            return
        said = record.input[0]
        at = said.get("at")
        actual = Actual(
            value=said["actual"],
            at=record.at if at is None else msgspec.convert(at, datetime),
            said_at=record.at,
        )
        if record.key is not None:
            self._by_key.setdefault((record.key, record.model or ""), []).append((said["index"], actual))
            return
        rows = self._by_call.setdefault(record.request_id, {})
        before = rows.get(said["index"])
        if before is None or _order(before) <= _order(actual):
            rows[said["index"]] = actual

    def _of_call(self, record: Record) -> Iterator[Labelled]:
        for index, actual in sorted(self._by_call[record.request_id].items()):
            if index < record.rows:
                yield Labelled(record, index, actual)
            else:
                self.unknown.append(Unknown(request_id=record.request_id, index=index, actual=actual))

    def _note_nearest(self, record: Record, nearest: dict[_Place, Record]) -> None:
        """Keep `record` for each statement about its key for which it is the last call so far."""
        for place, (index, actual) in enumerate(self._by_key[record.key or "", record.model or ""]):
            asked = (record.key or "", record.model or "", place)
            kept = nearest.get(asked)
            if record.at <= actual.at and index < record.rows and (kept is None or kept.at <= record.at):
                nearest[asked] = record

    def _of_keys(self, nearest: dict[_Place, Record]) -> Iterator[Labelled]:
        found: dict[tuple[str, int], Labelled] = {}
        for (key, model), statements in self._by_key.items():
            for place, (index, actual) in enumerate(statements):
                record = nearest.get((key, model, place))
                if record is None:
                    self.unknown.append(Unknown(key=key, model=model, index=index, actual=actual))
                    continue
                said = self._by_call.get(record.request_id, {}).get(index)  # by its id: that says more
                before = found.get((record.request_id, index))
                if said is None and (before is None or _order(before.actual) <= _order(actual)):
                    found[record.request_id, index] = Labelled(record, index, actual)
        yield from found.values()


def _order(actual: Actual) -> tuple[datetime, datetime]:
    return actual.at, actual.said_at
