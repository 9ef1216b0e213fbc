"""The reference profile (`reference.json`): what the training sample and the holdout looked like, as counts in bins.

Drift is measured against it later. Features come from the training sample; scores, calibration and importance from
the holdout only, because a model's scores on its own training rows differ from fresh ones with no drift at all.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec
import numpy as np

from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.bundle.predictor import Predictor
from penstock.schema import Columns, Field, Schema

QUANTILE_BINS: Final = 10
MIN_BIN_SHARE: Final = 0.01
MIN_CATEGORY_ROWS: Final = 5
MAX_CATEGORIES: Final = 200
MAX_KNOTS: Final = 64
IMPORTANCE_ROWS: Final = 2000


class NumericProfile(msgspec.Struct, frozen=True, tag="numeric"):
    """Counts between quantile edges: `counts[i]` rows lie in `(edges[i], edges[i+1]]`, the first bin closed below.

    `edges[0]` and `edges[-1]` are the minimum and maximum; rows below, above, missing and non-finite get bins of
    their own when they are served.
    """

    edges: list[float]
    counts: list[int]
    missing: int
    mean: float | None
    std: float | None


class CategoryProfile(msgspec.Struct, frozen=True, tag="category"):
    """Counts of the most frequent values; `other` are all values with fewer than 5 rows, or beyond the first 200."""

    counts: dict[str, int]
    other: int
    missing: int


class MaskedProfile(msgspec.Struct, frozen=True, tag="masked"):
    """A field with a `pii` class: its values are counted as missing or not, and nothing else is kept."""

    present: int
    missing: int


FeatureProfile = NumericProfile | CategoryProfile | MaskedProfile


class HoldoutProfile(msgspec.Struct, frozen=True):
    """What the model answers on rows that it never saw.

    - `scores`: per class key (probabilities) or output name (values).
    - `calibration`: per class, at most 64 `[score, observed share]` knots of an isotonic fit.
    - `importance`: per field, the rise of the mean squared error (Brier, for classes) when its values are shuffled.
    """

    rows: int
    scores: dict[str, NumericProfile]
    calibration: dict[str, list[tuple[float, float]]]
    importance: dict[str, float]


class Profile(msgspec.Struct, frozen=True):
    """`reference.json`."""

    rows: int
    features: dict[str, FeatureProfile]
    holdout: HoldoutProfile | None = None


def profile_features(columns: Columns, schema: Schema) -> dict[str, FeatureProfile]:
    """A profile per field of the training sample."""
    return {field.name: _feature(columns[field.name], field) for field in schema.fields}


def profile_numbers(values: np.ndarray) -> NumericProfile:
    """Quantile bins of `values` (float64 `[n]`); ties are merged so that each bin holds at least 1 % of the rows."""
    finite = values[np.isfinite(values)]
    missing = int(np.isnan(values).sum())
    if not len(finite):
        return NumericProfile([], [], missing, None, None)
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, QUANTILE_BINS + 1)))
    counts = _counts(finite, edges)
    while len(counts) > 1 and min(counts) < MIN_BIN_SHARE * len(finite):
        thinnest = int(np.argmin(counts))
        edges = np.delete(edges, thinnest if thinnest else 1)
        counts = _counts(finite, edges)
    return NumericProfile(edges.tolist(), counts, missing, float(finite.mean()), float(finite.std()))


def profile_holdout(
    predictor: Predictor, columns: Columns, target: np.ndarray, *, outputs: OutputSpec, names: tuple[str, ...]
) -> HoldoutProfile:
    """Scores, calibration and importance on the holdout. `target` is `truth` of the holdout's answers, `[n, k]`."""
    scores = scores_of(predictor.run(columns), outputs)
    calibration = {}
    if outputs.has_probabilities:
        calibration = {key: _calibration(column, target[:, i]) for i, (key, column) in enumerate(scores.items())}
    return HoldoutProfile(
        rows=len(target),
        scores={key: profile_numbers(column) for key, column in scores.items()},
        calibration=calibration,
        importance=_importance(predictor, columns, target, outputs=outputs, names=names),
    )


def scores_of(answers: Outputs, outputs: OutputSpec) -> dict[str, np.ndarray]:
    """Every number that the model answers, one float64 `[n]` per class key, target or `value`."""
    if outputs.has_probabilities:
        return {key: answers["probabilities"][:, i] for i, key in enumerate(outputs.class_keys)}
    if outputs.kind == "classification":
        return {key: (answers["label"] == i).astype(float) for i, key in enumerate(outputs.class_keys)}
    if outputs.targets:
        return {key: answers["values"][:, i] for i, key in enumerate(outputs.targets)}
    return {"value": answers["value"]}


def _feature(column: np.ndarray, field: Field) -> FeatureProfile:
    if field.pii is not None:
        missing = sum(1 for value in column if value is None or value != value)
        return MaskedProfile(len(column) - missing, missing)
    if field.type in ("string", "category"):
        return _categories(column)
    if field.type == "timestamp":
        at = column.astype("datetime64[ns]").astype("int64").astype(float)
        return profile_numbers(np.where(np.isnat(column), np.nan, at))
    return profile_numbers(column)


def _categories(column: np.ndarray) -> CategoryProfile:
    counted = Counter(column.tolist())
    missing = counted.pop(None, 0)
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    kept = {value: n for value, n in ranked[:MAX_CATEGORIES] if n >= MIN_CATEGORY_ROWS}
    return CategoryProfile(kept, sum(counted.values()) - sum(kept.values()), missing)


def _counts(values: np.ndarray, edges: np.ndarray) -> list[int]:
    if len(edges) == 1:
        return [len(values)]
    bins = np.searchsorted(edges[1:-1], values, side="left")
    return [int(n) for n in np.bincount(bins, minlength=len(edges) - 1)]


def _calibration(scores: np.ndarray, observed: np.ndarray) -> list[tuple[float, float]]:
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(out_of_bounds="clip").fit(scores, observed)
    x, y = fit.X_thresholds_, fit.y_thresholds_
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MAX_KNOTS)).round().astype(int))
    return [(float(x[i]), float(y[i])) for i in kept]


def _importance(
    predictor: Predictor, columns: Columns, target: np.ndarray, *, outputs: OutputSpec, names: tuple[str, ...]
) -> dict[str, float]:
    rows = np.random.default_rng(0).permutation(len(target))[:IMPORTANCE_ROWS]
    some: Columns = {name: columns[name][rows] for name in names}
    truth = target[rows]
    base = _squared_error(predictor, some, truth, outputs)
    shuffled = np.random.default_rng(1).permutation(len(rows))
    return {
        name: _squared_error(predictor, {**some, name: some[name][shuffled]}, truth, outputs) - base for name in names
    }


def _squared_error(predictor: Predictor, columns: Columns, truth: np.ndarray, outputs: OutputSpec) -> float:
    answers: Any = np.column_stack(list(scores_of(predictor.run(columns), outputs).values()))
    return float(np.mean((answers - truth) ** 2))
