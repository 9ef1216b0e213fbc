"""Steps that pick or mix columns: feature selection, polynomials, projections, row norms."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.refusal import NotCompilable


def is_selector(transformer: Any) -> bool:
    """Whether the step only picks columns, as scikit-learn's feature selection does."""
    return hasattr(transformer, "get_support") and hasattr(transformer, "_get_support_mask")


def selected(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """The features that the selector keeps, as they are."""
    kept = np.flatnonzero(transformer.get_support())
    graph.recipe.append(f"{step}: {len(kept)} of {len(features)} columns picked")
    return tuple(features[place] for place in kept)


def polynomial_features(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """Products of columns, each made from the product of one degree less, as scikit-learn makes it."""
    numbers_only(features, step)
    if any(feature.single for feature in features):
        raise NotCompilable(step, "products of float32 columns")
    powers = np.asarray(transformer.powers_)
    known: dict[tuple[int, ...], Feature] = {_unit(place, len(features)): one for place, one in enumerate(features)}
    for degree in range(2, int(powers.sum(axis=1).max(initial=0)) + 1):
        wanted = [tuple(row) for row in _needed(powers, degree)]
        _multiply(graph, features, known, wanted)
    graph.recipe.append(f"{step}: products in double")
    return tuple(known[tuple(row)] if any(row) else _one(graph, features) for row in powers.tolist())


def _unit(place: int, width: int) -> tuple[int, ...]:
    return tuple(int(place == other) for other in range(width))


def _needed(powers: np.ndarray, degree: int) -> list[tuple[int, ...]]:
    """The products of this degree on the way to the wanted ones."""
    out: dict[tuple[int, ...], None] = {}
    for row in powers.tolist():
        while sum(row) > degree:
            row = _less(row)[0]
        if sum(row) == degree:
            out[tuple(row)] = None
    return list(out)


def _less(row: list[int]) -> tuple[list[int], int]:
    """The product before the last multiplication, and the column that is multiplied last: the first of its columns."""
    first = next(place for place, power in enumerate(row) if power)
    return [power - (place == first) for place, power in enumerate(row)], first


def _multiply(
    graph: Graph, features: Features, known: dict[tuple[int, ...], Feature], wanted: list[tuple[int, ...]]
) -> None:
    sides = [_less(list(row)) for row in wanted]
    left = tuple(known[tuple(before)] for before, _ in sides)
    right = tuple(features[place] for _, place in sides)
    out = graph.add("Mul", [graph.matrix(left), graph.matrix(right)], width=len(wanted))
    for index, row in enumerate(wanted):
        known[row] = Feature(tensor=out, index=index, kind="number", nulls=left[index].nulls or right[index].nulls)


def _one(graph: Graph, features: Features) -> Feature:
    """A column of ones."""
    gone = graph.cast(graph.add("IsNaN", [graph.matrix(features[:1])], width=1), TensorProto.DOUBLE)
    zero = graph.add("Mul", [gone, graph.constant(np.array(0.0))], width=1)
    return Feature(tensor=graph.add("Add", [zero, graph.constant(np.array(1.0))], width=1), index=0, kind="number")


def projection(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """PCA and TruncatedSVD: one product in double, less the projected mean, divided by the deviations to whiten."""
    numbers_only(features, step)
    components = np.asarray(transformer.components_, np.float64)
    width = len(components)
    out = graph.add("MatMul", [graph.matrix(features), graph.constant(components.T.copy())], width=width)
    mean = getattr(transformer, "mean_", None)
    if mean is not None:
        middle = np.asarray(mean, np.float64).reshape(1, -1) @ components.T
        out = graph.add("Sub", [out, graph.constant(middle)], width=width)
    if getattr(transformer, "whiten", False):
        deviation = np.maximum(np.sqrt(transformer.explained_variance_), np.finfo(np.float64).eps)
        out = graph.add("Div", [out, graph.constant(np.asarray(deviation).reshape(1, -1))], width=width)
    graph.recipe.append(f"{step}: one product in double")
    return tuple(Feature(tensor=out, index=index, kind="number") for index in range(width))


def normalizer(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """Each row divided by its norm; a row of zeros stays."""
    numbers_only(features, step)
    raw = graph.matrix(features)
    axes = graph.constant(np.array([1], np.int64))
    if transformer.norm == "max":
        norm = graph.add("ReduceMax", [graph.add("Abs", [raw]), axes], keepdims=1, width=1)
    elif transformer.norm == "l1":
        norm = graph.add("ReduceSum", [graph.add("Abs", [raw]), axes], keepdims=1, width=1)
    else:
        squares = graph.add("ReduceSum", [graph.add("Mul", [raw, raw]), axes], keepdims=1)
        norm = graph.add("Sqrt", [squares], width=1)
    # scikit-learn leaves a row alone whose norm is zero or nearly so.
    small = graph.add("Less", [norm, graph.constant(np.array(10 * np.finfo(np.float64).eps))])
    safe = graph.add("Where", [small, graph.constant(np.array(1.0)), norm], width=1)
    out = graph.add("Div", [raw, safe], width=len(features))
    graph.recipe.append(f"{step}: norms in double")
    return tuple(Feature(tensor=out, index=index, kind="number") for index in range(len(features)))
