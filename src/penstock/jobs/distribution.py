"""How numbers are spread, in bounded memory: the numbers themselves while they are few, then counts in buckets."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import Final

import msgspec
import numpy as np

MOST_EXACT: Final = 200_000
"""So many numbers are kept as they are; a replay of 100,000 rows is exact."""

_STEP: Final = float(np.log(1.002))
_LEAST: Final = 1e-18
_OFFSET: Final = 1 - int(np.floor(np.log(_LEAST) / _STEP))


class Spread(msgspec.Struct, frozen=True):
    """A `Distribution` to keep: `exact` are float64 in little-endian bytes, or `buckets` counts by place."""

    exact: bytes = b""
    buckets: dict[int, int] = {}
    count: int = 0
    total: float = 0.0
    least: float = 0.0
    most: float = 0.0


class Distribution:
    """Finite numbers. Merges by addition; exact up to `most_exact` of them, then to 0.1 % of each number (numbers up
    to 1e-18 count as 0). Not thread-safe.

    The buckets grow geometrically, as in Masson, Rim and Lee 2019, "DDSketch".
    """

    def __init__(self, spread: Spread | None = None, *, most_exact: int = MOST_EXACT) -> None:
        spread = spread if spread is not None else Spread()
        self._most_exact = most_exact
        self._parts = [np.frombuffer(spread.exact, "<f8")] if spread.exact else []
        self._buckets = dict(spread.buckets)
        self.count, self._total = spread.count, spread.total
        self.least, self.most = spread.least, spread.most

    @property
    def is_exact(self) -> bool:
        """Whether quantiles are those of the numbers themselves."""
        return not self._buckets

    @property
    def mean(self) -> float:
        """The mean; 0 of none. Of exact numbers it is the same in whatever parts they came."""
        total = fsum(self._exact()) if self.is_exact else self._total
        return total / self.count if self.count else 0.0

    def add(self, values: np.ndarray) -> None:
        """Add numbers, all of them finite."""
        if not len(values):
            return
        least, most = float(values.min()), float(values.max())
        self.least = min(self.least, least) if self.count else least
        self.most = max(self.most, most) if self.count else most
        self._total += float(values.sum())
        self.count += len(values)
        if self._buckets:
            self._count(values)
            return
        self._parts.append(np.array(values, np.float64))
        if self.count > self._most_exact:
            self._collapse()

    def merge(self, other: Distribution) -> None:
        """Add what another one holds."""
        if not other.count:
            return
        if other.is_exact:
            for part in other._parts:
                self.add(part)
            return
        self.least = min(self.least, other.least) if self.count else other.least
        self.most = max(self.most, other.most) if self.count else other.most
        self._total += other._total
        self.count += other.count
        self._collapse()
        for place, times in other._buckets.items():
            self._buckets[place] = self._buckets.get(place, 0) + times

    def quantiles(self, parts: Sequence[float]) -> list[float]:
        """The numbers below which these shares lie, linear between two numbers where they are exact; zeros of none."""
        if not self.count:
            return [0.0 for _ in parts]
        if self.is_exact:
            found: list[float] = np.quantile(self._exact(), np.asarray(parts, np.float64)).tolist()
            return found
        values, counts = self._sorted()
        below = np.cumsum(counts)
        places = np.searchsorted(below, np.ceil(np.asarray(parts) * self.count), side="left")
        return [
            min(max(value, self.least), self.most) for value in values[np.minimum(places, len(values) - 1)].tolist()
        ]

    def histogram(self, edges: Sequence[float]) -> list[int]:
        """How many are below the first edge, from each edge up to the next, and from the last edge on."""
        values, counts = (self._exact(), None) if self.is_exact else self._sorted()
        places = np.searchsorted(np.asarray(edges, np.float64), values, side="right")
        found: list[int] = np.bincount(places, counts, minlength=len(edges) + 1).astype(np.int64).tolist()
        return found

    def spread(self) -> Spread:
        """All of it as a value to keep."""
        exact = self._exact().astype("<f8").tobytes() if self.is_exact and self.count else b""
        return Spread(exact, dict(self._buckets), self.count, self._total, self.least, self.most)

    def _exact(self) -> np.ndarray:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0] if self._parts else np.empty(0)

    def _collapse(self) -> None:
        if self._parts:
            values, self._parts = self._exact(), []
            self._count(values)

    def _count(self, values: np.ndarray) -> None:
        sizes = np.abs(values)
        places = np.floor(np.log(np.maximum(sizes, _LEAST)) / _STEP) + _OFFSET
        places = np.where(sizes <= _LEAST, 0, places * np.sign(values)).astype(np.int64)
        for place, times in zip(*np.unique(places, return_counts=True), strict=True):
            self._buckets[int(place)] = self._buckets.get(int(place), 0) + int(times)

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The middle of each bucket, and its count, in order."""
        places = np.array(sorted(self._buckets), np.int64)
        counts = np.array([self._buckets[place] for place in places.tolist()], np.int64)
        sizes = np.exp((np.abs(places) - _OFFSET + 0.5) * _STEP)
        return np.where(places == 0, 0.0, np.sign(places) * sizes), counts


def psi(expected: Sequence[int], actual: Sequence[int]) -> float:
    """The population stability index of two histograms over the same bins, with half a row more in each bin. Of two
    answers to the same rows there is no noise of sampling to take off. Source: Siddiqi 2006, "Credit Risk Scorecards".
    """
    one, other = np.asarray(expected, np.float64) + 0.5, np.asarray(actual, np.float64) + 0.5
    p, q = one / one.sum(), other / other.sum()
    return float(((q - p) * np.log(q / p)).sum())


def deciles(values: Distribution) -> list[float]:
    """The edges of ten bins that hold as many each; fewer where numbers repeat."""
    return sorted(set(values.quantiles([tenth / 10 for tenth in range(1, 10)])))
