"""The original, as one usually serves it: `joblib.load` and `predict_proba` on a DataFrame."""

from __future__ import annotations

from typing import Any

import joblib
import pandas as pd


class Original:
    """`path` is a workload's pickle: the model and the types of its fields."""

    def __init__(self, path: str) -> None:
        loaded = joblib.load(path)
        self._model = loaded["model"]
        self._names = list(loaded["types"])
        self.types = [kind.__name__ for kind in loaded["types"].values()]
        self.classes = self._model.classes_.tolist()

    def predict(self, rows: list[Any]) -> tuple[list[Any], list[list[float]]]:
        """Labels, and probabilities by class, of rows with values by position."""
        probabilities = self._model.predict_proba(pd.DataFrame(rows, columns=self._names))
        return [self.classes[i] for i in probabilities.argmax(axis=1)], probabilities.tolist()
