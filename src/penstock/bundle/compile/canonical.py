"""The finished graph: raw fields packed into two inputs, dead nodes gone, names by position, always the same bytes.

The inputs are `numbers` (float64 `[n, k]`), `texts` (string `[n, m]`) and, for bags of words, `lowered` (texts in lower
case, by Python's `str.lower`): handing over two arrays costs a third of
handing over twelve. The metadata `penstock.numbers` and `penstock.texts` name their fields, as JSON lists.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from penstock.bundle.compile.answers import Answer
from penstock.bundle.compile.graph import (
    FIELD,
    FOREIGN,
    LOWERED,
    MICROSOFT,
    ML,
    OPSET,
    OPSET_ML,
    PICK,
    Graph,
    inner_graphs,
    reads,
)
from penstock.bundle.outputs import OutputSpec
from penstock.schema import Schema

_IR_VERSION = 10
_SHAPES = {"label": ["n"], "value": ["n"], "probabilities": ["n", "k"], "values": ["n", "t"]}


def finished(graph: Graph, answer: Answer, schema: Schema, outputs: OutputSpec) -> onnx.ModelProto:
    """The model of these outputs. Fields that nothing reads are no inputs; nodes that nothing reads are gone."""
    ends = {answer[name]: name for name in outputs.names}
    nodes = _living(graph.nodes, set(ends))
    texts = {field.name for field in schema.fields if field.type in ("string", "category", "timestamp")}
    fields = _fields_of(nodes)
    lowered = [f for f in fields if f.endswith(LOWERED)]
    packed = {
        "numbers": [f for f in fields if f not in texts and f not in lowered],
        "texts": [f for f in fields if f in texts],
        **({"lowered": lowered} if lowered else {}),
    }
    writer = _Writer(graph, packed)
    for node in nodes:
        writer.write(node, ends)
    made = helper.make_graph(
        writer.nodes,
        "penstock",
        [_input(name, len(of)) for name, of in packed.items() if of],
        [_output(name) for name in outputs.names],
        list(writer.constants.values()),
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, OPSET_ML)]
    if any(node.domain == MICROSOFT for node in nodes):
        opsets.append(helper.make_opsetid(MICROSOFT, 1))
    model = helper.make_model(made, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="penstock")
    helper.set_model_props(
        model,
        {
            f"penstock.{name}": json.dumps([f.removesuffix(LOWERED) for f in of], ensure_ascii=False)
            for name, of in packed.items()
        },
    )
    return model


def _fields_of(nodes: list[onnx.NodeProto]) -> list[str]:
    return list(
        dict.fromkeys(name.removeprefix(FIELD) for node in nodes if node.op_type == PICK for name in node.input)
    )


def serialised(model: onnx.ModelProto) -> bytes:
    """The model's bytes, the same in every process."""
    return bytes(model.SerializeToString(deterministic=True))


def _living(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            kept.append(node)
    return kept[::-1]


def _input(name: str, width: int) -> onnx.ValueInfoProto:
    kind = TensorProto.DOUBLE if name == "numbers" else TensorProto.STRING
    return helper.make_tensor_value_info(name, kind, ["n", width])


def _output(name: str) -> onnx.ValueInfoProto:
    kind = TensorProto.INT64 if name == "label" else TensorProto.DOUBLE
    return helper.make_tensor_value_info(name, kind, _SHAPES[name])


class _Writer:
    """Writes the nodes again, with names by position."""

    def __init__(self, graph: Graph, packed: dict[str, list[str]]) -> None:
        self._graph, self._packed = graph, packed
        self._names: dict[str, str] = {"": ""}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def write(self, node: onnx.NodeProto, ends: dict[str, str]) -> None:
        if node.op_type == PICK:
            self._pick(node)
            return
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.name = ""
        inputs = [self._read(name) for name in node.input]
        for name in sorted(reads(node)):
            if name in self._graph.constants:
                self._read(name)
        for inner in inner_graphs(copied):
            self._rewrite(inner)
        del copied.input[:], copied.output[:]
        copied.input.extend(inputs)
        for place, name in enumerate(node.output):
            self._names[name] = ends.get(name) or self._name_of(name, place)
            copied.output.append(self._names[name])
        self.nodes.append(copied)

    def _rewrite(self, inner: onnx.GraphProto) -> None:
        """A branch's reads of the outer graph by their new names; its own names are unlike any of them."""
        for node in inner.node:
            node.input[:] = [self._names.get(name, name) for name in node.input]
            for deeper in inner_graphs(node):
                self._rewrite(deeper)
        for out in inner.output:
            out.name = self._names.get(out.name, out.name)

    def _name_of(self, name: str, place: int) -> str:
        if name.startswith(FOREIGN):
            return name
        return f"t{len(self.nodes)}" + (f"_{place}" if place else "")

    def _pick(self, node: onnx.NodeProto) -> None:
        fields = [name.removeprefix(FIELD) for name in node.input]
        source = next(name for name, of in self._packed.items() if fields[0] in of)
        order = [self._packed[source].index(field) for field in fields]
        if order == list(range(len(self._packed[source]))):
            self._names[node.output[0]] = source
            return
        constant = f"pick{len(self.nodes)}"
        self._keep(constant, numpy_helper.from_array(np.array(order, np.int64)))
        output = self._names[node.output[0]] = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node("Gather", [source, constant], [output], axis=1))

    def _read(self, name: str) -> str:
        if name not in self._names:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(self._graph.constants[name])
            self._names[name] = name if name.startswith(FOREIGN) else f"c{len(self.constants)}"
            self._keep(self._names[name], tensor)
        return self._names[name]

    def _keep(self, name: str, tensor: onnx.TensorProto) -> None:
        tensor.name = name
        self.constants[name] = tensor
