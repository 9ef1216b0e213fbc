"""The compiled flavour: an ONNX graph in ONNX Runtime behind the `Predictor` Protocol; what most workers serve.

Imports nothing but numpy and onnxruntime: the serving install has no scikit-learn, pandas or onnx.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any, Final

import numpy as np
import onnxruntime

from penstock.bundle.loaders.protobuf import refuse_unsafe
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import BundleRefused, ModelFailed
from penstock.schema import Columns, Field, Schema
from penstock.schema.columns import MISSING_TEXT

_DTYPES = {"tensor(double)": np.float64, "tensor(float)": np.float32, "tensor(int64)": np.int64}
_ONLY_FATAL = 4
LOWERED = "lowered"
"""The packed input whose texts arrive in lower case, by Python's own rules."""
ALONE: Final = "penstock:alone"
"""Metadata of a graph whose answer for a row would depend on the rows beside it: it is run one row at a time."""


class OnnxPredictor:
    """Checked columns in, the graph's outputs out. Thread-safe: ONNX Runtime's `run` is.

    Two kinds of inputs: the packed ones of our own graphs (`numbers`, `texts`, `lowered`; the metadata name the
    fields), and one `[n, 1]` (or `[n]`) tensor per field of any other graph, named like the field.
    """

    def __init__(self, session: onnxruntime.InferenceSession, schema: Schema, outputs: OutputSpec) -> None:
        self._names = list(outputs.names)
        fields = {field.name: field for field in schema.fields}
        packed = session.get_modelmeta().custom_metadata_map
        self._run: Callable[..., list[Any]] = _alone(session.run) if ALONE in packed else session.run
        self._feeds = [_feed_of(node, fields, packed) for node in session.get_inputs()]
        self._flat = {name for name in self._names if name in ("label", "value")}
        missing = set(self._names) - {node.name for node in session.get_outputs()}
        if missing:
            raise BundleRefused(f"model.onnx: expected the outputs {self._names}, {sorted(missing)} are missing")

    def run(self, columns: Columns) -> Outputs:
        """Outputs of the rows in `columns`. Raises ModelFailed when ONNX Runtime does."""
        feed = {name: make(columns) for name, make in self._feeds}
        try:
            arrays = self._run(self._names, feed)
        except Exception as error:  # ONNX Runtime's own errors share no class
            raise ModelFailed.raised("The graph failed:", error) from error
        return {
            name: array.reshape(-1) if name in self._flat and array.ndim != 1 else array
            for name, array in zip(self._names, arrays, strict=True)
        }

    def feeds(self, columns: Columns) -> dict[str, np.ndarray]:
        """The graph's inputs by name."""
        return {name: make(columns) for name, make in self._feeds}


def load_onnx(
    graph: bytes, schema: Schema, outputs: OutputSpec, *, threads: int = 1, trusted: Collection[str] = ()
) -> OnnxPredictor:
    """The predictor of an ONNX model's verified bytes, on `threads` threads within one call.

    Refused before ONNX Runtime sees it: data outside the file, operators of unknown domains (BundleRefused). `trusted`
    is for the loaders that build types; a graph has none.
    """
    refuse_unsafe(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ONLY_FATAL
    # Spinning threads would take the processor from the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        return OnnxPredictor(session, schema, outputs)
    except BundleRefused:
        raise
    except Exception as error:  # ONNX Runtime's own errors share no class; names that are no UTF-8 raise too
        said = str(error).partition("\n")[0][:300]
        raise BundleRefused(f"model.onnx: ONNX Runtime does not load it: {said}") from error


def _alone(run: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """`run` for one row after the other."""

    def run_alone(names: list[str], feed: dict[str, np.ndarray]) -> list[Any]:
        rows = len(next(iter(feed.values())))
        if rows < 2:
            return run(names, feed)
        parts = [run(names, {name: array[row : row + 1] for name, array in feed.items()}) for row in range(rows)]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    return run_alone


def _feed_of(
    node: Any, fields: dict[str, Field], packed: dict[str, str]
) -> tuple[str, Callable[[Columns], np.ndarray]]:
    """An input's name, and the function from columns to its array."""
    name = str(node.name)
    held = packed.get(f"penstock.{name}")
    if held is None and name not in fields:
        raise BundleRefused(f"model.onnx: the input {name!r} is no field of the schema")
    names = [name] if held is None else [str(field) for field in json.loads(held)]
    unknown = [field for field in names if field not in fields]
    if unknown:
        raise BundleRefused(f"model.onnx: the input {name!r} reads {unknown}, which the schema does not have")
    shape = (-1,) if len(node.shape) == 1 else (-1, 1)
    if node.type == "tensor(string)":
        feed = _texts_feed(names, [fields[field] for field in names], shape)
        return name, _lowered_feed(feed) if name == LOWERED and held is not None else feed
    if node.type not in _DTYPES:
        raise BundleRefused(f"model.onnx: the input {name!r} is a {node.type}; expected numbers or strings")
    return name, _numbers_feed(names, _DTYPES[node.type], shape)


def _numbers_feed(names: list[str], dtype: Any, shape: tuple[int, ...]) -> Callable[[Columns], np.ndarray]:
    count = len(names)
    if count == 1:
        only = names[0]
        return lambda columns: _cast(columns[only].reshape(shape), dtype)

    def feed(columns: Columns) -> np.ndarray:
        parts = [columns[name] for name in names]
        return np.concatenate(parts).reshape(count, -1).T

    return feed


def _cast(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Beyond float32's range infinity is the value; numpy would warn of it."""
    if dtype is np.float64:
        return values.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        return values.astype(dtype)


def _texts_feed(names: list[str], fields: list[Field], shape: tuple[int, ...]) -> Callable[[Columns], np.ndarray]:
    count = len(names)
    nullable = any(field.nullable for field in fields)

    def feed(columns: Columns) -> np.ndarray:
        parts = [columns[name] for name in names]
        flat = np.concatenate(parts) if count > 1 else parts[0]
        if nullable:
            gone = flat == None  # noqa: E711 - elementwise
            if gone.any():
                flat = np.where(gone, MISSING_TEXT, flat)
        return flat.reshape(count, -1).T if count > 1 else flat.reshape(shape)

    return feed


def _lowered_feed(feed: Callable[[Columns], np.ndarray]) -> Callable[[Columns], np.ndarray]:
    def lowered(columns: Columns) -> np.ndarray:
        texts = feed(columns)
        made = np.empty(texts.shape, dtype=object)
        made.ravel()[:] = [text.lower() for text in texts.ravel()]
        return made

    return lowered
