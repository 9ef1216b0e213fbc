"""The native flavour: a fitted scikit-learn estimator behind the `Predictor` Protocol.

It is the original in every proof and, in a native worker, what serves. Files are read and written by `skops_file.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pandas as pd

from penstock.bundle.frame import frame_of
from penstock.bundle.loaders.fitted_names import fitted_names
from penstock.bundle.loaders.output_spec import class_label, output_spec
from penstock.bundle.loaders.skops_file import dump_skops, read_skops
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import ModelFailed
from penstock.schema import Columns, Schema

__all__ = ["SklearnPredictor", "dump_skops", "load_sklearn", "output_spec", "single_threaded"]


class SklearnPredictor:
    """Checked columns in, the estimator's own answers out.

    The estimator gets the frame of its training (`frame_of`), in the order of its `fitted_names`; one that was
    fitted on a plain array (it has no such names) gets an array in the schema's order. Thread-safe, as scikit-learn's
    `predict` is; deterministic where the estimator runs in one thread.
    """

    def __init__(self, estimator: Any, schema: Schema, outputs: OutputSpec) -> None:
        self.estimator = estimator
        self.schema = schema
        self.outputs = outputs
        self.classes = outputs.classes
        self._places = {label: place for place, label in enumerate(outputs.classes)}
        self._names = fitted_names(estimator)

    def run(self, columns: Columns) -> Outputs:
        """Outputs of the rows in `columns`. Raises ModelFailed when the estimator raises; warnings are silenced."""
        rows = self.rows_of(columns)
        predicted = np.asarray(self.quietly(self.estimator.predict, rows))
        if self.outputs.kind == "regression":
            return self._values(predicted)
        answer = {"label": self._labels(predicted)}
        if self.outputs.kind == "anomaly":
            answer["value"] = _floats(self.quietly(self.estimator.decision_function, rows)).reshape(-1)
        elif self.outputs.has_probabilities:
            answer["probabilities"] = _floats(self.quietly(self.estimator.predict_proba, rows))
        return answer

    def rows_of(self, columns: Columns) -> pd.DataFrame | np.ndarray:
        """What the estimator takes: its training frame, or an array for one that was fitted on an array."""
        frame = frame_of(columns, self.schema)
        if self._names is not None:
            return frame[[name for name in self._names if name in frame.columns]]  # dropped columns may be absent
        mixed = any(dtype.kind == "O" for dtype in frame.dtypes)
        return np.asarray(frame.to_numpy(dtype=object if mixed else None))

    def quietly(self, method: Callable[[Any], Any], rows: Any) -> Any:
        """`method(rows)` without warnings. Raises ModelFailed with the estimator's own words."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                return method(rows)
            except Exception as error:  # whatever a model raises on a row is that model's failure
                raise ModelFailed.raised("The model refused the rows:", error) from error

    def _labels(self, predicted: np.ndarray) -> np.ndarray:
        try:
            found = [self._places[class_label(label)] for label in predicted.ravel().tolist()]
        except KeyError as error:
            raise ModelFailed(f"The model answered the class {error}, which is not one of its classes") from error
        return np.array(found, dtype=np.int64)

    def _values(self, predicted: np.ndarray) -> Outputs:
        if self.outputs.targets:
            return {"values": _floats(predicted).reshape(-1, len(self.outputs.targets))}
        return {"value": _floats(predicted).reshape(-1)}


def load_sklearn(data: bytes, schema: Schema, outputs: OutputSpec, trusted: Collection[str] = ()) -> SklearnPredictor:
    """The predictor of a skops file's bytes.

    Its types must be among skops' own defaults, the built-in list of `skops_file.py`, and `trusted` (the server's).
    Raises BundleRefused naming the type otherwise; there is no fallback to a less safe format.
    """
    return SklearnPredictor(single_threaded(read_skops(data, trusted)), schema, outputs)


def single_threaded(estimator: Any) -> Any:
    """`estimator`, set to one thread: with more, the last bits of a forest's answer change from run to run."""
    if hasattr(estimator, "get_params"):
        threads = {key: 1 for key in estimator.get_params() if key.rsplit("__", 1)[-1] == "n_jobs"}
        # Not without need: a fitted CatBoost refuses to be set at all.
        if threads:
            estimator.set_params(**threads)
    return estimator


def _floats(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
