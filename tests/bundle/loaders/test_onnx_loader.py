"""The ONNX loader: what it refuses before ONNX Runtime sees the bytes, and how it feeds a graph."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from penstock.bundle.loaders.onnx import load_onnx
from penstock.bundle.loaders.protobuf import refuse_unsafe
from penstock.bundle.outputs import OutputSpec
from penstock.errors import BundleRefused, ModelFailed
from penstock.schema import Field, Schema
from penstock.schema.columns import MISSING_TEXT

SCHEMA = Schema(fields=(Field(name="a", type="float", nullable=True), Field(name="b", type="int")))
VALUE = OutputSpec(kind="regression")


def external() -> TensorProto:
    """A tensor whose data are said to be in a file."""
    tensor = numpy_helper.from_array(np.ones(2), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def branch(tensor: TensorProto) -> onnx.GraphProto:
    """A subgraph with a tensor as its initializer."""
    out = helper.make_tensor_value_info("v", TensorProto.DOUBLE, ["n", 1])
    return helper.make_graph([helper.make_node("Identity", ["w"], ["v"])], "inner", [], [out], [tensor])


def model_of(nodes: list[onnx.NodeProto], **parts: object) -> onnx.ModelProto:
    """A model of two inputs that answers `value`."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 1]) for name in ("a", "b")]
    out = helper.make_tensor_value_info("value", TensorProto.DOUBLE, ["n", 1])
    graph = helper.make_graph(nodes, "g", inputs, [out], parts.pop("initializer", []))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, **parts)


ADD = helper.make_node("Add", ["a", "b"], ["value"])


