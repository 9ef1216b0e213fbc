"""The count e-process: whether events come from the canary more often than its share of the traffic explains.

All evidence about yes/no events is whole numbers by the canary's share when they happened, so that parts merge by
addition, exactly, in any order; E and the interval are computed from them when they are read.
"""

from __future__ import annotations

from bisect import bisect
from math import exp, inf, log
from typing import Final, TypeAlias

Tally: TypeAlias = dict[int, list[int]]
"""By the canary's share of the two arms, in millionths: how many from the canary, how many from the champion."""

MILLION: Final = 1_000_000
MOST_SHARES: Final = 256
"""A tally knows this many shares; what comes at further ones is left out, whichever arm it came from."""

MULTIPLES: Final = tuple(1.25 * (32 / 1.25) ** (step / 11) for step in range(12))
BANDS: Final = (20_000, 70_000, 150_000, 220_000, 300_000, 420_000, 600_000)
"""Between these shares, steps are looked at by themselves: 1, 5, 10, 20, 25, 33 and 50 % are apart."""
PART_OF_BANDS: Final = 0.1

_SPREAD: Final = tuple(1 / multiple for multiple in reversed(MULTIPLES)) + MULTIPLES
_PARTS: Final = (1 - PART_OF_BANDS,) + (PART_OF_BANDS / (len(BANDS) + 1),) * (len(BANDS) + 1)
_FARTHEST: Final = 20.0
"""Of the logarithm of a ratio: where the search for an end of an interval gives up."""
_LARGEST: Final = 700.0


def share_of(weight: float, champion_weight: float) -> int:
    """The canary's share of the two arms, in millionths; 0 where the arms cannot be compared (one has no weight)."""
    if not (weight > 0 and champion_weight > 0):
        return 0
    return min(max(round(MILLION * weight / (weight + champion_weight)), 1), MILLION - 1)


def count(tally: Tally, share: int, *, is_canary: bool, times: int = 1) -> None:
    """Add to the tally. A share of 0 counts for nothing."""
    pair = tally.get(share)
    if pair is None:
        if not share or len(tally) >= MOST_SHARES:
            return
        pair = tally[share] = [0, 0]
    pair[0 if is_canary else 1] += times


def take(tally: Tally, share: int, *, is_canary: bool) -> None:
    """Undo one `count`."""
    pair = tally.get(share)
    if pair is not None:
        pair[0 if is_canary else 1] -= 1
        if pair == [0, 0]:
            del tally[share]


def add(tally: Tally, other: Tally) -> None:
    """Add another tally to this one."""
    for share, (canary, champion) in other.items():
        pair = tally.setdefault(share, [0, 0])
        pair[0] += canary
        pair[1] += champion


def totals(tally: Tally) -> tuple[int, int]:
    """From the canary, from the champion, at all shares together."""
    return sum(pair[0] for pair in tally.values()), sum(pair[1] for pair in tally.values())


def mirrored(tally: Tally) -> Tally:
    """The same with the arms exchanged."""
    return {MILLION - share: [champion, canary] for share, (canary, champion) in tally.items()}


def log_likelihood(tally: Tally, ratio: float) -> float:
    """Of the events' arms if the rates' ratio is `ratio`, up to a constant.

    An event at share w came from the canary with probability w·ratio / (w·ratio + 1 - w), whatever the base rate was.
    """
    rise = log(ratio)
    return sum(
        canary * rise - (canary + champion) * log(share / MILLION * ratio + 1 - share / MILLION)
        for share, (canary, champion) in tally.items()
    )


def log_e(tally: Tally, r0: float) -> float:
    """The logarithm of E against "the ratio is at most `r0`": a mean of likelihood ratios of twelve larger ratios, nine
    tenths of it over all events, one tenth over those of each band of shares by itself.

    Without that tenth, a canary that breaks down at 25 % must first use up what its good days at 1 % spoke for it.
    Each likelihood ratio is a supermartingale under any ratio up to `r0`, through any predictable change of shares and
    base rate, and so is their mean: P(E ever >= 1/alpha) <= alpha (Ville). Sources: Wald's SPRT on the conditional
    binomial of two Poisson counts (Przyborowski and Wilenski 1940), mixed (Robbins 1970; Ramdas et al. 2023).
    """
    bands: list[Tally] = [{} for _ in range(len(BANDS) + 1)]
    for share, pair in tally.items():
        bands[bisect(BANDS, share)][share] = pair
    parts = [log_mean(_against(part, r0)) for part in (tally, *bands)]
    return log_mean(parts, _PARTS)


def _against(tally: Tally, r0: float) -> list[float]:
    ground = log_likelihood(tally, r0)
    return [log_likelihood(tally, r0 * multiple) - ground for multiple in MULTIPLES]


def log_e_below(tally: Tally, ratio: float) -> float:
    """The logarithm of E against "the ratio is at least `ratio`": what proves it smaller."""
    ground = log_likelihood(tally, ratio)
    return log_mean([log_likelihood(tally, ratio / multiple) - ground for multiple in MULTIPLES])


def ratio_interval(tally: Tally, alpha: float) -> tuple[float, float | None]:
    """Ratios that are not excluded at `alpha` at any time: from 0, up to None for unbounded.

    The set where a likelihood mixed over 24 ratios is below 1/alpha times the ratio's own; the likelihood is concave in
    the logarithm of the ratio, so the set is an interval and its ends are found by bisection.
    """
    if not any(map(sum, tally.values())):
        return 0.0, None
    mixed = log_mean([log_likelihood(tally, ratio) for ratio in _SPREAD]) + log(alpha)
    top = _most_likely(tally)
    lower, upper = (_crossing(tally, mixed, top, end) for end in (-_FARTHEST, _FARTHEST))
    return (0.0 if lower is None else exp(lower)), (None if upper is None else exp(upper))


def _most_likely(tally: Tally) -> float:
    low, high = -_FARTHEST, _FARTHEST
    for _ in range(50):
        middle = (low + high) / 2
        odds = exp(middle)
        slope = sum(
            canary - (canary + champion) * share * odds / (share * odds + MILLION - share)
            for share, (canary, champion) in tally.items()
        )
        low, high = (middle, high) if slope > 0 else (low, middle)
    return (low + high) / 2


def _crossing(tally: Tally, level: float, inside: float, outside: float) -> float | None:
    if log_likelihood(tally, exp(outside)) > level:
        return None
    for _ in range(50):
        middle = (inside + outside) / 2
        is_inside = log_likelihood(tally, exp(middle)) > level
        inside, outside = (middle, outside) if is_inside else (inside, middle)
    return outside


def log_mean(logs: list[float], weights: tuple[float, ...] | None = None) -> float:
    """The logarithm of the (weighted) mean of exponentials."""
    top = max(logs)
    parts = (exp(value - top) for value in logs)
    if weights is None:
        return top + log(sum(parts) / len(logs))
    return top + log(sum(weight * part for weight, part in zip(weights, parts, strict=True)))


def bounded_exp(value: float) -> float:
    """`exp`, up to 1e304 and never infinite: a number that JSON has."""
    return exp(min(value, _LARGEST)) if value > -inf else 0.0
