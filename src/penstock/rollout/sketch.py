"""Quantiles of positive numbers in bounded memory: counts in bins that are 5 % wide, which merge by addition."""

from __future__ import annotations

from math import ceil, exp, log
from typing import Final

import msgspec

_STEP: Final = log(1.05)
_LEAST: Final = ceil(log(1e-9) / _STEP)
_MOST: Final = ceil(log(1e9) / _STEP)


class Sketch(msgspec.Struct):
    """How often which size came: at most 850 bins from 1e-9 to 1e9, to 5 %; what is beyond is in the last ones.

    Source: Masson, Rim and Lee 2019, "DDSketch".
    """

    bins: dict[int, int] = {}
    n: int = 0

    def observe(self, value: float) -> None:
        """Add a number; nothing up to 1e-9 is told apart from 0."""
        place = min(max(ceil(log(min(value, 1e9)) / _STEP), _LEAST), _MOST) if value > 0 else _LEAST
        self.bins[place] = self.bins.get(place, 0) + 1
        self.n += 1

    def quantile(self, part: float) -> float:
        """The upper end of the bin that holds this quantile (0 to 1); 0 where nothing was seen."""
        rank = part * self.n
        for place in sorted(self.bins):
            rank -= self.bins[place]
            if rank <= 0:
                return 0.0 if place == _LEAST else exp(place * _STEP)
        return 0.0

    def merge(self, other: Sketch) -> None:
        """Add what another part has seen."""
        for place, times in other.bins.items():
            self.bins[place] = self.bins.get(place, 0) + times
        self.n += other.n
