"""The boosters of the exactness table: the models, their thresholds by the libraries' own tables, the usual converters.

Nothing of Penstock is used here: the rows on and beside thresholds are to be independent of its reading of the trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import catboost
import lightgbm
import numpy as np
import xgboost
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)


def boosters(is_regression: bool, trees: int) -> dict[str, Any]:
    """The boosters of the table, by name, single-threaded and with fixed seeds."""
    cat: dict[str, Any] = {"iterations": trees, "random_seed": 0, "thread_count": 1, "verbose": 0}
    cat["allow_writing_files"] = False
    common: dict[str, Any] = {"n_estimators": trees, "random_state": 0, "n_jobs": 1}
    if is_regression:
        return {
            "XGBoost": xgboost.XGBRegressor(**common),
            "LightGBM": lightgbm.LGBMRegressor(verbose=-1, **common),
            "CatBoost": catboost.CatBoostRegressor(**cat),
        }
    return {
        "XGBoost": xgboost.XGBClassifier(**common),
        "LightGBM": lightgbm.LGBMClassifier(verbose=-1, **common),
        "CatBoost": catboost.CatBoostClassifier(**cat),
    }


def boosted_splits(model: Any) -> Iterator[tuple[int, float]]:
    """Features and thresholds of a fitted booster; nothing for any other model."""
    if isinstance(model, xgboost.XGBModel):
        table = model.get_booster().trees_to_dataframe()
        inner = table[table["Feature"] != "Leaf"]
        yield from zip(inner["Feature"].str[1:].astype(int), inner["Split"].astype(float), strict=True)
    elif isinstance(model, lightgbm.LGBMModel):
        table = model.booster_.trees_to_dataframe()
        inner = table[table["split_feature"].notna()]
        places = inner["split_feature"].str.removeprefix("Column_").astype(int)
        yield from zip(places, inner["threshold"].astype(float), strict=True)
    elif isinstance(model, catboost.CatBoost):
        for feature, borders in model.get_borders().items():
            yield from ((int(feature), float(border)) for border in borders)


def has_usual(model: Any) -> bool:
    """Whether there is a usual conversion within a pipeline: CatBoost has none that needs no code of one's own."""
    return not isinstance(model, catboost.CatBoost)


def coded(target: Any, model: Any) -> Any:
    """The target as XGBClassifier wants it: texts by their codes."""
    if isinstance(model, xgboost.XGBClassifier) and target.dtype == object:
        return np.unique(target, return_inverse=True)[1]
    return target


def register_converters() -> None:
    """onnxmltools' converters, registered with skl2onnx as its documentation shows."""
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    for kind, convert in ((xgboost.XGBClassifier, convert_xgboost), (lightgbm.LGBMClassifier, convert_lightgbm)):
        shapes = calculate_linear_classifier_output_shapes
        update_registered_converter(kind, kind.__name__, shapes, convert, options=options)
    shapes = calculate_linear_regressor_output_shapes
    update_registered_converter(xgboost.XGBRegressor, "XGBRegressor", shapes, convert_xgboost)
    update_registered_converter(
        lightgbm.LGBMRegressor, "LGBMRegressor", shapes, convert_lightgbm, options={"split": None}
    )
