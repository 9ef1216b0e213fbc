"""`Feature`: one column on its way through a pipeline, as compilation follows it from a field to the estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec
import numpy as np

Mapping: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Elementwise on float64 `[n]`, never decreasing where it is a number, computed as the original computes it."""


def unchanged(values: np.ndarray) -> np.ndarray:
    """The mapping of a column to itself."""
    return values


class Lift(msgspec.Struct, frozen=True):
    """How a feature follows from one earlier column: it is `mapping(column index of tensor)`.

    Trees do not need the feature itself: their thresholds are moved back through the mapping (`trees.py`), so that what
    the original computes (a float32 cast, numpy's own logarithm) decides, and not what the graph would compute.
    """

    tensor: str
    index: int
    mapping: Mapping

    def then(self, mapping: Mapping) -> Lift:
        """The lift of what `mapping` makes of this feature."""
        first = self.mapping
        return Lift(self.tensor, self.index, lambda values: mapping(first(values)))


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a tensor of the graph.

    - `kind`: an instant, or a column that the schema lacks (absent), is there to be dropped; no step may read it.
    - `tensor`, `index`: where it is; tensors are `[n, width]`, float64 for numbers.
    - `single`: the original holds it as float32 (its values are float32 values; arithmetic on it rounds to float32).
    - `nulls`: what the original has where the value is missing: empty when it cannot be missing, else one of NaN, None,
      a text. In the graph a missing number is NaN, a missing text is MISSING_TEXT.
    - `sparse`: the original holds it in a sparse matrix, without its zeros.
    - `is_category`: it is still a column of pandas' categories, which a booster codes itself.
    """

    tensor: str
    index: int
    kind: Literal["number", "text", "instant", "absent"]
    single: bool = False
    nulls: tuple[object, ...] = ()
    lift: Lift | None = None
    sparse: bool = False
    is_category: bool = False

    def lifted(self) -> Lift:
        """Its lift, or the trivial one."""
        return self.lift or Lift(self.tensor, self.index, unchanged)


Features: TypeAlias = tuple[Feature, ...]


def single_if_all(features: Features) -> bool:
    """Whether the original's array of these features is float32: numpy keeps it only when every column is."""
    return bool(features) and all(feature.single for feature in features)


def rounded(values: np.ndarray) -> np.ndarray:
    """`values` rounded to float32, as float64; what does not fit becomes infinite, as in numpy."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)
