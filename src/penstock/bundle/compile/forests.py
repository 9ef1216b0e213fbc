"""Decision trees, forests and gradient boosting, which compare float32 values with float64 thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.bundle.compile.answers import Answer, column_of, complement, label_of_largest, label_where
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.fractions import class_answer, mean_of
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.compile.trees import Scored, Tree, constant_tree, ensemble


def tree_of(fitted: Any) -> tuple[Tree, np.ndarray]:
    """scikit-learn's `Tree` as arrays, and its leaves' values `[m, k]` (k classes, or k targets)."""
    values = np.asarray(fitted.value)
    flat = values[:, 0, :] if values.shape[1] == 1 else values[:, :, 0]
    tree = Tree(
        feature=fitted.feature,
        threshold=fitted.threshold,
        left=fitted.children_left,
        right=fitted.children_right,
        missing_left=fitted.missing_go_to_left.astype(bool),
        value=flat[:, 0],
    )
    return tree, flat


def forest_classifier(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """A decision tree or a forest: the mean of the trees' class fractions; the first of the largest is the label."""
    trees = [tree_of(member.tree_) for member in _members(estimator)]
    numbers_only(features, step)
    if estimator.n_outputs_ > 1:
        raise NotCompilable(step, "several targets of classes")
    graph.recipe.append(f"{step}: {len(trees)} trees in double, thresholds moved back to the raw columns")
    return class_answer(graph, trees, features, is_mean=not _is_alone(estimator))


def forest_regressor(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """A decision tree or a forest: the mean of the trees' values."""
    trees = [tree_of(member.tree_) for member in _members(estimator)]
    numbers_only(features, step)
    width = trees[0][1].shape[1]
    scored = [Scored(tree, target, values[:, target]) for target in range(width) for tree, values in trees]
    sums = ensemble(graph, scored, features, targets=width, narrow=True)
    graph.recipe.append(f"{step}: {len(trees)} trees in double, thresholds moved back to the raw columns")
    mean = sums if _is_alone(estimator) else mean_of(graph, sums, len(trees))
    return {"values": mean} if width > 1 else {"values": mean, "value": column_of(graph, mean)}


def _members(estimator: Any) -> list[Any]:
    return [estimator] if _is_alone(estimator) else list(estimator.estimators_)


def _is_alone(estimator: Any) -> bool:
    return hasattr(estimator, "tree_")


def boosting_classifier(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """GradientBoostingClassifier: label 1 where the raw score is not below zero, as its `predict` has it."""
    raw = _boosted(graph, estimator, features, step)
    label = label_where(graph, "GreaterOrEqual", raw) if graph.widths[raw] == 1 else label_of_largest(graph, raw)
    return {"label": label, "probabilities": _linked(graph, estimator, raw, step), "scores": raw}


def boosting_regressor(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """GradientBoostingRegressor: the raw score itself."""
    return {"value": column_of(graph, _boosted(graph, estimator, features, step))}


def _boosted(graph: Graph, estimator: Any, features: Features, step: str) -> str:
    numbers_only(features, step)
    if not (estimator.init_ == "zero" or type(estimator.init_).__name__ in ("DummyClassifier", "DummyRegressor")):
        raise NotCompilable(step, "GradientBoosting that starts from another model (init)")
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_)))[0]
    rows = [[tree_of(member.tree_)[0] for member in stage] for stage in estimator.estimators_]
    scored = started(start) + [
        Scored(tree, target, estimator.learning_rate * tree.value)
        for stage in rows
        for target, tree in enumerate(stage)
    ]
    graph.recipe.append(f"{step}: {len(scored)} trees in double, thresholds moved back to the raw columns")
    return ensemble(graph, scored, features, targets=len(start), narrow=True)


def started(start: np.ndarray) -> list[Scored]:
    """The baselines as trees that come first, so that the sum starts where the original's does."""
    trees = [constant_tree(float(value)) for value in start]
    return [Scored(tree, target, tree.value) for target, tree in enumerate(trees)]


def _linked(graph: Graph, estimator: Any, raw: str, step: str) -> str:
    return link_probabilities(graph, raw, type(estimator._loss.link).__name__, step)


def link_probabilities(graph: Graph, raw: str, link: str, step: str) -> str:
    """Probabilities `[n, k]` from raw scores, by the name of scikit-learn's link function."""
    if link == "MultinomialLogit":
        return graph.add("Softmax", [raw], width=graph.widths[raw], axis=1)
    if link == "HalfLogitLink":
        raw = graph.add("Mul", [raw, graph.constant(np.array(2.0))], width=1)
    elif link != "LogitLink":
        raise NotCompilable(step, f"probabilities by {link}")
    return complement(graph, graph.add("Sigmoid", [raw], width=1))
