"""`compile_graph`: a fitted pipeline to one ONNX graph in double. Whether it may be used, `prove` decides."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.bundle.compile.canonical import finished, serialised
from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.graph import Graph, field_tensor
from penstock.bundle.compile.inputs import features_of
from penstock.bundle.compile.lower import lower_answer
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.loaders.fitted_names import fitted_names
from penstock.bundle.outputs import OutputSpec
from penstock.schema import Schema


class Compiled(msgspec.Struct, frozen=True):
    """A graph (serialised ONNX, the same bytes in every process) and how it was made, step by step, in words."""

    graph: bytes
    recipe: tuple[str, ...]


def compile_graph(estimator: Any, schema: Schema, outputs: OutputSpec) -> Compiled:
    """The graph of a fitted estimator whose frame has the schema's fields as columns.

    Columns that the estimator was fitted with and drops need no field. Raises NotCompilable naming the step and the
    reason. Not thread-safe with regard to the estimator.
    """
    graph = Graph()
    answer = lower_answer(graph, estimator, compiled_features(graph, estimator, schema))
    missing = [name for name in outputs.names if name not in answer]
    if missing:
        raise NotCompilable(type(estimator).__name__, f"its graph has no output {', '.join(missing)}")
    model = finished(graph, answer, schema, outputs)
    return Compiled(graph=serialised(model), recipe=tuple(graph.recipe))


def compiled_features(graph: Graph, estimator: Any, schema: Schema) -> Features:
    """The features that the estimator's first step gets, in the order of its columns."""
    made = dict(zip(schema.names, features_of(graph, schema), strict=True))
    names = fitted_names(estimator) or schema.names
    return tuple(made.get(name) or Feature(tensor=field_tensor(name), index=0, kind="absent") for name in names)
