"""Bare ONNX models as they are: read and checked, asked through ONNX Runtime, the original in their own proof."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pandas as pd
from google.protobuf.message import DecodeError
from onnx import TensorProto

from penstock.bundle.compile.graph import ML
from penstock.bundle.loaders.net import NetDtype, NetInput
from penstock.bundle.loaders.protobuf import refuse_unsafe
from penstock.bundle.nets.sample import frame_and_inputs
from penstock.errors import BundleRefused, ModelFailed, PackRefused

_DTYPES: dict[int, NetDtype] = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "string",
}
_MOST_BYTES = 2 << 30


class Ends(msgspec.Struct, frozen=True):
    """The names of a graph's outputs: its scores, and its own labels where it has any (texts or whole numbers)."""

    scores: str
    label: str | None


def read_bare(model: Any) -> onnx.ModelProto:
    """A graph from a path, bytes or a ModelProto (copied).

    Raises PackRefused for what cannot be read, names operators of unknown domains, or keeps data in other files.
    """
    try:
        if isinstance(model, onnx.ModelProto):
            data = model.SerializeToString(deterministic=True)
        else:
            data = bytes(model) if isinstance(model, bytes | bytearray) else Path(model).read_bytes()
        read = onnx.load_from_string(data)
        _drop_unused_domains(read)
        refuse_unsafe(read.SerializeToString())
        return read
    except (OSError, ValueError, DecodeError, BundleRefused) as error:
        raise PackRefused("graph", str(error), "Give a whole ONNX model, its data inside") from error


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    """ONNX Runtime's tools declare every domain that they know, used or not."""
    used = {node.domain for node in [*model.graph.node, *(node for f in model.functions for node in f.node)]} | {"", ML}
    kept = [each for each in model.opset_import if each.domain in used or each.domain == "ai.onnx"]
    del model.opset_import[:]
    model.opset_import.extend(kept)


class BareNet:
    """A bare graph in ONNX Runtime, one thread. Thread-safe."""

    def __init__(self, model: onnx.ModelProto, ends: Ends) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own errors share no class
            said = str(error).partition("\n")[0][:300]
            raise PackRefused("graph", f"ONNX Runtime does not load it: {said}", "Export it again") from error
        self._names = {"scores": ends.scores} | ({"label": ends.label} if ends.label is not None else {})

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores and labels. Raises ModelFailed when ONNX Runtime does."""
        try:
            arrays = self._session.run(list(self._names.values()), feeds)
        except Exception as error:  # ONNX Runtime's own errors share no class
            raise ModelFailed.raised("The graph failed:", error) from error
        return {name: np.asarray(array) for name, array in zip(self._names, arrays, strict=True)}


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller gives: older graphs list their constants among them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in constants]


def ends_of(model: onnx.ModelProto) -> Ends:
    """Which outputs are scores and labels. Raises PackRefused for maps, sequences, and for more than one of a kind."""
    scores: list[str] = []
    labels: list[str] = []
    for out in model.graph.output:
        if not out.type.HasField("tensor_type"):
            raise PackRefused("graph", f"the output {out.name!r} is no tensor", "Convert it with zipmap=False")
        element = out.type.tensor_type.elem_type
        (scores if element in (TensorProto.FLOAT, TensorProto.DOUBLE) else labels).append(out.name)
    if len(scores) != 1 or len(labels) > 1:
        raise PackRefused(
            "graph",
            f"expected one output of scores and at most one of labels, got {scores + labels}",
            "Export it with these outputs only",
        )
    return Ends(scores[0], labels[0] if labels else None)


def bare_inputs(model: onnx.ModelProto, sample: Any) -> tuple[pd.DataFrame, tuple[NetInput, ...]]:
    """The sample's rows, and which columns make which input of the graph.

    One input is all columns in their order; several are named in a sample that is a dict, or each named like a column.
    """
    wanted = real_inputs(model)
    frame, made = frame_and_inputs(sample, "float64")
    if isinstance(sample, Mapping):
        fields = {each.name: each.fields for each in made}
    elif len(wanted) == 1:
        fields = {wanted[0].name: tuple(map(str, frame.columns))}
    else:
        fields = {name: (name,) for name in map(str, frame.columns)}
    return frame, tuple(_input(each, fields) for each in wanted)


def _input(each: onnx.ValueInfoProto, fields: dict[str, tuple[str, ...]]) -> NetInput:
    if each.name not in fields:
        raise PackRefused(
            "sample",
            f"the graph reads {each.name!r}, which the sample does not have",
            "Give a dict of named inputs, or columns named like the inputs",
        )
    tensor = each.type.tensor_type
    if tensor.elem_type not in _DTYPES:
        raise PackRefused("graph", f"the input {each.name!r} is no tensor of numbers or texts", "Export it again")
    sizes = [dim.dim_value for dim in tensor.shape.dim]
    is_flat = tensor.HasField("shape") and len(sizes) == 1
    chosen = fields[each.name]
    if len(sizes) == 2 and sizes[1] not in (0, len(chosen)):
        raise PackRefused(
            "sample",
            f"the input {each.name!r} has {sizes[1]} columns, the sample has {len(chosen)}",
            "Give the columns that the model was fitted on, in that order",
        )
    if len(sizes) > 2 or (is_flat and len(chosen) > 1):
        raise PackRefused("graph", f"the input {each.name!r} has shape {sizes}; a row is flat", "Export it with [n, k]")
    return NetInput(each.name, chosen, _DTYPES[tensor.elem_type], is_flat)
