"""Support vector machines of libsvm: kernels in double, pairwise votes, pairwise probabilities.

Source: Chang and Lin, LIBSVM: a library for support vector machines (2011); Wu, Lin and Weng, Probability estimates for
multi-class classification by pairwise coupling (2004).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.answers import Answer, column_of, label_of_largest
from penstock.bundle.compile.coupling import coupled
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.refusal import NotCompilable

_FAR = 1e75
"""Beyond it a distance is so large that its kernel is zero; its square still fits into a double."""


def support_classifier(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """SVC and NuSVC: the class with most pairwise votes; probabilities where it was fitted with them."""
    classes = len(estimator.classes_)
    pairs = _pairwise(graph, estimator, features, step)
    wins = graph.add("Greater", [pairs, graph.constant(np.array(0.0))])
    votes = _votes(graph, wins, classes)
    answer: Answer = {"scores": _scores(graph, estimator, pairs, classes)}
    is_broken = estimator.break_ties and estimator.decision_function_shape == "ovr" and classes > 2
    answer["label"] = label_of_largest(graph, answer["scores"] if is_broken else votes)
    if hasattr(estimator, "predict_proba"):
        answer["probabilities"] = _probabilities(graph, estimator, pairs, classes)
    graph.recipe.append(f"{step}: {len(estimator.support_)} support vectors in double")
    return answer


def support_regressor(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """SVR and NuSVR: the weighted kernels and the intercept."""
    graph.recipe.append(f"{step}: {len(estimator.support_)} support vectors in double")
    return {"value": column_of(graph, _single(graph, estimator, features, step))}


def support_anomaly(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """OneClassSVM: an outlier where the decision function is not above zero."""
    value = _single(graph, estimator, features, step)
    above = graph.add("Greater", [value, graph.constant(np.array(0.0))], width=1)
    graph.recipe.append(f"{step}: {len(estimator.support_)} support vectors in double")
    label = column_of(graph, graph.cast(above, TensorProto.INT64))
    return {"label": label, "value": column_of(graph, value), "scores": value}


def _single(graph: Graph, estimator: Any, features: Features, step: str) -> str:
    return _weighed(graph, estimator, features, weights=_dense(estimator._dual_coef_).T, step=step)


def _pairwise(graph: Graph, estimator: Any, features: Features, step: str) -> str:
    """`[n, pairs]`: above zero where the first class of a pair wins."""
    dual, sizes = _dense(estimator._dual_coef_), np.asarray(estimator._n_support)
    ends = np.cumsum(sizes)
    parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    couples = list(combinations(range(len(sizes)), 2))
    weights = np.zeros((dual.shape[1], len(couples)))
    for column, (first, second) in enumerate(couples):
        weights[parts[first], column] = dual[second - 1, parts[first]]
        weights[parts[second], column] = dual[first, parts[second]]
    return _weighed(graph, estimator, features, weights=weights, step=step)


def _weighed(graph: Graph, estimator: Any, features: Features, *, weights: np.ndarray, step: str) -> str:
    numbers_only(features, step)
    kernel = _kernel(graph, estimator, graph.matrix(features), step)
    width = weights.shape[1]
    total = graph.add("MatMul", [kernel, graph.constant(np.ascontiguousarray(weights, np.float64))], width=width)
    offset = np.asarray(estimator._intercept_, np.float64).reshape(1, -1)
    return graph.add("Add", [total, graph.constant(offset)], width=width)


def _dense(array: Any) -> np.ndarray:
    return np.asarray(array.toarray() if hasattr(array, "toarray") else array, dtype=np.float64)


def _kernel(graph: Graph, estimator: Any, rows: str, step: str) -> str:
    vectors = _dense(estimator.support_vectors_)
    gamma = graph.constant(np.array(float(estimator._gamma)))
    if estimator.kernel == "rbf":
        return _radial(graph, rows, vectors, float(estimator._gamma))
    if estimator.kernel not in ("linear", "poly", "sigmoid"):
        raise NotCompilable(step, f"the kernel {estimator.kernel}")
    product = graph.add("MatMul", [rows, graph.constant(np.ascontiguousarray(vectors.T))])
    if estimator.kernel == "linear":
        return product
    moved = graph.add("Add", [graph.add("Mul", [gamma, product]), graph.constant(np.array(float(estimator.coef0)))])
    if estimator.kernel == "sigmoid":
        return graph.add("Tanh", [moved])
    return graph.add("Pow", [moved, graph.constant(np.array(float(estimator.degree)))])


def _radial(graph: Graph, rows: str, vectors: np.ndarray, gamma: float) -> str:
    """exp(-gamma |x - v|^2), by |x|^2 - 2 x v + |v|^2 around the vectors' middle, where little cancels."""
    middle = vectors.mean(axis=0)
    near = graph.add("Sub", [rows, graph.constant(middle.reshape(1, -1))])
    near = graph.add("Clip", [near, graph.constant(np.array(-_FAR)), graph.constant(np.array(_FAR))])
    centred = vectors - middle
    own = graph.add("ReduceSum", [graph.add("Mul", [near, near]), graph.constant(np.array([1], np.int64))], keepdims=1)
    product = graph.add("MatMul", [near, graph.constant(np.ascontiguousarray(-2.0 * centred.T))])
    rest = graph.constant(np.square(centred).sum(axis=1).reshape(1, -1))
    squared = graph.add("Add", [graph.add("Add", [own, product]), rest])
    away = graph.add("Max", [squared, graph.constant(np.array(0.0))])
    return graph.add("Exp", [graph.add("Mul", [away, graph.constant(np.array(-gamma))])])


