"""Two predictors on the same rows: which rows the first one answers, and how far the second one's answers are off."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from penstock.bundle.compile.rows import count_of, joined, row_of, taken
from penstock.bundle.outputs import Outputs
from penstock.bundle.predictor import Predictor
from penstock.bundle.verdict import Difference
from penstock.errors import ModelFailed
from penstock.schema import Columns

TOLERANCE: Final = 1e-6
_CHUNK_ROWS = 4096


class Answered(msgspec.Struct, frozen=True):
    """The rows that a predictor answers with finite numbers, its answers, and how many rows it does not."""

    columns: Columns
    outputs: Outputs
    refused: int


class Comparison(msgspec.Struct, frozen=True):
    """What came of comparing one group of rows."""

    wrong: int = 0
    flips: int = 0
    largest: Difference | None = None
    first_flip: Difference | None = None
    failure: str | None = None


def answered(original: Predictor, columns: Columns) -> Answered:
    """The rows that `original` answers; those that it refuses are found by halving."""
    rows = np.arange(count_of(columns))
    kept: list[tuple[np.ndarray, Outputs]] = []
    for start in range(0, max(len(rows), 1), _CHUNK_ROWS):
        kept += _halved(original, columns, rows[start : start + _CHUNK_ROWS])
    good = [(part[finite], {name: array[finite] for name, array in outputs.items()}) for part, outputs, finite in
            ((part, outputs, _finite(outputs)) for part, outputs in kept)]  # fmt: skip
    numbers = np.concatenate([part for part, _ in good]) if good else rows[:0]
    outputs = joined([outputs for _, outputs in good]) if good else {}
    return Answered(taken(columns, numbers), outputs, len(rows) - len(numbers))


def _halved(original: Predictor, columns: Columns, rows: np.ndarray) -> list[tuple[np.ndarray, Outputs]]:
    if not len(rows):
        return []
    try:
        return [(rows, original.run(taken(columns, rows)))]
    except ModelFailed:
        if len(rows) == 1:
            return []
        half = len(rows) // 2
        return _halved(original, columns, rows[:half]) + _halved(original, columns, rows[half:])


def _finite(outputs: Outputs) -> np.ndarray:
    finite = [np.isfinite(array).reshape(len(array), -1).all(axis=1) for array in outputs.values()]
    return np.asarray(np.logical_and.reduce(finite))


def scales_of(outputs: Outputs) -> float:
    """Below this magnitude a value's difference is taken relative to it, not to the value: a thousandth of the median
    magnitude of the original's values, 1 where there are none.
    """
    for name in ("value", "values"):
        if name in outputs and len(outputs[name]):
            return float(np.median(np.abs(outputs[name]))) * 1e-3 or 1e-3
    return 1.0


def compared(candidate: Predictor, part: Answered, *, origin: str, scale: float) -> Comparison:
    """How the candidate's answers differ from the original's on the rows that the original answers."""
    rows = count_of(part.columns)
    if not rows:
        return Comparison()
    try:
        got = _in_chunks(candidate, part.columns, rows)
    except ModelFailed as error:
        return Comparison(wrong=rows, failure=error.whole)
    flipped = np.zeros(rows, bool)
    off = {}
    for name, expected in part.outputs.items():
        if name == "label":
            flipped = got[name] != expected
        else:
            off[name] = _differences(expected, got[name], scale=None if name == "probabilities" else scale)
    worst = np.maximum.reduce(list(off.values())) if off else np.zeros(rows)
    largest = _largest(part, got, off, origin) if off and worst.max() > 0 else None
    first = int(np.argmax(flipped))
    flip = _difference(part, got, origin=origin, name="label", row=first, size=1.0) if flipped.any() else None
    return Comparison(int(((worst > TOLERANCE) | flipped).sum()), int(flipped.sum()), largest, flip)


def _in_chunks(candidate: Predictor, columns: Columns, rows: int) -> Outputs:
    parts = []
    for start in range(0, rows, _CHUNK_ROWS):
        parts.append(candidate.run(taken(columns, np.arange(start, min(start + _CHUNK_ROWS, rows)))))
    return joined(parts)


def _differences(expected: np.ndarray, got: np.ndarray, *, scale: float | None) -> np.ndarray:
    """The largest difference of each row; NaN or another shape counts as infinite."""
    if got.shape != expected.shape:
        return np.full(len(expected), np.inf)
    with np.errstate(all="ignore"):
        gap = np.abs(got - expected)
        if scale is not None:
            gap = gap / np.maximum(np.abs(expected), scale)
    gap = np.where(got == expected, 0.0, np.where(np.isnan(gap), np.inf, gap))
    return np.asarray(gap.reshape(len(expected), -1).max(axis=1))


def _largest(part: Answered, got: Outputs, off: dict[str, np.ndarray], origin: str) -> Difference:
    name = max(off, key=lambda output: float(off[output].max()))
    row = int(np.argmax(off[name]))
    return _difference(part, got, origin=origin, name=name, row=row, size=float(off[name][row]))


def _difference(part: Answered, got: Outputs, *, origin: str, name: str, row: int, size: float) -> Difference:
    expected, answer = part.outputs[name][row], got[name][row]
    column = 0
    if np.ndim(expected):
        column = int(np.nanargmax(np.abs(np.asarray(answer - expected)))) if not np.isnan(answer).all() else 0
        expected, answer = expected[column], answer[column]
    as_plain = int if name == "label" else _plain
    return Difference(origin, name, size, as_plain(expected), as_plain(answer), row_of(part.columns, row))


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
