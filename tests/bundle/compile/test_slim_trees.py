"""Forests of several classes: splits that change nothing for a class are left out, and not one bit changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

import penstock
from penstock.bundle.compile.trees import Scored, Tree, collapsed


def flowers(rows: int, *, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of three numbers and their class of four."""
    draw = np.random.default_rng(seed)
    table = pd.DataFrame(draw.normal(size=(rows, 3)).round(2), columns=["long", "wide", "deep"])
    return table, np.digitize(table["long"] + 0.3 * table["wide"], [-0.7, 0.0, 0.9])


def packed(estimator: Any, directory: Path) -> tuple[Any, dict[str, int]]:
    """The original served again, and how many operators of a kind its graph has."""
    table, label = flowers(400, seed=0)
    penstock.pack(estimator.fit(table, label), name="flowers", sample=table, out=directory)
    graph = onnx.load(directory / "flowers-1" / "model.onnx").graph
    splits = [len(one.ints) for node in graph.node for one in node.attribute if one.name == "nodes_featureids"]
    return penstock.open(directory / "flowers-1"), {**{node.op_type: 1 for node in graph.node}, "splits": sum(splits)}


@pytest.mark.parametrize(
    ("estimator", "is_complement"),
    [
        pytest.param(RandomForestClassifier(12, random_state=0), True, id="pure leaves: one class is the rest"),
        pytest.param(RandomForestClassifier(12, max_depth=4, random_state=0), False, id="mixed leaves"),
        pytest.param(ExtraTreesClassifier(9, min_samples_leaf=3, random_state=0), False, id="extra trees"),
    ],
)
def test_probabilities_are_the_originals_to_the_last_bit(estimator: Any, is_complement: bool, tmp_path: Path) -> None:
    """On rows that were never seen; and there are fewer splits than the trees have for each class."""
    model, operators = packed(estimator, tmp_path)
    table, _ = flowers(500, seed=1)
    answers = [list(one.probabilities.values()) for one in model.predict(table)]
    assert np.array_equal(np.array(answers), estimator.predict_proba(table))
    assert ("Gemm" in operators) is is_complement
    of_all_classes = 4 * sum(int((tree.tree_.children_left >= 0).sum()) for tree in estimator.estimators_)
    assert operators["splits"] < of_all_classes


def test_a_collapsed_tree_asks_only_what_matters() -> None:
    """Two leaves of one value become one, and so does what then has two of one value; -0.0 is not 0.0."""
    tree = Tree(
        feature=np.array([0, 1, 2, -2, -2, -2, 3, -2, -2]),
        threshold=np.arange(9.0),
        left=np.array([1, 2, 3, -1, -1, -1, 7, -1, -1]),
        right=np.array([6, 5, 4, -1, -1, -1, 8, -1, -1]),
        missing_left=np.zeros(9, bool),
        value=np.zeros(9),
        members={2: (1.0,), 6: (3.0, 4.0)},
    )
    slim = collapsed(Scored(tree, 1, np.array([9, 9, 9, 0.25, 0.25, 0.25, 9, 0.0, -0.0])))
    assert slim.tree.left.tolist() == [1, -1, 3, -1, -1]
    assert slim.tree.right.tolist() == [2, -1, 4, -1, -1]
    assert slim.tree.feature[[0, 2]].tolist() == [0, 3]
    assert slim.value[[1, 3, 4]].tolist() == [0.25, 0.0, -0.0]
    assert slim.tree.members == {2: (3.0, 4.0)}
