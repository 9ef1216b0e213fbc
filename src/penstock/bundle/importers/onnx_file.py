"""A bare ONNX file and its sample become a bundle; see `bundle/nets` for what is read from its inputs and outputs."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper

from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.order import Order, Progress
from penstock.bundle.importers.packed import packed
from penstock.bundle.nets.bare import read_bare
from penstock.bundle.nets.declared import OnnxModel
from penstock.bundle.outputs import ClassLabel
from penstock.bundle.provenance import Origin, digest_of


def import_onnx(order: Order, progress: Progress) -> Bundle:
    """The bundle of an ONNX file, with the sample that the order names. Raises PackRefused."""
    path = Path(order.source)
    origin = Origin(kind="ONNX file", location=path.name, files={path.name: digest_of(path)})
    return packed(bare_model(path, order), order, origin, progress)


def bare_model(path: Path, order: Order) -> OnnxModel:
    """The graph in a file, its classes as the order names them, else as a ZipMap at its end does.

    A ZipMap makes one map a row of the probabilities, which costs more than the model; the tensor before it is taken.
    Raises PackRefused.
    """
    graph = read_bare(path)
    classes: tuple[ClassLabel, ...] = ()
    for node in [node for node in graph.graph.node if node.op_type == "ZipMap"]:
        out = next((out for out in graph.graph.output if out.name == node.output[0]), None)
        if out is None:
            continue
        held = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        classes = tuple(held.get("classlabels_int64s", ())) or tuple(
            text.decode() for text in held.get("classlabels_strings", ())
        )
        graph.graph.node.remove(node)
        out.CopyFrom(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, [None, len(classes)]))
    return OnnxModel(model=graph, classes=order.classes or classes)
