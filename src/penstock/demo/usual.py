"""The usual conversion, for comparison only: skl2onnx with float32 inputs, as most guides show it."""

from __future__ import annotations

import warnings
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.schema import Columns, Field, Schema

_TEXTS = ("string", "category")


class Gap(msgspec.Struct, frozen=True):
    """How answers differ from the original's: rows beyond 1e-6, the largest difference, labels that flipped."""

    rows: int
    wrong: int
    largest: float
    flips: int


class UsualPredictor:
    """The usual graph behind the `Predictor` Protocol. Raises whatever the converter raises."""

    def __init__(self, estimator: Any, schema: Schema, outputs: OutputSpec) -> None:
        types = [(field.name, _tensor(field)) for field in schema.fields]
        first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
        if not hasattr(first, "transformers_"):  # only a ColumnTransformer takes its columns by name
            types = [("x", FloatTensorType([None, len(schema.fields)]))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {"zipmap": False} if outputs.kind == "classification" else None
            graph = convert_sklearn(estimator, initial_types=types, options=options)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
        self._schema = schema
        self._outputs = outputs

    def run(self, columns: Columns) -> Outputs:
        """Outputs of the rows in `columns`, in float32 as the graph gives them."""
        names = [node.name for node in self._session.get_inputs()]
        if names == ["x"]:
            feed = {"x": np.column_stack(list(columns.values())).astype(np.float32)}
        else:
            feed = {field.name: _input(columns[field.name], field) for field in self._schema.fields}
            feed = {name: feed[name] for name in names}
        answers = self._session.run(None, feed)
        if self._outputs.kind == "regression":
            return {"value": np.asarray(answers[0], dtype=float).reshape(-1)}
        index = {label: place for place, label in enumerate(self._outputs.classes)}
        labels = np.array([index[label] for label in np.asarray(answers[0]).tolist()], dtype=np.int64)
        return {"label": labels, "probabilities": np.asarray(answers[1], dtype=float)}


def gap(expected: Outputs, actual: Outputs, tolerance: float = 1e-6) -> Gap:
    """How `actual` differs from `expected`; values relative to their own size, probabilities absolute."""
    name = "probabilities" if "probabilities" in expected else "value"
    scale = 1.0 if name == "probabilities" else np.maximum(1.0, np.abs(expected[name]))
    difference = np.abs(expected[name] - actual[name]) / scale
    by_row = difference.reshape(len(difference), -1).max(axis=1)
    flips = int((expected["label"] != actual["label"]).sum()) if "label" in expected else 0
    return Gap(len(by_row), int((by_row > tolerance).sum()), float(by_row.max()), flips)


def _tensor(field: Field) -> Any:
    return StringTensorType([None, 1]) if field.type in _TEXTS else FloatTensorType([None, 1])


def _input(column: np.ndarray, field: Field) -> np.ndarray:
    if field.type in _TEXTS:
        return column.reshape(-1, 1)
    return column.astype(np.float32).reshape(-1, 1)
