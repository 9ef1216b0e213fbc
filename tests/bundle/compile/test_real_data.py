"""Compiled pipelines on real data, on rows made without the proof's code: the table of docs/exactness.md, smaller."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = REPOSITORY / "../shared/data"
TREES = ("RandomForest", "GradientBoosting", "HistGradientBoosting", "XGBoost", "LightGBM", "CatBoost")

pytestmark = pytest.mark.skipif(not (DATA / "telco_churn.csv").exists(), reason="the shared data sets are not here")


@pytest.fixture(scope="module")
def exactness() -> ModuleType:
    """The module behind `make exactness`, which is no package."""
    # The modules beside it are imported as a script imports them.
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    spec = importlib.util.spec_from_file_location("exactness", REPOSITORY / "benchmarks/exactness.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["exactness"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("model", ["LogisticRegression", *TREES])
@pytest.mark.parametrize("place", [0, 1], ids=["telco", "bank"])
def test_classifiers_on_independent_rows(exactness: ModuleType, place: int, model: str) -> None:
    """Each pipeline is proven and differs by at most 1e-6, with no flip, on unseen, threshold and unknown rows."""
    task = exactness.TASKS[place]
    estimator = exactness.models(False, 20)[model]
    result = exactness.measured(task, model, estimator, most_rows=5000, budget=100)
    assert (True, 0, 0) == (result.is_exact, result.ours.wrong, result.ours.flips)
    assert result.ours.largest <= 1e-6
    # The rows are hard enough: the usual float32 conversion of a forest is wrong on some.
    assert model not in ("RandomForest", "XGBoost") or result.theirs.wrong > 20


@pytest.mark.parametrize("model", ["LinearRegression", *TREES])
def test_regressors_on_independent_rows(exactness: ModuleType, model: str) -> None:
    """The same for regressors, relative to the value."""
    task = exactness.TASKS[2]
    result = exactness.measured(task, model, exactness.models(True, 20)[model], most_rows=4000, budget=100)
    assert (True, 0) == (result.is_exact, result.ours.wrong)
