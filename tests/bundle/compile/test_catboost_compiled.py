"""CatBoost on numbers compiled: symmetric and grown trees, missing values at either end, its losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from boosted_table import FRAME, NUMERIC, cat, cat_regressor, everyday, whole
from customer_table import amounts, churned, compiled, levels

from penstock.bundle.compile import NotCompilable
from penstock.bundle.subject import subject_of

LEFT, AMOUNT, LEVEL = churned(FRAME), amounts(FRAME), levels(FRAME)


@pytest.mark.parametrize(
    ("model", "frame", "target"),
    [
        pytest.param(cat(), NUMERIC, LEFT, id="binary"),
        pytest.param(cat(), NUMERIC.to_numpy(), LEFT.astype(bool), id="classes of bool, array"),
        pytest.param(cat(), NUMERIC, LEVEL, id="classes of text"),
        pytest.param(cat(loss_function="MultiClassOneVsAll"), NUMERIC, LEVEL, id="one against all"),
        pytest.param(cat(nan_mode="Max"), NUMERIC, LEFT, id="missing is largest"),
        pytest.param(cat(grow_policy="Depthwise"), NUMERIC, LEVEL, id="depthwise"),
        pytest.param(cat(grow_policy="Lossguide"), NUMERIC, LEFT, id="lossguide"),
        pytest.param(everyday(cat()), FRAME, LEFT, id="pipeline"),
        pytest.param(everyday(cat(), sparse_threshold=1.0), FRAME, LEVEL, id="sparse pipeline"),
        pytest.param(cat_regressor(), NUMERIC, AMOUNT, id="regression"),
        *(
            pytest.param(cat_regressor(loss_function=loss), NUMERIC, AMOUNT, id=loss.partition(":")[0])
            for loss in ("MAE", "Quantile:alpha=0.3", "Huber:delta=1", "Poisson", "Tweedie:variance_power=1.5")
        ),
        pytest.param(cat_regressor(loss_function="MultiRMSE"), NUMERIC, np.c_[AMOUNT, LEFT], id="two targets"),
    ],
)
def test_exact(model: Any, frame: Any, target: np.ndarray) -> None:
    """Every kind of CatBoost model on numbers is compiled, equal to the last bits of the sums."""
    subject = subject_of(model.fit(frame, target), frame, None)
    framed = frame if hasattr(frame, "columns") else pd.DataFrame(frame, columns=["x0", "x1", "x2"])
    proof = compiled(subject.estimator, framed, subject.schema).proof(60)
    assert (True, 0, 0) == (proof.is_exact, proof.wrong, proof.flips)
    assert proof.largest_difference < 1e-14
    assert proof.thresholds.straddled > 10


@pytest.mark.parametrize(
    ("model", "frame", "reason"),
    [
        (cat(cat_features=["city", "plan"]), whole(), "categorical features"),
        (cat_regressor(loss_function="RMSEWithUncertainty"), NUMERIC, "RMSEWithUncertainty"),
    ],
)
def test_what_stays_native(model: Any, frame: pd.DataFrame, reason: str) -> None:
    """What has no exact writing is refused with its reason, before any graph."""
    model.fit(frame, LEFT)
    with pytest.raises(NotCompilable, match=reason):
        compiled(model, frame)
