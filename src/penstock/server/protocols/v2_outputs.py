"""Answers as tensors of the Open Inference Protocol V2: `label`, `probabilities`, `value` or `values`."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import msgspec

from penstock.bundle.outputs import OutputSpec
from penstock.errors import Unreadable
from penstock.schema.prediction import Prediction

LABEL: Final = "label"


class OutputTensor(msgspec.Struct, frozen=True):
    """One tensor of an answer; `values` are flat and in row-major order."""

    name: str
    datatype: str
    shape: list[int]
    values: Sequence[Any]
    parameters: dict[str, Any]

    def raw(self) -> bytes:
        """Its binary form: little-endian, texts each behind their length in four bytes."""
        return _RAW[self.datatype](self.values)


class TensorForm(msgspec.Struct, frozen=True):
    """What is known of a tensor before there is one; a dimension of -1 is the number of rows."""

    name: str
    datatype: str
    shape: list[int]


def forms(spec: OutputSpec) -> list[TensorForm]:
    """The outputs of a model, in the order of its answers."""
    return [TensorForm(name, _datatype(name, spec), _shape(name, spec, -1)) for name in spec.names]


def require_known(names: Sequence[str], spec: OutputSpec) -> None:
    """Raise Unreadable for an output that the model does not have, or that is named twice."""
    for place, name in enumerate(names):
        if name not in spec.names or name in names[:place]:
            raise Unreadable(
                f"Expected outputs out of {', '.join(spec.names)}, each once, got {name[:64]!r} - at `$.outputs`"
            )


class OutputForms:
    """What is known of a model's answers before there is one. Made once per version."""

    def __init__(self, spec: OutputSpec) -> None:
        self._names = spec.names
        self._datatypes = {name: _datatype(name, spec) for name in spec.names}
        self._columns = {name: list(_columns(name, spec)) for name in spec.names if name in _WIDE}
        self._parameters = {
            name: {_WIDE[name]: msgspec.json.encode(columns).decode()} for name, columns in self._columns.items()
        }

    def tensors(
        self, predictions: Sequence[Prediction], wanted: Sequence[str] | None, *, has_gaps: bool = False
    ) -> list[OutputTensor]:
        """The tensors of an answer, those that are `wanted`; an abstaining fallback answers none.

        With gaps some rows have no label, which only a list of JSON can say.
        """
        first = predictions[0]
        names = self._names if wanted is None else wanted
        there = [name for name in names if getattr(first, name) is not None or (has_gaps and name == LABEL)]
        return [self._tensor(name, predictions) for name in there]

    def _tensor(self, name: str, predictions: Sequence[Prediction]) -> OutputTensor:
        values: list[Any] = list(map(attrgetter(name), predictions))
        columns = self._columns.get(name)
        shape = [len(values)]
        if columns is not None:
            values = list(chain.from_iterable([row.values() for row in values]))
            shape.append(len(columns))
        return OutputTensor(name, self._datatypes[name], shape, values, self._parameters.get(name, {}))


_WIDE: Final = {"probabilities": "classes", "values": "targets"}
"""Outputs of several columns, and the parameter that has the columns' names, as the JSON text of a list."""


def _columns(name: str, spec: OutputSpec) -> Sequence[Any]:
    return spec.classes if name == "probabilities" else spec.targets


def _shape(name: str, spec: OutputSpec, rows: int) -> list[int]:
    return [rows, len(_columns(name, spec))] if name in _WIDE else [rows]


def _datatype(name: str, spec: OutputSpec) -> str:
    if name != LABEL:
        return "FP64"
    kinds = {type(label) for label in spec.classes}
    return "BOOL" if kinds == {bool} else "INT64" if kinds == {int} else "BYTES"


def _little(code: str) -> Callable[[Sequence[Any]], bytes]:
    def pack(values: Sequence[Any]) -> bytes:
        packed = array(code, values)
        if sys.byteorder == "big":
            packed.byteswap()
        return packed.tobytes()

    return pack


def _texts(values: Sequence[Any]) -> bytes:
    texts = [str(value).encode() for value in values]
    return b"".join([b"%b%b" % (len(text).to_bytes(4, "little"), text) for text in texts])


_RAW: Final[dict[str, Callable[[Sequence[Any]], bytes]]] = {
    "BOOL": lambda values: bytes(map(bool, values)),
    "INT64": _little("q"),
    "FP64": _little("d"),
    "BYTES": _texts,
}
