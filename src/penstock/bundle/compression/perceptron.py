"""scikit-learn's perceptrons, narrower: their layers out and in again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from penstock.bundle.compression.units import Layer, narrower
from penstock.errors import PackRefused

_AFTER: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda sums: sums,
    "logistic": lambda sums: 0.5 * (1.0 + np.tanh(0.5 * sums)),
    "relu": lambda sums: np.maximum(sums, 0.0),
    "tanh": np.tanh,
}


def is_perceptron(estimator: Any) -> bool:
    """Whether it is an MLP with weights to leave out."""
    return hasattr(estimator, "coefs_") and hasattr(estimator, "intercepts_")


def fewer_units(estimator: Any, rows: np.ndarray, share: float) -> str:
    """Leave out that share of each hidden layer's units, in place; what was done, in words."""
    if estimator.activation not in _AFTER:
        raise PackRefused("prune", f"the activation {estimator.activation!r}", "Prune MLPs of the usual activations")
    pairs = list(zip(estimator.coefs_, estimator.intercepts_, strict=True))
    names = [estimator.activation] * (len(pairs) - 1) + ["identity"]
    layers = [Layer(weights, bias, _AFTER[name]) for (weights, bias), name in zip(pairs, names, strict=True)]
    before = [weights.shape[1] for weights, _ in pairs[:-1]]
    made = narrower(layers, np.asarray(rows, dtype=np.float64), share)
    estimator.coefs_ = [layer.weights.astype(pairs[0][0].dtype) for layer in made]
    estimator.intercepts_ = [layer.bias.astype(pairs[0][1].dtype) for layer in made]
    after = [layer.weights.shape[1] for layer in made[:-1]]
    estimator.set_params(hidden_layer_sizes=tuple(after))
    return units_said(before, after, len(rows))


def units_said(before: list[int], after: list[int], rows: int) -> str:
    """What was done to hidden layers, in words."""
    pairs = ", ".join(f"{now} of {was}" for was, now in zip(before, after, strict=True))
    return f"hidden units kept, by the magnitude of their weights: {pairs}; each next layer refitted on {rows:,} rows"
