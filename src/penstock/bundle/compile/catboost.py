"""CatBoost on numbers: float32 features, float32 borders, sums in double. The trees come from its own JSON export.

Models with categories, texts or embeddings of their own stay native: what they compute of them is not in the trees.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.compile.answers import Answer, column_of, complement, label_of_largest, label_where
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.compile.trees import Scored, Tree, ensemble
from penstock.bundle.loaders.catboost import prediction_type


class CatboostTrees(msgspec.Struct, frozen=True):
    """The trees with their leaves' values `[nodes, outputs]`; raw answers are `scale * sum + bias`."""

    trees: tuple[tuple[Tree, np.ndarray], ...]
    scale: float
    bias: np.ndarray
    loss: str


def catboost_answer(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """CatBoostClassifier and CatBoostRegressor without columns of categories, texts or embeddings."""
    model = catboost_trees(estimator, step)
    numbers_only(features, step)
    raw = _raw(graph, model, features)
    graph.recipe.append(f"{step}: {len(model.trees)} trees in double, thresholds moved back to the raw columns")
    if type(estimator).__name__ == "CatBoostRegressor":
        value = _valued(graph, raw, prediction_type(estimator), step)
        return {"values": value} if len(model.bias) > 1 else {"values": value, "value": column_of(graph, value)}
    if len(model.bias) == 1:
        threshold = estimator.get_probability_threshold()
        if model.loss not in ("Logloss", "CrossEntropy") or threshold not in (None, 0.5):
            raise NotCompilable(step, f"the loss {model.loss} with the threshold {threshold}")
        probabilities = complement(graph, graph.add("Sigmoid", [raw], width=1))
        return {"label": label_where(graph, "Greater", raw), "probabilities": probabilities}
    if model.loss == "MultiClass":
        probabilities = graph.add("Softmax", [raw], width=len(model.bias), axis=1)
    elif model.loss == "MultiClassOneVsAll":
        probabilities = graph.add("Sigmoid", [raw], width=len(model.bias))
    else:
        raise NotCompilable(step, f"the loss {model.loss} has no exact writing here")
    return {"label": label_of_largest(graph, raw), "probabilities": probabilities}


def catboost_trees(estimator: Any, step: str = "") -> CatboostTrees:
    """What a fitted CatBoost estimator predicts with. Raises NotCompilable where it has columns that are no numbers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.json")
        estimator.save_model(str(path), format="json")
        model = json.loads(path.read_text(encoding="utf-8"))
    info = model["features_info"]
    others = [kind for kind in ("categorical_features", "text_features", "embedding_features") if info.get(kind)]
    if others:
        raise NotCompilable(step, f"CatBoost with {others[0].replace('_', ' ')} of its own")
    scale, bias = model["scale_and_bias"]
    numbers = info["float_features"]
    flat = {at: int(one["flat_feature_index"]) for at, one in enumerate(numbers)}
    above = {at: one["nan_value_treatment"] == "AsTrue" for at, one in enumerate(numbers)}
    grown = model.get("oblivious_trees")
    made = [_oblivious(tree) for tree in grown] if grown is not None else [_branched(tree) for tree in model["trees"]]
    outputs = len(bias)
    return CatboostTrees(
        trees=tuple(_tree_of(nodes, flat, above, outputs) for nodes in made),
        scale=float(scale),
        bias=np.array(bias, np.float64),
        loss=str(model["model_info"]["params"]["loss_function"]["type"]),
    )


_Node = tuple[int, float, int, int, Any]
"""Feature, border, left and right child (-1 in a leaf), the leaf's values."""


def _oblivious(tree: dict[str, Any]) -> list[_Node]:
    """A tree that asks one question a level, as a binary tree; bit i of a leaf's number is the answer to split i."""
    splits = tree.get("splits") or []
    values = np.array(tree["leaf_values"], np.float64).reshape(1 << len(splits), -1)
    nodes: list[_Node] = []

    def grow(depth: int, leaf: int) -> int:
        at = len(nodes)
        if depth < 0:
            nodes.append((0, 0.0, -1, -1, values[leaf]))
            return at
        nodes.append((0, 0.0, -1, -1, None))
        # The last split is asked first: the leaves' order is then that of the file.
        left, right = grow(depth - 1, leaf), grow(depth - 1, leaf | 1 << depth)
        nodes[at] = (splits[depth]["float_feature_index"], splits[depth]["border"], left, right, None)
        return at

    grow(len(splits) - 1, 0)
    return nodes


def _branched(tree: dict[str, Any]) -> list[_Node]:
    """A tree that grew by depth or by loss: nodes within nodes."""
    nodes: list[_Node] = []

    def grow(node: dict[str, Any]) -> int:
        at = len(nodes)
        if "split" not in node:
            nodes.append((0, 0.0, -1, -1, np.ravel(np.array(node["value"], np.float64))))
            return at
        nodes.append((0, 0.0, -1, -1, None))
        left, right = grow(node["left"]), grow(node["right"])
        nodes[at] = (node["split"]["float_feature_index"], node["split"]["border"], left, right, None)
        return at

    grow(tree)
    return nodes


def _tree_of(nodes: list[_Node], flat: dict[int, int], above: dict[int, bool], outputs: int) -> tuple[Tree, np.ndarray]:
    feature, border, left, right, values = zip(*nodes, strict=True)
    leaves = np.array([np.zeros(outputs) if value is None else value for value in values])
    tree = Tree(
        feature=np.array([flat[at] for at in feature], np.int64),
        threshold=np.array(border, np.float32).astype(np.float64),
        left=np.array(left, np.int64),
        right=np.array(right, np.int64),
        missing_left=np.array([not above[at] for at in feature], bool),
        value=leaves[:, 0],
    )
    return tree, leaves


def _raw(graph: Graph, model: CatboostTrees, features: Features) -> str:
    outputs = len(model.bias)
    scored = [Scored(tree, at, leaves[:, at]) for tree, leaves in model.trees for at in range(outputs)]
    raw = ensemble(graph, scored, features, targets=outputs, narrow=True)
    if model.scale != 1.0:
        raw = graph.add("Mul", [raw, graph.constant(np.array(model.scale))], width=outputs)
    if model.bias.any():
        raw = graph.add("Add", [raw, graph.constant(model.bias.reshape(1, -1))], width=outputs)
    return raw


def _valued(graph: Graph, raw: str, answers: str, step: str) -> str:
    if answers == "RawFormulaVal":
        return raw
    if answers == "Exponent":
        return graph.add("Exp", [raw], width=graph.widths[raw])
    raise NotCompilable(step, f"CatBoost that answers {answers} has no exact writing here")
