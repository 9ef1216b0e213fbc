"""Proof that a canary is not worse: its rate of an event is below 1.5 times the champion's, or less than half a
percentage point above it. What a step needs of every hard guardrail before it is left.
"""

from __future__ import annotations

from math import ceil, exp, log, log1p
from typing import Final

import msgspec

from penstock.rollout.counts import MILLION, Tally, log_e_below, log_mean, totals

PROOF_ALPHA: Final = 0.05
PROOF_LIMIT: Final = 1 / PROOF_ALPHA
WORST_RATIO: Final = 1.5
WORST_DIFFERENCE: Final = 0.005
LEAST_REQUESTS: Final = 500
"""No proof rests on fewer canary requests than this: the champion's alone say nothing of the canary."""

BETS: Final = (0.97, 0.6, 0.35, 0.2, 0.1, 0.05)
SHARES_OF_BETS: Final = (0.75, 0.05, 0.05, 0.05, 0.05, 0.05)
SHARE_OF_RATIO: Final = 0.05
_NEVER: Final = 10_000_000


class Proof(msgspec.Struct, frozen=True):
    """`log_e` against "the canary is worse"; `needed`: canary requests until it is proven at the present rates."""

    log_e: float
    needed: int | None

    @property
    def is_proven(self) -> bool:
        """Whether nothing more is needed."""
        return self.needed == 0


def proof_of(requests: Tally, events: Tally, counted: Tally) -> Proof:
    """From all requests, all of them with the event, and the events of which a caller has one (`counted`).

    E is a mean, 5 % of it against "the ratio is at least 1.5" (`log_e_below`) and 95 % of it against "the difference is
    at least 0.5 points", so that the chance to prove a canary that is worse *both* ways is at most 5 % at any time.
    """
    capitals = log_capitals(requests, events)
    of_ratio = log_e_below(counted, WORST_RATIO)
    joint = log_mean([log_mean(capitals, SHARES_OF_BETS), of_ratio], (1 - SHARE_OF_RATIO, SHARE_OF_RATIO))
    short = max(0, LEAST_REQUESTS - totals(requests)[0])
    if joint >= log(PROOF_LIMIT):
        return Proof(joint, short)
    needed = min(_by_difference(requests, events, capitals), _by_ratio(requests, of_ratio))
    return Proof(joint, max(needed, short) if needed < _NEVER else None)


def log_capitals(requests: Tally, events: Tally) -> list[float]:
    """Of each bet, the logarithm of what it made of 1 against "the difference is at least 0.5 points".

    With x = 1 where the canary has the event, weighted by 1/w, and -1/(1-w) where the champion has, x is in the mean
    the difference of the rates, whatever they are at that moment. A bet multiplies its capital by
    1 + f·(0.005 - x)/(1/w - 0.005), which stays above 1-f. Source: Waudby-Smith and Ramdas 2024, "Estimating means of
    bounded random variables by betting", with the weighting of their section on A/B tests.
    """
    return [_log_capital(requests, events, bet) for bet in BETS]


def _log_capital(requests: Tally, events: Tally, bet: float) -> float:
    capital = 0.0
    for share, pair in requests.items():
        quiet, down, up = _steps(share, bet)
        bad, good = events.get(share, (0, 0))
        capital += quiet * (sum(pair) - bad - good) + down * bad + up * good
    return capital


def _steps(share: int, bet: float) -> tuple[float, float, float]:
    """Logarithms of the factors: without event, with one of the canary, with one of the champion."""
    weight = share / MILLION
    stake = bet / (1 / weight - WORST_DIFFERENCE)
    return (
        log1p(stake * WORST_DIFFERENCE),
        log1p(-bet),
        log1p(stake * (WORST_DIFFERENCE + 1 / (1 - weight))),
    )


def _by_ratio(requests: Tally, of_ratio: float) -> int:
    """Canary requests until the ratio alone proves it, if its evidence grows as it did so far."""
    missing = log(PROOF_LIMIT / SHARE_OF_RATIO) - of_ratio
    return max(1, ceil(missing / of_ratio * totals(requests)[0])) if of_ratio > 0 else _NEVER


def _by_difference(requests: Tally, events: Tally, capitals: list[float]) -> int:
    """Canary requests until the first bet alone proves it, at the rates so far and the largest share so far."""
    (canary, champion), (bad, good) = totals(requests), totals(events)
    share = max(requests, default=MILLION // 10)
    weight = share / MILLION
    rates = bad / max(canary, 1), good / max(champion, 1)
    waits = []
    for bet, part, capital in zip(BETS, SHARES_OF_BETS, capitals, strict=True):
        quiet, down, up = _steps(share, bet)
        events_each = rates[0] * weight, rates[1] * (1 - weight)
        gain = quiet * (1 - sum(events_each)) + down * events_each[0] + up * events_each[1]
        missing = log(PROOF_LIMIT / (part * (1 - SHARE_OF_RATIO))) - capital
        if gain > 0:
            waits.append(max(1, ceil(missing / gain * weight)))
    return min(waits, default=_NEVER)


def excluded_rate(requests: int, events: int, alpha: float = PROOF_ALPHA) -> float:
    """The lowest rate of the event that this many requests of one arm exclude at `alpha`, at any time; 1 for none.

    Without an event, 340 requests exclude 1 % and 680 exclude 0.5 %; 300 and 600 would, of somebody who bets all on it
    that there will never be one. Bets as in `log_capitals`.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        rate = (low + high) / 2
        is_excluded = rate * requests > events and _capital(rate, requests, events) >= 1 / alpha
        low, high = (low, rate) if is_excluded else (rate, high)
    return high


def _capital(rate: float, requests: int, events: int) -> float:
    quiet = [log1p(bet * rate / (1 - rate)) * (requests - events) + log1p(-bet) * events for bet in BETS]
    return exp(min(log_mean(quiet, SHARES_OF_BETS), 50.0))
