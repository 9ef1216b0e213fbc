"""Thresholds of trees moved back through the preprocessing, to the raw column: the heart of exact trees.

A split asks `x <= t` of a transformed value. Where the transformation never decreases, there is one largest double
whose transformed value still answers yes; comparing the raw double with that one is the same question. It is found
by bisection over the order of all doubles, with the arithmetic of the original itself.
"""

from __future__ import annotations

import numpy as np

from penstock.bundle.compile.feature import Mapping, rounded

_LARGEST = np.array([np.finfo(np.float64).max])
_SIGN = np.int64(np.iinfo(np.int64).max)


def ordinals(values: np.ndarray) -> np.ndarray:
    """The places of doubles `[n]` in their order, as int64: neighbours differ by 1 (-0.0 is just below 0.0)."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    return np.asarray(np.where(bits < 0, bits ^ _SIGN, bits))


def doubles(places: np.ndarray) -> np.ndarray:
    """The doubles at these places; the reverse of `ordinals`."""
    bits = np.ascontiguousarray(np.where(places < 0, places ^ _SIGN, places))
    found: np.ndarray = bits.view(np.float64)
    return found


def is_left(values: np.ndarray, thresholds: np.ndarray, *, narrow: bool) -> np.ndarray:
    """Whether a split sends these values left; `narrow` when the tree compares float32 values. NaN counts as left."""
    seen = rounded(values) if narrow else values
    return np.asarray((seen <= thresholds) | np.isnan(seen))


def pulled_back(mapping: Mapping, thresholds: np.ndarray, *, narrow: bool) -> np.ndarray:
    """For each threshold the largest double that goes left; infinity when all do, minus infinity when none does."""
    ends = np.array([-np.inf, np.inf])
    low, high = (np.full(len(thresholds), place, dtype=np.int64) for place in ordinals(ends))
    for _ in range(64):
        middle = (low & high) + ((low ^ high) >> 1)
        left = is_left(mapping(doubles(middle)), thresholds, narrow=narrow)
        moving = middle > low
        low = np.where(moving & left, middle, low)
        high = np.where(moving & ~left, middle, high)
    return np.where(low == ordinals(_LARGEST)[0], np.inf, doubles(low))


def sends_missing_left(
    mapping: Mapping, thresholds: np.ndarray, missing_left: np.ndarray, *, narrow: bool
) -> np.ndarray:
    """Where a missing raw value goes at each split: by what preprocessing makes of it, or by the tree's own rule."""
    made = mapping(np.full(1, np.nan))[0]
    if np.isnan(made):
        return missing_left
    return is_left(np.full(len(thresholds), made), thresholds, narrow=narrow)
