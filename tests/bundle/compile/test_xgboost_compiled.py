"""XGBoost compiled: float32 features and sums, thresholds on training values, its categories, its kinds of missing."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from boosted_table import FRAME, NUMERIC, ascii_categories, categories, everyday, shares, xgb, xgb_regressor
from customer_table import amounts, churned, compiled, levels

from penstock.bundle.compile import NotCompilable
from penstock.bundle.subject import subject_of
from penstock.schema.infer import infer

LEFT, AMOUNT = churned(FRAME), amounts(FRAME)
LEVEL = np.unique(levels(FRAME), return_inverse=True)[1]


@pytest.mark.parametrize(
    ("model", "frame", "target"),
    [
        pytest.param(xgb(), NUMERIC, LEFT, id="binary"),
        pytest.param(xgb(base_score=0.2), NUMERIC, LEFT, id="base score"),
        pytest.param(xgb(), NUMERIC.to_numpy(), LEVEL, id="classes, array"),
        pytest.param(xgb(), NUMERIC.astype(np.float32), LEFT, id="float32 frame"),
        pytest.param(xgb(num_parallel_tree=3), NUMERIC, LEVEL, id="parallel trees"),
        pytest.param(xgb(grow_policy="lossguide", max_leaves=7), NUMERIC, LEFT, id="lossguide"),
        pytest.param(xgb(missing=0.0), NUMERIC.fillna(0.0), LEFT, id="missing is zero"),
        pytest.param(
            xgb(enable_categorical=True, max_cat_to_onehot=1), ascii_categories(), LEFT, id="sets of categories"
        ),
        pytest.param(
            xgb(enable_categorical=True, max_cat_to_onehot=99), ascii_categories(), LEVEL, id="single categories"
        ),
        pytest.param(everyday(xgb()), FRAME, LEFT, id="pipeline"),
        pytest.param(everyday(xgb(), sparse_threshold=1.0), FRAME, LEVEL, id="sparse pipeline"),
        pytest.param(xgb_regressor(), NUMERIC, AMOUNT, id="regression"),
        pytest.param(xgb_regressor(objective="reg:absoluteerror"), NUMERIC, AMOUNT, id="absolute error"),
        pytest.param(xgb_regressor(objective="count:poisson"), NUMERIC, AMOUNT, id="poisson"),
        pytest.param(xgb_regressor(objective="reg:gamma"), NUMERIC, AMOUNT, id="gamma"),
        pytest.param(xgb_regressor(objective="reg:tweedie"), NUMERIC, AMOUNT, id="tweedie"),
        pytest.param(xgb_regressor(objective="reg:logistic"), NUMERIC, shares(AMOUNT), id="logistic regression"),
        pytest.param(
            xgb_regressor(objective="reg:quantileerror", quantile_alpha=[0.2, 0.8]), NUMERIC, AMOUNT, id="two quantiles"
        ),
        pytest.param(xgb_regressor(), NUMERIC, np.c_[AMOUNT, LEFT], id="two targets"),
    ],
)
def test_exact(model: Any, frame: Any, target: np.ndarray) -> None:
    """Every kind of XGBoost model on plain trees is compiled, and every threshold that a row can reach is straddled."""
    subject = subject_of(model.fit(frame, target), frame, None)
    case = compiled(subject.estimator, _framed(frame), subject.schema)
    proof = case.proof(60)
    assert (True, 0, 0) == (proof.is_exact, proof.wrong, proof.flips)
    assert proof.thresholds.straddled >= min(40, proof.thresholds.total - 10)


def _framed(frame: Any) -> pd.DataFrame:
    return frame if hasattr(frame, "columns") else pd.DataFrame(frame, columns=["x0", "x1", "x2"])


def test_float32_sums_are_the_same_sums() -> None:
    """A regression's values are equal to the last bit; the same leaves added in double are not."""
    model = xgb_regressor(n_estimators=60).fit(NUMERIC, AMOUNT)
    case = compiled(model, NUMERIC)
    answers = case.graph.run(case.columns)["value"]
    assert model.predict(NUMERIC).tolist() == answers.astype(np.float32).tolist()
    assert (answers == answers.astype(np.float32)).all()
    rounds = [model.predict(NUMERIC, iteration_range=(0, count)).astype(np.float64) for count in (30, 60)]
    rest = model.get_booster()[30:60].predict(_matrix(model), output_margin=True).astype(np.float64)
    # Adding the second half apart rounds elsewhere: the order matters to XGBoost's own numbers.
    assert (rounds[0] + (rest - rest.mean()) != rounds[1]).any()


