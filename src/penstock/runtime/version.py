"""What a version of a model is, apart from how it is computed: bundle, check, outputs as predictions, what it costs."""

from __future__ import annotations

import msgspec
import numpy as np

from penstock.bundle.bundle import Bundle
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import OutputRefused
from penstock.schema import Check, Schema
from penstock.schema.prediction import Prediction


class Cost(msgspec.Struct, frozen=True):
    """What a version takes on this machine, measured when it was loaded.

    `row_us` and `rows_64_us` are the microseconds of a run of one row and of 64, each the median of a few runs.
    `memory_bytes` is by how much the resident memory of its process grew while it was loaded and proven, and at least
    the model file's size; the first model of its library also pays for the library.
    """

    row_us: float = 0.0
    rows_64_us: float = 0.0
    memory_bytes: int = 0


class Version:
    """One version of a model, whoever computes it. Immutable, so thread-safe."""

    def __init__(self, bundle: Bundle, *, version: int, check: Check, cost: Cost) -> None:
        self.bundle = bundle
        self.name = bundle.manifest.name
        self.version = version
        self.digest = bundle.manifest.content_digest  # names the version everywhere
        self.labels = (self.name, str(version))  # of metrics
        identity = {"model": self.name, "version": version, "digest": self.digest}
        self.identity = msgspec.json.encode(identity)[:-1]  # as JSON that goes on
        self.check = check
        self.cost = cost
        self._outputs = bundle.outputs
        self._keys = bundle.outputs.class_keys

    @property
    def cost_us(self) -> float:
        """The measured time of one row."""
        return self.cost.row_us

    @property
    def schema(self) -> Schema:
        """What a row is."""
        return self.bundle.schema

    def predictions(self, outputs: Outputs, rows: int) -> list[Prediction]:
        """Outputs as values. Raises ModelFailed for another number of rows or a number that is not finite."""
        require_sound(outputs, self._outputs, rows)
        if self._outputs.kind == "classification":
            return self._classified(outputs)
        if self._outputs.kind == "anomaly":
            classes = self._outputs.classes
            pairs = zip(outputs["label"].tolist(), outputs["value"].tolist(), strict=True)
            return [Prediction(label=classes[label], value=value) for label, value in pairs]
        if self._outputs.targets:
            targets = self._outputs.targets
            return [Prediction(values=dict(zip(targets, row, strict=True))) for row in outputs["values"].tolist()]
        return [Prediction(value=value) for value in outputs["value"].tolist()]

    def _classified(self, outputs: Outputs) -> list[Prediction]:
        classes, keys = self._outputs.classes, self._keys
        labels = outputs["label"].tolist()
        if min(labels, default=0) < 0:
            raise OutputRefused("the model answered a label that is none of its classes")
        if not self._outputs.has_probabilities:
            return [Prediction(classes[label]) for label in labels]
        pairs = zip(labels, outputs["probabilities"].tolist(), strict=True)
        return [Prediction(classes[label], dict(zip(keys, row, strict=True))) for label, row in pairs]


def require_sound(outputs: Outputs, spec: OutputSpec, rows: int) -> None:
    """Raise OutputRefused unless each output has `rows` rows and finite numbers."""
    for name in spec.names:
        array = outputs[name]
        if len(array) != rows:
            raise OutputRefused(f"the model answered {len(array)} rows of `{name}` for {rows} rows")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise OutputRefused(f"the model answered a number in `{name}` that is not finite")
