"""A bundle in memory, ready to answer: the same object online, in batch and from `penstock.open`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from penstock.bundle.bundle import Bundle
from penstock.bundle.golden import check_golden
from penstock.bundle.load import load_predictor
from penstock.bundle.outputs import Outputs
from penstock.bundle.predictor import Predictor
from penstock.bundle.skew import require_same_minor
from penstock.runtime.version import Cost, Version
from penstock.schema import Check, Columns
from penstock.schema.prediction import Prediction

_COST_RUNS: Final = 5
_COST_ROWS: Final = 64
MANY_THREADS_FROM_US: Final = 500.0
"""A graph that takes less than this a row runs on one thread, whatever there is: waking others would cost more."""


class Model(Version):
    """One version of a model, loaded and proven in this process. Thread-safe; holds no request's state."""

    def __init__(self, bundle: Bundle, *, version: int, predictor: Predictor, check: Check) -> None:
        super().__init__(bundle, version=version, check=check, cost=Cost())
        self._predictor = predictor
        self.cost = self._measured()

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        *,
        version: int = 1,
        trusted: Sequence[str] = (),
        max_text_chars: int = 8192,
        allow_version_skew: bool = False,
        threads: int = 1,
    ) -> Model:
        """Load a verified bundle and run its golden rows on this machine.

        A slow graph may use up to `threads` threads a run. Raises BundleRefused when the model cannot be loaded safely,
        a golden row answers differently, or a native one was packed with another minor version of its library (unless
        `allow_version_skew`), and MissingExtra when the flavour needs a library that is not installed.
        """
        if not allow_version_skew:
            require_same_minor(bundle)
        check = Check(bundle.schema, max_text=max_text_chars)
        proving = Check(bundle.schema, max_text=1 << 20)
        predictor = load_predictor(bundle, trusted=trusted)
        check_golden(bundle.golden, predictor, check=proving, outputs=bundle.outputs)
        model = cls(bundle, version=version, predictor=predictor, check=check)
        if threads > 1 and bundle.flavour == "onnx" and model.cost_us > MANY_THREADS_FROM_US:
            model = model._faster_on(threads, proving)
        return model

    def _faster_on(self, threads: int, proving: Check) -> Model:
        """This model on several threads, where that is faster and answers the golden rows the same to the bit."""
        predictor = load_predictor(self.bundle, threads=threads)
        columns = proving.columns(proving.from_objects(self.bundle.golden.rows).rows)
        alone, together = self._predictor.run(columns), predictor.run(columns)
        if any(not np.array_equal(alone[name], together[name]) for name in alone):
            return self
        other = Model(self.bundle, version=self.version, predictor=predictor, check=self.check)
        return other if other.cost_us < self.cost_us else self

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

    def _measured(self) -> Cost:
        batch = self.check.from_objects([dict(row) for row in self.bundle.golden.rows[:_COST_ROWS]])
        if not batch.rows:
            return Cost()
        many = (batch.rows * (_COST_ROWS // len(batch.rows) + 1))[:_COST_ROWS]
        return Cost(self._median_us(batch.rows[:1]), self._median_us(many))

    def _median_us(self, rows: list[Any]) -> float:
        times = []
        for _ in range(_COST_RUNS):
            began_ns = time.perf_counter_ns()
            self.score(rows)
            times.append((time.perf_counter_ns() - began_ns) / 1e3)
        return sorted(times)[_COST_RUNS // 2]


def open_model(path: str | Path, *, trusted: Sequence[str] = (), allow_version_skew: bool = False) -> Model:
    """Open a bundle (a directory or a `.penstock` file) and load it: verify, load, run the golden rows.

    `trusted` names the types that a native scikit-learn bundle may contain beyond skops' own list.
    `allow_version_skew` loads a native one of another minor version of its library, if its golden rows agree.
    Raises BundleRefused and MissingExtra.
    """
    return Model.load(Bundle.open(Path(path)), trusted=trusted, allow_version_skew=allow_version_skew)


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