def _matrix(model: Any) -> Any:
    import xgboost

    return xgboost.DMatrix(NUMERIC)


def test_a_value_on_a_threshold_goes_right() -> None:
    """XGBoost asks `x < t`: rows whose value is a threshold, and its float32 neighbours, are answered the same."""
    model = xgb().fit(NUMERIC, LEFT)
    case = compiled(model, NUMERIC)
    table = model.get_booster().trees_to_dataframe()
    at = np.float32(table[table["Feature"] == "income"]["Split"].unique())
    around = np.concatenate([at, np.nextafter(at, np.float32(-np.inf)), np.nextafter(at, np.float32(np.inf))])
    between = np.concatenate([np.nextafter(np.float64(at), end) for end in (-np.inf, np.inf)])
    income = np.concatenate([around.astype(np.float64), between])
    rows = {"age": np.full(len(income), 40.0), "income": income, "visits": np.full(len(income), 7.0)}
    expected, got = case.original.run(rows), case.graph.run(rows)
    assert len(at) > 3
    assert expected["label"].tolist() == got["label"].tolist()
    assert np.abs(expected["probabilities"] - got["probabilities"]).max() <= 1e-7


def test_only_the_best_rounds_count() -> None:
    """After early stopping the graph has the rounds that `predict` uses, and no more."""
    model = xgb(early_stopping_rounds=2, learning_rate=0.9, n_estimators=60)
    model.fit(NUMERIC[:350], LEFT[:350], eval_set=[(NUMERIC[350:], LEFT[350:])], verbose=False)
    case = compiled(model, NUMERIC)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    assert case.proof(40).is_exact


def test_an_unknown_category_stays_refused() -> None:
    """XGBoost answers some unknown categories as if they were their neighbour in order: the schema lets none in."""
    frame = ascii_categories()
    model = xgb(enable_categorical=True).fit(frame, LEFT)
    subject = subject_of(model, frame, None)
    assert {"refuse"} == {field.on_unknown for field in subject.schema.fields if field.type == "category"}
    opened = [
        msgspec.structs.replace(field, on_unknown="accept") if field.name == "city" else field
        for field in infer(frame).schema.fields
    ]
    case = compiled(model, frame, msgspec.structs.replace(subject.schema, fields=tuple(opened)))
    assert "unknown" == case.proof(0).offence.origin


def test_categories_beyond_ascii_stay_native() -> None:
    """XGBoost stores their bytes with offsets of characters: which code is which cannot be read from the model."""
    frame = categories()
    model = xgb(enable_categorical=True).fit(frame, LEFT)
    subject = subject_of(model, frame, None)
    assert {"refuse"} == {field.on_unknown for field in subject.schema.fields if field.type == "category"}
    with pytest.raises(NotCompilable, match="beyond ASCII"):
        compiled(model, frame, subject.schema)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (xgb(booster="dart"), "dart"),
        (xgb(booster="gblinear", max_depth=None), "gblinear"),
        (xgb(objective="binary:hinge"), "binary:hinge"),
    ],
)
def test_what_stays_native(model: Any, reason: str) -> None:
    """What has no exact writing is refused with its reason, before any graph."""
    model.fit(NUMERIC.fillna(0.0), LEFT)
    with pytest.raises(NotCompilable, match=reason):
        compiled(model, NUMERIC.fillna(0.0))
