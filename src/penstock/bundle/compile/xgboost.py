"""XGBoost: float32 features, thresholds exactly on training values, and sums in float32, all of it as the library does.

The trees are read from the model's own JSON. Each tree gets a column of its own, and the columns are added one after
the other in float32 (`CumSum`): a sum in double differs by up to 7e-6 in the margin of 100 trees, and flips labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.answers import Answer, column_of, label_of_largest
from penstock.bundle.compile.encoders import coded
from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.compile.trees import Scored, Tree, ensemble

_IDENTITY = (
    "reg:squarederror",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "reg:squaredlogerror",
    "reg:quantileerror",
)
_EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie")
_HIGHEST_EXPONENT = float(np.float32(88.7))


class XgboostTrees(msgspec.Struct, frozen=True):
    """The trees that `predict` walks, in their order, with the output that each adds to and where each output starts.

    `categories` are, by feature, the values behind the codes of a column that the model codes itself.
    """

    trees: tuple[Tree, ...]
    target: np.ndarray
    start: np.ndarray
    objective: str
    categories: dict[int, tuple[object, ...]]
    coded: frozenset[int]


def xgboost_answer(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """XGBClassifier, XGBRegressor and their random forests. Raises NotCompilable for boosters without plain trees."""
    model = xgboost_trees(estimator, step)
    features = _as_seen(graph, estimator, model, _coded(graph, model, features, step))
    numbers_only(features, step)
    margin = _margins(graph, model, features)
    graph.recipe.append(f"{step}: {len(model.trees)} trees, added in float32 in their order as XGBoost does")
    if not hasattr(estimator, "n_classes_"):
        value = _valued(graph, margin, model.objective, step)
        return {"values": value} if len(model.start) > 1 else {"values": value, "value": column_of(graph, value)}
    if model.objective == "binary:logistic":
        second = _sigmoid(graph, margin)
        one = graph.constant(np.array(1.0))
        first = graph.rounded(graph.add("Sub", [one, second], width=1))
        above = graph.add("Greater", [second, graph.constant(np.array(0.5))], width=1)
        label = column_of(graph, graph.cast(above, TensorProto.INT64))
        return {"label": label, "probabilities": graph.add("Concat", [first, second], width=2, axis=1)}
    if model.objective == "multi:softprob":
        probabilities = _softmax(graph, margin)
        return {"label": label_of_largest(graph, probabilities), "probabilities": probabilities}
    raise NotCompilable(step, f"the objective {model.objective} has no exact writing here")


def xgboost_trees(estimator: Any, step: str = "") -> XgboostTrees:
    """What a fitted XGBoost estimator predicts with. Raises NotCompilable for dart, gblinear and vector leaves."""
    booster = estimator.get_booster()
    best = booster.attr("best_iteration")
    kept = booster if best is None else booster[: int(best) + 1]
    model = json.loads(kept.save_raw("json"))
    learner = model["learner"]
    boosting = learner["gradient_booster"]
    if boosting["name"] != "gbtree":
        raise NotCompilable(step, f"XGBoost with booster={boosting['name']!r}; gbtree is compiled")
    grown = boosting["model"]["trees"]
    if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in grown):
        raise NotCompilable(step, "XGBoost with vectors in its leaves (multi_strategy='multi_output_tree')")
    if not grown:
        raise NotCompilable(step, "XGBoost without trees")
    kinds = learner["feature_types"]
    return XgboostTrees(
        trees=tuple(_tree_of(tree) for tree in grown),
        target=np.array(boosting["model"]["tree_info"], np.int64),
        start=_start(type(booster), model, int(learner["learner_model_param"]["num_feature"])),
        objective=str(learner["objective"]["name"]),
        categories=_categories(boosting["model"].get("cats", {}).get("enc", []), step),
        coded=frozenset(place for place, kind in enumerate(kinds) if kind == "c"),
    )


def _tree_of(tree: dict[str, Any]) -> Tree:
    left, right = (np.array(tree[side], np.int64) for side in ("left_children", "right_children"))
    values = np.array(tree["split_conditions"], np.float32)
    goes_left = np.array(tree["default_left"], bool)
    by_category = np.array(tree["split_type"], np.int64) == 1
    ends = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    members = {node: tuple(map(float, tree["categories"][at : at + size])) or (-1.0,) for node, at, size in ends}
    # The categories of a split go right, those of our trees left: such nodes are turned round.
    return Tree(
        feature=np.array(tree["split_indices"], np.int64),
        # `x < t` of float32 values is `x <=` the float32 before t.
        threshold=np.nextafter(values, np.float32(-np.inf)).astype(np.float64),
        left=np.where(by_category, right, left),
        right=np.where(by_category, left, right),
        missing_left=goes_left ^ by_category,
        value=values.astype(np.float64),
        members=members,
    )


def _start(kind: Callable[[], Any], model: dict[str, Any], width: int) -> np.ndarray:
    """The margins before the first tree, by the library's own arithmetic: the same model with every leaf zero."""
    for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
        leaves = [left < 0 for left in tree["left_children"]]
        tree["split_conditions"] = [
            0.0 if leaf else value for leaf, value in zip(leaves, tree["split_conditions"], strict=True)
        ]
    empty = kind()
    empty.load_model(bytearray(json.dumps(model), "ascii"))
    margin = empty.inplace_predict(np.zeros((1, width)), predict_type="margin", validate_features=False)
    return np.asarray(margin, dtype=np.float32).ravel()