def _votes(graph: Graph, wins: str, classes: int) -> str:
    """`[n, classes]`: how many pairs each class wins."""
    first = graph.cast(wins, TensorProto.DOUBLE)
    table, losses = np.zeros((classes * (classes - 1) // 2, classes)), np.zeros(classes)
    for row, (one, other) in enumerate(combinations(range(classes), 2)):
        table[row, one], table[row, other] = 1.0, -1.0
        losses[other] += 1.0
    product = graph.add("MatMul", [first, graph.constant(table)])
    return graph.add("Add", [product, graph.constant(losses.reshape(1, -1))], width=classes)


def _scores(graph: Graph, estimator: Any, pairs: str, classes: int) -> str:
    """The decision function: of two classes above zero for the second; of several, votes and bounded confidences."""
    if classes == 2:
        return graph.add("Neg", [pairs], width=1)
    if estimator.decision_function_shape == "ovo":
        return pairs
    # scikit-learn counts a pair for its second class where the pairwise value is below zero.
    votes = _votes(graph, graph.add("Not", [graph.add("Less", [pairs, graph.constant(np.array(0.0))])]), classes)
    table = np.zeros((graph.widths[pairs], classes))
    for row, (one, other) in enumerate(combinations(range(classes), 2)):
        table[row, one], table[row, other] = 1.0, -1.0
    total = graph.add("MatMul", [pairs, graph.constant(table)], width=classes)
    size = graph.add("Add", [graph.add("Abs", [total]), graph.constant(np.array(1.0))])
    bounded = graph.add("Div", [total, graph.add("Mul", [graph.constant(np.array(3.0)), size])])
    return graph.add("Add", [votes, bounded], width=classes)


def _probabilities(graph: Graph, estimator: Any, pairs: str, classes: int) -> str:
    slopes, offsets = (np.asarray(of, np.float64).reshape(1, -1) for of in (estimator._probA, estimator._probB))
    moved = graph.add("Add", [graph.add("Mul", [pairs, graph.constant(slopes)]), graph.constant(offsets)])
    each = graph.add("Sigmoid", [graph.add("Neg", [moved])])
    ends = [graph.constant(np.array(end)) for end in (1e-7, 1 - 1e-7)]
    return coupled(graph, graph.add("Clip", [each, *ends]), classes)
