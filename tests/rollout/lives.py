"""Simulated lives of a rollout, many at once: the formulas of `penstock.rollout` again, in numpy, after every event.

For `test_simulation.py`, which compares them with `Evidence` itself. Times are counted in canary requests.
"""

from __future__ import annotations

from math import log

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from penstock.rollout.counts import BANDS, MILLION, MULTIPLES, PART_OF_BANDS
from penstock.rollout.non_inferior import (
    BETS,
    LEAST_REQUESTS,
    PROOF_LIMIT,
    SHARE_OF_RATIO,
    SHARES_OF_BETS,
    WORST_DIFFERENCE,
    WORST_RATIO,
)
from penstock.rollout.ratio import CONCENTRATION, MISMATCH_ALPHA

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """How requests come: `shares` of the canary and `base` rate of the event (of the champion), one a request.

    The canary's rate is `base * ratio + extra`. `callers`: how many there are, sending by a power law and sticky to
    their arms, each with a rate of its own around the base; None: every request is a caller of its own.
    """

    shares: Floats
    base: Floats
    ratio: float = 1.0
    extra: float = 0.0
    callers: int | None = None


class Life(msgspec.Struct, frozen=True):
    """One life: of each request its share, arm, whether it has the event, and its caller (or a number of its own)."""

    shares: Floats
    is_canary: Flags
    is_event: Flags
    callers: NDArray[np.int64]


def flat(requests: int, share: float = 0.1, base: float = 0.01) -> Traffic:
    """The same share and rate all the time."""
    return Traffic(shares=np.full(requests, share), base=np.full(requests, base))


