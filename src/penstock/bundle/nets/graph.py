"""A net's graph with our ends: packed inputs before it, in double after it the step from scores to the outputs.

The bytes are the same in every process: comments and traces of the exporter are gone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from penstock.bundle.compile.canonical import serialised
from penstock.bundle.compile.graph import ML, inner_graphs
from penstock.bundle.compile.refusal import NotCompilable
from penstock.bundle.loaders.net import NetInput, NetSpec
from penstock.bundle.nets.bare import Ends
from penstock.bundle.outputs import OutputSpec

_ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}
_OLDEST_OPSET, _OPSET_ML, _OLDEST_IR = 13, 3, 8
_NET = "net."
_SHAPES = {"label": ["n"], "value": ["n"], "probabilities": ["n", "k"], "values": ["n", "t"]}


def graph_of(model: onnx.ModelProto, ends: Ends, spec: NetSpec, outputs: OutputSpec, *, width: int) -> bytes:
    """`model`, of `width` scores a row, between our inputs and outputs, serialised.

    Raises NotCompilable for an opset that is too old.
    """
    inner = _plain(model)
    writer = _Writer(spec.inputs)
    before = [node for each in spec.inputs for node in writer.reading(each)]
    nodes_of_net = list(inner.graph.node)
    after = writer.heading(ends, spec, outputs, width)
    graph = helper.make_graph(
        [*before, *nodes_of_net, *after],
        "penstock",
        writer.inputs(),
        [helper.make_tensor_value_info(name, _type_of(name), _SHAPES[name]) for name in outputs.names],
        [*writer.constants, *inner.graph.initializer],
    )
    graph.sparse_initializer.extend(inner.graph.sparse_initializer)
    made = helper.make_model(
        graph, opset_imports=_opsets(inner), ir_version=max(inner.ir_version, _OLDEST_IR), producer_name="penstock"
    )
    packed = {f"penstock.{name}": json.dumps(of, ensure_ascii=False) for name, of in writer.packed.items()}
    helper.set_model_props(made, packed)
    return serialised(made)


def _type_of(name: str) -> int:
    return int(TensorProto.INT64 if name == "label" else TensorProto.DOUBLE)


def _opsets(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    versions = {each.domain: each.version for each in model.opset_import}
    used = {node.domain for node in model.graph.node} | {""}
    kept = {domain: version for domain, version in versions.items() if domain in used or domain == ML}
    kept[ML] = max(kept.get(ML, 0), _OPSET_ML)
    return [helper.make_opsetid(domain, version) for domain, version in sorted(kept.items())]


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without functions, comments and traces, its names prefixed, in an opset that our ends can join."""
    copied = inline_local_functions(model)
    version = next((each.version for each in copied.opset_import if each.domain in ("", "ai.onnx")), 0)
    if version < _OLDEST_OPSET:
        try:
            copied = onnx.version_converter.convert_version(copied, _OLDEST_OPSET)
        except Exception as error:  # the converter's own errors share no class
            said = str(error).partition("\n")[0][:200]
            raise NotCompilable("graph", f"opset {version} cannot be read as {_OLDEST_OPSET}: {said}") from error
    _rename(copied.graph)
    return copied


def _rename(graph: onnx.GraphProto) -> None:
    for value in [*graph.input, *graph.output, *graph.initializer]:
        value.name = _NET + value.name
        value.doc_string = ""
        if isinstance(value, onnx.TensorProto):
            del value.metadata_props[:]
    for sparse in graph.sparse_initializer:
        sparse.values.name = _NET + sparse.values.name
    for node in graph.node:
        node.name, node.doc_string = "", ""
        del node.metadata_props[:]
        for names in (node.input, node.output):
            names[:] = [_NET + name if name else "" for name in names]
        for deeper in inner_graphs(node):
            _rename(deeper)


