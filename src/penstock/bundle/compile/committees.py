"""Ensembles of whole estimators: Bagging, Voting, AdaBoost. Where the members are trees, all become one operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.answers import Answer, column_of, label_of_largest, label_where
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.forests import tree_of
from penstock.bundle.compile.fractions import Grown, class_answer, mean_of
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.isolation import remapped
from penstock.bundle.compile.refusal import NotCompilable, within
from penstock.bundle.compile.trees import Scored, ensemble

Lower: TypeAlias = Callable[[Graph, Any, Features, str], Answer]
"""Writes an inner estimator: `lower.lower_answer`."""


def part_of(answer: Answer, name: str, step: str) -> str:
    """An output of an inner estimator. Raises NotCompilable when its graph does not have it."""
    if name not in answer:
        raise NotCompilable(step, f"the graph of an estimator inside has no {name}")
    return answer[name]


def members_of(graph: Graph, estimator: Any, features: Features, *, step: str, lower: Lower) -> list[Answer]:
    """The answers of the estimators inside, each on the columns that it was fitted on."""
    members = list(estimator.estimators_)
    owned = getattr(estimator, "estimators_features_", None)
    out = []
    for place, member in enumerate(members):
        chosen = features if owned is None else tuple(features[int(column)] for column in owned[place])
        out.append(lower(graph, member, chosen, within(step, type(member).__name__)))
    return out


def summed(graph: Graph, tensors: Sequence[str]) -> str:
    """The sum, from the first to the last, as a loop over numpy arrays adds them."""
    width = graph.widths[tensors[0]]
    return reduce(lambda left, right: graph.add("Add", [left, right], width=width), tensors)


def weighted_mean(graph: Graph, tensors: Sequence[str], weights: Sequence[float] | None) -> str:
    """numpy's `average` over the estimators."""
    width = graph.widths[tensors[0]]
    if weights is None:
        return mean_of(graph, summed(graph, tensors), len(tensors))
    parts = [graph.add("Mul", [tensor, graph.constant(np.array(float(weight)))], width=width)
             for tensor, weight in zip(tensors, weights, strict=True)]  # fmt: skip
    return graph.add("Div", [summed(graph, parts), graph.constant(np.array(float(np.sum(weights))))], width=width)


def as_column(graph: Graph, tensor: str) -> str:
    """`[n]` as `[n, 1]`."""
    return graph.add("Reshape", [tensor, graph.constant(np.array([-1, 1], np.int64))], width=1)


def one_hot_label(graph: Graph, label: str, places: Sequence[int], classes: int) -> str:
    """`[n, classes]` bool: the class that an inner label stands for, by its place among the outer classes."""
    outer = graph.add("Gather", [graph.constant(np.array(places, np.int64)), as_column(graph, label)], width=1, axis=0)
    return graph.add("Equal", [outer, graph.constant(np.arange(classes).reshape(1, -1))], width=classes)


def places_among(inner: Any, outer: Any) -> list[int]:
    """The place of each inner class among the outer ones."""
    known = list(np.asarray(outer).tolist())
    return [known.index(label) for label in np.asarray(inner).tolist()]


def _are_trees(estimator: Any) -> bool:
    return all(hasattr(member, "tree_") for member in estimator.estimators_)


def _grown(estimator: Any) -> Grown:
    owned = getattr(estimator, "estimators_features_", [None] * len(estimator.estimators_))
    pairs = [tree_of(member.tree_) for member in estimator.estimators_]
    return [
        (tree if columns is None else remapped(tree, np.asarray(columns)), values)
        for (tree, values), columns in zip(pairs, owned, strict=True)
    ]


