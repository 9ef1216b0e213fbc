"""Native LightGBM from its own text, which has every number in full and the categories of the training frame."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from penstock.bundle.loaders.booster import BoosterPredictor, rows_for, two_sided, values_of
from penstock.bundle.loaders.lightgbm_text import checked_text
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import BundleRefused, MissingExtra
from penstock.schema import Schema


class LightgbmScorer:
    """`Booster.predict` in one thread: for one row that is LightGBM's single-row path."""

    def __init__(self, booster: Any, outputs: OutputSpec) -> None:
        self._booster = booster
        self._outputs = outputs

    def score(self, rows: Any) -> Outputs:
        """Outputs of n rows, in double."""
        predicted = np.asarray(self._booster.predict(rows, num_threads=1))
        if self._outputs.kind == "regression":
            return values_of(predicted)
        probabilities = predicted if predicted.ndim == 2 else two_sided(predicted)
        return {"label": probabilities.argmax(axis=1).astype(np.int64), "probabilities": probabilities}


def lightgbm_file(estimator: Any) -> bytes:
    """A fitted LightGBM estimator as LightGBM's text: the same bytes for the same model, its best rounds only."""
    booster = estimator.booster_
    best = booster.best_iteration
    text: str = booster.model_to_string(num_iteration=best if best > 0 else -1)
    return text.encode()


def lightgbm_scorer(data: bytes, outputs: OutputSpec) -> LightgbmScorer:
    """The scorer of such a text. Raises MissingExtra, and BundleRefused for what LightGBM does not read."""
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("lightgbm", "lightgbm", "A native LightGBM bundle") from error
    text = checked_text(data)
    try:
        return LightgbmScorer(lightgbm.Booster(model_str=text), outputs)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        said = str(error).strip().partition("\n")[0][:300]
        raise BundleRefused(f"model.txt: LightGBM does not read it: {said}") from error


def load_lightgbm(data: bytes, schema: Schema, outputs: OutputSpec, trusted: Collection[str] = ()) -> BoosterPredictor:
    """The predictor of a LightGBM model that is alone in its bundle; `trusted` is for loaders that build types."""
    return BoosterPredictor(lightgbm_scorer(data, outputs), rows_for(schema))
