"""A bundle in memory, ready to answer: the same object online, in batch and from `penstock.open`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.bundle.bundle import Bundle
from penstock.bundle.golden import check_golden
from penstock.bundle.load import load_predictor
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.bundle.predictor import Predictor
from penstock.bundle.skew import require_same_minor
from penstock.errors import ModelFailed
from penstock.schema import Check, Columns, Schema
from penstock.schema.prediction import Prediction

_COST_RUNS = 5


class Model:
    """One version of a model, loaded and proven on this machine. Thread-safe; holds no request's state.

    `cost_us` is the measured time of one row, the median of a few runs after warming.
    """

    def __init__(self, bundle: Bundle, *, version: int, predictor: Predictor, check: Check) -> None:
        self.bundle = bundle
        self.name = bundle.manifest.name
        self.version = version
        self.digest = bundle.manifest.content_digest  # names the version everywhere
        self.labels = (self.name, str(version))  # of metrics
        self.check = check
        self._predictor = predictor
        self._outputs = bundle.outputs
        self._keys = bundle.outputs.class_keys
        self.cost_us = self._measure()

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        *,
        version: int = 1,
        trusted: Sequence[str] = (),
        max_text_chars: int = 8192,
        allow_version_skew: bool = False,
    ) -> Model:
        """Load a verified bundle and run its golden rows on this machine.

        Raises BundleRefused when the model cannot be loaded safely, a golden row answers differently, or a native one
        was packed with another minor version of its library (unless `allow_version_skew`), and MissingExtra when the
        flavour needs a library that is not installed.
        """
        if not allow_version_skew:
            require_same_minor(bundle)
        check = Check(bundle.schema, max_text=max_text_chars)
        predictor = load_predictor(bundle, trusted=trusted)
        check_golden(bundle.golden, predictor, check=Check(bundle.schema, max_text=1 << 20), outputs=bundle.outputs)
        return cls(bundle, version=version, predictor=predictor, check=check)

    @property
    def schema(self) -> Schema:
        """What a row is."""
        return self.bundle.schema

    def score(self, rows: Sequence[Any]) -> list[Prediction]:
        """Predictions of checked row structs, one a row, in order. Raises ModelFailed."""
        return self.predictions(self._predictor.run(self.check.columns(rows)), len(rows))

    def run(self, columns: Columns) -> Outputs:
        """Outputs of rows as columns, in the layout of `penstock.schema.Columns`. Raises ModelFailed."""
        return self._predictor.run(columns)

    def predict(self, rows: Mapping[str, object] | Sequence[Mapping[str, object]] | Any) -> list[Prediction]:
        """Predictions of dicts (one or many) or of a DataFrame, one a row.

        Raises SchemaViolation naming every place that breaks the schema, and ModelFailed.
        """
        return self.score(self.check.from_objects(as_dicts(rows)).rows)

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
            raise ModelFailed("the model answered a label that is none of its classes")
        if not self._outputs.has_probabilities:
            return [Prediction(classes[label]) for label in labels]
        pairs = zip(labels, outputs["probabilities"].tolist(), strict=True)
        return [Prediction(classes[label], dict(zip(keys, row, strict=True))) for label, row in pairs]

    def _measure(self) -> float:
        batch = self.check.from_objects([dict(row) for row in self.bundle.golden.rows[:1]])
        if not batch.rows:
            return 0.0
        times = []
        for _ in range(_COST_RUNS):
            began_ns = time.perf_counter_ns()
            self.score(batch.rows)
            times.append((time.perf_counter_ns() - began_ns) / 1e3)
        return sorted(times)[_COST_RUNS // 2]


def open_model(path: str | Path, *, trusted: Sequence[str] = (), allow_version_skew: bool = False) -> Model:
    """Open a bundle (a directory or a `.penstock` file) and load it: verify, load, run the golden rows.

    `trusted` names the types that a native scikit-learn bundle may contain beyond skops' own list.
    `allow_version_skew` loads a native one of another minor version of its library, if its golden rows agree.
    Raises BundleRefused and MissingExtra.
    """
    return Model.load(Bundle.open(Path(path)), trusted=trusted, allow_version_skew=allow_version_skew)


def require_sound(outputs: Outputs, spec: OutputSpec, rows: int) -> None:
    """Raise ModelFailed unless each output has `rows` rows and finite numbers."""
    for name in spec.names:
        array = outputs[name]
        if len(array) != rows:
            raise ModelFailed(f"the model answered {len(array)} rows of `{name}` for {rows} rows")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelFailed(f"the model answered a number in `{name}` that is not finite")


def as_dicts(rows: Any) -> list[Mapping[str, object]]:
    """One dict, many dicts, or whatever gives records (pandas, polars, Arrow), as a list of dicts."""
    if isinstance(rows, Mapping):
        return [rows]
    if hasattr(rows, "to_dicts"):
        return list(rows.to_dicts())
    if hasattr(rows, "to_pylist"):
        return list(rows.to_pylist())
    if hasattr(rows, "to_dict"):
        return list(rows.to_dict("records"))
    return list(rows)
