"""Small boosters for the tests of boosters: the table of customers as each library takes it, and short constructors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from customer_table import NUMBERS, customers
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

pytest.importorskip("catboost", reason="the extra catboost is not installed")
pytest.importorskip("lightgbm", reason="the extra lightgbm is not installed")
pytest.importorskip("xgboost", reason="the extra xgboost is not installed")

import catboost
import lightgbm
import xgboost

ROWS = 500
FRAME = customers(ROWS)
NUMERIC = FRAME[NUMBERS]


def categories(frame: pd.DataFrame = FRAME) -> pd.DataFrame:
    """The table with its texts, one of them with missing values, and a whole number as pandas' categories."""
    changed = frame.assign(visits=frame["visits"] % 5)
    return changed.astype({"city": "category", "plan": "category", "visits": "category"})


def ascii_categories() -> pd.DataFrame:
    """The same with names in ASCII: XGBoost cuts up others."""
    frame = categories()
    return frame.assign(city=frame["city"].cat.rename_categories({"Köln": "Koeln", "北京": "Beijing"}))


def whole(frame: pd.DataFrame = FRAME) -> pd.DataFrame:
    """The table without missing texts, as CatBoost takes categories."""
    return frame.fillna({"city": "none"})


def xgb(**settings: Any) -> Any:
    """A small XGBClassifier."""
    return xgboost.XGBClassifier(**{"n_estimators": 12, "max_depth": 4, "n_jobs": 1, **settings})


def xgb_regressor(**settings: Any) -> Any:
    """A small XGBRegressor."""
    return xgboost.XGBRegressor(**{"n_estimators": 12, "max_depth": 4, "n_jobs": 1, **settings})


def lgbm(**settings: Any) -> Any:
    """A small LGBMClassifier."""
    return lightgbm.LGBMClassifier(**{**_LGBM, **settings})


def lgbm_regressor(**settings: Any) -> Any:
    """A small LGBMRegressor."""
    return lightgbm.LGBMRegressor(**{**_LGBM, **settings})


def cat(**settings: Any) -> Any:
    """A small CatBoostClassifier."""
    return catboost.CatBoostClassifier(**{**_CAT, **settings})


def cat_regressor(**settings: Any) -> Any:
    """A small CatBoostRegressor."""
    return catboost.CatBoostRegressor(**{**_CAT, **settings})


_LGBM = {"n_estimators": 12, "num_leaves": 9, "min_child_samples": 5, "n_jobs": 1, "verbose": -1}
_CAT = {"iterations": 12, "depth": 4, "random_seed": 0, "thread_count": 1, "verbose": 0, "allow_writing_files": False}


def everyday(model: Any, **settings: Any) -> Pipeline:
    """Impute and scale the numbers, one-hot the texts, a model; `settings` are the ColumnTransformer's."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output="sparse_threshold" in settings)
    parts = [("numbers", numbers, NUMBERS), ("texts", texts, ["city", "plan"])]
    return Pipeline([("preprocess", ColumnTransformer(parts, **settings)), ("model", model)])


def shares(values: np.ndarray) -> np.ndarray:
    """Positive values as shares of a little more than the largest."""
    return values / (1.1 * values.max())
