"""LightGBM: float64 features and sums, its own kinds of missing values, categories by sets of codes.

The trees are read from the model's own text, whose numbers are whole doubles.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from penstock.bundle.compile.answers import Answer, column_of, complement, label_of_largest, label_where
from penstock.bundle.compile.encoders import coded
from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.compile.trees import Scored, Tree, ensemble
from penstock.bundle.loaders.lightgbm_text import numbers_of, settings_of

_BY_CATEGORY, _DEFAULT_LEFT = 1, 2
_ZERO, _NAN = 1, 2
_TINY = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: whatever is nearer to zero is zero."""

_IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
_EXPONENTIAL = ("poisson", "gamma", "tweedie")


class LightgbmTrees(msgspec.Struct, frozen=True):
    """The trees that `predict` walks, in order, tree i adding to output i modulo `outputs`; the objective's words.

    `zeros` are the features whose zeros are missing, `coded` those that are split by category; `categories` are the
    values of the training frame's columns of categories, in their order.
    """

    trees: tuple[Tree, ...]
    outputs: int
    objective: tuple[str, ...]
    zeros: frozenset[int]
    coded: frozenset[int]
    categories: tuple[tuple[object, ...], ...]
    is_mean: bool


def lightgbm_answer(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """LGBMClassifier and LGBMRegressor. Raises NotCompilable for linear trees and objectives of one's own."""
    model = lightgbm_trees(estimator, step)
    features = _as_seen(graph, model, features, step)
    numbers_only(features, step)
    scored = [Scored(tree, at % model.outputs, tree.value) for at, tree in enumerate(model.trees)]
    raw = ensemble(graph, scored, features, targets=model.outputs, narrow=False)
    if model.is_mean:
        rounds = np.array(float(len(model.trees) // model.outputs))
        raw = graph.add("Div", [raw, graph.constant(rounds)], width=model.outputs)
    graph.recipe.append(f"{step}: {len(model.trees)} trees in double, thresholds moved back to the raw columns")
    kind = model.objective[0]
    if not hasattr(estimator, "n_classes_"):
        return {"value": column_of(graph, _valued(graph, raw, model, step))}
    if kind == "binary":
        second = _sigmoid(graph, raw, model)
        both = complement(graph, second)
        ahead = graph.add("Sub", [second, graph.add("Sub", [graph.constant(np.array(1.0)), second])], width=1)
        return {"label": label_where(graph, "Greater", ahead), "probabilities": both}
    if kind == "multiclass":
        probabilities = graph.add("Softmax", [raw], width=model.outputs, axis=1)
    elif kind == "multiclassova":
        probabilities = _sigmoid(graph, raw, model)
    else:
        raise NotCompilable(step, f"the objective {kind} has no exact writing here")
    return {"label": label_of_largest(graph, probabilities), "probabilities": probabilities}


def lightgbm_trees(estimator: Any, step: str = "") -> LightgbmTrees:
    """What a fitted LightGBM estimator predicts with. Raises NotCompilable for linear trees."""
    booster = estimator.booster_
    text = booster.model_to_string(num_iteration=booster.best_iteration if booster.best_iteration > 0 else -1)
    head, _, rest = text.partition("\nTree=")
    body = rest.partition("\nend of trees")[0]
    settings = settings_of(head)
    sections = [settings_of(section) for section in body.split("\nTree=")] if body else []
    if not sections:
        raise NotCompilable(step, "LightGBM without trees")
    if any(section.get("is_linear", "0") == "1" for section in sections):
        raise NotCompilable(step, "LightGBM with linear trees (linear_tree=True)")
    found = [_tree_of(section) for section in sections]
    return LightgbmTrees(
        trees=tuple(tree for tree, _, _ in found),
        outputs=int(settings["num_tree_per_iteration"]),
        objective=tuple(settings.get("objective", "custom").split()),
        zeros=frozenset(int(place) for _, zeros, _ in found for place in zeros),
        coded=frozenset(int(place) for _, _, places in found for place in places),
        categories=tuple(map(tuple, booster.pandas_categorical or ())),
        is_mean="average_output" in settings,
    )


def _tree_of(section: dict[str, str]) -> tuple[Tree, np.ndarray, np.ndarray]:
    """A tree, the features at whose splits zero is missing, and those that it splits by category."""
    leaves = numbers_of(section, "leaf_value", np.float64)
    inner = int(section["num_leaves"]) - 1
    values = np.concatenate([np.zeros(inner), leaves])
    feature, kinds = (numbers_of(section, name, np.int64) for name in ("split_feature", "decision_type"))
    threshold = numbers_of(section, "threshold", np.float64)
    by_category = (kinds & _BY_CATEGORY) > 0
    missing = (kinds >> 2) & 3
    # Where NaN is not a missing value of its own, it is zero; a zero that counts as missing goes the default way.
    missing_left = np.where(missing == 0, threshold >= 0, (kinds & _DEFAULT_LEFT) > 0) & ~by_category
    ends = numbers_of(section, "cat_boundaries", np.int64)
    words = numbers_of(section, "cat_threshold", np.int64)
    members = {
        int(node): _members(words[ends[int(threshold[node])] : ends[int(threshold[node]) + 1]])
        for node in np.flatnonzero(by_category)
    }
    tree = Tree(
        feature=_padded(feature, leaves),
        threshold=_padded(threshold, leaves),
        left=_padded(_children(section, "left_child", inner), leaves, -1),
        right=_padded(_children(section, "right_child", inner), leaves, -1),
        missing_left=_padded(missing_left, leaves).astype(bool),
        value=values,
        members=members,
    )
    return tree, feature[(missing == _ZERO) & ~by_category], feature[by_category]


def _children(section: dict[str, str], name: str, inner: int) -> np.ndarray:
    """Leaves are numbered -1, -2, … in the file, and follow the inner nodes here."""
    children = numbers_of(section, name, np.int64)
    return np.where(children < 0, inner - 1 - children, children)


def _padded(values: np.ndarray, leaves: np.ndarray, fill: int = 0) -> np.ndarray:
    return np.concatenate([values, np.full(len(leaves), fill, values.dtype)])


def _members(words: np.ndarray) -> tuple[float, ...]:
    """The codes whose bit is set, 32 to a word."""
    codes = [32 * at + bit for at, word in enumerate(words.tolist()) for bit in range(32) if word >> bit & 1]
    return tuple(map(float, codes)) or (-1.0,)


def _as_seen(graph: Graph, model: LightgbmTrees, features: Features, step: str) -> Features:
    """Categories of the frame by their codes, codes of numbers as whole numbers, zeros gone where they are missing."""
    tables = iter(model.categories)
    out = []
    for place, feature in enumerate(features):
        if feature.is_category:
            table = next(tables, None)
            if table is None:
                raise NotCompilable(step, "a column of categories that the model was not fitted with")
            feature = coded(graph, (feature,), [table], step)[0]
        elif place in model.coded:
            feature = _whole(graph, feature)
        elif feature.kind == "number" and place in model.zeros:
            feature = _without_zeros(graph, feature)
        elif feature.kind == "number":
            feature = msgspec.structs.replace(feature, lift=feature.lifted().then(_zeroed))
        out.append(feature)
    return tuple(out)


def _zeroed(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) <= _TINY, 0.0, values)


def _whole(graph: Graph, feature: Feature) -> Feature:
    """A code cut off at the point, as C++ casts it: what lies between -1 and 1 is 0."""
    raw = graph.matrix((feature,))
    down = graph.add("Floor", [graph.add("Abs", [raw])])
    whole = graph.add("Mul", [graph.add("Sign", [raw]), down], width=1)
    return Feature(tensor=whole, index=0, kind="number", nulls=(np.nan,))


def _without_zeros(graph: Graph, feature: Feature) -> Feature:
    raw = graph.matrix((feature,))
    near = graph.add("LessOrEqual", [graph.add("Abs", [raw]), graph.constant(np.array(_TINY))])
    out = graph.add("Where", [near, graph.constant(np.array(np.nan)), raw], width=1)
    return Feature(tensor=out, index=0, kind="number", nulls=(np.nan,))


def _sigmoid(graph: Graph, raw: str, model: LightgbmTrees) -> str:
    """1 / (1 + exp(-sigmoid * x))."""
    width = graph.widths[raw]
    words = dict(word.split(":") for word in model.objective[1:] if ":" in word)
    scale = graph.constant(np.array(-float(words.get("sigmoid", 1))))
    power = graph.add("Exp", [graph.add("Mul", [raw, scale], width=width)], width=width)
    one = graph.constant(np.array(1.0))
    return graph.add("Div", [one, graph.add("Add", [power, one], width=width)], width=width)


def _valued(graph: Graph, raw: str, model: LightgbmTrees, step: str) -> str:
    kind = model.objective[0]
    if kind in _IDENTITY and "sqrt" not in model.objective:
        return raw
    if kind in _EXPONENTIAL:
        return graph.add("Exp", [raw], width=1)
    if kind == "cross_entropy":
        return _sigmoid(graph, raw, model)
    raise NotCompilable(step, f"the objective {' '.join(model.objective)} has no exact writing here")
