"""Log and train: what was served, with its labels, out of a log that is sealed in part."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from penstock.audit import Masked, Record, tag
from penstock.audit.seal import Sealer
from penstock.audit.sealed_lines import sealed_lines
from penstock.audit.training import TrainingSet
from records import AT, answered, write


def said(number: int, actual: Any, minutes: int = 10) -> Record:
    at = AT + timedelta(minutes=minutes)
    content: Sequence[Any] = [{"index": 0, "actual": actual}]
    return Record(
        kind="feedback", request_id=f"0190-{number:08d}", at=at, protocol="feedback", input=tag(content), rows=1
    )


def test_rows_as_served_with_their_labels(tmp_path: Path) -> None:
    """Labelled rows come once, with the final features and the latest label; the others are counted."""
    masked = answered(3, input=tag([{"age": 30, "name": Masked("name")}]))
    write(
        tmp_path, [answered(1), answered(2), masked, answered(4, input=None), answered(5, model="fraud"), answered(6)]
    )
    Sealer(tmp_path).seal()
    later = [said(1, "no"), said(3, "yes"), said(4, "yes"), said(5, "yes"), said(6, Masked("unlisted")), said(99, 1)]
    write(tmp_path, [*later, said(1, "yes", 20)], worker=1)
    training = TrainingSet(tmp_path, "churn", sealed_lines)
    first, third = sorted(training.rows(), key=lambda row: row.request_id)
    assert ("0190-00000001", 0, "yes", {"age": 21, "region": "north"}) == (
        first.request_id, first.index, first.actual, first.features
    )  # fmt: skip
    assert (2, "sha256:cafe", "yes", AT + timedelta(minutes=20)) == (
        first.version, first.digest, first.predicted["label"], first.actual_at
    )  # fmt: skip
    assert {"age": 30, "name": None} == third.features
    assert (["0190-00000099"], 1, 1) == (
        [one.request_id for one in training.unknown], training.unlisted, training.without_features
    )  # fmt: skip
