"""Models that are right on their sample and wrong on rows that a test chooses."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper
from sklearn.base import BaseEstimator, RegressorMixin

RAISES = -1001.0
HANGS = -1002.0
NAN = -1003.0
ROW_TOO_FEW = -1004.0
ROW_TOO_MANY = -1005.0
MOODS = {"raises": RAISES, "nan": NAN, "a row too few": ROW_TOO_FEW, "a row too many": ROW_TOO_MANY}
HANGS_S = 3.0
NEVER_ENDS = -1006.0
KILLS = -1007.0
FACTORS = (1.0, 2.0, 3.0)
"""By which versions 1, 2 and 3 of a model multiply."""


def ramp() -> pd.DataFrame:
    """A sample of `x`: positive numbers."""
    return pd.DataFrame({"x": np.linspace(1.0, 1e6, 60)})


def graph(operator: str) -> onnx.ModelProto:
    """The graph of one operator, from `x` `[n, 1]` to `y` `[n, 1]`, both double."""
    ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 1]) for name in ("x", "y")]
    made = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "graph", ends[:1], ends[1:])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def scaled(factor: float) -> onnx.ModelProto:
    """The graph that answers `x` times `factor`."""
    ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 1]) for name in ("x", "y")]
    by = helper.make_tensor("by", TensorProto.DOUBLE, [1], [factor])
    made = helper.make_graph([helper.make_node("Mul", ["x", "by"], ["y"])], "graph", ends[:1], ends[1:], [by])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def touchy() -> onnx.ModelProto:
    """The graph that answers the logarithm of `x`; at `KILLS` it divides so that the processor ends the process."""
    ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 1]) for name in ("x", "y")]
    held = [
        helper.make_tensor("least", TensorProto.INT64, [1], [-(2**63)]),  # by -1 it is more than there is
        helper.make_tensor("shift", TensorProto.INT64, [1], [-1 - int(KILLS)]),
        helper.make_tensor("zero", TensorProto.DOUBLE, [1], [0.0]),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["whole", "shift"], ["shifted"]),
        helper.make_node("Div", ["least", "shifted"], ["part"]),
        helper.make_node("Cast", ["part"], ["share"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["share", "zero"], ["nothing"]),
        helper.make_node("Log", ["x"], ["log"]),
        helper.make_node("Add", ["log", "nothing"], ["y"]),
    ]
    made = helper.make_graph(nodes, "graph", ends[:1], ends[1:], held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Moody(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Answers `x` times `factor`, in `cost_s`; one row with a mood's number spoils the whole batch."""

    def __init__(self, cost_s: float = 0.002, factor: float = 1.0) -> None:
        self.cost_s, self.factor = cost_s, factor

    def fit(self, rows: pd.DataFrame, _: object) -> Moody:
        """Keep the names of the columns."""
        self.feature_names_in_ = np.array(rows.columns, dtype=object)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows: Any) -> np.ndarray:
        """`x` of each row, times the factor, or whatever the mood is."""
        values = np.asarray(rows, dtype=np.float64)[:, 0].copy()
        time.sleep(self.cost_s)  # slow enough for a thread, and gives way
        if RAISES in values:
            raise RuntimeError("I will not")
        if HANGS in values:
            time.sleep(HANGS_S)
        if NEVER_ENDS in values:
            time.sleep(3600.0)
        values[values == NAN] = np.nan
        if ROW_TOO_FEW in values:
            return values[1:]
        return np.append(values, 0.0) if ROW_TOO_MANY in values else values * self.factor
