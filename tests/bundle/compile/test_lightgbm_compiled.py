"""LightGBM compiled: double splits, zero and missing as it treats them, categories by sets, its objectives."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from boosted_table import FRAME, NUMERIC, categories, everyday, lgbm, lgbm_regressor, shares
from customer_table import amounts, churned, compiled, levels

from penstock.bundle.compile import NotCompilable
from penstock.bundle.subject import subject_of

LEFT, AMOUNT, LEVEL = churned(FRAME), amounts(FRAME), levels(FRAME)
ZEROS = NUMERIC.assign(visits=NUMERIC["visits"] % 3, income=NUMERIC["income"].fillna(0.0))
FOREST = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}


def _fitted(model: Any, frame: Any, target: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(frame, target)


@pytest.mark.parametrize(
    ("model", "frame", "target"),
    [
        pytest.param(lgbm(), NUMERIC, LEFT, id="binary"),
        pytest.param(lgbm(), NUMERIC, LEVEL, id="classes of text"),
        pytest.param(lgbm(objective="multiclassova"), NUMERIC, LEVEL, id="one against all"),
        pytest.param(lgbm(sigmoid=2.0), NUMERIC, LEFT, id="steeper sigmoid"),
        pytest.param(lgbm(), NUMERIC.to_numpy(), LEFT.astype(bool), id="classes of bool, array"),
        pytest.param(lgbm(), NUMERIC.astype(np.float32), LEFT, id="float32 frame"),
        pytest.param(lgbm(use_missing=False), NUMERIC, LEFT, id="missing is zero"),
        pytest.param(lgbm(zero_as_missing=True), ZEROS, LEFT, id="zero is missing"),
        pytest.param(lgbm(**FOREST), NUMERIC, LEVEL, id="random forest"),
        pytest.param(lgbm(boosting_type="dart"), NUMERIC, LEFT, id="dart"),
        pytest.param(lgbm(), categories(), LEFT, id="categories"),
        pytest.param(lgbm(max_cat_to_onehot=1, min_data_per_group=1), categories(), LEVEL, id="sets of categories"),
        pytest.param(lgbm(categorical_feature=[2]), NUMERIC.to_numpy(), LEFT, id="codes in an array"),
        pytest.param(everyday(lgbm()), FRAME, LEFT, id="pipeline"),
        pytest.param(everyday(lgbm(), sparse_threshold=1.0), FRAME, LEVEL, id="sparse pipeline"),
        pytest.param(lgbm_regressor(), NUMERIC, AMOUNT, id="regression"),
        *(
            pytest.param(lgbm_regressor(objective=loss), NUMERIC, AMOUNT, id=loss)
            for loss in ("regression_l1", "huber", "quantile", "mape", "poisson", "gamma", "tweedie")
        ),
        pytest.param(lgbm_regressor(objective="cross_entropy"), NUMERIC, shares(AMOUNT), id="cross entropy"),
    ],
)
def test_exact(model: Any, frame: Any, target: np.ndarray) -> None:
    """Every kind of LightGBM model on plain trees is compiled, equal to the last bits of the sums."""
    subject = subject_of(_fitted(model, frame, target), frame, None)
    framed = frame if hasattr(frame, "columns") else pd.DataFrame(frame, columns=["x0", "x1", "x2"])
    proof = compiled(subject.estimator, framed, subject.schema).proof(60)
    assert (True, 0, 0) == (proof.is_exact, proof.wrong, proof.flips)
    assert proof.largest_difference < 1e-14
    assert proof.thresholds.straddled > 10


def test_what_is_nearly_zero_is_zero() -> None:
    """Values nearer to zero than 1e-35 are zero to LightGBM, on either side, and to the graph."""
    model = _fitted(lgbm(zero_as_missing=True), ZEROS, LEFT)
    case = compiled(model, ZEROS)
    tiny = np.array([0.0, -0.0, 1e-36, -1e-36, 9.9e-36, 1e-35, -1e-35, 1.1e-35, 1e-34, -1e-34, np.nan])
    for name in ("income", "visits"):
        rows = {column: np.full(len(tiny), 1.0) for column in ZEROS}
        rows[name] = tiny
        expected, got = case.original.run(rows), case.graph.run(rows)
        assert np.abs(expected["probabilities"] - got["probabilities"]).max() <= 1e-15


def test_unknown_categories_go_as_missing_ones() -> None:
    """LightGBM answers unknown categories; so the schema lets them in, and the graph answers the same."""
    frame = categories()
    subject = subject_of(_fitted(lgbm(), frame, LEFT), frame, None)
    texts = {field.name: field.on_unknown for field in subject.schema.fields if field.type == "category"}
    assert {"city": "accept", "plan": "accept"} == texts
    proof = compiled(subject.estimator, frame, subject.schema).proof(20)
    assert (True, True) == (proof.is_exact, proof.rows["unknown"] > 10)


def test_only_the_best_rounds_count() -> None:
    """After early stopping the graph has the rounds that `predict` uses, and no more."""
    import lightgbm

    model = lgbm(learning_rate=0.9, n_estimators=60)
    stop = lightgbm.early_stopping(2, verbose=False)
    model.fit(NUMERIC[:350], LEFT[:350], eval_X=(NUMERIC[350:],), eval_y=(LEFT[350:],), callbacks=[stop])
    assert model.best_iteration_ < 60
    assert compiled(model, NUMERIC).proof(40).is_exact


@pytest.mark.parametrize(
    ("model", "reason"),
    [(lgbm_regressor(linear_tree=True), "linear trees"), (lgbm_regressor(reg_sqrt=True), "regression sqrt")],
)
def test_what_stays_native(model: Any, reason: str) -> None:
    """What has no exact writing is refused with its reason, before any graph."""
    model.fit(ZEROS, AMOUNT)
    with pytest.raises(NotCompilable, match=reason):
        compiled(model, ZEROS)
