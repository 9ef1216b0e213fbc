"""Differences of means with an interval that holds at any time: scores, run time, revenue, conversion, Brier."""

from __future__ import annotations

from math import ceil, log, sqrt
from typing import Final

import msgspec

from penstock.rollout.counts import MILLION

LEAST_EACH: Final = 100
LEAST_OF_A_RARE: Final = 10
"""An arm needs 100 values, and 10 over the canary's share, before an interval is told."""

MEAN_ALPHA: Final = 0.05


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """The canary's mean minus the champion's: `difference`, `lower`, `upper` (None below the floor of values).

    `canary_mean`, `champion_mean` are plain means. `needed`: requests of both arms until the interval leaves 0 out at
    the present difference and spread; 0 if it does, None where that is not in sight.
    """

    canary_n: int
    champion_n: int
    canary_mean: float
    champion_mean: float
    difference: float
    lower: float | None
    upper: float | None
    needed: int | None
    alpha: float


class Difference(msgspec.Struct):
    """The weighted difference of two means, and its spread: seven numbers. Not thread-safe.

    Each value stands in the augmented, inverse-probability-weighted form: the difference of the arms' means *so far*,
    plus what this value adds to its own arm's, over the probability of the arm. Its mean is the true difference at each
    moment, through any change of weights and level. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024,
    "Time-uniform central limit theory and asymptotic confidence sequences".
    """

    canary_n: int = 0
    champion_n: int = 0
    canary_mean: float = 0.0
    champion_mean: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    least_share: int = MILLION

    def observe(self, value: float, share: int, *, is_canary: bool) -> None:
        """Add one value, of a request that was placed at `share` (see `counts.share_of`); a share of 0 adds nothing."""
        if not share:
            return
        weight = share / MILLION
        self.least_share = min(self.least_share, share)
        augmented = self.canary_mean - self.champion_mean
        if is_canary:
            augmented += (value - self.canary_mean) / weight
            self.canary_n += 1
            self.canary_mean += (value - self.canary_mean) / self.canary_n
        else:
            augmented -= (value - self.champion_mean) / (1 - weight)
            self.champion_n += 1
            self.champion_mean += (value - self.champion_mean) / self.champion_n
        self.total += augmented
        self.squares += augmented * augmented

    def merge(self, other: Difference) -> None:
        """Add what another part has seen."""
        self.canary_mean = _joint(self.canary_mean, self.canary_n, other.canary_mean, other.canary_n)
        self.champion_mean = _joint(self.champion_mean, self.champion_n, other.champion_mean, other.champion_n)
        self.canary_n += other.canary_n
        self.champion_n += other.champion_n
        self.total += other.total
        self.squares += other.squares
        self.least_share = min(self.least_share, other.least_share)

    def interval(self, planned: int, alpha: float = MEAN_ALPHA) -> Interval:
        """What is known of the difference; the narrowest at `planned` values of both arms."""
        n = self.canary_n + self.champion_n
        mean = self.total / n if n else 0.0
        spread = max(self.squares / n - mean * mean, 0.0) if n else 0.0
        floor = max(LEAST_EACH, ceil(LEAST_OF_A_RARE * MILLION / self.least_share))
        is_told = min(self.canary_n, self.champion_n) >= floor
        half = half_width(n, spread, planned=planned, alpha=alpha) if n else 0.0
        return Interval(
            canary_n=self.canary_n,
            champion_n=self.champion_n,
            canary_mean=self.canary_mean,
            champion_mean=self.champion_mean,
            difference=mean,
            lower=mean - half if is_told else None,
            upper=mean + half if is_told else None,
            needed=_needed(n, mean, spread, planned=planned, alpha=alpha) if is_told else None,
            alpha=alpha,
        )


def half_width(n: int, spread: float, *, planned: int, alpha: float) -> float:
    """Of the interval after `n` values whose variance is `spread`: sqrt((V+r)·ln((V+r)/(r·alpha²)))/n, V = n·spread.

    `r` is what makes it nearly the narrowest at `planned` values.
    """
    bound = -2 * log(alpha)
    r = planned / (bound + log(1 + bound))
    return sqrt(spread * (n + r) * log((n + r) / (r * alpha * alpha))) / n


def winsorised(value: float, largest: float) -> float:
    """`value`, at most `largest` and at least its negative, so that a few monsters do not make the mean."""
    return min(max(value, -largest), largest)


def _needed(n: int, mean: float, spread: float, *, planned: int, alpha: float) -> int | None:
    if half_width(n, spread, planned=planned, alpha=alpha) < abs(mean):
        return 0
    more = n
    while more < 1000 * n:
        more = ceil(more * 1.05)
        if half_width(more, spread, planned=planned, alpha=alpha) < abs(mean):
            return more - n
    return None


def _joint(first: float, first_n: int, second: float, second_n: int) -> float:
    return (first * first_n + second * second_n) / (first_n + second_n) if first_n + second_n else 0.0


def wilson(times: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share at one look. Source: Wilson 1927."""
    if not of:
        return 0.0, 1.0
    share, square = times / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    half = z * sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
