"""Which step made the difference: the pipeline is compiled step by step, and each step's output compared on one row."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

from penstock.bundle.compile.canonical import finished, serialised
from penstock.bundle.compile.compiled import compiled_features
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.lower import lower_features
from penstock.bundle.compile.proof import Proven
from penstock.bundle.compile.refusal import NotCompilable, within
from penstock.bundle.loaders.onnx import load_onnx
from penstock.bundle.loaders.sklearn import SklearnPredictor
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.verdict import Blame
from penstock.errors import BundleRefused, ModelFailed
from penstock.schema import Columns, Schema

_SAME = 1e-9


def blame(original: SklearnPredictor, proven: Proven, schema: Schema) -> Blame:
    """The first step of the pipeline whose graph differs from the original on the row that decided.

    The last estimator is blamed when every step before it agrees. For a proof that is exact there is nothing to blame:
    call this on rejected ones only.
    """
    offence = proven.offence
    if offence is None:
        return Blame(last_step(original.estimator), proven.proof.failure or "the graph fails", _advice("it"))
    row = _columns_of(offence.row, schema)
    step = _guilty_step(original, row, schema) or last_step(original.estimator)
    what = "the label flips" if offence.output == "label" else f"{offence.output} differ by {offence.difference:.3g}"
    told = f"on a {offence.origin} row {what} (original {offence.expected}, graph {offence.got})"
    return Blame(step, told, _advice(step))


def _advice(step: str) -> str:
    return (
        f"It stays native: exact, but slower. To have it compiled, replace {step} by a step with an exact graph "
        "(docs/exactness.md lists them)"
    )


def last_step(estimator: Any, step: str = "") -> str:
    """The path of the last estimator."""
    if hasattr(estimator, "best_estimator_"):
        return last_step(estimator.best_estimator_, step)
    if not isinstance(estimator, Pipeline):
        return step or type(estimator).__name__
    name, last = estimator.steps[-1]
    return last_step(last, within(step, name))


def _columns_of(row: dict[str, float | str | None], schema: Schema) -> Columns:
    columns: Columns = {}
    for field in schema.fields:
        value = row[field.name]
        if field.type == "timestamp":
            columns[field.name] = np.array([value or "NaT"], dtype="datetime64[ns]")
        elif field.type in ("string", "category"):
            columns[field.name] = np.array([value], dtype=object)
        else:
            columns[field.name] = np.array([np.nan if value is None else value], dtype=np.float64)
    return columns


class _Row(msgspec.Struct, frozen=True):
    """One row, raw, and the graph so far: what each step is compared on."""

    columns: Columns
    schema: Schema
    graph: Graph
    original: SklearnPredictor


def _guilty_step(original: SklearnPredictor, columns: Columns, schema: Schema) -> str | None:
    graph = Graph()
    try:
        features = compiled_features(graph, original.estimator, schema)
    except NotCompilable as refusal:
        return refusal.step
    row = _Row(columns, schema, graph, original)
    estimator = getattr(original.estimator, "best_estimator_", original.estimator)
    if not isinstance(estimator, Pipeline):
        return None
    return _in_steps(row, estimator.steps[:-1], features, (original.rows_of(columns), ""))


def _in_steps(row: _Row, steps: list[Any], features: Features, at: tuple[Any, str]) -> str | None:
    """The guilty step among consecutive ones; `at` is what goes into the first, and the path so far."""
    values, path = at
    for name, part in steps:
        here = within(path, name)
        if part is None or isinstance(part, str):
            continue
        before = features
        made = row.original.quietly(part.transform, values)
        try:
            features = lower_features(row.graph, part, before, here)
        except NotCompilable as refusal:
            return refusal.step
        if not _agrees(row, features, made):
            return _inside(row, part, before, (values, here)) or here
        values = made
    return None


def _inside(row: _Row, part: Any, features: Features, at: tuple[Any, str]) -> str | None:
    """The guilty step within a guilty step."""
    values, path = at
    if isinstance(part, Pipeline):
        return _in_steps(row, part.steps, features, at)
    if isinstance(part, FeatureUnion):
        return next(filter(None, (_in_steps(row, [step], features, at) for step in part.transformer_list)), None)
    if isinstance(part, ColumnTransformer):
        for name, fitted, columns in part.transformers_:
            places = part._transformer_to_input_indices[name]
            # A column by its bare name goes in as texts, not as a table of one column.
            wanted = places[0] if isinstance(columns, str) else places
            chosen = values.iloc[:, wanted] if hasattr(values, "iloc") else values[:, wanted]
            found = _in_steps(row, [(name, fitted)], tuple(features[place] for place in places), (chosen, path))
            if found:
                return found
    return None


def _agrees(row: _Row, features: Features, made: Any) -> bool:
    """Whether the graph so far gives what the original made; columns of texts are left to the next step."""
    wanted = np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=object)
    if wanted.shape[1] != len(features):
        return False
    numbers = [place for place, feature in enumerate(features) if feature.kind == "number"]
    if not numbers:
        return True
    got = _computed(row, tuple(features[place] for place in numbers))
    expected = wanted[0, numbers].astype(np.float64)
    return got is not None and bool(np.allclose(got, expected, rtol=_SAME, atol=_SAME, equal_nan=True))


def _computed(row: _Row, features: Features) -> np.ndarray | None:
    outputs = OutputSpec(kind="regression", targets=tuple(f"x{place}" for place in range(len(features))))
    tensor = row.graph.matrix(features)
    # A column that is a raw field has no node of its own.
    answer = {"values": row.graph.add("Identity", [tensor], width=len(features))}
    model = finished(row.graph, answer, row.schema, outputs)
    try:
        return np.asarray(load_onnx(serialised(model), row.schema, outputs).run(row.columns)["values"][0])
    except (BundleRefused, ModelFailed):
        return None
