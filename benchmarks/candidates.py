"""Candidates that no one would deploy: slow, and deadly on one row. Loaded by the shadow's process alone."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin


class Slow(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Answers the same to all, and computes for `row_us` a row; where `column` is `deadly`, it aborts its process."""

    def __init__(self, row_us: float = 0.0, column: str = "", deadly: float = 0.0) -> None:
        self.row_us, self.column, self.deadly = row_us, column, deadly

    def fit(self, rows: pd.DataFrame, labels: Any) -> Slow:
        """Keep columns, classes and shares."""
        self.feature_names_in_ = np.array(rows.columns, dtype=object)
        self.n_features_in_ = rows.shape[1]
        self.classes_, counts = np.unique(labels, return_counts=True)
        self.shares_ = counts / counts.sum()
        return self

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        """The shares of the classes, for each row."""
        if self.column and (np.asarray(rows[self.column]) == self.deadly).any():
            os.abort()
        until_s = time.perf_counter() + self.row_us * len(rows) / 1e6
        while time.perf_counter() < until_s:
            pass
        return np.tile(self.shares_, (len(rows), 1))

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """The most frequent class."""
        found: np.ndarray = self.classes_[self.predict_proba(rows).argmax(axis=1)]
        return found
