"""Class probabilities from pairwise ones, by the iteration of libsvm, row by row to the same step.

Source: Wu, Lin and Weng, Probability estimates for multi-class classification by pairwise coupling (2004), algorithm 2.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from onnx import TensorProto, helper

from penstock.bundle.compile.graph import Graph


def coupled(graph: Graph, pairs: str, classes: int) -> str:
    """`[n, classes]` from `pairs` `[n, p]`: for each pair of classes the probability of the first one.

    Each row stops on its own, when its error falls below 0.005 / classes, as libsvm's loop does.
    """
    q = _quadratic(graph, pairs, classes)
    start = graph.gather(pairs, [0] * classes)
    zero = graph.add("Mul", [start, graph.constant(np.array(0.0))])
    even = graph.add("Add", [zero, graph.constant(np.array(1.0 / classes))], width=classes)
    body = _body(q, classes, name=even)
    most = graph.constant(np.array(max(100, classes), np.int64))
    yes = graph.constant(np.array(True))
    return graph.add("Loop", [most, yes, even], width=classes, body=body)


def _quadratic(graph: Graph, pairs: str, classes: int) -> str:
    """`[n, classes, classes]`: Q of the paper's equation (23): sums of squares on the diagonal, products beside it."""
    couples = list(combinations(range(classes), 2))
    order, flipped = [], []
    for first in range(classes):
        for second in range(classes):
            # An entry (first, second) of r: the probability of the first against the second; the diagonal is not read.
            pair = (min(first, second), max(first, second))
            order.append(couples.index(pair) if first != second else 0)
            flipped.append(first > second)
    told = graph.gather(pairs, order)
    other = graph.add("Sub", [graph.constant(np.array(1.0)), told])
    flat = graph.add("Where", [graph.constant(np.array([flipped])), other, told])
    shape = graph.constant(np.array([-1, classes, classes], np.int64))
    r = graph.add("Reshape", [flat, shape])
    turned = graph.add("Transpose", [r], perm=[0, 2, 1])
    off = 1.0 - np.eye(classes)
    beside = graph.add("Neg", [graph.add("Mul", [graph.add("Mul", [turned, r]), graph.constant(off[None])])])
    squares = graph.add("Mul", [graph.add("Mul", [turned, turned]), graph.constant(off[None])])
    sums = graph.add("ReduceSum", [squares, graph.constant(np.array([2], np.int64))], keepdims=1)
    diagonal = graph.add("Mul", [sums, graph.constant(np.eye(classes)[None])])
    return graph.add("Add", [beside, diagonal])


def _body(q: str, classes: int, name: str) -> object:
    """One round for all rows; those that have converged stay."""
    inner = Graph(f"round.{name}.")
    count, go, before = (f"round.{name}.{what}" for what in ("count", "go", "before"))
    two = inner.constant(np.array([2], np.int64))
    column = inner.add("Unsqueeze", [before, two])
    qp = inner.add("Squeeze", [inner.add("MatMul", [q, column]), two], width=classes)
    one = inner.constant(np.array([1], np.int64))
    pqp = inner.add("ReduceSum", [inner.add("Mul", [before, qp]), one], keepdims=1)
    error = inner.add("ReduceMax", [inner.add("Abs", [inner.add("Sub", [qp, pqp])]), one], keepdims=1)
    active = inner.add("GreaterOrEqual", [error, inner.constant(np.array(0.005 / classes))])
    p, unit = before, inner.constant(np.array(1.0))
    for place in range(classes):
        here = inner.constant(np.array([place], np.int64))
        row = inner.add("Squeeze", [inner.add("Gather", [q, here], axis=1), one])
        own = inner.add("Gather", [row, here], axis=1)
        difference = inner.add("Div", [inner.add("Sub", [pqp, inner.add("Gather", [qp, here], axis=1)]), own])
        grown = inner.add("Add", [unit, difference])
        hot = inner.constant(np.eye(classes)[[place]])
        p = inner.add("Div", [inner.add("Add", [p, inner.add("Mul", [difference, hot])]), grown])
        twice = inner.add("Mul", [inner.constant(np.array(2.0)), inner.add("Gather", [qp, here], axis=1)])
        slope = inner.add("Add", [inner.add("Mul", [difference, own]), twice])
        pqp = inner.add("Add", [pqp, inner.add("Mul", [difference, slope])])
        pqp = inner.add("Div", [inner.add("Div", [pqp, grown]), grown])
        qp = inner.add("Div", [inner.add("Add", [qp, inner.add("Mul", [difference, row])]), grown])
    after = inner.add("Where", [active, p, before])
    still = inner.add("ReduceMax", [inner.cast(active, TensorProto.INT64)], keepdims=0)
    more = inner.cast(still, TensorProto.BOOL)
    starts = [
        helper.make_tensor_value_info(count, TensorProto.INT64, []),
        helper.make_tensor_value_info(go, TensorProto.BOOL, []),
        helper.make_tensor_value_info(before, TensorProto.DOUBLE, None),
    ]
    ends = [
        helper.make_tensor_value_info(more, TensorProto.BOOL, []),
        helper.make_tensor_value_info(after, TensorProto.DOUBLE, None),
    ]
    return helper.make_graph(inner.nodes, "round", starts, ends, list(inner.constants.values()))
