"""Native XGBoost from its own file (UBJSON): no pickle, no scikit-learn object, one call into the library a batch."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import numpy as np

from penstock.bundle.loaders.booster import BoosterPredictor, rows_for, two_sided, values_of
from penstock.bundle.loaders.xgboost_check import check_trees
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import BundleRefused, MissingExtra
from penstock.schema import Schema

_MISSING = "penstock_missing"
"""The attribute of the booster that holds the wrapper's `missing`: the file itself has no place for it."""


class XgboostScorer:
    """`Booster.inplace_predict` in one thread; gblinear, which has none, through a DMatrix."""

    def __init__(self, booster: Any, outputs: OutputSpec) -> None:
        self._booster = booster
        self._outputs = outputs
        self._missing = float(booster.attr(_MISSING) or "nan")
        best = booster.attr("best_iteration")
        self._rounds = (0, 0) if best is None else (0, int(best) + 1)
        config = json.loads(booster.save_config())["learner"]
        self._matrix = _matrix_of() if config["gradient_booster"]["name"] == "gblinear" else None

    def score(self, rows: Any) -> Outputs:
        """Outputs of n rows, float32 numbers of the library as doubles."""
        predicted = self._predicted(rows)
        if self._outputs.kind == "regression":
            return values_of(predicted)
        if predicted.ndim == 2:
            label, probabilities = predicted.argmax(axis=1), predicted.astype(np.float64)
        else:
            label, probabilities = (predicted > 0.5).astype(np.int64), two_sided(predicted)
        return {"label": label.astype(np.int64), "probabilities": probabilities}

    def _predicted(self, rows: Any) -> np.ndarray:
        if self._matrix is None:
            found = self._booster.inplace_predict(
                rows, iteration_range=self._rounds, missing=self._missing, validate_features=False
            )
        else:
            matrix = self._matrix(rows, missing=self._missing, nthread=1)
            found = self._booster.predict(matrix, iteration_range=self._rounds, validate_features=False)
        return np.asarray(found)


def xgboost_file(estimator: Any) -> bytes:
    """A fitted XGBoost estimator as UBJSON: the same bytes for the same model."""
    booster = estimator.get_booster().copy()
    if estimator.missing is not None and not np.isnan(float(estimator.missing)):
        booster.set_attr(**{_MISSING: repr(float(estimator.missing))})
    return bytes(booster.save_raw("ubj"))


def xgboost_scorer(data: bytes, outputs: OutputSpec) -> XgboostScorer:
    """The scorer of a UBJSON file's bytes. Raises MissingExtra, and BundleRefused for what XGBoost does not read."""
    xgboost = _library()
    # Anything that does not begin as UBJSON does would be read as JSON or as the old binary format.
    if not data.startswith(b"{L"):
        raise BundleRefused("model.ubj: expected UBJSON as XGBoost writes it: pack the model again")
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(data))
        check_trees(booster)
        booster.set_param({"nthread": 1})
        return XgboostScorer(booster, outputs)
    except (xgboost.core.XGBoostError, ValueError, KeyError, TypeError) as error:
        said = str(error).strip().partition("\n")[0][:300]
        raise BundleRefused(f"model.ubj: XGBoost does not read it: {said}") from error


def load_xgboost(data: bytes, schema: Schema, outputs: OutputSpec, trusted: Collection[str] = ()) -> BoosterPredictor:
    """The predictor of an XGBoost model that is alone in its bundle; `trusted` is for loaders that build types."""
    return BoosterPredictor(xgboost_scorer(data, outputs), rows_for(schema))


def _library() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtra("xgboost", "xgboost", "A native XGBoost bundle") from error
    return xgboost


def _matrix_of() -> Any:
    return _library().DMatrix
