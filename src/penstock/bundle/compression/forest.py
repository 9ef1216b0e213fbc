"""Fewer trees: which of a fitted ensemble's trees stay.

Trees that vote (random forests): greedily, from none, the tree that lowers the error of the mean most on the chosen
rows (reduced-error ordering, Margineantu and Dietterich 1997, with the squared error of Martinez-Munoz and Suarez).
Stages of a sum (boosting): the first ones, as each stage corrects those before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.errors import PackRefused


def fewer_trees(forest: Any, rows: Any, truth: np.ndarray, kept: int) -> str:
    """Leave out all but `kept` trees of `forest`, in place; what was done, in words.

    `rows` are transformed as the forest takes them, `truth` `[n, k]` what perfect answers would be.
    """
    total = tree_count(forest)
    if hasattr(forest, "_predictors"):
        forest._predictors = forest._predictors[:kept]
        return f"the first {kept} of {total} stages of boosting stay"
    if isinstance(forest.estimators_, np.ndarray):
        forest.estimators_ = forest.estimators_[:kept]
        forest.n_estimators_ = kept
        forest.set_params(n_estimators=kept)
        return f"the first {kept} of {total} stages of boosting stay"
    chosen = reduced_error_order(_votes(forest, rows), truth, kept)
    forest.estimators_ = [forest.estimators_[place] for place in sorted(chosen)]
    forest.set_params(n_estimators=kept)
    return f"{kept} of {total} trees stay, chosen by reduced error on {len(truth):,} rows"


def tree_count(forest: Any) -> int:
    """How many trees, or stages of boosting. Raises PackRefused for what has none."""
    trees = getattr(forest, "_predictors", getattr(forest, "estimators_", None))
    name = type(forest).__name__
    known = ("RandomForest", "ExtraTrees", "GradientBoosting", "HistGradientBoosting")
    if trees is None or not any(name == f"{each}{end}" for each in known for end in ("Classifier", "Regressor")):
        raise PackRefused(
            "prune",
            f"{name} is nothing that can be pruned",
            "Prune forests, gradient boosting of scikit-learn, MLPs, and Sequential modules of Linear layers",
        )
    return len(trees)


def reduced_error_order(votes: np.ndarray, truth: np.ndarray, kept: int) -> list[int]:
    """The first `kept` trees by number, `votes` being `[trees, n, k]`; ties go to the first tree. Deterministic."""
    total = np.zeros_like(truth, dtype=np.float64)
    left = list(range(len(votes)))
    chosen: list[int] = []
    while len(chosen) < kept:
        goal = (len(chosen) + 1) * truth - total
        errors = [float(np.square(votes[place] - goal).sum()) for place in left]
        best = left.pop(int(np.argmin(errors)))
        chosen.append(best)
        total += votes[best]
    return chosen


def _votes(forest: Any, rows: Any) -> np.ndarray:
    """Each tree's own answers, `[trees, n, k]`."""
    plain = np.asarray(forest._validate_X_predict(rows))
    ask = "predict_proba" if hasattr(forest, "predict_proba") else "predict"
    answers = [np.asarray(getattr(tree, ask)(plain), dtype=np.float64) for tree in forest.estimators_]
    return np.stack([answer.reshape(len(plain), -1) for answer in answers])
