"""Straight lines between fitted points: isotonic curves, quantiles."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.feature import Feature
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.steps import bins_of


def interpolated(graph: Graph, tensor: str, x: np.ndarray, y: np.ndarray) -> str:
    """numpy's `interp(tensor, x, y)` of `[n, 1]`: lines between the points (x ascending), level beyond the ends."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(x) == 1:
        flat = graph.add("Mul", [tensor, graph.constant(np.array(0.0))], width=1)
        return graph.add("Add", [flat, graph.constant(np.array(float(y[0])))], width=1)
    held = graph.add("Clip", [tensor, graph.constant(np.array(x[0])), graph.constant(np.array(x[-1]))], width=1)
    # The last point at or below the value: `x >= point` is `x > the double before it`.
    place = bins_of(graph, (Feature(tensor=held, index=0, kind="number"),), [np.nextafter(np.unique(x)[1:], -np.inf)])
    _, last = _last_of_equal(x)
    with np.errstate(all="ignore"):
        slopes = np.append(np.diff(y) / np.diff(x), 0.0)[last]
    slopes = np.where(np.isfinite(slopes), slopes, 0.0)
    row = graph.cast(place, TensorProto.INT64)
    start, base, slope = (
        graph.add("Gather", [graph.constant(np.ascontiguousarray(of)), row], width=1, axis=0)
        for of in (x[last], y[last], slopes)
    )
    along = graph.add("Mul", [slope, graph.add("Sub", [held, start], width=1)], width=1)
    line = graph.add("Add", [along, base], width=1)
    if x[0] != x[1]:
        return line
    # Of equal first points the last one counts, but the first one beyond them.
    beyond = graph.add("Less", [tensor, graph.constant(np.array(x[0]))])
    return graph.add("Where", [beyond, graph.constant(np.array(y[0])), line], width=1)


def _last_of_equal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, and the last place of each."""
    values, first, counts = np.unique(x, return_index=True, return_counts=True)
    return values, first + counts - 1
