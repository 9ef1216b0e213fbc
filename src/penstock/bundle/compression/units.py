"""Narrower layers: hidden units of small weight go, and the layer after is fitted again to what it was given before.

Zeros inside a dense layer would cost as much as the numbers that they replace; whole units make it smaller. A unit's
magnitude is the length of its incoming weights times that of its outgoing ones. The refit is a ridge regression of the
next layer's inputs-to-outputs on the chosen rows: it needs no labels (He, Zhang, Sun 2017, on channels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

_RIDGE = 1e-4


class Layer(msgspec.Struct, frozen=True):
    """A dense layer: `[in, out]` weights, `[out]` biases, and the function after it."""

    weights: np.ndarray
    bias: np.ndarray
    after: Callable[[np.ndarray], np.ndarray]


def narrower(layers: Sequence[Layer], rows: np.ndarray, share: float) -> list[Layer]:
    """The layers with that share of each hidden layer's units gone; at least one stays. `rows` `[n, in]` in double."""
    made = list(layers)
    original = reduced = rows
    for place in range(len(layers) - 1):
        now, then = made[place], layers[place + 1]
        original = layers[place].after(original @ layers[place].weights + layers[place].bias)
        units = now.weights.shape[1]
        magnitude = np.linalg.norm(now.weights, axis=0) * np.linalg.norm(then.weights, axis=1)
        kept = np.sort(np.argsort(-magnitude, kind="stable")[: max(1, units - int(share * units))])
        made[place] = Layer(now.weights[:, kept], now.bias[kept], now.after)
        reduced = now.after(reduced @ made[place].weights + made[place].bias)
        weights, bias = _refitted(reduced, original @ then.weights + then.bias)
        made[place + 1] = Layer(weights, bias, then.after)
    return made


def _refitted(given: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases that come nearest to the wanted sums, by ridge regression about the means."""
    centre, goal = given.mean(axis=0), wanted.mean(axis=0)
    moved = given - centre
    scale = float(np.square(moved).sum(axis=0).mean()) or 1.0
    square = moved.T @ moved + _RIDGE * scale * np.eye(moved.shape[1])
    weights = np.linalg.solve(square, moved.T @ (wanted - goal))
    return weights, goal - centre @ weights
