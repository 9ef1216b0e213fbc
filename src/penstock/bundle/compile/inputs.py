"""The features that a pipeline starts from: one per field, as the training frame held it."""

from __future__ import annotations

import numpy as np

from penstock.bundle.compile.feature import Feature, Features, Lift, Mapping, rounded, unchanged
from penstock.bundle.compile.graph import Graph, field_tensor
from penstock.schema import Field, Schema

_NULLS = {"nan": np.nan, "none": None, "na": np.nan}
"""scikit-learn turns pandas' NA in numbers into NaN; in texts it stays what `frame_of` gives."""


def features_of(graph: Graph, schema: Schema) -> Features:
    """One feature per field, in the schema's order, with the rounding and the sentinels of its frame column."""
    return tuple(_feature_of(graph, field) for field in schema.fields)


def _feature_of(graph: Graph, field: Field) -> Feature:
    if field.type == "timestamp":
        return Feature(tensor=field_tensor(field.name), index=0, kind="instant")
    return _number(graph, field) if _is_number(field) else _text(field)


def _is_number(field: Field) -> bool:
    return field.type in ("float", "int", "bool")


def _text(field: Field) -> Feature:
    null = field.null_value if field.null_as == "value" else _NULLS[field.null_as]
    nulls = (null,) if field.nullable else ()
    is_category = field.dtype == "category"
    return Feature(tensor=field_tensor(field.name), index=0, kind="text", nulls=nulls, is_category=is_category)


def _number(graph: Graph, field: Field) -> Feature:
    single, is_category = (field.dtype or "").lower() == "float32", field.dtype == "category"
    nulls = (np.nan,) if field.nullable else ()
    feature = Feature(tensor=field_tensor(field.name), index=0, kind="number", nulls=nulls)
    mapping: Mapping = unchanged
    tensor = feature.tensor
    if field.nullable and field.null_as == "value" and field.null_value is not None:
        fill = float(field.null_value)
        raw = graph.matrix((feature,))
        tensor = graph.add("Where", [graph.add("IsNaN", [raw]), graph.constant(np.array([[fill]])), raw], width=1)
        mapping, nulls = (lambda values: np.where(np.isnan(values), fill, values)), ()
    if single:
        tensor = graph.rounded(graph.matrix((feature,)) if tensor == feature.tensor else tensor)
        before = mapping
        mapping = lambda values: rounded(before(values))  # noqa: E731
    lift = Lift(feature.tensor, 0, mapping)
    return Feature(
        tensor=tensor, index=0, kind="number", single=single, nulls=nulls, lift=lift, is_category=is_category
    )
