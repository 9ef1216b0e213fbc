"""Walks a fitted pipeline and writes each step into the graph: exactly where we know how, else by skl2onnx.

To support another step exactly, add a function in a module beside this one and its line in the tables below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from penstock.bundle.compile import (
    catboost,
    encoders,
    forests,
    functions,
    histograms,
    lightgbm,
    linear,
    numeric,
    xgboost,
)
from penstock.bundle.compile.answers import Answer
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.foreign import foreign_answer, foreign_features
from penstock.bundle.compile.graph import FIELD, Graph
from penstock.bundle.compile.recipes import finish_of, transform_of
from penstock.bundle.compile.refusal import NotCompilable, within

Transform: TypeAlias = Callable[[Graph, Any, Features, str], Features]
Finish: TypeAlias = Callable[[Graph, Any, Features, str], Answer]

_TRANSFORMS: dict[type, Transform] = {
    FunctionTransformer: functions.function_features,
    MaxAbsScaler: numeric.max_abs_scaler,
    MinMaxScaler: numeric.min_max_scaler,
    OneHotEncoder: encoders.one_hot_encoder,
    OrdinalEncoder: encoders.ordinal_encoder,
    RobustScaler: numeric.robust_scaler,
    SimpleImputer: numeric.simple_imputer,
    StandardScaler: numeric.standard_scaler,
}

_FINISHES: dict[type, Finish] = {
    DecisionTreeClassifier: forests.forest_classifier,
    DecisionTreeRegressor: forests.forest_regressor,
    ExtraTreeClassifier: forests.forest_classifier,
    ExtraTreeRegressor: forests.forest_regressor,
    ExtraTreesClassifier: forests.forest_classifier,
    ExtraTreesRegressor: forests.forest_regressor,
    GradientBoostingClassifier: forests.boosting_classifier,
    GradientBoostingRegressor: forests.boosting_regressor,
    HistGradientBoostingClassifier: histograms.histogram_classifier,
    HistGradientBoostingRegressor: histograms.histogram_regressor,
    RandomForestClassifier: forests.forest_classifier,
    RandomForestRegressor: forests.forest_regressor,
}

_BOOSTERS: dict[str, Finish] = {
    "catboost": catboost.catboost_answer,
    "lightgbm": lightgbm.lightgbm_answer,
    "xgboost": xgboost.xgboost_answer,
}
"""By the library of the estimator's class: which of them are installed is not asked."""


def lower_answer(graph: Graph, estimator: Any, features: Features, step: str = "") -> Answer:
    """The outputs of a whole estimator, a pipeline included. Raises NotCompilable naming the step."""
    if hasattr(estimator, "best_estimator_"):
        return lower_answer(graph, estimator.best_estimator_, features, step)
    if isinstance(estimator, Pipeline):
        for name, part in estimator.steps[:-1]:
            features = lower_features(graph, part, features, within(step, name))
        name, last = estimator.steps[-1]
        return lower_answer(graph, last, features, within(step, name))
    _refuse_unreadable(features, step)
    known = _FINISHES.get(type(estimator)) or finish_of(estimator, lower_answer)
    finish = known or _boosted(estimator) or _linear(estimator) or foreign_answer
    return finish(graph, estimator, features, step or type(estimator).__name__)


def _refuse_unreadable(features: Features, step: str) -> None:
    for feature in features:
        name = feature.tensor.removeprefix(FIELD)
        if feature.kind == "instant":
            raise NotCompilable(step, f"it reads {name!r}, an instant, which only the native flavour reads")
        if feature.kind == "absent":
            raise NotCompilable(step, f"it reads the column {name!r}, which the schema lacks")


def _boosted(estimator: Any) -> Finish | None:
    return _BOOSTERS.get(type(estimator).__module__.partition(".")[0])


def _linear(estimator: Any) -> Finish | None:
    if linear.is_linear_classifier(estimator):
        return linear.linear_classifier
    return linear.linear_regressor if linear.is_linear_regressor(estimator) else None


def lower_features(graph: Graph, part: Any, features: Features, step: str) -> Features:
    """The features after one transforming step, whatever is nested in it. Raises NotCompilable naming the step."""
    if part is None or (isinstance(part, str) and part == "passthrough"):
        return features
    if isinstance(part, Pipeline):
        for name, inner in part.steps:
            features = lower_features(graph, inner, features, within(step, name))
        return features
    if isinstance(part, ColumnTransformer):
        return _column_transformer(graph, part, features, step)
    if isinstance(part, FeatureUnion):
        return _feature_union(graph, part, features, step)
    _refuse_unreadable(features, step)
    transform = _TRANSFORMS.get(type(part)) or transform_of(part) or foreign_features
    made = transform(graph, part, features, step) if features else ()
    return _held(made, is_sparse=bool(getattr(part, "sparse_output", False)))


def _held(features: Features, *, is_sparse: bool) -> Features:
    """The features, noted as held in a sparse matrix or in a dense one."""
    if all(feature.sparse == is_sparse for feature in features):
        return features
    return tuple(msgspec.structs.replace(feature, sparse=is_sparse) for feature in features)


def _column_transformer(graph: Graph, part: Any, features: Features, step: str) -> Features:
    places = part._transformer_to_input_indices
    out: Features = ()
    for name, fitted, _ in part.transformers_:
        if isinstance(fitted, str) and fitted == "drop":
            continue
        chosen = tuple(features[place] for place in places[name])
        made = lower_features(graph, fitted, chosen, within(step, name))
        out += _weighted(graph, made, (part.transformer_weights or {}).get(name), within(step, name))
    return _held(out, is_sparse=part.sparse_output_)


def _feature_union(graph: Graph, part: Any, features: Features, step: str) -> Features:
    out: Features = ()
    for name, fitted in part.transformer_list:
        if isinstance(fitted, str) and fitted == "drop":
            continue
        made = lower_features(graph, fitted, features, within(step, name))
        out += _weighted(graph, made, (part.transformer_weights or {}).get(name), within(step, name))
    return _held(out, is_sparse=any(feature.sparse for feature in out))


def _weighted(graph: Graph, features: Features, weight: float | None, step: str) -> Features:
    if weight is None or not features:
        return features
    if any(feature.kind != "number" for feature in features):
        raise NotCompilable(step, "a weight on a text column")
    return functions.affine(graph, features, "Mul", np.full(len(features), float(weight)))
