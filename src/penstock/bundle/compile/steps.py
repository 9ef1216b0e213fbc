"""Steps and lines: Binarizer, KBinsDiscretizer, and other functions of one column that only a table describes.

A bin is found by a tree of its edges, moved back to the raw column as any split is, so that the original's own rounding
decides on which side of an edge a value lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.bundle.compile.encoders import one_hot_encoder
from penstock.bundle.compile.feature import Feature, Features, Mapping
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.trees import Scored, Tree, ensemble


def bins_of(graph: Graph, features: Features, cuts: Sequence[np.ndarray]) -> str:
    """`[n, m]`: for each feature how many of its cuts (sorted) are below its value. NaN counts as above all."""
    scored = [_searched(place, own) for place, own in enumerate(cuts)]
    return ensemble(graph, scored, features, targets=len(features), narrow=False)


def _searched(feature: int, cuts: np.ndarray) -> Scored:
    """A balanced tree over the cuts: `x <= cuts[i]` at each node, the number of cuts below x at the leaves."""
    split: list[int] = []
    left: list[int] = []
    right: list[int] = []
    threshold: list[float] = []
    value: list[float] = []

    def grow(low: int, high: int) -> int:
        node = len(split)
        middle = (low + high) // 2
        is_leaf = low == high
        split.append(-2 if is_leaf else feature)
        threshold.append(0.0 if is_leaf else float(cuts[middle]))
        value.append(float(low))
        left.append(-1)
        right.append(-1)
        if not is_leaf:
            left[node] = grow(low, middle)
            right[node] = grow(middle + 1, high)
        return node

    grow(0, len(cuts))
    tree = Tree(
        feature=np.array(split),
        threshold=np.array(threshold),
        left=np.array(left),
        right=np.array(right),
        missing_left=np.zeros(len(split), bool),
        value=np.array(value),
    )
    return Scored(tree, feature, tree.value)


def binarizer(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """1 above the threshold, else 0."""
    numbers_only(features, step)
    graph.recipe.append(f"{step}: compared in double, thresholds moved back to the raw columns")
    return binarized(graph, features, float(transformer.threshold))


def binarized(graph: Graph, features: Features, threshold: float) -> Features:
    """1 where a feature is above the threshold, else 0."""
    out = bins_of(graph, features, [np.array([threshold])] * len(features))
    return _looked_up(
        features, out, [lambda values: np.where(np.isnan(values), values, values > threshold)] * len(features)
    )


def _looked_up(features: Features, tensor: str, mappings: Sequence[Mapping]) -> Features:
    return tuple(
        Feature(tensor=tensor, index=index, kind="number", single=feature.single, lift=feature.lifted().then(mapping))
        for index, (feature, mapping) in enumerate(zip(features, mappings, strict=True))
    )


def bins_discretizer(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """The number of each value's bin, or one column of 0 or 1 per bin."""
    numbers_only(features, step)
    edges = [np.asarray(own[1:-1], np.float64) for own in transformer.bin_edges_]
    # `x >= edge` goes right: the largest double below the edge still goes left.
    out = bins_of(graph, features, [np.nextafter(own, -np.inf) for own in edges])
    graph.recipe.append(f"{step}: bins in double, edges moved back to the raw columns")
    mappings: list[Mapping] = [_bin_mapping(own) for own in edges]
    numbers = _looked_up(features, out, mappings)
    if transformer.encode == "ordinal":
        return numbers
    return one_hot_encoder(graph, transformer._encoder, numbers, step)


def _bin_mapping(edges: np.ndarray) -> Mapping:
    return lambda values: np.where(np.isnan(values), values, np.searchsorted(edges, values, side="right")).astype(float)
