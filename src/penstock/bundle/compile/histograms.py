"""HistGradientBoosting, which compares float64 values, and splits categories by sets of codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.bundle.compile.answers import Answer, column_of, label_of_largest, label_where
from penstock.bundle.compile.encoders import ordinal_encoder
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.forests import link_probabilities, started
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.compile.trees import Scored, Tree, ensemble


def histogram_classifier(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """HistGradientBoostingClassifier: label 1 where the raw score is above zero."""
    raw = _raw(graph, estimator, features, step)
    link = type(estimator._loss.link).__name__
    label = label_where(graph, "Greater", raw) if graph.widths[raw] == 1 else label_of_largest(graph, raw)
    return {"label": label, "probabilities": link_probabilities(graph, raw, link, step), "scores": raw}


def histogram_regressor(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """HistGradientBoostingRegressor: the raw score, or its exponential for counts and positive values."""
    raw = _raw(graph, estimator, features, step)
    link = type(estimator._loss.link).__name__
    if link not in ("IdentityLink", "LogLink"):
        raise NotCompilable(step, f"values by {link}")
    return {"value": column_of(graph, graph.add("Exp", [raw], width=1) if link == "LogLink" else raw)}


def _raw(graph: Graph, estimator: Any, features: Features, step: str) -> str:
    if estimator._preprocessor is not None:
        features = _coded(graph, estimator._preprocessor, features, step)
    numbers_only(features, step)
    start = np.asarray(estimator._baseline_prediction, dtype=np.float64).ravel()
    scored = started(start)
    for stage in estimator._predictors:
        for target, predictor in enumerate(stage):
            tree = _tree_of(predictor)
            scored.append(Scored(tree, target, tree.value))
    graph.recipe.append(f"{step}: {len(scored)} trees in double, thresholds moved back to the raw columns")
    return ensemble(graph, scored, features, targets=len(start), narrow=False)


def _coded(graph: Graph, preprocessor: Any, features: Features, step: str) -> Features:
    """The estimator's own preprocessing: categories by their codes first, then the numbers."""
    places = preprocessor._transformer_to_input_indices
    encoder = preprocessor.named_transformers_["encoder"]
    coded = tuple(features[place] for place in places["encoder"])
    numbers = tuple(features[place] for place in places["numerical"])
    return ordinal_encoder(graph, encoder, coded, step) + numbers


def _tree_of(predictor: Any) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    split = nodes["is_categorical"].astype(bool) & ~leaf
    members = {int(node): _members(predictor, int(nodes["bitset_idx"][node])) for node in np.flatnonzero(split)}
    return Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=nodes["value"].astype(np.float64),
        members=members,
    )


def _members(predictor: Any, index: int) -> tuple[float, ...]:
    """The codes whose bit is set: 256 bits in eight words."""
    words = predictor.raw_left_cat_bitsets[index]
    codes = tuple(float(code) for code in range(256) if words[code // 32] >> np.uint32(code % 32) & np.uint32(1))
    # Only missing values go left at some splits; the operator wants a member all the same, and no code is negative.
    return codes or (-1.0,)
