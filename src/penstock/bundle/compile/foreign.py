"""Steps without an exact writing of our own, by skl2onnx's converters. Whether they are exact, the proof says."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.inliner import inline_local_functions
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

from penstock.bundle.compile.answers import Answer, column_of
from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.graph import FOREIGN, ML, OPSET, Graph, inner_graphs
from penstock.bundle.compile.numeric import settled_texts
from penstock.bundle.compile.refusal import NotCompilable

_OPSET_ML = 3
"""The converters write for this version of `ai.onnx.ml`; the later one that we declare reads its operators the same."""


def foreign_features(graph: Graph, transformer: Any, features: Features, step: str) -> Features:
    """The features of a transformer, as its usual converter writes them."""
    outputs = _inlined(graph, transformer, features, step)
    out = graph.cast(outputs[0][0], TensorProto.DOUBLE)
    width = _width(transformer, features)
    graph.widths[out] = width
    return tuple(Feature(tensor=out, index=index, kind="number", nulls=(np.nan,)) for index in range(width))


def foreign_answer(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """The outputs of a final estimator, as its usual converter writes them."""
    outputs = _inlined(graph, estimator, features, step)
    if hasattr(estimator, "classes_"):
        answer = {"label": _label_index(graph, outputs[0], np.asarray(estimator.classes_))}
        if len(outputs) > 1:
            answer["probabilities"] = graph.cast(outputs[1][0], TensorProto.DOUBLE)
        return answer
    value = graph.cast(outputs[-1][0], TensorProto.DOUBLE)
    if len(outputs) > 1:
        return {"label": _outlier_index(graph, outputs[0][0]), "value": column_of(graph, value)}
    return {"values": value, "value": column_of(graph, value)}


def _width(transformer: Any, features: Features) -> int:
    """Asked of the transformer: the converters' shapes are often open."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        row = np.zeros((1, len(features)))
        if any(feature.kind == "text" for feature in features):
            row = np.full((1, len(features)), "", dtype=object)
        return int(transformer.transform(row).shape[1])


def _inlined(graph: Graph, fitted: Any, features: Features, step: str) -> list[tuple[str, int]]:
    """The converter's nodes written into the graph; its outputs as (name, element type)."""
    features = settled_texts(graph, features, step)
    kinds = {feature.kind for feature in features}
    if len(kinds) != 1:
        raise NotCompilable(step, f"{type(fitted).__name__} over numbers and texts together")
    raw = graph.matrix(features)
    model, is_single = _in_any_precision(fitted, kinds == {"number"}, len(features), step)
    if any(node.op_type.startswith("TreeEnsemble") for node in model.graph.node):
        raise NotCompilable(step, f"the converter of {type(fitted).__name__} writes trees in single precision")
    graph.recipe.append(f"{step}: by the converter of skl2onnx, in {'single' if is_single else 'double'} precision")
    prefix = f"{FOREIGN}{len(graph.nodes)}."
    _rename(model.graph, prefix)
    for tensor in model.graph.initializer:
        graph.constants[tensor.name] = tensor
    start = helper.make_node("Identity", [graph.cast(raw, TensorProto.FLOAT) if is_single else raw], [prefix + "x"])
    for node in [start, *model.graph.node]:
        graph.adopt(node)
    return [(out.name, out.type.tensor_type.elem_type) for out in model.graph.output]


def _rename(inner: onnx.GraphProto, prefix: str) -> None:
    """Every name of a graph with the prefix, those of its loops and branches too; in place."""
    for value in [*inner.input, *inner.output, *inner.initializer]:
        value.name = prefix + value.name
    for node in inner.node:
        for names in (node.input, node.output):
            names[:] = [prefix + name if name else "" for name in names]
        for deeper in inner_graphs(node):
            _rename(deeper, prefix)


def _in_any_precision(fitted: Any, is_number: bool, width: int, step: str) -> tuple[onnx.ModelProto, bool]:
    """In double where the converter takes it; some know single precision only, and then the proof has the word."""
    if not is_number:
        return _converted(fitted, StringTensorType([None, width]), step), False
    try:
        return _converted(fitted, DoubleTensorType([None, width]), step), False
    except NotCompilable:
        return _converted(fitted, FloatTensorType([None, width]), step), True


def _converted(fitted: Any, kind: Any, step: str) -> onnx.ModelProto:
    name = type(fitted).__name__
    plain = copy.copy(fitted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {id(plain): {"zipmap": False}} if hasattr(fitted, "classes_") else None
            target = {"": OPSET, ML: _OPSET_ML}
            model: onnx.ModelProto = convert_sklearn(
                plain, initial_types=[("x", kind)], options=options, target_opset=target
            )
    except Exception as error:  # converters raise everything there is: AttributeError, RuntimeError, KeyError, ...
        said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise NotCompilable(step, f"{name} has no exact writing here, and its converter refuses it: {said}") from error
    return inline_local_functions(model)


def _label_index(graph: Graph, label: tuple[str, int], classes: np.ndarray) -> str:
    """The label as an index into the classes."""
    name, element = label
    values = helper.make_tensor("v", TensorProto.INT64, [len(classes)], list(range(len(classes))))
    default = helper.make_tensor("d", TensorProto.INT64, [1], [-1])
    if element == TensorProto.STRING:
        keys = helper.make_tensor("k", TensorProto.STRING, [len(classes)], [str(text).encode() for text in classes])
    else:
        keys = helper.make_tensor("k", TensorProto.INT64, [len(classes)], [int(number) for number in classes])
        name = graph.cast(name, TensorProto.INT64)
    out = graph.add("LabelEncoder", [name], domain=ML, keys_tensor=keys, values_tensor=values, default_tensor=default)
    return column_of(graph, out)


def _outlier_index(graph: Graph, label: str) -> str:
    """An anomaly detector says 1 for an ordinary row and -1 for an outlier; its classes here are (-1, 1)."""
    above = graph.add("Greater", [label, graph.constant(np.array(0, np.int64))])
    return column_of(graph, graph.cast(above, TensorProto.INT64))