def _categories(encodings: list[dict[str, Any]], step: str) -> dict[int, tuple[object, ...]]:
    """Texts are stored as bytes with offsets, numbers as they are.

    XGBoost 3.2 counts the offsets in characters and the bytes in UTF-8: beyond ASCII its texts are cut up, and which
    category a code stands for is known to its own dictionary alone.
    """
    found: dict[int, tuple[object, ...]] = {}
    for place, of in enumerate(encodings):
        if "type" in of:
            found[place] = tuple(of["values"])
        elif of["offsets"]:
            text = bytes(code % 256 for code in of["values"])
            if not text.isascii():
                raise NotCompilable(step, "categories beyond ASCII, which XGBoost stores cut up")
            ends = zip(of["offsets"], of["offsets"][1:], strict=False)
            found[place] = tuple(text[start:end].decode() for start, end in ends)
    return found


def _coded(graph: Graph, model: XgboostTrees, features: Features, step: str) -> Features:
    """Categories by their codes; codes that came as numbers without what follows the point."""
    out = list(features)
    for place in model.coded:
        if place in model.categories:
            (out[place],) = coded(graph, (features[place],), [model.categories[place]], step)
        else:
            numbers_only((features[place],), step)
            whole = graph.add("Floor", [graph.matrix((features[place],))], width=1)
            out[place] = Feature(tensor=whole, index=0, kind="number", nulls=(np.nan,))
    return tuple(out)


def _as_seen(graph: Graph, estimator: Any, model: XgboostTrees, features: Features) -> Features:
    """What counts as missing beside NaN: the value `missing`, and zeros that a sparse matrix does not hold."""
    sign = estimator.missing
    absent = [] if sign is None or np.isnan(float(sign)) else [float(np.float32(sign))]
    if any(feature.sparse for feature in features):
        absent.append(0.0)
    for value in absent:
        numbers = tuple(features[place] for place in range(len(features)) if place not in model.coded)
        if any(feature.kind != "number" for feature in numbers):
            return features
        raw = graph.matrix(numbers)
        found = graph.add("Equal", [graph.rounded(raw), graph.constant(np.array(value))])
        out = graph.add("Where", [found, graph.constant(np.array(np.nan)), raw], width=len(numbers))
        made = iter(Feature(tensor=out, index=at, kind="number", nulls=(np.nan,)) for at in range(len(numbers)))
        features = tuple(of if place in model.coded else next(made) for place, of in enumerate(features))
    return features


def _margins(graph: Graph, model: XgboostTrees, features: Features) -> str:
    """`[n, outputs]`: the float32 sums, held in double."""
    outputs = len(model.start)
    order = np.argsort(model.target, kind="stable")
    rounds = len(order) // outputs
    scored = []
    for column, number in enumerate(order):
        tree = model.trees[number]
        value = tree.value
        if column % rounds == 0:
            first = np.float32(model.start[model.target[number]])
            value = (value.astype(np.float32) + first).astype(np.float64)
        scored.append(Scored(tree, column, value))
    leaves = graph.cast(ensemble(graph, scored, features, targets=len(scored), narrow=True), TensorProto.FLOAT)
    apart = graph.add("Reshape", [leaves, graph.constant(np.array([-1, outputs, rounds], np.int64))])
    sums = graph.add("CumSum", [apart, graph.constant(np.array(2, np.int64))])
    last = graph.add("Gather", [sums, graph.constant(np.array(rounds - 1, np.int64))], width=outputs, axis=2)
    return graph.cast(last, TensorProto.DOUBLE)


def _valued(graph: Graph, margin: str, objective: str, step: str) -> str:
    if objective in _IDENTITY:
        return margin
    if objective == "reg:logistic":
        return _sigmoid(graph, margin)
    if objective in _EXPONENTIAL:
        return graph.rounded(graph.add("Exp", [margin], width=graph.widths[margin]))
    raise NotCompilable(step, f"the objective {objective} has no exact writing here")


def _sigmoid(graph: Graph, margin: str) -> str:
    """1 / (1 + exp(min(-x, 88.7))), each operation rounded to float32."""
    width = graph.widths[margin]
    lowest = graph.constant(np.array(-_HIGHEST_EXPONENT))
    negative = graph.add("Neg", [graph.add("Max", [margin, lowest], width=width)], width=width)
    power = graph.rounded(graph.add("Exp", [negative], width=width))
    one = graph.constant(np.array(1.0))
    below = graph.rounded(graph.add("Add", [power, one], width=width))
    return graph.rounded(graph.add("Div", [one, below], width=width))


def _softmax(graph: Graph, margin: str) -> str:
    """exp(x - max) in float32, their sum in double, the quotient in float32."""
    width = graph.widths[margin]
    largest = graph.add("ReduceMax", [margin, graph.constant(np.array([1], np.int64))], width=1, keepdims=1)
    power = graph.rounded(
        graph.add("Exp", [graph.rounded(graph.add("Sub", [margin, largest], width=width))], width=width)
    )
    total = graph.rounded(graph.add("ReduceSum", [power, graph.constant(np.array([1], np.int64))], width=1, keepdims=1))
    return graph.rounded(graph.add("Div", [power, total], width=width))
