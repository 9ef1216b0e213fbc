"""Multi-layer perceptrons of scikit-learn: products in double, the activations by their names."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from penstock.bundle.compile.answers import Answer, column_of, complement, label_of_largest
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.refusal import NotCompilable

_ACTIVATIONS = {"identity": "", "relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "softmax": "Softmax"}


def perceptron_classifier(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """MLPClassifier: label 1 above a half, or the first of the largest."""
    last = _last_layer(graph, estimator, features, step)
    if graph.widths[last] == 1:
        above = graph.add("Greater", [last, graph.constant(np.array(0.5))], width=1)
        label = column_of(graph, graph.cast(above, TensorProto.INT64))
        return {"label": label, "probabilities": complement(graph, last)}
    return {"label": label_of_largest(graph, last), "probabilities": last}


def perceptron_regressor(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """MLPRegressor: the last layer."""
    last = _last_layer(graph, estimator, features, step)
    return {"values": last} if graph.widths[last] > 1 else {"values": last, "value": column_of(graph, last)}


def _last_layer(graph: Graph, estimator: Any, features: Features, step: str) -> str:
    numbers_only(features, step)
    if estimator.out_activation_ not in _ACTIVATIONS or estimator.activation not in _ACTIVATIONS:
        raise NotCompilable(step, f"the activation {estimator.out_activation_} after {estimator.activation}")
    at = graph.matrix(features)
    layers = list(zip(estimator.coefs_, estimator.intercepts_, strict=True))
    for place, (weights, offset) in enumerate(layers):
        width = len(offset)
        product = graph.add("MatMul", [at, graph.constant(np.asarray(weights, np.float64))], width=width)
        at = graph.add("Add", [product, graph.constant(np.asarray(offset, np.float64).reshape(1, -1))], width=width)
        name = estimator.out_activation_ if place == len(layers) - 1 else estimator.activation
        at = _activated(graph, at, name)
    graph.recipe.append(f"{step}: {len(layers)} layers in double")
    return at


def _activated(graph: Graph, tensor: str, name: str) -> str:
    op = _ACTIVATIONS[name]
    width = graph.widths[tensor]
    if not op:
        return tensor
    return graph.add(op, [tensor], width=width, axis=1) if op == "Softmax" else graph.add(op, [tensor], width=width)