def ramp(requests: int, base: float = 0.01, end: float | None = None) -> Traffic:
    """1, 5, 25 and 50 % in four equal parts; the base rate goes evenly from `base` to `end`, where there is one."""
    shares = np.repeat([0.01, 0.05, 0.25, 0.5], requests // 4)
    return Traffic(shares=shares, base=np.linspace(base, base if end is None else end, len(shares)))


def live(traffic: Traffic, chance: np.random.Generator) -> Life:
    """Draw one life."""
    n = len(traffic.shares)
    if traffic.callers is None:
        callers, buckets, leaning = np.arange(n), chance.random(n), 1.0
    else:
        weights = chance.pareto(1.2, traffic.callers) + 0.05
        callers = chance.choice(traffic.callers, n, p=weights / weights.sum())
        buckets = chance.random(traffic.callers)[callers]
        leaning = chance.gamma(0.2, 5.0, traffic.callers)[callers]  # most callers never have the event, a few often
    is_canary = buckets < traffic.shares
    rate = np.where(is_canary, traffic.base * traffic.ratio + traffic.extra, traffic.base)
    return Life(traffic.shares, is_canary, chance.random(n) < np.minimum(rate * leaning, 1.0), callers)


def of_callers_once(life: Life) -> NDArray[np.int64]:
    """Where the events are, one a caller."""
    places = np.flatnonzero(life.is_event)
    return np.sort(places[np.unique(life.callers[places], return_index=True)[1]])


def once_each_window(life: Life, window: int = 1_000) -> NDArray[np.int64]:
    """Where the events are, one a caller and `window` requests."""
    places = np.flatnonzero(life.is_event)
    pairs = life.callers[places] * (len(life.shares) // window + 1) + places // window
    return np.sort(places[np.unique(pairs, return_index=True)[1]])


def log_e(life: Life, places: NDArray[np.int64], r0: float = 1.0) -> Floats:
    """After each event at `places`, in their order, the logarithm of E (`counts.log_e`)."""
    share, is_canary = life.shares[places, np.newaxis], life.is_canary[places, np.newaxis]
    ratios = r0 * np.array(MULTIPLES)

    def likelihood(ratio: Floats) -> Floats:
        odds = share * ratio
        return np.log(np.where(is_canary, odds, 1 - share) / (odds + 1 - share))

    steps = likelihood(ratios) - likelihood(np.array([r0]))
    band = np.searchsorted(np.array(BANDS) / MILLION, life.shares[places], side="right")[:, np.newaxis]
    parts = [np.cumsum(np.where(band == number, steps, 0.0), axis=0) for number in range(len(BANDS) + 1)]
    means = [np.logaddexp.reduce(part, axis=1) - log(len(MULTIPLES)) for part in (sum(parts), *parts)]
    weights = [1 - PART_OF_BANDS] + [PART_OF_BANDS / len(parts)] * len(parts)
    result: Floats = np.logaddexp.reduce([mean + log(part) for mean, part in zip(means, weights, strict=True)])
    return result


def alarm_at(life: Life, limit: float, *, r0: float = 1.0, places: NDArray[np.int64] | None = None) -> int | None:
    """After how many canary requests E is an alarm, looked at after every request; None if it never is."""
    held = of_callers_once(life) if places is None else places
    above = np.flatnonzero(log_e(life, held, r0) >= log(limit)) if len(held) else held
    return int(np.count_nonzero(life.is_canary[: held[above[0]] + 1])) if len(above) else None


def z_values(life: Life, every: int) -> Floats:
    """The pooled z of two proportions, after each `every` requests: what everybody computes."""
    looks = np.arange(every - 1, len(life.shares), every)
    canary_n = np.cumsum(life.is_canary)[looks]
    champion_n = looks + 1 - canary_n
    canary = np.cumsum(life.is_canary & life.is_event)[looks]
    champion = np.cumsum(~life.is_canary & life.is_event)[looks]
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (canary + champion) / (canary_n + champion_n)
        spread = np.sqrt(pooled * (1 - pooled) * (1 / canary_n + 1 / champion_n))
        return np.nan_to_num((canary / canary_n - champion / champion_n) / spread, nan=0.0, posinf=0.0, neginf=0.0)


def is_stopped_by_looking(life: Life) -> bool:
    """Whether a one-sided z-test at 5 %, looked at every 100 requests, ever says that the canary is worse."""
    return bool((z_values(life, 100) > 1.645).any())


def is_stopped_at_the_end(life: Life) -> bool:
    """Whether the same z-test does, looked at once, at the end."""
    return bool(z_values(life, len(life.shares))[-1] > 1.645)


def coverage_misses(life: Life, values: Floats, planned: int) -> bool:
    """Whether the interval of the difference of means, `values` of each request, ever leaves out 0 (`confidence`)."""
    n = np.arange(1, len(values) + 1)
    arms = [life.is_canary, ~life.is_canary]
    counts = [np.cumsum(arm) for arm in arms]
    sums = [np.cumsum(np.where(arm, values, 0.0)) for arm in arms]
    # The means *before* each value: what a predictable augmentation may know.
    means = [
        np.divide(np.r_[0.0, total[:-1]], np.maximum(np.r_[0, times[:-1]], 1))
        for total, times in zip(sums, counts, strict=True)
    ]
    augmented = means[0] - means[1]
    augmented += np.where(life.is_canary, (values - means[0]) / life.shares, 0.0)
    augmented -= np.where(life.is_canary, 0.0, (values - means[1]) / (1 - life.shares))
    mean = np.cumsum(augmented) / n
    spread = np.maximum(np.cumsum(augmented**2) / n - mean**2, 0.0)
    bound = -2 * log(0.05)
    r = planned / (bound + log(1 + bound))
    half = np.sqrt(spread * (n + r) * np.log((n + r) / (r * 0.0025))) / n
    floor = np.maximum(100, np.ceil(10 / np.minimum.accumulate(life.shares)))
    is_told = np.minimum(*counts) >= floor
    return bool((is_told & (np.abs(mean) > half)).any())


def log_proof(life: Life) -> Floats:
    """After each request, the logarithm of E against "worse" (`non_inferior.proof_of`); every event counts."""
    bets = np.array(BETS)
    share = life.shares[:, np.newaxis]
    stake = bets / (1 / share - WORST_DIFFERENCE)
    is_canary, is_event = life.is_canary[:, np.newaxis], life.is_event[:, np.newaxis]
    difference = np.where(is_event, np.where(is_canary, 1 / share, -1 / (1 - share)), 0.0)
    capitals = np.cumsum(np.log1p(stake * (WORST_DIFFERENCE - difference)), axis=0)
    ratios = WORST_RATIO / np.array(MULTIPLES)

    def likelihood(ratio: Floats) -> Floats:
        odds = share * ratio
        return np.where(is_event, np.log(np.where(is_canary, odds, 1 - share) / (odds + 1 - share)), 0.0)

    below = np.cumsum(likelihood(ratios) - likelihood(np.array([WORST_RATIO])), axis=0)
    of_ratio = np.logaddexp.reduce(below, axis=1) - log(len(MULTIPLES))
    of_difference = np.logaddexp.reduce(capitals + np.log(SHARES_OF_BETS), axis=1)
    result: Floats = np.logaddexp(of_difference + log(1 - SHARE_OF_RATIO), of_ratio + log(SHARE_OF_RATIO))
    return result


def proven_at(life: Life) -> int | None:
    """After how many canary requests the canary is proven not inferior; None if it never is."""
    canary = np.cumsum(life.is_canary)
    proven = np.flatnonzero((log_proof(life) >= log(PROOF_LIMIT)) & (canary >= LEAST_REQUESTS))
    return int(canary[proven[0]]) if len(proven) else None


def is_mismatched(chosen: Flags, shares: Floats, every: int = 10) -> bool:
    """Whether `ratio.log_mismatch` is ever an alarm, looked at after each `every` callers, that chose the canary."""
    logs = np.zeros(len(chosen))
    for share in np.unique(shares):
        here = shares == share
        canary, champion = np.cumsum(chosen & here), np.cumsum(~chosen & here)
        own, others = CONCENTRATION * share, CONCENTRATION * (1 - share)
        logs += gammaln(own + canary) + gammaln(others + champion) - gammaln(own + others + canary + champion)
        logs -= gammaln(own) + gammaln(others) - gammaln(own + others)
        logs -= canary * log(share) + champion * log(1 - share)
    return bool((logs[::every] >= log(1 / MISMATCH_ALPHA)).any())
