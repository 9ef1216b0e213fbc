"""Neural nets and bare graphs behind the `Predictor` Protocol: columns to named inputs, scores to the outputs.

What every net shares, whatever library runs it (`torch.py`, `torchscript.py`, `savedmodel.py`, `nets/bare.py`); numpy
only.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import ModelFailed
from penstock.schema import Columns
from penstock.schema.columns import MISSING_TEXT

Activation: TypeAlias = Literal["none", "softmax", "sigmoid"]
NetDtype: TypeAlias = Literal["float32", "float64", "int64", "int32", "bool", "string"]


class NetInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input of a net: its fields side by side as `[n, k]`, or one field as `[n]` (`is_flat`)."""

    name: str
    fields: tuple[str, ...]
    dtype: NetDtype
    is_flat: bool = False


class NetSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fields become a net's inputs, in its order, and what its scores still lack to be probabilities."""

    inputs: tuple[NetInput, ...]
    activation: Activation = "none"


class Net(Protocol):
    """A loaded net. `run` is thread-safe; it never changes its argument."""

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`scores` (`[n]`, `[n, k]`) of the named inputs, and `label` where the net answers labels of its own.

        Raises ModelFailed when the library raises.
        """
        ...


class NetPredictor:
    """Checked columns in, a net's answers out. Thread-safe, as its net is."""

    def __init__(self, net: Net, spec: NetSpec, outputs: OutputSpec) -> None:
        self.net = net
        self._spec = spec
        self._outputs = outputs
        self._places = {label: place for place, label in enumerate(outputs.classes)}

    def run(self, columns: Columns) -> Outputs:
        """Outputs of the rows in `columns`. Raises ModelFailed when the net raises or answers in another shape."""
        answered = self.net.run(feeds_of(self._spec, columns))
        outputs = answers_of(answered["scores"], self._spec.activation, self._outputs)
        if "label" in answered:
            outputs["label"] = self._labels(answered["label"])
        return outputs

    def _labels(self, said: np.ndarray) -> np.ndarray:
        try:
            return np.array([self._places[label] for label in said.reshape(-1).tolist()], dtype=np.int64)
        except KeyError as error:
            raise ModelFailed(f"The net answered the class {error}, which is not one of its classes") from error


def feeds_of(spec: NetSpec, columns: Columns) -> dict[str, np.ndarray]:
    """The inputs by name; beyond float32's range infinity is the value, a missing number is NaN.

    Raises ModelFailed for a missing value in an input of whole numbers, which have none.
    """
    return {each.name: _feed(each, columns) for each in spec.inputs}


def _feed(of: NetInput, columns: Columns) -> np.ndarray:
    parts = [columns[name] for name in of.fields]
    array = parts[0].reshape(-1) if of.is_flat else np.stack(parts, axis=1)
    if of.dtype == "string":
        return np.where(array == None, MISSING_TEXT, array)  # noqa: E711 - elementwise
    if not of.dtype.startswith("float") and np.isnan(array).any():
        raise ModelFailed(f"The input {of.name} holds whole numbers, which cannot be missing")
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(array.astype(of.dtype))


def answers_of(scores: np.ndarray, activation: Activation, outputs: OutputSpec) -> Outputs:
    """The outputs that a net's scores stand for, in double. The label is that of the largest score, the first in a tie.

    One score for two classes is the second one's. Raises ModelFailed for scores of another shape.
    """
    table = _table(scores, outputs)
    if outputs.kind != "classification":
        return {"values": table} if outputs.targets else {"value": table.reshape(-1)}
    if table.shape[1] == 1:
        second = _sigmoid(table) if activation == "sigmoid" else table
        above = table > (0.0 if activation == "sigmoid" else 0.5)
        return {"label": above.reshape(-1).astype(np.int64), "probabilities": np.hstack([1.0 - second, second])}
    label = table.argmax(axis=1).astype(np.int64)
    return {"label": label, "probabilities": _softmax(table) if activation == "softmax" else table}


def _table(scores: np.ndarray, outputs: OutputSpec) -> np.ndarray:
    table = np.asarray(scores, dtype=np.float64)
    table = table.reshape(len(table), -1)
    if outputs.kind == "classification":
        expected = (len(outputs.classes), 1) if len(outputs.classes) == 2 else (len(outputs.classes),)
    else:
        expected = (max(len(outputs.targets), 1),)
    if table.shape[1] not in expected:
        raise ModelFailed(f"The net answers {table.shape[1]} scores a row; expected {' or '.join(map(str, expected))}")
    return table


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(scores))
    return np.asarray(np.where(scores >= 0, 1.0 / (1.0 + small), small / (1.0 + small)))


def _softmax(scores: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))
