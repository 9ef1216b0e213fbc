"""Sequential modules of Linear layers, narrower."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from penstock.bundle.compression.perceptron import units_said
from penstock.bundle.compression.units import Layer, narrower
from penstock.errors import PackRefused

_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.ReLU6, nn.Hardswish)
_NOTHING = (nn.Identity, nn.Dropout)
_ADVICE = "Prune nn.Sequential of Linear layers with activations between them"


def narrowed(module: Any, rows: np.ndarray, share: float) -> tuple[Any, str]:
    """A copy with that share of each hidden layer's units gone, and what was done in words.

    What stands before the first Linear layer stays as it is. Raises PackRefused for another structure.
    """
    if not isinstance(module, nn.Sequential):
        raise PackRefused("prune", f"{type(module).__name__} is no nn.Sequential", _ADVICE)
    made = copy.deepcopy(module)
    places = [place for place, part in enumerate(made) if isinstance(part, nn.Linear)]
    if len(places) < 2:
        raise PackRefused("prune", f"it has {len(places)} Linear layers; two leave a hidden one between them", _ADVICE)
    linear = [made[place] for place in places]
    with torch.no_grad():
        given = made[: places[0]](torch.from_numpy(rows)).double().numpy()
        layers = [_layer(made, place, next_) for place, next_ in zip(places, [*places[1:], len(made)], strict=True)]
        before = [layer.weights.shape[1] for layer in layers[:-1]]
        new = narrower(layers, given, share)
        for old, layer in zip(linear, new, strict=True):
            _write(old, layer)
    return made, units_said(before, [layer.weights.shape[1] for layer in new[:-1]], len(rows))


def _layer(made: Any, place: int, end: int) -> Layer:
    linear = made[place]
    between = [copy.deepcopy(part).double() for part in made[place + 1 : end] if not isinstance(part, _NOTHING)]
    if end < len(made):
        wrong = next((part for part in between if not isinstance(part, _ELEMENTWISE)), None)
        if wrong is not None:
            raise PackRefused("prune", f"{type(wrong).__name__} stands between its layers", _ADVICE)
    bias = linear.bias if linear.bias is not None else torch.zeros(linear.out_features)
    return Layer(linear.weight.double().numpy().T.copy(), bias.double().numpy().copy(), _after(between))


def _after(parts: list[Any]) -> Callable[[np.ndarray], np.ndarray]:
    def after(sums: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(sums)
        for part in parts:
            tensor = part(tensor)
        return np.asarray(tensor.numpy())

    return after


def _write(linear: Any, layer: Layer) -> None:
    dtype = linear.weight.dtype
    linear.in_features, linear.out_features = layer.weights.shape
    linear.weight = nn.Parameter(torch.from_numpy(layer.weights.T.copy()).to(dtype))
    linear.bias = nn.Parameter(torch.from_numpy(layer.bias.copy()).to(dtype))
