"""A model that a test holds up and breaks: it looks at files in the working directory of its server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin

WAITS = -2001.0
GATE = "gate-is-open"
BROKEN = "model-is-broken"


class Gated(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Answers `x` times `factor`, so slowly that it runs in a thread.

    A row of `WAITS` waits until the file `GATE` is there; while the file `BROKEN` is there, every run raises.
    """

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, rows: pd.DataFrame, _: object) -> Gated:
        """Keep the names of the columns."""
        self.feature_names_in_ = np.array(rows.columns, dtype=object)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows: Any) -> np.ndarray:
        """`x` times `factor`."""
        values = np.asarray(rows, dtype=np.float64)[:, 0]
        time.sleep(0.001)
        while WAITS in values and not Path(GATE).exists():
            time.sleep(0.002)
        if Path(BROKEN).exists():
            raise RuntimeError("broken")
        return values * self.factor
