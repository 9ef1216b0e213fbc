"""What the native boosters share: rows as a booster takes them, and the answers that follow from its scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from penstock.bundle.frame import frame_of
from penstock.bundle.outputs import Outputs
from penstock.errors import ModelFailed
from penstock.schema import Columns, Field, Schema

_PLAIN = frozenset({"float64", "float32", "int64", "int32", "bool"})

Rows = Callable[[Columns], Any]


class Scorer(Protocol):
    """A loaded booster. Thread-safe; raises whatever its library raises."""

    def score(self, rows: Any) -> Outputs:
        """Outputs of n rows: a frame or an array as the booster was fitted on."""
        ...


class BoosterPredictor:
    """A booster behind the `Predictor` Protocol. Thread-safe, as prediction in each of the libraries is."""

    def __init__(self, scorer: Scorer, rows: Rows) -> None:
        self._scorer = scorer
        self._rows = rows

    def run(self, columns: Columns) -> Outputs:
        """Outputs of the rows in `columns`. Raises ModelFailed when the booster, or what is before it, raises."""
        try:
            return self._scorer.score(self._rows(columns))
        except Exception as error:  # whatever a library raises on a row is that model's failure
            raise ModelFailed.raised("The model refused the rows:", error) from error


def rows_for(schema: Schema) -> Rows:
    """From columns to what a booster without preprocessing takes.

    An array `[n, fields]` where all columns of training were plain numbers (to a booster the same as their frame, and
    much faster to make); else the frame of training.
    """
    if not all(_is_plain(field) for field in schema.fields):
        return lambda columns: frame_of(columns, schema)
    names, width = schema.names, len(schema.fields)
    singles = [place for place, field in enumerate(schema.fields) if field.dtype == "float32"]

    def rows(columns: Columns) -> np.ndarray:
        made = np.concatenate([columns[name] for name in names]).reshape(width, -1).T
        with np.errstate(over="ignore"):
            made[:, singles] = made[:, singles].astype(np.float32)
        return made

    return rows


def _is_plain(field: Field) -> bool:
    is_number = field.type in ("float", "int", "bool")
    return is_number and field.null_as != "value" and (field.dtype or "float64") in _PLAIN


def two_sided(second: np.ndarray) -> np.ndarray:
    """`[1 - p, p]`, in the precision of p and then in double: as scikit-learn's wrappers of the boosters do."""
    return np.stack([1 - second, second], axis=1).astype(np.float64)


def values_of(predicted: np.ndarray) -> Outputs:
    """A regression's outputs from `[n]` or `[n, targets]`."""
    found = np.asarray(predicted, dtype=np.float64)
    return {"values": found} if found.ndim == 2 and found.shape[1] > 1 else {"value": found.reshape(-1)}
