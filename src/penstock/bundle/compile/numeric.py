"""Imputers and scalers: arithmetic on columns, in the order of operations of scikit-learn's own `transform`."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.feature import Feature, Features, single_if_all
from penstock.bundle.compile.functions import affine, applied, clip
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.refusal import NotCompilable
from penstock.schema.columns import MISSING_TEXT


def numbers_only(features: Features, step: str) -> None:
    """Raises NotCompilable when one of the features is a text."""
    if any(feature.kind != "number" for feature in features):
        raise NotCompilable(step, "a text column where the step needs numbers")


def standard_scaler(graph: Graph, scaler: Any, features: Features, step: str) -> Features:
    """(x - mean) / scale."""
    numbers_only(features, step)
    # The scaler casts its constants to the dtype of the array before it uses them.
    held = np.float32 if single_if_all(features) else np.float64
    if scaler.with_mean and scaler.mean_ is not None:
        features = affine(graph, features, "Sub", scaler.mean_.astype(held))
    return affine(graph, features, "Div", scaler.scale_.astype(held)) if scaler.with_std else features


def min_max_scaler(graph: Graph, scaler: Any, features: Features, step: str) -> Features:
    """x * scale + min, clipped to the range when the scaler clips."""
    numbers_only(features, step)
    features = affine(graph, affine(graph, features, "Mul", scaler.scale_), "Add", scaler.min_)
    if scaler.clip:
        features = applied(graph, features, clip(*map(float, scaler.feature_range)), single=single_if_all(features))
    return features


def max_abs_scaler(graph: Graph, scaler: Any, features: Features, step: str) -> Features:
    """x / scale."""
    numbers_only(features, step)
    return affine(graph, features, "Div", scaler.scale_)


def robust_scaler(graph: Graph, scaler: Any, features: Features, step: str) -> Features:
    """(x - center) / scale."""
    numbers_only(features, step)
    if scaler.with_centering:
        features = affine(graph, features, "Sub", scaler.center_)
    return affine(graph, features, "Div", scaler.scale_) if scaler.with_scaling else features


def simple_imputer(graph: Graph, imputer: Any, features: Features, step: str) -> Features:
    """Missing values replaced by the fitted statistics; an indicator column for each that the imputer watches."""
    if len({feature.kind for feature in features}) > 1:
        raise NotCompilable(step, "one imputer over numbers and texts together")
    fills = list(imputer.statistics_)
    kept = [index for index, fill in enumerate(fills) if imputer.keep_empty_features or not _is_nan(fill)]
    if features and features[0].kind == "text":
        if imputer.add_indicator:
            raise NotCompilable(step, "add_indicator on text columns")
        return tuple(_filled_text(graph, features[index], fills[index], imputer.missing_values) for index in kept)
    out = _filled_numbers(graph, tuple(features[i] for i in kept), [fills[i] for i in kept], imputer.missing_values)
    if imputer.add_indicator:
        out += _indicators(graph, tuple(features[i] for i in imputer.indicator_.features_), imputer.missing_values)
    return out


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))


def _filled_text(graph: Graph, feature: Feature, fill: object, sought: object) -> Feature:
    """No node for a missing text: what it stands for from here on is noted, and the encoder that follows knows it."""
    null = feature.nulls[0] if feature.nulls else ()
    if null is sought or (_is_nan(null) and _is_nan(sought)) or null == sought:
        feature = msgspec.structs.replace(feature, nulls=(fill,))
    if isinstance(sought, str):
        column = graph.matrix((feature,))
        found = graph.add("Equal", [column, graph.texts([sought], [1, 1])])
        out = graph.add("Where", [found, graph.texts([str(fill)], [1, 1]), column], width=1)
        return msgspec.structs.replace(feature, tensor=out, index=0)
    return feature


def settled_texts(graph: Graph, features: Features, step: str) -> Features:
    """The text features with missing values written out as the text that they stand for."""
    out = []
    for feature in features:
        if feature.kind == "text" and feature.nulls:
            if not isinstance(feature.nulls[0], str):
                raise NotCompilable(step, "a missing text reaches a step that has no text for it")
            column = graph.matrix((feature,))
            found = graph.add("Equal", [column, graph.texts([MISSING_TEXT], [1, 1])])
            tensor = graph.add("Where", [found, graph.texts([feature.nulls[0]], [1, 1]), column], width=1)
            feature = msgspec.structs.replace(feature, tensor=tensor, index=0, nulls=())
        out.append(feature)
    return tuple(out)


def _mask(graph: Graph, tensor: str, sought: Any) -> str:
    if sought is None or _is_nan(float(sought)):
        return graph.add("IsNaN", [tensor])
    return graph.add("Equal", [tensor, graph.constant(np.array(float(sought)))])


def _filled_numbers(graph: Graph, features: Features, fills: list[Any], sought: Any) -> Features:
    by_nan = sought is None or _is_nan(float(sought))
    if not features or (by_nan and not any(feature.nulls for feature in features)):
        return features
    single = single_if_all(features)
    values = np.array(fills, dtype=np.float32 if single else np.float64).astype(np.float64)
    raw = graph.matrix(features)
    inputs = [_mask(graph, raw, sought), graph.constant(values.reshape(1, -1)), raw]
    out = graph.add("Where", inputs, width=len(features))
    made = []
    for index, (feature, fill) in enumerate(zip(features, values, strict=True)):
        # A number as the sign of missing sits between other numbers: the order breaks there, and so does the lift.
        lift = feature.lifted().then(partial(_where_missing, fill)) if by_nan else None
        nulls = () if by_nan else feature.nulls
        made.append(Feature(tensor=out, index=index, kind="number", single=single, nulls=nulls, lift=lift))
    return tuple(made)


def _where_missing(fill: float, values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), fill, values)


def _indicators(graph: Graph, features: Features, sought: Any) -> Features:
    if not features:
        return ()
    mask = _mask(graph, graph.matrix(features), sought)
    graph.widths[mask] = len(features)
    out = graph.cast(mask, TensorProto.DOUBLE)
    return tuple(Feature(tensor=out, index=index, kind="number") for index in range(len(features)))
