"""What a caller says of a net, which says so little itself: whether its scores are classes or values, and of what.

These values are what `penstock.pack` takes in place of a fitted estimator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from penstock.bundle.loaders.net import Activation
from penstock.bundle.outputs import ClassLabel


class _Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What the scores stand for.

    - `classes`: in the order of the scores; two classes may have one score, the second one's.
    - `targets`: names of the values, where there are several.
    - `activation`: what is still to be done to make probabilities of the scores; it is done in double.
    """

    classes: tuple[ClassLabel, ...] = ()
    targets: tuple[str, ...] = ()
    activation: Activation = "none"


class _Declared(_Scores, frozen=True, kw_only=True):
    kind: Literal["classification", "regression"]


class TorchModel(_Declared, frozen=True):
    """A PyTorch module whose `forward` takes one tensor `[n, k]` (or those of a sample by name, in that order) and
    gives one tensor of scores.
    """

    module: Any


class ScriptModel(_Declared, frozen=True):
    """A TorchScript file (`.pt`, of `torch.jit.save`); stays native. See `loaders/torchscript.py` on its safety."""

    path: Path


class SavedModel(_Declared, frozen=True):
    """A directory of TensorFlow's SavedModel; stays native. `signature` is the one that is served."""

    path: Path
    signature: str = "serving_default"


class OnnxModel(_Scores, frozen=True):
    """A bare ONNX model, `model`: a path, bytes, or an `onnx.ModelProto`.

    Without `kind`, one is read from its outputs: labels, or several scores that sum to 1 on the sample, are
    classification (of `classes`, or 0, 1, …), one number a row is a regression.
    """

    model: Any
    kind: Literal["classification", "regression"] | None = None


Declared: TypeAlias = TorchModel | ScriptModel | SavedModel | OnnxModel


def declared(model: object) -> Declared | None:
    """`model` as a declared net, or None for what is none (a fitted estimator).

    A bare graph is taken as it is, by its path or as a ModelProto.
    """
    if isinstance(model, TorchModel | ScriptModel | SavedModel | OnnxModel):
        return model
    if isinstance(model, str | Path) and str(model).endswith(".onnx"):
        return OnnxModel(model=model)
    return OnnxModel(model=model) if type(model).__name__ == "ModelProto" else None
