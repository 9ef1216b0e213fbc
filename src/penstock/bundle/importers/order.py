"""`Order`: what is to be packed, from where and how; the one value that commands, importers and the child share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from penstock.bundle.compression.record import MAX_LOSS, Quantize
from penstock.bundle.loaders.net import Activation
from penstock.bundle.outputs import ClassLabel

Kind: TypeAlias = Literal["fitted", "founding", "mlflow", "onnx"]

Progress: TypeAlias = Callable[[str], None]
"""Called with a line of text at each step."""


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Paths are of this machine.

    - `kind`: `fitted` (skops, joblib or pickle of an estimator), `founding` (a folder of model.pkl, encoders.pkl,
      scaler.pkl, feature_schema.yaml), `mlflow` (a folder with an MLmodel), `onnx` (a bare ONNX file).
    - `source`: the file or folder. `location`: what the user named, where that is something else (an MLflow URI).
    - `name`, `out`, `description`, `is_archive`: as in `pack`.
    - `sample`, `holdout`, `target`: tables with training rows and unseen rows, and the target's column.
    - `schema`: a schema.yaml to use instead of the inferred one.
    - `classes`: the classes of a net (ONNX, PyTorch) that does not name them, in the order of its scores.
      `activation`: what makes probabilities of the scores of a PyTorch net.
    - `prune`, `quantize`, `metric`, `max_loss`: compression, as in `PackOptions`; of fitted models and bare graphs.
    - `mlflow_run`, `dvc`: where the model and its data come from, as in `PackOptions`.
    - `may_unpickle`: set in the child process, which the user allowed to run code of the source; nowhere else.
    """

    kind: Kind
    source: str
    name: str
    out: str = "bundles"
    location: str | None = None
    sample: str | None = None
    holdout: str | None = None
    target: str | None = None
    schema: str | None = None
    classes: tuple[ClassLabel, ...] = ()
    activation: Activation = "none"
    description: str | None = None
    is_archive: bool = False
    prune: float | None = None
    quantize: Quantize | None = None
    metric: str | None = None
    max_loss: float = MAX_LOSS
    mlflow_run: str | None = None
    dvc: str | None = None
    may_unpickle: bool = False


def classes_of(words: tuple[str, ...]) -> tuple[ClassLabel, ...]:
    """Classes as a user types them: whole numbers when all of them are, else texts."""
    if all(word.removeprefix("-").isascii() and word.removeprefix("-").isdigit() for word in words):
        return tuple(int(word) for word in words)
    return words


class Step(msgspec.Struct, frozen=True, tag="step"):
    """A line of the child: what it does now."""

    text: str


class Packed(msgspec.Struct, frozen=True, tag="packed"):
    """A line of the child: the bundle that it made."""

    path: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A line of the child: the error in which it ended; `parts` are those of a PackRefused.

    `is_unforeseen`: it is none that Penstock raises on purpose, so that what the child printed says more.
    """

    kind: str
    message: str
    parts: tuple[str, str, str] | None = None
    is_unforeseen: bool = False


Line: TypeAlias = Step | Packed | Failed
"""What the child writes, one JSON object a line, on a pipe of its own (its output belongs to the code it runs)."""
