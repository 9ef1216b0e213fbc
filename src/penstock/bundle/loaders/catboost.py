"""Native CatBoost from its own file (cbm): with its own categories, which no graph has."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from penstock.bundle.loaders.booster import BoosterPredictor, rows_for, values_of
from penstock.bundle.loaders.output_spec import class_label
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import BundleRefused, MissingExtra
from penstock.schema import Schema

_PASSING = ("model_guid", "train_finish_time", "catboost_version_info", "training", "output_options")
"""What a file says of the hour and the place of training: it decides no answer, and differs each time."""

_ANSWERS = "penstock_answers"
"""The key of the model's metadata for what its `predict` answers: the wrapper knows it, the file does not."""


class CatboostScorer:
    """CatBoost's own `predict` in one thread. A batch of classes asks twice, for labels and for probabilities."""

    def __init__(self, model: Any, outputs: OutputSpec) -> None:
        self._model = model
        self._outputs = outputs
        held = model.get_metadata()
        self._answers = held[_ANSWERS] if _ANSWERS in held.keys() else "RawFormulaVal"  # noqa: SIM118
        self._places = {label: place for place, label in enumerate(outputs.classes)}

    def score(self, rows: Any) -> Outputs:
        """Outputs of n rows, in double."""
        if self._outputs.kind == "regression":
            return values_of(self._model.predict(rows, prediction_type=self._answers, thread_count=1))
        labels = np.ravel(self._model.predict(rows, thread_count=1)).tolist()
        places = np.array([self._places[class_label(label)] for label in labels], dtype=np.int64)
        probabilities = self._model.predict_proba(rows, thread_count=1)
        return {"label": places, "probabilities": np.asarray(probabilities, dtype=np.float64)}


def prediction_type(estimator: Any) -> str:
    """What a fitted CatBoostRegressor's `predict` answers by default: Exponent for counts, else RawFormulaVal.

    It depends on the wrapper's parameters, not on the model: one that was loaded from a file has forgotten its loss.
    """
    return str(estimator._get_default_prediction_type())


def catboost_file(estimator: Any) -> bytes:
    """A fitted CatBoost estimator as cbm, without hour and place of training: the same bytes for the same model."""
    plain = estimator.copy()
    held = plain.get_metadata()
    for key in _PASSING:
        if key in held.keys():  # noqa: SIM118 - its metadata is no mapping
            del held[key]
    if type(estimator).__name__ == "CatBoostRegressor":
        held[_ANSWERS] = prediction_type(estimator)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.cbm")
        plain.save_model(str(path), format="cbm")
        return path.read_bytes()


def catboost_scorer(data: bytes, outputs: OutputSpec) -> CatboostScorer:
    """The scorer of a cbm file's bytes. Raises MissingExtra, and BundleRefused for what CatBoost does not read."""
    try:
        import catboost
    except ImportError as error:
        raise MissingExtra("catboost", "catboost", "A native CatBoost bundle") from error
    model = catboost.CatBoostRegressor() if outputs.kind == "regression" else catboost.CatBoostClassifier()
    try:
        model.load_model(blob=data)
    except (catboost.CatBoostError, ValueError) as error:
        said = str(error).strip().partition("\n")[0][:300]
        raise BundleRefused(f"model.cbm: CatBoost does not read it: {said}") from error
    return CatboostScorer(model, outputs)


def load_catboost(data: bytes, schema: Schema, outputs: OutputSpec, trusted: Collection[str] = ()) -> BoosterPredictor:
    """The predictor of a CatBoost model that is alone in its bundle; `trusted` is for loaders that build types."""
    return BoosterPredictor(catboost_scorer(data, outputs), rows_for(schema))
