"""Golden rows: rows with the original's answers, sealed in the bundle and run again at every load, on that machine."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.bundle.predictor import Predictor
from penstock.errors import BundleRefused, PenstockError
from penstock.schema import Check, Columns, Schema

TOLERANCE: Final = 1e-6
"""Allowed difference: absolute on probabilities, relative (and absolute below 1) on values. Labels must be equal."""


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`rows` as a caller would send them; `answers` the outputs of the original, by name, in the rows' order."""

    rows: list[dict[str, Any]]
    answers: dict[str, list[Any]]


def golden_of(columns: Columns, answers: Outputs, schema: Schema) -> Golden:
    """Golden rows from checked columns and the original's outputs for them."""
    return Golden(rows_of(columns, schema), {name: answers[name].tolist() for name in sorted(answers)})


def check_golden(golden: Golden, predictor: Predictor, *, check: Check, outputs: OutputSpec) -> None:
    """Run the golden rows through check and predictor. Raises BundleRefused naming the first row that differs."""
    if not golden.rows:
        return
    try:
        columns = check.columns(check.from_objects(golden.rows).rows)
        answers = predictor.run(columns)
    except PenstockError as error:
        raise BundleRefused(f"golden rows: {error}") from error
    for name in outputs.names:
        expected = np.asarray(golden.answers[name])
        row = first_difference(expected, answers[name])
        if row is not None:
            raise BundleRefused(
                f"golden row {row}: the original answered {name} = {expected[row].tolist()}, "
                f"this machine answers {answers[name][row].tolist()}"
            )


def first_difference(expected: np.ndarray, actual: np.ndarray) -> int | None:
    """The first row in which two outputs differ by more than `TOLERANCE`, or None. Integers must be equal."""
    if expected.shape != actual.shape:
        return 0
    if actual.dtype.kind != "f":
        wrong = expected != actual
    else:
        wrong = ~(np.abs(expected - actual) <= TOLERANCE * np.maximum(1.0, np.abs(expected)))
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
    return int(rows[0]) if len(rows) else None


def rows_of(columns: Columns, schema: Schema) -> list[dict[str, Any]]:
    """Checked columns as the JSON rows that a caller would send: the reverse of `Check.columns`."""
    as_json = [_values(columns[field.name], field.type) for field in schema.fields]
    return [dict(zip(schema.names, values, strict=True)) for values in zip(*as_json, strict=True)]


def _values(column: np.ndarray, kind: str) -> list[Any]:
    if kind in ("string", "category"):
        return list(column)
    if kind == "timestamp":
        texts = np.datetime_as_string(column.astype("datetime64[us]"), timezone="UTC")
        return [None if np.isnat(at) else str(text) for at, text in zip(column, texts, strict=True)]
    to_json = {"float": float, "int": int, "bool": bool}[kind]
    return [None if np.isnan(value) else to_json(value) for value in column.tolist()]
