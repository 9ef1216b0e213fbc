"""Sample-ratio mismatch: whether callers reach the arms in the ratio of the weights. If not, nothing else is to be
trusted: a mismatch holds.
"""

from __future__ import annotations

from math import lgamma, log
from typing import Final

from penstock.rollout.counts import MILLION, Tally

MISMATCH_ALPHA: Final = 0.001
CONCENTRATION: Final = 1_000.0


def log_mismatch(first_requests: Tally) -> float:
    """The logarithm of E against "each caller's first request falls to an arm by its share".

    At every share, the Dirichlet mixture around it (two arms: a beta-binomial) over the multinomial; their product over
    shares. Source: Lindon and Malek 2022, "Anytime-valid inference for multinomial count data".
    """
    return sum(_at(share / MILLION, *pair) for share, pair in first_requests.items())


def _at(weight: float, canary: int, champion: int) -> float:
    own, others = CONCENTRATION * weight, CONCENTRATION * (1 - weight)
    mixed = _log_beta(own + canary, others + champion) - _log_beta(own, others)
    return mixed - canary * log(weight) - champion * log(1 - weight)


def _log_beta(first: float, second: float) -> float:
    return lgamma(first) + lgamma(second) - lgamma(first + second)
