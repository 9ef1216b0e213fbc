"""The last nodes of every classifier and regressor: labels by the original's rule, probabilities, single columns."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.graph import Graph

Answer: TypeAlias = dict[str, str]
"""Names of outputs (`OutputSpec.names`) to tensors: label int64 `[n]`, value `[n]`, probabilities, values `[n, k]`; and
`scores`, the original's decision function as `[n, 1]` or `[n, k]`, for estimators around this one.
"""


def column_of(graph: Graph, tensor: str) -> str:
    """`[n, 1]` as `[n]`."""
    return graph.add("Reshape", [tensor, graph.constant(np.array([-1], np.int64))])


def label_of_largest(graph: Graph, scores: str) -> str:
    """The index of the largest score, the first one in a tie, as numpy's argmax."""
    return graph.add("ArgMax", [scores], axis=1, keepdims=0, select_last_index=0)


def label_where(graph: Graph, comparison: str, scores: str) -> str:
    """1 where the only score is above zero (`Greater`) or not below it (`GreaterOrEqual`), else 0."""
    above = graph.add(comparison, [scores, graph.constant(np.array(0.0))], width=1)
    return column_of(graph, graph.cast(above, TensorProto.INT64))


def complement(graph: Graph, second: str) -> str:
    """`[1 - p, p]` from the `[n, 1]` probability of the second class."""
    first = graph.add("Sub", [graph.constant(np.array(1.0)), second], width=1)
    return graph.add("Concat", [first, second], width=2, axis=1)
