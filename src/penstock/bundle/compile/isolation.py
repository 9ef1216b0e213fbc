"""IsolationForest: path lengths added in double, and the label from their sum alone."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto
from sklearn.ensemble._iforest import _average_path_length

from penstock.bundle.compile.answers import Answer, column_of
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.forests import tree_of
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.pullback import pulled_back
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.compile.trees import Scored, Tree, ensemble

_BELOW_ZERO = np.nextafter(0.0, -1.0)


def isolation_forest(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """`value` is the decision function; the label is an outlier where the original's own one is below zero.

    The decision function grows with the sum of path lengths, so the label compares the sum with the one number where
    the original's arithmetic changes its mind: no last bit of a power decides.
    """
    numbers_only(features, step)
    longest = len(estimator.estimators_) * float(_average_path_length([estimator._max_samples])[0])
    if longest == 0:
        raise NotCompilable(step, "an isolation forest of single rows")
    scored = []
    for place, (member, columns) in enumerate(zip(estimator.estimators_, estimator.estimators_features_, strict=True)):
        tree = remapped(tree_of(member.tree_)[0], np.asarray(columns))
        lengths = estimator._decision_path_lengths[place] + estimator._average_path_length_per_tree[place] - 1.0
        scored.append(Scored(tree, 0, np.asarray(lengths, np.float64)))
    depth = ensemble(graph, scored, features, targets=1, narrow=True)
    share = graph.add("Div", [depth, graph.constant(np.array(longest))], width=1)
    power = graph.add("Pow", [graph.constant(np.array(2.0)), graph.add("Neg", [share])], width=1)
    value = graph.add("Sub", [graph.add("Neg", [power]), graph.constant(np.array(float(estimator.offset_)))], width=1)

    def decision(depths: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(-(2 ** (-np.divide(depths, longest))) - estimator.offset_)

    turn = pulled_back(decision, np.array([_BELOW_ZERO]), narrow=False)
    above = graph.add("Greater", [depth, graph.constant(turn.reshape(1, 1))], width=1)
    graph.recipe.append(f"{step}: {len(scored)} isolation trees in double, thresholds moved back to the raw columns")
    label = column_of(graph, graph.cast(above, TensorProto.INT64))
    return {"label": label, "value": column_of(graph, value), "scores": value}


def remapped(tree: Tree, columns: np.ndarray) -> Tree:
    """A tree that was fitted on some of the columns, asking them by their numbers among all."""
    feature = np.where(tree.left >= 0, columns[np.maximum(tree.feature, 0)], tree.feature)
    return msgspec.structs.replace(tree, feature=feature)
