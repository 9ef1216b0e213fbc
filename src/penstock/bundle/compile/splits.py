"""The splits of a fitted estimator's trees, and what the trees see of a raw row: read from the original alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.compile.boosters import boosted_trees
from penstock.bundle.compile.rows import count_of, taken
from penstock.bundle.compile.sites import Seen, Site, sites_of
from penstock.bundle.compile.trees import Tree
from penstock.bundle.loaders.sklearn import SklearnPredictor
from penstock.errors import ModelFailed
from penstock.schema import Columns


class Splits(msgspec.Struct, frozen=True):
    """The distinct questions `x[feature] <= threshold` of all trees and bins; arrays `[s]`, sorted by feature and
    threshold.

    `is_single` (bool, or one bool per question): the trees see x as float32.
    """

    feature: np.ndarray
    threshold: np.ndarray
    is_single: np.ndarray | bool

    def singles(self) -> np.ndarray:
        """`is_single` for each question."""
        return np.broadcast_to(self.is_single, self.feature.shape)

    def goes_left(self, values: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Whether each value `[r]` goes left at the split of that number; NaN never does."""
        with np.errstate(over="ignore", invalid="ignore"):
            seen = np.where(self.singles()[which], values.astype(np.float32).astype(np.float64), values)
            return np.asarray(seen <= self.threshold[which])


class TreeView:
    """What the trees (and bins) of `original` see of checked columns: the rows at each of its sites, side by side."""

    def __init__(self, original: SklearnPredictor) -> None:
        self._original = original
        self._widths: dict[Seen, int] = {}
        self.splits = self._joined(list(sites_of(original.estimator, Seen())))

    def _joined(self, sites: list[Site]) -> Splits:
        """The questions of all sites; what the sites of one place see stands side by side once."""
        read = [(site, _splits(site.part)) for site in sites]
        asked = [(site.seen, site.real(own.feature), own) for site, own in read if len(own.feature)]
        widths: dict[Seen, int] = {}
        for seen, feature, _ in asked:
            widths[seen] = max(widths.get(seen, 0), int(feature.max()) + 1)
        self._widths = widths
        starts = dict(zip(widths, np.cumsum([0, *widths.values()]).tolist(), strict=False))
        return _distinct([(feature + starts[seen], own.threshold, own.singles()) for seen, feature, own in asked])

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
        known: dict[Seen, Any] = {}
        parts = []
        for place, width in self._widths.items():
            seen = self._original.quietly(partial(place.of, known=known), rows)
            parts.append(_dense(seen)[:, :width])
        return np.concatenate(parts, axis=1) if parts else np.zeros((count_of(columns), 0))


def _dense(rows: Any) -> np.ndarray:
    dense = rows.toarray() if hasattr(rows, "toarray") else without_categories(rows)
    try:
        if hasattr(dense, "to_numpy"):
            return np.asarray(dense.to_numpy(dtype=np.float64, na_value=np.nan))
        return np.asarray(dense, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelFailed(f"The preprocessing does not end in numbers: {error}") from error


def without_categories(rows: Any) -> Any:
    """A frame with its columns of categories as codes, which boosters split by sets and not by thresholds."""
    kinds = getattr(rows, "dtypes", None)
    if kinds is None or not hasattr(rows, "columns"):
        return rows
    coded = {name: rows[name].cat.codes for name, kind in kinds.items() if str(kind) == "category"}
    return rows.assign(**coded) if coded else rows


def _distinct(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Splits:
    if not parts:
        return Splits(feature=np.zeros(0, np.int64), threshold=np.zeros(0), is_single=False)
    feature, threshold, single = (np.concatenate([part[side] for part in parts]) for side in range(3))
    kept = np.isfinite(threshold)
    rows = np.empty(int(kept.sum()), dtype=[("feature", np.int64), ("threshold", np.float64), ("single", bool)])
    rows["feature"], rows["threshold"], rows["single"] = feature[kept], threshold[kept], single[kept]
    distinct = np.unique(rows)
    return Splits(distinct["feature"].copy(), distinct["threshold"].copy(), distinct["single"].copy())


def _splits(part: Any) -> Splits:
    """The questions of one part (no other estimator inside but trees), its features by their own numbers."""
    pairs = [_of_tree(member.tree_) for member in _trees(part)]
    is_single = bool(pairs)
    pairs += [_of_histogram(predictor.nodes) for stage in getattr(part, "_predictors", ()) for predictor in stage]
    pairs += _of_bins(part)
    boosted = boosted_trees(part)
    if boosted is not None:
        return _of_boosters(*boosted)
    if not pairs:
        return Splits(feature=np.zeros(0, np.int64), threshold=np.zeros(0), is_single=False)
    feature, threshold = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    return Splits(feature, threshold, is_single)


def _of_bins(part: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """The edges of bins, as the largest double below each; the threshold of a Binarizer."""
    if hasattr(part, "bin_edges_"):
        inner = [edges[1:-1] for edges in part.bin_edges_]
        return [(np.full(len(edges), place), np.nextafter(edges, -np.inf)) for place, edges in enumerate(inner)]
    if type(part).__name__ == "Binarizer":
        width = part.n_features_in_
        return [(np.arange(width), np.full(width, float(part.threshold)))]
    return []


def _trees(estimator: Any) -> Iterator[Any]:
    """Every fitted tree inside; ensembles keep them in `estimators_`, as a list or an array."""
    if hasattr(estimator, "tree_"):
        yield estimator
    elif hasattr(estimator, "estimators_"):
        for member in np.ravel(np.asarray(estimator.estimators_, dtype=object)):
            yield from _trees(member)


def _of_boosters(trees: Sequence[Tree], is_single: bool) -> Splits:
    inner = [(tree.left >= 0) & ~np.isin(np.arange(len(tree.left)), list(tree.members)) for tree in trees]
    feature, threshold = (
        np.concatenate([getattr(tree, side)[here] for tree, here in zip(trees, inner, strict=True)])
        for side in ("feature", "threshold")
    )
    return Splits(feature.astype(np.int64), threshold.astype(np.float64), is_single)


def _of_tree(tree: Any) -> tuple[np.ndarray, np.ndarray]:
    inner = tree.children_left >= 0
    return tree.feature[inner], tree.threshold[inner]


def _of_histogram(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inner = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)
    return nodes["feature_idx"][inner], nodes["num_threshold"][inner]
