"""A model that raises on some of its rows. A server imports it; nothing else of the tests is needed for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin


class Erring(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Answers as `model`, and raises where a row is of one of `days`."""

    def __init__(self, model: Any = None, days: tuple[int, ...] = ()) -> None:
        self.model, self.days = model, days

    def fit(self, rows: pd.DataFrame, target: Any) -> Erring:
        """Fit the model within."""
        self.model.fit(rows, target)
        self.classes_ = self.model.classes_
        self.feature_names_in_ = np.array(rows.columns, dtype=object)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        """As the model within, unless it is one of the days."""
        if len(rows) < 50 and rows["day"].isin(self.days).any():  # packing asks for many rows at once
            raise RuntimeError("not today")
        return np.asarray(self.model.predict_proba(rows))

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """The more likely class."""
        return np.asarray(self.classes_)[self.predict_proba(rows).argmax(axis=1)]
