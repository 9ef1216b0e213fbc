"""A net as the subject of packing: schema from its sample, outputs from its declaration, both tried on the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.bundle.frame import columns_of
from penstock.bundle.golden import rows_of
from penstock.bundle.loaders.net import NetPredictor, NetSpec, feeds_of
from penstock.bundle.nets.declared import Declared, OnnxModel
from penstock.bundle.nets.model import NetModel, Opened, opened
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.subject import Subject
from penstock.errors import ModelFailed, PackRefused
from penstock.schema import Check, Columns, Schema
from penstock.schema.infer import infer

_TRIED_ROWS = 5_000
_NEAR_ONE = 1e-3


def net_subject(model: Declared, sample: Any, schema: Schema | None) -> Subject:
    """A declared net and its sample, as columns.

    Raises PackRefused when the net does not answer its sample with finite numbers in the declared shape, SchemaError
    and SchemaViolation when the sample contradicts the schema.
    """
    made = opened(model, sample)
    notes: tuple[str, ...] = ()
    if schema is None:
        inferred = infer(made.frame)
        schema, notes = inferred.schema, tuple(f"{note.field}: {note.message}" for note in inferred.notes)
    _refuse_texts(made, schema)
    columns = columns_of(made.frame, schema)
    Check(schema).from_objects(rows_of(columns, schema))
    some: Columns = {name: column[:_TRIED_ROWS] for name, column in columns.items()}
    spec = NetSpec(made.inputs, model.activation)
    answered = made.net.run(feeds_of(spec, some))
    scores = _finite(answered["scores"])
    outputs = outputs_of(model, scores, answered.get("label"))
    original = NetPredictor(made.net, spec, outputs)
    _try(original, some, outputs)
    net = NetModel(opened=made, spec=spec, width=scores.shape[1])
    return Subject(
        estimator=net, schema=schema, outputs=outputs, columns=columns, original=original, notes=notes
    )  # fmt: skip


def outputs_of(model: Declared, scores: np.ndarray, label: np.ndarray | None) -> OutputSpec:
    """The outputs that are declared, or that a bare graph's own outputs show. Raises PackRefused where they clash."""
    kind = model.kind
    if kind is None:
        sums_to_one = scores.shape[1] > 1 and bool((np.abs(scores.sum(axis=1) - 1.0) < _NEAR_ONE).all())
        kind = "classification" if label is not None or sums_to_one or model.classes else "regression"
    if kind == "regression":
        return OutputSpec(kind="regression", targets=_targets(model.targets, scores.shape[1]))
    classes = model.classes
    if not classes and isinstance(model, OnnxModel) and scores.shape[1] > 1 and not _is_text(label):
        classes = tuple(range(scores.shape[1]))
    if len(classes) < 2:
        raise PackRefused("classes", f"got {list(classes)}", "Declare classes=[…] in the order of the scores")
    return OutputSpec(kind="classification", classes=tuple(classes), has_probabilities=True)


def _is_text(label: np.ndarray | None) -> bool:
    return label is not None and label.dtype.kind not in "iub"


def _targets(named: tuple[str, ...], width: int) -> tuple[str, ...]:
    if named and len(named) != width:
        raise PackRefused("targets", f"{len(named)} are named, the net answers {width} values", "Name each value")
    return tuple(named) or (() if width == 1 else tuple(f"y{place}" for place in range(width)))


def _refuse_texts(made: Opened, schema: Schema) -> None:
    kinds = {field.name: field.type for field in schema.fields}
    for each in made.inputs:
        wanted = ("string", "category") if each.dtype == "string" else ("float", "int", "bool")
        wrong = next((name for name in each.fields if kinds[name] not in wanted), None)
        if wrong is not None:
            raise PackRefused(
                f"input {each.name}",
                f"the column {wrong!r} is a {kinds[wrong]}, the input is {each.dtype}",
                "Encode it first: a net reads numbers" if each.dtype != "string" else "Give it as text",
            )


def _finite(scores: np.ndarray) -> np.ndarray:
    table = np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)
    wrong = ~np.isfinite(table).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise PackRefused(
            "sample", f"the net answers row {row} with {table[row].tolist()}", "Fill missing values before the net"
        )
    return table


def _try(original: NetPredictor, rows: Columns, outputs: OutputSpec) -> None:
    try:
        answers = original.run(rows)
    except ModelFailed as error:
        raise PackRefused("outputs", str(error), "Declare the classes or targets that the scores stand for") from error
    if outputs.kind != "classification":
        return
    total = answers["probabilities"].sum(axis=1)
    inside = (answers["probabilities"] >= 0).all(axis=1) & (np.abs(total - 1.0) < _NEAR_ONE)
    if not inside.all():
        row = int(np.argmin(inside))
        raise PackRefused(
            "activation",
            f"row {row} has the scores {answers['probabilities'][row].tolist()}, which are no probabilities",
            "Declare activation='softmax' (or 'sigmoid' for one score)",
        )