class _Writer:
    """The nodes before and after the net, and the constants that they read."""

    def __init__(self, inputs: Sequence[NetInput]) -> None:
        numbers = [name for each in inputs if each.dtype != "string" for name in each.fields]
        texts = [name for each in inputs if each.dtype == "string" for name in each.fields]
        self.packed = {"numbers": list(dict.fromkeys(numbers)), "texts": list(dict.fromkeys(texts))}
        self.constants: list[onnx.TensorProto] = []

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The packed inputs that have fields."""
        kinds = {"numbers": TensorProto.DOUBLE, "texts": TensorProto.STRING}
        return [helper.make_tensor_value_info(n, kinds[n], ["n", len(of)]) for n, of in self.packed.items() if of]

    def reading(self, each: NetInput) -> list[onnx.NodeProto]:
        """From the packed input to one input of the net."""
        source = "texts" if each.dtype == "string" else "numbers"
        at = source
        nodes = []
        places = [self.packed[source].index(name) for name in each.fields]
        if places != list(range(len(self.packed[source]))):
            at = f"{each.name}.picked"
            nodes.append(self._node("Gather", [source, self._constant(np.array(places, np.int64))], at, axis=1))
        if each.is_flat:
            nodes.append(self._node("Reshape", [at, self._constant(np.array([-1], np.int64))], f"{each.name}.flat"))
            at = f"{each.name}.flat"
        if each.dtype in ("string", "float64"):
            return [*nodes, self._node("Identity", [at], _NET + each.name)]
        return [*nodes, self._node("Cast", [at], _NET + each.name, to=_ELEMENTS[each.dtype])]

    def heading(self, ends: Ends, spec: NetSpec, outputs: OutputSpec, width: int) -> list[onnx.NodeProto]:
        """From scores to the outputs, the same arithmetic as `answers_of`."""
        nodes = [self._node("Cast", [_NET + ends.scores], "scores", to=TensorProto.DOUBLE)]
        if outputs.kind == "regression":
            shape = [-1, width] if outputs.targets else [-1]
            name = "values" if outputs.targets else "value"
            return [*nodes, self._node("Reshape", ["scores", self._constant(np.array(shape, np.int64))], name)]
        label = "label" if ends.label is None else "largest"
        nodes += self._classes(spec.activation, label, width == 1)
        if ends.label is not None:
            nodes += self._own_label(_NET + ends.label, outputs)
        return nodes

    def _classes(self, activation: str, label: str, is_single: bool) -> list[onnx.NodeProto]:
        if not is_single:
            last = "Softmax" if activation == "softmax" else "Identity"
            ends = {"axis": 1} if last == "Softmax" else {}
            return [
                self._node("ArgMax", ["scores"], label, axis=1, keepdims=0),
                self._node(last, ["scores"], "probabilities", **ends),
            ]
        column = self._constant(np.array([-1, 1], np.int64))
        limit = self._constant(np.array(0.0 if activation == "sigmoid" else 0.5))
        return [
            self._node("Reshape", ["scores", column], "column"),
            self._node("Greater", ["column", limit], "above"),
            self._node("Cast", ["above"], "whole", to=TensorProto.INT64),
            self._node("Reshape", ["whole", self._constant(np.array([-1], np.int64))], label),
            self._node("Sigmoid" if activation == "sigmoid" else "Identity", ["column"], "second"),
            self._node("Sub", [self._constant(np.array(1.0)), "second"], "first"),
            self._node("Concat", ["first", "second"], "probabilities", axis=1),
        ]

    def _own_label(self, name: str, outputs: OutputSpec) -> list[onnx.NodeProto]:
        is_text = all(isinstance(label, str) for label in outputs.classes)
        table: dict[str, Any] = {"values_int64s": list(range(len(outputs.classes))), "default_int64": -1}
        if is_text:
            table["keys_strings"] = [str(label) for label in outputs.classes]
            before = []
        else:
            table["keys_int64s"] = [int(label) for label in outputs.classes]
            before = [self._node("Cast", [name], "said", to=TensorProto.INT64)]
        source = name if is_text else "said"
        return [
            *before,
            helper.make_node("LabelEncoder", [source], ["place"], domain=ML, **table),
            self._node("Reshape", ["place", self._constant(np.array([-1], np.int64))], "label"),
        ]

    def _constant(self, value: np.ndarray) -> str:
        name = f"end{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def _node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, list(inputs), [output], **attributes)
