"""The trees of any booster, for the proof: which thresholds there are, and whether they are compared in float32."""

from __future__ import annotations

from typing import Any

from penstock.bundle.compile.catboost import catboost_trees
from penstock.bundle.compile.lightgbm import lightgbm_trees
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.compile.trees import Tree
from penstock.bundle.compile.xgboost import xgboost_trees


def boosted_trees(estimator: Any) -> tuple[tuple[Tree, ...], bool] | None:
    """The trees of a fitted booster and whether they see float32; None for any other estimator, or for no plain trees.

    The thresholds are of `x <= threshold`, whatever the library itself asks.
    """
    library = type(estimator).__module__.partition(".")[0]
    try:
        if library == "xgboost":
            return xgboost_trees(estimator).trees, True
        if library == "lightgbm":
            return lightgbm_trees(estimator).trees, False
        if library == "catboost":
            return tuple(tree for tree, _ in catboost_trees(estimator).trees), True
    except NotCompilable:
        return None
    return None