def hidden(place: str) -> onnx.ModelProto:
    """A model with external data in one of the places that a tensor can be."""
    if place == "initializer":
        return model_of([ADD], initializer=[external()])
    if place == "attribute":
        return model_of([ADD, helper.make_node("Constant", [], ["c"], value=external())])
    if place == "attribute list":
        node = helper.make_node("Constant", [], ["c"])
        attribute = onnx.AttributeProto(name="values", type=onnx.AttributeProto.TENSORS)
        attribute.tensors.append(external())
        node.attribute.append(attribute)
        return model_of([ADD, node])
    if place == "subgraph":
        node = helper.make_node("If", ["c"], ["v"], then_branch=branch(external()), else_branch=branch(external()))
        return model_of([ADD, node])
    model = model_of([ADD])
    if place == "sparse initializer":
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(external())
    elif place == "sparse attribute":
        attribute = onnx.AttributeProto(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
        attribute.sparse_tensor.indices.CopyFrom(external())
        model.graph.node[0].attribute.append(attribute)
    elif place == "function":
        node = helper.make_node("Constant", [], ["y"], value=external())
        model.functions.append(helper.make_function("", "f", [], ["y"], [node], [helper.make_opsetid("", 21)]))
    elif place == "training":
        model.training_info.add().algorithm.CopyFrom(branch(external()))
    return model


PLACES = [
    "initializer", "attribute", "attribute list", "subgraph", "sparse initializer", "sparse attribute", "function",
    "training",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused(place: str) -> None:
    """A tensor with its data elsewhere is refused wherever in the model it hides."""
    with pytest.raises(BundleRefused, match="another file"):
        load_onnx(hidden(place).SerializeToString(), SCHEMA, VALUE)


def test_location_alone_is_refused() -> None:
    """`data_location` is enough, and so is an `external_data` entry."""
    for field in ("data_location", "external_data"):
        tensor = external()
        tensor.ClearField(field)
        with pytest.raises(BundleRefused, match="another file"):
            refuse_unsafe(model_of([ADD], initializer=[tensor]).SerializeToString())


@pytest.mark.parametrize("place", ["node", "opset", "function"])
def test_unknown_domains_are_refused(place: str) -> None:
    """Operators of a domain that ONNX Runtime does not have are refused by the domain's name."""
    model = model_of([ADD])
    if place == "node":
        model.graph.node.append(helper.make_node("Evil", ["a"], ["z"], domain="evil.ops"))
    elif place == "opset":
        model.opset_import.append(helper.make_opsetid("evil.ops", 1))
    else:
        model.functions.append(helper.make_function("evil.ops", "f", [], [], [], [helper.make_opsetid("", 21)]))
    with pytest.raises(BundleRefused, match="evil.ops"):
        refuse_unsafe(model.SerializeToString())


def test_deep_nesting_is_refused() -> None:
    """Subgraphs in subgraphs without end are refused, not recursed into."""
    data = b""
    for _ in range(40):
        for field in (6, 5, 1):  # a graph in an attribute in a node of a graph
            data = bytes([field << 3 | 2]) + _varint(len(data)) + data
    with pytest.raises(BundleRefused, match="nested"):
        refuse_unsafe(bytes([7 << 3 | 2]) + _varint(len(data)) + data)


def _varint(number: int) -> bytes:
    """A length as protobuf writes it."""
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data: bytes) -> None:
    """Arbitrary bytes are accepted or refused by the scanner, and never raise anything else."""
    try:
        refuse_unsafe(data)
    except BundleRefused as error:
        assert "model.onnx" in str(error)


@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_models_are_refused_or_loaded(at: int, byte: int) -> None:
    """A model with one byte changed is refused or loads; nothing else escapes."""
    data = bytearray(model_of([ADD]).SerializeToString())
    data[at % len(data)] = byte
    try:
        load_onnx(bytes(data), SCHEMA, VALUE)
    except BundleRefused as error:
        assert "model.onnx" in str(error)


def test_graph_with_one_input_per_field() -> None:
    """A graph from elsewhere gets each field by its name, and a value of [n, 1] comes back as [n]."""
    predictor = load_onnx(model_of([ADD]).SerializeToString(), SCHEMA, VALUE)
    columns = {"a": np.array([1.0, np.nan]), "b": np.array([2.0, 3.0])}
    np.testing.assert_array_equal(np.array([3.0, np.nan]), predictor.run(columns)["value"])


def test_unknown_input_is_refused() -> None:
    """A graph that asks for what the schema does not have is refused by the input's name."""
    with pytest.raises(BundleRefused, match="'b'"):
        load_onnx(model_of([ADD]).SerializeToString(), Schema(fields=SCHEMA.fields[:1]), VALUE)


def test_missing_output_is_refused() -> None:
    """A graph without a declared output is refused by the output's name."""
    spec = OutputSpec(kind="classification", classes=(0, 1))
    with pytest.raises(BundleRefused, match="label"):
        load_onnx(model_of([ADD]).SerializeToString(), SCHEMA, spec)


def test_missing_text_is_the_reserved_one() -> None:
    """None becomes the reserved text, and the columns keep their None."""
    inputs = [helper.make_tensor_value_info("s", TensorProto.STRING, ["n", 1])]
    out = helper.make_tensor_value_info("value", TensorProto.DOUBLE, ["n", 1])
    keys = helper.make_tensor("k", TensorProto.STRING, [1], [MISSING_TEXT.encode()])
    nodes = [
        helper.make_node("Equal", ["s", "k"], ["hit"]),
        helper.make_node("Cast", ["hit"], ["value"], to=TensorProto.DOUBLE),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [out], [keys]), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    schema = Schema(fields=(Field(name="s", type="string", nullable=True),))
    columns = {"s": np.array(["None", None, "nan"], dtype=object)}
    assert [0.0, 1.0, 0.0] == load_onnx(model.SerializeToString(), schema, VALUE).run(columns)["value"].tolist()
    assert columns["s"][1] is None


def test_failure_of_the_graph_is_the_models() -> None:
    """What ONNX Runtime raises on rows is ModelFailed."""
    predictor = load_onnx(model_of([ADD]).SerializeToString(), SCHEMA, VALUE)
    with pytest.raises(ModelFailed):
        predictor.run({"a": np.ones(2), "b": np.ones(3)})


def test_serving_loads_no_training_library() -> None:
    """Importing the ONNX loader brings in neither pandas, scikit-learn, onnx nor skops."""
    script = (
        "import sys, penstock.bundle.loaders.onnx; "
        "print([name for name in ('pandas', 'sklearn', 'onnx', 'skl2onnx', 'skops') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()


def test_numbers_hide_nothing_from_the_scan() -> None:
    """A tensor with its data elsewhere is found behind a great many numbers, and so is the end of what is cut short."""
    numbers = helper.make_attribute("numbers", list(range(200_000)))
    tensor = helper.make_tensor("t", TensorProto.DOUBLE, [1], [0.0])
    tensor.data_location = TensorProto.EXTERNAL
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.extend([numbers, helper.make_attribute("value", tensor)])
    whole = model_of([node]).SerializeToString()
    with pytest.raises(BundleRefused, match="another file"):
        refuse_unsafe(whole)
    del node.attribute[1]
    refuse_unsafe(model_of([node]).SerializeToString())
    with pytest.raises(BundleRefused, match="cut short"):
        refuse_unsafe(model_of([node]).SerializeToString()[:-200])