def bagging_classifier(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """BaggingClassifier: the mean of the members' probabilities, or of their votes."""
    classes = len(estimator.classes_)
    if any(len(member.classes_) != classes for member in estimator.estimators_):
        raise NotCompilable(step, "a member that never saw one of the classes")
    graph.recipe.append(f"{step}: the mean of {len(estimator.estimators_)} classifiers")
    if _are_trees(estimator):
        return class_answer(graph, _grown(estimator), features, is_mean=True)
    votes = []
    for member, answer in zip(
        estimator.estimators_, members_of(graph, estimator, features, step=step, lower=lower), strict=True
    ):
        if hasattr(member, "predict_proba"):
            votes.append(part_of(answer, "probabilities", step))
        else:
            hit = one_hot_label(graph, answer["label"], range(classes), classes)
            votes.append(graph.cast(hit, TensorProto.DOUBLE))
    mean = mean_of(graph, summed(graph, votes), len(votes))
    return {"label": label_of_largest(graph, mean), "probabilities": mean}


def bagging_regressor(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """BaggingRegressor: the mean of the members' values."""
    graph.recipe.append(f"{step}: the mean of {len(estimator.estimators_)} regressors")
    if _are_trees(estimator):
        scored = [Scored(tree, 0, values[:, 0]) for tree, values in _grown(estimator)]
        sums = ensemble(graph, scored, features, targets=1, narrow=True)
        return {"value": column_of(graph, mean_of(graph, sums, len(scored)))}
    answers = members_of(graph, estimator, features, step=step, lower=lower)
    values = [as_column(graph, part_of(answer, "value", step)) for answer in answers]
    return {"value": column_of(graph, weighted_mean(graph, values, None))}


def voting_classifier(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """VotingClassifier: the weighted mean of probabilities (soft), or the class with most votes (hard)."""
    answers = members_of(graph, estimator, features, step=step, lower=lower)
    weights = estimator._weights_not_none
    graph.recipe.append(f"{step}: {estimator.voting} vote of {len(answers)} classifiers")
    if estimator.voting == "soft":
        mean = weighted_mean(graph, [part_of(answer, "probabilities", step) for answer in answers], weights)
        return {"label": label_of_largest(graph, mean), "probabilities": mean}
    classes = len(estimator.classes_)
    votes = []
    for place, (member, answer) in enumerate(zip(estimator.estimators_, answers, strict=True)):
        own = places_among(member.classes_, range(classes))
        hit = graph.cast(one_hot_label(graph, answer["label"], own, classes), TensorProto.DOUBLE)
        weight = graph.constant(np.array(1.0 if weights is None else float(weights[place])))
        votes.append(graph.add("Mul", [hit, weight], width=classes))
    return {"label": label_of_largest(graph, summed(graph, votes))}


def voting_regressor(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """VotingRegressor: the weighted mean of values."""
    answers = members_of(graph, estimator, features, step=step, lower=lower)
    values = [as_column(graph, part_of(answer, "value", step)) for answer in answers]
    graph.recipe.append(f"{step}: the mean of {len(answers)} regressors")
    return {"value": column_of(graph, weighted_mean(graph, values, estimator._weights_not_none))}


def adaboost_classifier(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """AdaBoostClassifier (SAMME): each member's class gets its weight, each other class a share taken away."""
    classes = len(estimator.classes_)
    graph.recipe.append(f"{step}: weighted votes of {len(estimator.estimators_)} classifiers")
    if _are_trees(estimator):
        total = _boosted_trees(graph, estimator, features)
    else:
        total = _boosted_members(graph, estimator, features, step=step, lower=lower)
    weight = graph.constant(np.array(float(estimator.estimator_weights_.sum())))
    scores = graph.add("Div", [total, weight], width=classes)
    if classes > 2:
        scaled = graph.add("Div", [scores, graph.constant(np.array(float(classes - 1)))], width=classes)
        probabilities = graph.add("Softmax", [scaled], width=classes, axis=1)
        return {"label": label_of_largest(graph, scores), "probabilities": probabilities, "scores": scores}
    first, second = (graph.gather(scores, [place]) for place in (0, 1))
    alone = graph.add("Sub", [second, first], width=1)
    both = graph.add("Concat", [graph.add("Neg", [alone]), alone], width=2, axis=1)
    halved = graph.add("Div", [both, graph.constant(np.array(2.0))], width=2)
    probabilities = graph.add("Softmax", [halved], width=2, axis=1)
    return {"label": label_where(graph, "Greater", alone), "probabilities": probabilities, "scores": alone}


def _votes(estimator: Any, weight: float) -> tuple[float, float]:
    return float(weight), float(-1 / (len(estimator.classes_) - 1) * weight)


def _boosted_trees(graph: Graph, estimator: Any, features: Features) -> str:
    classes = len(estimator.classes_)
    scored = []
    for member, weight in zip(estimator.estimators_, estimator.estimator_weights_, strict=False):
        tree, values = tree_of(member.tree_)
        places = np.array(places_among(member.classes_, estimator.classes_))[values.argmax(axis=1)]
        yes, no = _votes(estimator, weight)
        scored += [Scored(tree, target, np.where(places == target, yes, no)) for target in range(classes)]
    return ensemble(graph, scored, features, targets=classes, narrow=True)


def _boosted_members(graph: Graph, estimator: Any, features: Features, *, step: str, lower: Lower) -> str:
    classes = len(estimator.classes_)
    answers = members_of(graph, estimator, features, step=step, lower=lower)
    votes = []
    for member, answer, weight in zip(estimator.estimators_, answers, estimator.estimator_weights_, strict=False):
        yes, no = (graph.constant(np.array(vote)) for vote in _votes(estimator, weight))
        own = places_among(member.classes_, estimator.classes_)
        hit = one_hot_label(graph, answer["label"], own, classes)
        votes.append(graph.add("Where", [hit, yes, no], width=classes))
    return summed(graph, votes)


def adaboost_regressor(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """AdaBoostRegressor: the weighted median of the members' values."""
    count = len(estimator.estimators_)
    if _are_trees(estimator):
        scored = [Scored(tree, place, values[:, 0]) for place, (tree, values) in enumerate(_grown(estimator))]
        each = ensemble(graph, scored, features, targets=count, narrow=True)
    else:
        answers = members_of(graph, estimator, features, step=step, lower=lower)
        columns = [as_column(graph, part_of(answer, "value", step)) for answer in answers]
        each = graph.add("Concat", columns, width=count, axis=1)
    graph.recipe.append(f"{step}: the weighted median of {count} regressors")
    return {"value": column_of(graph, _weighted_median(graph, each, estimator.estimator_weights_[:count]))}


def _weighted_median(graph: Graph, each: str, weights: np.ndarray) -> str:
    """The first value, in ascending order, at which the weights so far reach half of their sum."""
    count = len(weights)
    ordered, places = _sorted(graph, each, count)
    owned = graph.add("Gather", [graph.constant(np.asarray(weights, np.float64)), places], width=count, axis=0)
    so_far = graph.add("CumSum", [owned, graph.constant(np.array(1, np.int64))], width=count)
    half = graph.add("Mul", [graph.constant(np.array(0.5)), graph.gather(so_far, [count - 1])], width=1)
    reached = graph.cast(graph.add("GreaterOrEqual", [so_far, half], width=count), TensorProto.INT64)
    first = graph.add("ArgMax", [reached], axis=1, keepdims=1, select_last_index=0)
    return graph.add("GatherElements", [ordered, first], width=1, axis=1)


def _sorted(graph: Graph, each: str, count: int) -> tuple[str, str]:
    """The values of each row in ascending order, and the columns that they come from."""
    wanted = graph.constant(np.array([count], np.int64))
    return graph.add_two("TopK", [each, wanted], axis=1, largest=0, sorted=1)
