"""Log and train: the rows of a model as they were really served, each with what came true of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from penstock.audit.feedback import Labels, Unknown
from penstock.audit.follow import Follower, SealedLines
from penstock.audit.record import Record
from penstock.audit.tags import Masked


class TrainingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row with its label: `features` are the final ones, as the model got them, `predicted` is what it answered
    (absent where the policy keeps features only). Masked values are None.
    """

    request_id: str
    index: int
    at: datetime
    version: int | str | None
    digest: str | None
    features: dict[str, Any]
    predicted: Any
    actual: Any
    actual_at: datetime


class TrainingSet:
    """The labelled rows of `model` in the log below `audit`. Reads the log twice, and holds the statements of feedback
    and the calls that are waited for by key. `sealed_lines` as of the follower. Not thread-safe.

    Once `rows` has ended: `unknown` are statements that found no row, `unlisted` rows whose label was not kept, and
    `without_features` labelled rows whose payload was not kept, or erased.
    """

    def __init__(self, audit: Path, model: str, sealed_lines: SealedLines | None = None) -> None:
        self._follower = Follower(audit, sealed_lines=sealed_lines)
        self._model = model
        self.unknown: list[Unknown] = []
        self.unlisted = 0
        self.without_features = 0

    def rows(self) -> Iterator[TrainingRow]:
        """The rows that have features and a label. Raises SegmentError."""
        labels = Labels(self._records())
        for found in labels.join(self._records()):
            record = found.record
            if record.model != self._model:
                continue
            features = _row(record.input, found.index)
            if not found.actual.is_listed:
                self.unlisted += 1
            elif features is None:
                self.without_features += 1
            else:
                yield TrainingRow(
                    request_id=record.request_id,
                    index=found.index,
                    at=record.at,
                    version=record.version,
                    digest=record.digest,
                    features={name: None if isinstance(value, Masked) else value for name, value in features.items()},
                    predicted=_row(record.outputs, found.index),
                    actual=found.actual.value,
                    actual_at=found.actual.at,
                )
        # A statement by id says no model: of a call that is not there nobody knows whose it was.
        self.unknown = [one for one in labels.unknown if one.model in (None, self._model)]

    def _records(self) -> Iterator[Record]:
        reader = self._follower.reader()
        for batch in iter(reader.read, None):
            yield from batch.records


def _row(rows: Any, index: int) -> Any:
    """One of the rows that a record kept; None where it kept none."""
    return rows[index] if isinstance(rows, list) and index < len(rows) else None
