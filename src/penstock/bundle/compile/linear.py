"""Linear models: one matrix product in double, and the label and probability rules of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.linear_model._base import LinearClassifierMixin, LinearModel, MultiOutputLinearModel

from penstock.bundle.compile.answers import Answer, column_of, complement, label_of_largest, label_where
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only


def is_linear_regressor(estimator: Any) -> bool:
    """Whether `predict` is scikit-learn's own `X @ coef + intercept`."""
    own = getattr(type(estimator), "predict", None)
    known = (LinearModel.predict, MultiOutputLinearModel.predict)
    return own in known or type(estimator).__name__ == "SGDRegressor"


def is_linear_classifier(estimator: Any) -> bool:
    """Whether `predict` is scikit-learn's own rule over `X @ coef + intercept`."""
    own = getattr(type(estimator), "predict", None)
    known = (LinearClassifierMixin.predict, RidgeClassifier.predict)
    return (
        own in known
        and hasattr(estimator, "coef_")
        and (not hasattr(estimator, "predict_proba") or _is_logistic(estimator))
    )


def _is_logistic(estimator: Any) -> bool:
    """Whether the probabilities are the logistic function, or the softmax, of the scores."""
    return isinstance(estimator, LogisticRegression | LinearDiscriminantAnalysis) or (
        isinstance(estimator, SGDClassifier) and estimator.loss == "log_loss"
    )


def linear_regressor(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """`value` `[n]`, or `values` `[n, t]` where the estimator was fitted on several targets."""
    scores = _scores(graph, estimator, features, step)
    if np.ndim(estimator.coef_) == 2 and type(estimator).__name__ != "SGDRegressor":
        return (
            {"values": scores}
            if estimator.coef_.shape[0] > 1
            else {"values": scores, "value": column_of(graph, scores)}
        )
    return {"value": column_of(graph, scores)}


def linear_classifier(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """`label`, and `probabilities` where the estimator has them."""
    scores = _scores(graph, estimator, features, step)
    binary = graph.widths[scores] == 1
    label = label_where(graph, "Greater", scores) if binary else label_of_largest(graph, scores)
    answer = {"label": label, "scores": scores}
    if hasattr(estimator, "predict_proba"):
        answer["probabilities"] = _probabilities(graph, estimator, scores)
    return answer


def _scores(graph: Graph, estimator: Any, features: Features, step: str) -> str:
    numbers_only(features, step)
    coef = estimator.coef_.toarray() if hasattr(estimator.coef_, "toarray") else np.asarray(estimator.coef_)
    weights = np.atleast_2d(coef).astype(np.float64).T
    offset = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64).ravel(), (weights.shape[1],))
    raw = graph.add("MatMul", [graph.matrix(features), graph.constant(weights)], width=weights.shape[1])
    graph.recipe.append(f"{step}: one product in double")
    return graph.add("Add", [raw, graph.constant(offset.reshape(1, -1).copy())], width=weights.shape[1])


def _probabilities(graph: Graph, estimator: Any, scores: str) -> str:
    width = graph.widths[scores]
    if isinstance(estimator, LogisticRegression | LinearDiscriminantAnalysis) and width > 1:
        return graph.add("Softmax", [scores], width=width, axis=1)
    each = graph.add("Sigmoid", [scores], width=width)
    if width == 1:
        return complement(graph, each)
    total = graph.add("ReduceSum", [each, graph.constant(np.array([1], np.int64))], keepdims=1)
    zero = graph.constant(np.array(0.0))
    none = graph.add("Equal", [total, zero])
    even = graph.add("Where", [none, graph.constant(np.array(1.0)), each], width=width)
    whole = graph.add("Where", [none, graph.constant(np.array(float(width))), total], width=1)
    return graph.add("Div", [even, whole], width=width)
