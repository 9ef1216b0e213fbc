"""A compiled graph's layers in eight bits, by ONNX Runtime's own quantiser.

Static: the ranges of what flows between the layers come from the sample, so that a row's answer depends on that row
alone; the weights have seven bits (`reduce_range`), so that no processor's sums saturate where another's do not.
Dynamic: the range is that of whatever rows run together, so such a graph is marked to be run one row at a time.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from penstock.bundle.compile.canonical import serialised
from penstock.bundle.compile.graph import reads
from penstock.bundle.compression.record import Quantize
from penstock.bundle.loaders.onnx import ALONE
from penstock.errors import PackRefused

_LAYERS = ("Gemm", "MatMul")
_BATCH = 256


def quantised(graph: bytes, how: Quantize, feeds: Mapping[str, np.ndarray]) -> bytes:
    """The graph with its dense layers in eight bits; `feeds` are rows of the sample, by input of the graph.

    Raises PackRefused where it has no dense layer, or ONNX Runtime's quantiser refuses it.
    """
    model = onnx.load_from_string(graph)
    if not _single_layers(model.graph):
        raise PackRefused("quantize", "the graph has no dense layer", "Quantise nets; for forests there is prune")
    with tempfile.TemporaryDirectory(prefix="penstock-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready, after = Path(scratch) / "ready.onnx", Path(scratch) / "int8.onnx"
        try:
            inferred = onnx.shape_inference.infer_shapes(model)
            # Says that this was done; else the quantiser complains to the root logger.
            helper.set_model_props(inferred, {"onnx.quant.pre_process": "onnxruntime.quant"})
            onnx.save(inferred, ready)
            (_static if how == "int8" else _dynamic)(ready, after, feeds)
            made = onnx.load(after)
        except Exception as error:  # the quantiser raises everything there is
            said = str(error).strip().partition("\n")[0][:200]
            raise PackRefused("quantize", f"ONNX Runtime's quantiser refuses it: {said}", "Pack it as it is") from error
    return _canonical(made, model, is_alone=how == "int8-dynamic")


def _static(ready: Path, after: Path, feeds: Mapping[str, np.ndarray]) -> None:
    quantize_static(
        str(ready),
        str(after),
        _Rows(feeds),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=list(_LAYERS),
    )


def _dynamic(ready: Path, after: Path, feeds: Mapping[str, np.ndarray]) -> None:
    inferred = onnx.load(ready)
    del inferred.graph.value_info[:]  # the shapes of weights that the quantiser transposes
    onnx.save(inferred, ready)
    kinds = list(_LAYERS)
    quantize_dynamic(
        str(ready), str(after), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
        op_types_to_quantize=kinds,
    )  # fmt: skip


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """The rows that set the ranges, batch by batch."""

    def __init__(self, feeds: Mapping[str, np.ndarray]) -> None:
        rows = len(next(iter(feeds.values())))
        self._batches = iter(
            {name: array[start : start + _BATCH] for name, array in feeds.items()} for start in range(0, rows, _BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, or None after the last one."""
        return next(self._batches, None)


def _single_layers(graph: onnx.GraphProto) -> int:
    """Rewrites dense layers in double as layers in single precision between casts, in place; how many layers there are.

    The quantiser knows single precision only.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    layers = 0
    for node in graph.node:
        weights = constants.get(node.input[1]) if node.op_type in _LAYERS else None
        layers += weights is not None
        if weights is None or weights.data_type != TensorProto.DOUBLE:
            nodes.append(node)
            continue
        given, answer = f"{node.output[0]}.single", f"{node.output[0]}.sums"
        nodes.append(helper.make_node("Cast", [node.input[0]], [given], to=TensorProto.FLOAT))
        names = [given, *(_single(graph, constants[name]) for name in node.input[1:])]
        layer = helper.make_node(node.op_type, names, [answer])
        layer.attribute.extend(node.attribute)
        nodes.append(layer)
        nodes.append(helper.make_node("Cast", [answer], [node.output[0]], to=TensorProto.DOUBLE))
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unread(graph)
    return layers


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in reads(node)}
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _single(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> str:
    name = f"{tensor.name}.single"
    if all(known.name != name for known in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
    return name


def _canonical(made: onnx.ModelProto, before: onnx.ModelProto, *, is_alone: bool) -> bytes:
    """The quantiser's graph with the metadata of the one before, without what nothing reads, always the same bytes."""
    used = {node.domain for node in made.graph.node} | {""}
    opsets = [each for each in made.opset_import if each.domain in used]
    del made.opset_import[:]
    made.opset_import.extend(sorted(opsets, key=lambda each: each.domain))
    _drop_unread(made.graph)
    del made.graph.value_info[:], made.metadata_props[:]
    known = {entry.key: entry.value for entry in before.metadata_props} | ({ALONE: "1"} if is_alone else {})
    helper.set_model_props(made, known)
    made.producer_name, made.producer_version = "penstock", ""
    return serialised(made)
