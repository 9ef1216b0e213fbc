"""Class fractions of forests: the sums as the original adds them, and the label that follows from them, ties included.

A leaf of the TreeEnsemble operator has one value, so k classes need the trees k times. For two classes one pass is
enough, but for rows that are nearly a tie: there the rounding of both of the original's sums decides the label, and
the second sum is computed for those rows alone.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from penstock.bundle.compile.answers import Answer, column_of, complement, label_of_largest
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.graph import ML, Graph
from penstock.bundle.compile.trees import Scored, Tree, collapsed, ensemble, leaf_weights

Grown = list[tuple[Tree, np.ndarray]]
"""Trees with their leaves' fractions `[m, k]`."""

_EXACT_BITS = 2.0**30
_SMALL_NODES = 4000
_NEARLY = 1e-9


def class_answer(graph: Graph, trees: Grown, features: Features, *, is_mean: bool) -> Answer:
    """The mean fractions (of one tree: its own) as probabilities, the first of the largest as the label."""
    classes = trees[0][1].shape[1]
    nodes = sum(len(fractions) for _, fractions in trees)
    if classes == 2 and is_mean and (nodes > _SMALL_NODES or _adds_exactly(trees)):
        return _two_classes(graph, trees, features)
    by_class = [[collapsed(one) for one in _of_class(trees, target)] for target in range(classes)]
    if is_mean and _adds_exactly(trees):
        sums = _all_but_one(graph, by_class, features)
    else:
        sums = ensemble(graph, _targeted(by_class), features, targets=classes, narrow=True)
    probabilities = mean_of(graph, sums, len(trees)) if is_mean else sums
    return {"label": label_of_largest(graph, probabilities), "probabilities": probabilities}


def _targeted(by_class: list[list[Scored]]) -> list[Scored]:
    return [Scored(one.tree, target, one.value) for target, trees in enumerate(by_class) for one in trees]


def _all_but_one(graph: Graph, by_class: list[list[Scored]], features: Features) -> str:
    """The classes' sums where no rounding happens: that of the class with the largest trees is what the others leave.

    Every product and sum here is exact, so the order in which they are made does not matter.
    """
    classes = len(by_class)
    left_out = max(range(classes), key=lambda target: sum(len(one.tree.left) for one in by_class[target]))
    asked = [target for target in range(classes) if target != left_out]
    sums = ensemble(graph, _targeted([by_class[target] for target in asked]), features, targets=len(asked), narrow=True)
    spread, rest = np.zeros((len(asked), classes)), np.zeros(classes)
    spread[range(len(asked)), asked] = 1.0
    spread[:, left_out] = -1.0
    rest[left_out] = len(by_class[left_out])
    return graph.add("Gemm", [sums, graph.constant(spread), graph.constant(rest)], width=classes)


def mean_of(graph: Graph, sums: str, count: int) -> str:
    """The sums divided by the number of trees."""
    return graph.add("Div", [sums, graph.constant(np.array(float(count)))], width=graph.widths[sums])


def _adds_exactly(trees: Grown) -> bool:
    """Whether no rounding happens in the sums (pure leaves, halves, quarters): then the classes are complements."""
    fractions = np.concatenate([values[tree.left < 0] for tree, values in trees])
    scaled = fractions * _EXACT_BITS
    return bool((scaled == np.rint(scaled)).all() and (fractions.sum(axis=1) == 1.0).all())


def _two_classes(graph: Graph, trees: Grown, features: Features) -> Answer:
    second = ensemble(graph, _of_class(trees, 1), features, targets=1, narrow=True)
    passed = graph.nodes[-1]
    mean = mean_of(graph, second, len(trees))
    above = graph.add("Greater", [mean, graph.constant(np.array(0.5))], width=1)
    label = column_of(graph, graph.cast(above, TensorProto.INT64))
    if not _adds_exactly(trees):
        label = _settled(graph, trees, passed, label=label, mean=mean)
    return {"label": label, "probabilities": complement(graph, mean)}


def _of_class(trees: Grown, target: int) -> list[Scored]:
    return [Scored(tree, 0, values[:, target]) for tree, values in trees]


def _settled(graph: Graph, trees: Grown, passed: onnx.NodeProto, *, label: str, mean: str) -> str:
    """The label, decided by both sums in the rows where the mean is nearly a half."""
    distance = graph.add("Abs", [graph.add("Sub", [mean, graph.constant(np.array(0.5))])])
    near = graph.add("Less", [distance, graph.constant(np.array(_NEARLY))])
    as_is, close = Graph("else."), Graph("then.")
    rows = column_of(close, close.gather(close.add("Transpose", [close.add("NonZero", [near])]), [0]))
    first = close.add("TreeEnsemble", [close.add("Gather", [passed.input[0], rows], axis=0)], domain=ML)
    close.nodes[-1].attribute.extend(attribute for attribute in passed.attribute if attribute.name != "leaf_weights")
    close.nodes[-1].attribute.append(helper.make_attribute("leaf_weights", leaf_weights(_of_class(trees, 0))))
    own = close.add("Gather", [mean, rows], axis=0)
    above = close.add("Greater", [own, close.add("Div", [first, close.constant(np.array(float(len(trees))))])])
    decided = column_of(close, close.cast(above, TensorProto.INT64))
    end = close.add("ScatterElements", [label, rows, decided], axis=0)
    branches = {
        "then_branch": graph.branch(close, end),
        "else_branch": graph.branch(as_is, as_is.add("Identity", [label])),
    }
    return graph.add("If", [graph.add("ReduceMax", [near], keepdims=0)], **branches)
