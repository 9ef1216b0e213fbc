"""Compression: what is left out, what is measured, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import penstock
from penstock.bundle.compression.forest import reduced_error_order
from penstock.bundle.compression.record import Compression
from penstock.bundle.compression.units import Layer, narrower
from penstock.bundle.describe import summary
from penstock.bundle.evaluation import Evaluation
from penstock.errors import PackRefused

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(RANDOM.normal(size=(600, 4)), columns=list("abcd"))
AMOUNT = (ROWS["a"] * 2.0 + ROWS["b"] ** 2).to_numpy()
LEFT = np.where(AMOUNT + RANDOM.normal(size=600) * 0.3 > 1.0, "yes", "no")


def packed(model: Any, target: np.ndarray, where: Path, **options: Any) -> penstock.Bundle:
    fitted = model.fit(ROWS[:400], target[:400])
    return penstock.pack(
        fitted,
        name="small",
        sample=ROWS[:400],
        holdout=(ROWS[400:], target[400:]),
        out=where,
        options=penstock.PackOptions(golden_rows=16, threshold_budget=20, **options),
    )


def record(bundle: penstock.Bundle) -> Compression:
    found = bundle.part("compression.json", Compression)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "target", "said"),
    [
        (RandomForestClassifier(20, max_depth=4, random_state=0), LEFT, "10 of 20 trees stay, chosen by reduced error"),
        (make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=20, random_state=0)), AMOUNT,
         "the first 10 of 20 stages of boosting stay"),
        (HistGradientBoostingClassifier(max_iter=20), LEFT, "the first 10 of 20 stages of boosting stay"),
    ],
    ids=["forest", "boosting in a pipeline", "histograms"],
)  # fmt: skip
def test_half_of_the_trees(model: Any, target: np.ndarray, said: str, tmp_path: Path) -> None:
    """The pruned model is proven against its pruned original, and is smaller."""
    bundle = packed(model, target, tmp_path, prune=0.5, max_loss=1.0)
    done = record(bundle)
    assert ("onnx", True) == (bundle.flavour, bundle.proof is not None and bundle.proof.is_exact)
    assert done.steps[0].startswith(said)
    assert done.after.size_bytes < 0.75 * done.before.size_bytes
    assert done.distance.largest > 0.0


def test_rows_that_chose_do_not_judge(tmp_path: Path) -> None:
    """Every second row of the holdout chooses the trees; loss and evaluation stand on the others."""
    bundle = packed(RandomForestClassifier(8, max_depth=3, random_state=0), LEFT, tmp_path, prune=0.5, max_loss=1.0)
    evaluation = bundle.part("evaluation.json", Evaluation)
    assert (100, 100) == (record(bundle).judged_rows, evaluation.rows if evaluation else 0)
    assert record(bundle).after.metrics == (evaluation.metrics if evaluation else {})


def test_narrower_layers_of_a_perceptron(tmp_path: Path) -> None:
    """Hidden units go and the next layers are refitted; the graph is that of the narrower perceptron."""
    model = make_pipeline(StandardScaler(), MLPClassifier((24, 16), max_iter=60, random_state=0, tol=1e-2))
    done = record(packed(model, LEFT, tmp_path, prune=0.5, max_loss=0.2))
    assert "12 of 24, 8 of 16" in done.steps[0]
    assert done.after.size_bytes < done.before.size_bytes


@pytest.mark.parametrize("quantize", ["int8", "int8-dynamic"])
def test_eight_bits_answer_each_row_alone(quantize: str, tmp_path: Path) -> None:
    """In a batch a row gets the answer that it gets alone, and the distance to the original is recorded."""
    model = MLPClassifier((48, 48), max_iter=40, random_state=0, tol=1e-2)
    bundle = packed(model, LEFT, tmp_path, quantize=quantize, max_loss=0.2)
    opened = penstock.open(bundle.path)
    together = opened.predict(ROWS[:50])
    alone = [opened.predict(ROWS[place : place + 1])[0] for place in range(50)]
    assert [one.label for one in alone] == [one.label for one in together]
    pairs = zip(alone, together, strict=True)
    largest = max(abs(one.probabilities["yes"] - two.probabilities["yes"]) for one, two in pairs)
    assert largest < 1e-6
    done = record(bundle)
    assert 0.0 < done.distance.mean <= done.distance.largest < 0.2
    assert done.after.size_bytes < 0.5 * done.before.size_bytes
    assert {"compressed", "from the original"} <= {name for name, _ in summary(bundle)}


def test_more_loss_than_allowed_is_refused(tmp_path: Path) -> None:
    """Nothing is packed when the metric falls by more than the limit; the message has the figures."""
    with pytest.raises(PackRefused, match=r"accuracy goes from 0\.\d+ to 0\.\d+ on 100 rows: .* at most 0\.005 may be"):
        packed(HistGradientBoostingClassifier(max_iter=20, learning_rate=0.03), LEFT, tmp_path, prune=0.95)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (LogisticRegression(), {"prune": 0.5}, "LogisticRegression is nothing that can be pruned"),
        (RandomForestClassifier(4, random_state=0), {"quantize": "int8"}, "no dense layer"),
        (RandomForestClassifier(4, random_state=0), {"prune": 1.5}, "a share between 0 and 1"),
        (RandomForestClassifier(4, random_state=0), {"prune": 0.5, "metric": "r2"}, "the metric 'r2' is not measured"),
    ],
)
def test_what_cannot_be_compressed(model: Any, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Each refusal names what was asked and what can be done."""
    with pytest.raises(PackRefused, match=said):
        packed(model, LEFT, tmp_path, **options)


def test_a_holdout_is_needed(tmp_path: Path) -> None:
    """Nothing is compressed unjudged."""
    model = RandomForestClassifier(4, random_state=0).fit(ROWS, LEFT)
    with pytest.raises(PackRefused, match="Give a holdout"):
        penstock.pack(model, name="x", sample=ROWS, out=tmp_path, options=penstock.PackOptions(prune=0.5))


def test_the_order_of_reduced_error() -> None:
    """The first tree is the best one alone; the next is the one that mends it best, not the next best."""
    truth = np.array([[1.0], [0.0], [1.0]])
    votes = np.array([[[0.9], [0.6], [0.6]], [[0.9], [0.5], [0.6]], [[0.4], [0.0], [1.0]], [[0.0], [1.0], [0.0]]])
    assert [2, 1, 0] == reduced_error_order(votes, truth, 3)


def test_units_that_do_nothing_cost_nothing() -> None:
    """Dead units go first, and the refit gives the very sums back."""
    random = np.random.default_rng(1)
    weights = random.normal(size=(3, 4))
    weights[:, [1, 3]] = 0.0
    layers = [Layer(weights, np.zeros(4), np.tanh), Layer(random.normal(size=(4, 2)), np.ones(2), lambda sums: sums)]
    rows = random.normal(size=(200, 3))
    made = narrower(layers, rows, 0.5)
    before = np.tanh(rows @ layers[0].weights) @ layers[1].weights + 1.0
    after = np.tanh(rows @ made[0].weights) @ made[1].weights + made[1].bias
    assert (3, 2) == made[0].weights.shape
    assert np.abs(before - after).max() < 1e-2
