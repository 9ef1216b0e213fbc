"""`Graph`: an ONNX graph while it is being written. Raw fields are virtual tensors until `canonical.py` packs them.

Numbers are float64 everywhere; a column that the original holds as float32 is rounded after each operation, which gives
float32's results exactly (a double has more than twice its bits).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from penstock.bundle.compile.feature import Features

ML = "ai.onnx.ml"
OPSET = 21
OPSET_ML = 5
PICK = "Pick"
"""The virtual operator: columns of raw fields, side by side. It leaves with `canonical.finished`."""

FIELD = "field:"
"""How the names of virtual tensors begin: the raw fields, by name."""

LOWERED = "\nlowered"
"""How the name of a raw text field ends where Python's `str.lower` of it is meant."""

MICROSOFT = "com.microsoft"

FOREIGN = "foreign"
"""How the names of tensors begin that a converter of skl2onnx gave; loops within refer to them, so they are kept."""


class Graph:
    """Nodes and constants in the order in which they are written. Not thread-safe.

    `prefix` begins the names of a graph that is to become a branch of another one, whose names it may read.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.widths: dict[str, int] = {}
        self.recipe: list[str] = []
        self._by_content: dict[tuple[object, ...], str] = {}
        self._matrices: dict[tuple[tuple[str, int], ...], str] = {}

    def add(self, op: str, inputs: Sequence[str], *, width: int = 0, domain: str = "", **attributes: Any) -> str:
        """One node with one output, whose name it returns; `width` is the output's number of columns, if it has any."""
        output = f"{self._prefix}t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], domain=domain, **attributes))
        self.widths[output] = width
        return output

    def add_two(self, op: str, inputs: Sequence[str], **attributes: Any) -> tuple[str, str]:
        """One node with two outputs, whose names it returns."""
        first = self.add(op, inputs, **attributes)
        second = f"{first}_1"
        self.nodes[-1].output.append(second)
        return first, second

    def adopt(self, node: onnx.NodeProto) -> None:
        """A node that was made elsewhere, its names already unlike any of here."""
        self.nodes.append(node)

    def constant(self, value: np.ndarray) -> str:
        """The name of a constant; equal constants share one."""
        value = np.ascontiguousarray(value) if value.ndim else value
        return self._kept((value.dtype.str, value.shape, value.tobytes()), numpy_helper.from_array(value))

    def texts(self, values: Sequence[str], shape: Sequence[int]) -> str:
        """The name of a constant of strings."""
        encoded = [value.encode() for value in values]
        return self._kept(("text", *shape, *encoded), helper.make_tensor("", TensorProto.STRING, shape, encoded))

    def _kept(self, key: tuple[object, ...], tensor: onnx.TensorProto) -> str:
        name = self._by_content.setdefault(key, f"{self._prefix}c{len(self._by_content)}")
        if name not in self.constants:
            tensor.name = name
            self.constants[name] = tensor
        return name

    def matrix(self, features: Features) -> str:
        """The tensor `[n, len(features)]` of these features, in their order; all numbers or all texts."""
        key = tuple((feature.tensor, feature.index) for feature in features)
        if key not in self._matrices:
            parts = [self._part(run) for run in _runs(key)]
            self._matrices[key] = (
                parts[0] if len(parts) == 1 else self.add("Concat", parts, width=len(features), axis=1)
            )
        return self._matrices[key]

    def _part(self, run: list[tuple[str, int]]) -> str:
        tensor = run[0][0]
        if is_field(tensor):
            return self.add(PICK, [name for name, _ in run], width=len(run))
        indices = [index for _, index in run]
        if indices == list(range(self.widths[tensor])):
            return tensor
        return self.gather(tensor, indices)

    def branch(self, inner: Graph, output: str) -> onnx.GraphProto:
        """A graph without inputs as a branch of an `If` of this one, with one output of int64."""
        end = helper.make_tensor_value_info(output, TensorProto.INT64, None)
        return helper.make_graph(inner.nodes, "branch", [], [end], list(inner.constants.values()))

    def gather(self, tensor: str, indices: Sequence[int]) -> str:
        """Columns of a tensor by number."""
        return self.add("Gather", [tensor, self.constant(np.array(indices, np.int64))], width=len(indices), axis=1)

    def cast(self, tensor: str, dtype: int) -> str:
        """The tensor in another dtype (a `TensorProto` number)."""
        return self.add("Cast", [tensor], width=self.widths.get(tensor, 0), to=dtype)

    def rounded(self, tensor: str) -> str:
        """The tensor's values rounded to float32, still float64."""
        return self.cast(self.cast(tensor, TensorProto.FLOAT), TensorProto.DOUBLE)


def reads(node: onnx.NodeProto) -> set[str]:
    """The names that a node reads, those inside its loops and branches included."""
    names = set(node.input)
    for inner in inner_graphs(node):
        names.update(*(reads(step) for step in inner.node), (out.name for out in inner.output))
    return names


def inner_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs of a node's loops and branches."""
    found: list[onnx.GraphProto] = []
    for attribute in node.attribute:
        found += [attribute.g] if attribute.HasField("g") else []
        found += attribute.graphs
    return found


def field_tensor(name: str) -> str:
    """The virtual tensor of a raw field."""
    return FIELD + name


def lowered_field(tensor: str) -> str:
    """The virtual tensor of a raw text field in lower case."""
    return tensor + LOWERED


def is_field(tensor: str) -> bool:
    """Whether a tensor is a raw field."""
    return tensor.startswith(FIELD)


def _runs(key: tuple[tuple[str, int], ...]) -> list[list[tuple[str, int]]]:
    """Neighbours that come from one tensor; raw fields count as one."""
    runs: list[list[tuple[str, int]]] = []
    for item in key:
        last = runs[-1][-1][0] if runs else None
        if last is not None and (last == item[0] or (is_field(last) and is_field(item[0]))):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs
