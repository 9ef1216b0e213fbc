"""What is being packed: a fitted model, its schema, and its training rows as columns, checked against each other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from penstock.bundle.frame import columns_of
from penstock.bundle.golden import rows_of
from penstock.bundle.loaders.fitted_names import fitted_names
from penstock.bundle.loaders.sklearn import SklearnPredictor, output_spec, single_threaded
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.predictor import Predictor
from penstock.errors import PackRefused, PenstockError
from penstock.schema import Check, Columns, Field, Schema
from penstock.schema.infer import infer

_ROUND_TRIP_ROWS = 5_000
_SAME = 1e-9
_NEVER_SEEN = "a value that no training row has"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted model with everything that packing asks of it.

    `original` is the model behind the `Predictor` Protocol: what it answers is the truth. `notes` are what inference
    pointed out.
    """

    estimator: Any
    schema: Schema
    outputs: OutputSpec
    columns: Columns
    original: Predictor
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """The number of training rows."""
        return len(next(iter(self.columns.values())))


def subject_of(model: Any, sample: Any, schema: Schema | None) -> Subject:
    """`model` (copied, single-threaded so that it answers the same each time) and its `sample`, as columns.

    Raises PackRefused when the model does not answer rows as its sample has them, SchemaError and SchemaViolation
    when the sample contradicts the schema.
    """
    estimator = settled_copy(model)
    frame = as_frame(sample)
    used = used_fields(estimator, frame)
    notes = [f"{name}: the model never reads it, so it is not in the schema" for name in frame if name not in used]
    outputs = output_spec(estimator)
    if schema is None:
        inferred = infer(frame[used])
        columns = columns_of(frame, inferred.schema)
        notes += [f"{note.field}: {note.message}" for note in inferred.notes]
        schema = with_unknowns_asked(estimator, inferred.schema, outputs=outputs, columns=columns)
    columns = columns_of(frame, schema)
    Check(schema).from_objects(rows_of(columns, schema))
    original = SklearnPredictor(estimator, schema, outputs)
    require_round_trip(estimator, sample if isinstance(sample, np.ndarray) else frame, original, columns)
    return Subject(
        estimator=estimator, schema=schema, outputs=outputs, columns=columns, original=original, notes=tuple(notes)
    )


def settled_copy(model: Any) -> Any:
    """A copy that sums in one fixed order."""
    return single_threaded(copy.deepcopy(model))


def as_frame(sample: Any) -> pd.DataFrame:
    """The sample as a frame; an array's columns are called x0, x1, …"""
    if isinstance(sample, pd.DataFrame):
        return sample.reset_index(drop=True)
    if hasattr(sample, "to_pandas"):
        frame: pd.DataFrame = sample.to_pandas()
        return frame
    values = np.asarray(sample)
    if values.ndim != 2:
        raise PackRefused("sample", f"expected rows and columns, got {values.ndim} dimension(s)", "Give a DataFrame")
    return pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])


def used_fields(estimator: Any, frame: pd.DataFrame) -> list[str]:
    """The columns that the model reads, in the frame's order: what a caller will have to send."""
    known = fitted_names(estimator)
    names = list(frame.columns) if known is None else list(known)
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    dropped = _dropped(first, names) if hasattr(first, "transformers_") else set()
    missing = [name for name in names if name not in frame.columns and name not in dropped]
    if missing:
        raise PackRefused("sample", f"the model was fitted with {missing[:5]}, which the sample does not have",
                          "Give the rows as the model was fitted on them")  # fmt: skip
    return [name for name in frame.columns if name in names and name not in dropped]


def _dropped(transformer: Any, names: Sequence[str]) -> set[str]:
    read = {
        int(index)
        for name, fitted, _ in transformer.transformers_
        if fitted != "drop"
        for index in transformer._transformer_to_input_indices[name]
    }
    return {name for index, name in enumerate(names) if index not in read}


def with_unknowns_asked(estimator: Any, schema: Schema, *, outputs: OutputSpec, columns: Columns) -> Schema:
    """The inferred schema, taking unknown categories where the model itself answers them, refusing them elsewhere."""
    original = SklearnPredictor(estimator, schema, outputs)
    row: Columns = {name: column[:1] for name, column in columns.items()}
    fields = [_asked(field, original, row) if field.type == "category" else field for field in schema.fields]
    return msgspec.structs.replace(schema, fields=tuple(fields))


def _asked(field: Field, original: SklearnPredictor, row: Columns) -> Field:
    if field.dtype == "category" and _mistakes_unknowns(original.estimator):
        return field
    try:
        original.run({**row, field.name: np.array([_NEVER_SEEN], dtype=object)})
    except PenstockError:
        return field
    return msgspec.structs.replace(field, on_unknown="accept")


def _mistakes_unknowns(estimator: Any) -> bool:
    """Whether a category that it does not know may be answered as if it were another one.

    XGBoost 3.2 refuses some unknown categories, and answers others as it answers a neighbour in their order.
    """
    while hasattr(estimator, "steps") or hasattr(estimator, "best_estimator_"):
        estimator = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator.best_estimator_
    return type(estimator).__module__.partition(".")[0] == "xgboost"


def require_round_trip(estimator: Any, sample: Any, original: SklearnPredictor, columns: Columns) -> None:
    """Raise PackRefused unless the model answers its sample the same after the way through the schema.

    Otherwise dtypes or missing values were lost on the way, and no later comparison would mean anything. Labels are
    equal; numbers to 1e-9, because the memory layout of an array alone changes the last bits of a dot product.
    """
    some: Columns = {name: column[:_ROUND_TRIP_ROWS] for name, column in columns.items()}
    rows = sample[:_ROUND_TRIP_ROWS]
    through = original.run(some)
    method = "predict_proba" if "probabilities" in through else "predict"
    directly = np.asarray(original.quietly(getattr(estimator, method), rows))
    if method == "predict" and "label" in through:
        passed: np.ndarray = np.array(original.classes, dtype=object)[through["label"]]
        directly = directly.astype(object)
    else:
        passed = through[next(name for name in ("probabilities", "values", "value") if name in through)]
    directly = directly.reshape(passed.shape)
    if passed.dtype == object:
        wrong = passed != directly
    else:
        wrong = ~np.isclose(passed, directly, rtol=_SAME, atol=_SAME, equal_nan=True)
    wrong = wrong.reshape(len(passed), -1).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise PackRefused(
            "sample",
            f"row {row} answers {directly[row]!r} as given, but {passed[row]!r} after the way through the schema",
            "A dtype or a missing value is not what the schema says: give a schema that fits the sample",
        )
