"""The splits of a fitted estimator's trees, and what the trees see of a raw row: read from the original alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.compile.rows import count_of, taken
from penstock.bundle.loaders.sklearn import SklearnPredictor
from penstock.errors import ModelFailed
from penstock.schema import Columns


class Splits(msgspec.Struct, frozen=True):
    """The distinct questions `x[feature] <= threshold` of all trees; arrays `[s]`, sorted by feature and threshold.

    `is_single`: the trees see x as float32.
    """

    feature: np.ndarray
    threshold: np.ndarray
    is_single: bool

    def goes_left(self, values: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Whether each value `[r]` goes left at the split of that number; NaN never does."""
        with np.errstate(over="ignore", invalid="ignore"):
            seen = values.astype(np.float32).astype(np.float64) if self.is_single else values
            return np.asarray(seen <= self.threshold[which])


class TreeView:
    """What the trees of `original` see of checked columns: the fitted preprocessing before the last estimator."""

    def __init__(self, original: SklearnPredictor) -> None:
        self._original = original
        self._before, self._last = _unwrapped(original.estimator)
        self.splits = _splits(self._last)

    def values(self, columns: Columns) -> np.ndarray:
        """Transformed rows `[n, m]` float64; a row that the preprocessing refuses is all NaN.

        Raises ModelFailed when it refuses every row.
        """
        try:
            return self._transformed(columns)
        except ModelFailed:
            rows = count_of(columns)
            if rows < 2:
                raise
        halves = [taken(columns, half) for half in np.array_split(np.arange(rows), 2)]
        found = [self._or_none(half) for half in halves]
        width = next((part.shape[1] for part in found if part is not None), None)
        if width is None:
            raise ModelFailed("The preprocessing refuses every row")
        return np.concatenate(
            [
                np.full((count_of(half), width), np.nan) if part is None else part
                for half, part in zip(halves, found, strict=True)
            ]
        )

    def _or_none(self, columns: Columns) -> np.ndarray | None:
        try:
            return self.values(columns)
        except ModelFailed:
            return None

    def _transformed(self, columns: Columns) -> np.ndarray:
        rows: Any = self._original.rows_of(columns)
        for step in self._before:
            rows = self._original.quietly(step.transform, rows)
        if hasattr(self._last, "_preprocess_X"):
            rows = self._original.quietly(lambda given: self._last._preprocess_X(given, reset=False), rows)
        dense = rows.toarray() if hasattr(rows, "toarray") else rows
        try:
            if hasattr(dense, "to_numpy"):
                return np.asarray(dense.to_numpy(dtype=np.float64, na_value=np.nan))
            return np.asarray(dense, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ModelFailed(f"The preprocessing does not end in numbers: {error}") from error


def _unwrapped(estimator: Any) -> tuple[list[Any], Any]:
    """The transforming steps and the last estimator, through pipelines in pipelines and searches."""
    if hasattr(estimator, "best_estimator_"):
        return _unwrapped(estimator.best_estimator_)
    if not hasattr(estimator, "steps"):
        return [], estimator
    before = [part for _, part in estimator.steps[:-1] if part is not None and not isinstance(part, str)]
    inner, last = _unwrapped(estimator.steps[-1][1])
    return before + inner, last


def _splits(last: Any) -> Splits:
    pairs = [_of_tree(member.tree_) for member in _trees(last)]
    is_single = bool(pairs)
    pairs += [_of_histogram(predictor.nodes) for stage in getattr(last, "_predictors", ()) for predictor in stage]
    if not pairs:
        return Splits(feature=np.zeros(0, np.int64), threshold=np.zeros(0), is_single=False)
    feature, threshold = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    kept = np.isfinite(threshold)
    pairs_kept = np.empty(int(kept.sum()), dtype=[("feature", np.int64), ("threshold", np.float64)])
    pairs_kept["feature"], pairs_kept["threshold"] = feature[kept], threshold[kept]
    distinct = np.unique(pairs_kept)
    return Splits(distinct["feature"].copy(), distinct["threshold"].copy(), is_single)


def _trees(estimator: Any) -> Iterator[Any]:
    """Every fitted tree inside; ensembles keep them in `estimators_`, as a list or an array."""
    if hasattr(estimator, "tree_"):
        yield estimator
    elif hasattr(estimator, "estimators_"):
        for member in np.ravel(np.asarray(estimator.estimators_, dtype=object)):
            yield from _trees(member)


def _of_tree(tree: Any) -> tuple[np.ndarray, np.ndarray]:
    inner = tree.children_left >= 0
    return tree.feature[inner], tree.threshold[inner]


def _of_histogram(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inner = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)
    return nodes["feature_idx"][inner], nodes["num_threshold"][inner]
