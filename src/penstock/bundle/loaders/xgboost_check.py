"""The trees of a loaded XGBoost model, looked through before the first prediction: the library follows whatever indices
its file has, out of its own memory and round in circles.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from penstock.errors import BundleRefused


def check_trees(booster: Any) -> None:
    """Raise BundleRefused unless every tree of `booster` leads to its own leaves, features and outputs only."""
    learner = json.loads(booster.save_raw("json"))["learner"]
    boosting = learner["gradient_booster"]
    model = boosting.get("gbtree", boosting)["model"]
    if "trees" not in model:
        return
    held = learner["learner_model_param"]
    features = int(held["num_feature"])
    outputs = max(int(held["num_class"]), int(held["num_target"]), str(held["base_score"]).count(",") + 1)
    target = np.array(model["tree_info"], np.int64)
    trees = model["trees"]
    _require(len(target) == len(trees) and bool(((target >= 0) & (target < outputs)).all()), "trees of other outputs")
    _require(int(model["iteration_indptr"][-1]) == len(trees), "rounds of other trees")
    if boosting["name"] == "dart":
        _require(len(boosting["weight_drop"]) == len(trees), "weights of other trees")
    for tree in trees:
        _check_tree(tree, features)


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise BundleRefused(f"model.ubj: {otherwise}: it was changed, pack the model again")


def _check_tree(tree: dict[str, Any], features: int) -> None:
    names = ("left_children", "right_children", "split_indices", "default_left", "split_type")
    left, right, feature, default, kind = (np.array(tree[name], np.int64) for name in names)
    nodes = len(left)
    is_whole = all(len(of) == nodes for of in (right, feature, default, kind, tree["split_conditions"]))
    _require(nodes > 0 and is_whole, "a tree without all its parts")
    inner = left >= 0
    children = np.concatenate([left[inner], right[inner]])
    # Each node has one parent, and the root none: so no walk goes round.
    _require(bool(((children > 0) & (children < nodes)).all()), "a child that is not there")
    _require(len(np.unique(children)) == len(children), "a node with two parents")
    _require(bool(((feature >= 0) & (feature < features))[inner].all()), "a split of a feature that is not there")
    starts, sizes = (np.array(tree[f"categories_{name}"], np.int64) for name in ("segments", "sizes"))
    ends = starts + sizes
    within = ((starts >= 0) & (sizes >= 0) & (ends <= len(tree["categories"]))).all()
    _require(len(starts) == len(sizes) and bool(within), "a set of categories that is not there")
