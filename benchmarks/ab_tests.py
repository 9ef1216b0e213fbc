"""A/B tests looked at every 50 calls: how often a difference is told that there is not, and how soon one that there is.

make simulate-ab      keeps the table in docs/experiments.md; fixed seeds, some two minutes
"""

from __future__ import annotations

import random
from statistics import median
from typing import Final

import msgspec

from penstock.rollout.confidence import MEAN_ALPHA, Difference
from penstock.rollout.counts import share_of
from report import DOCS, machine, table, write_part

WEIGHTS: Final = (0.2, 0.2, 0.6)
"""Of blue, green and the champion."""
LOOK_CALLS: Final = 50


class Case(msgspec.Struct, frozen=True):
    """Calls that convert at the rates of blue, green and the champion; each is worth one, or a heavy-tailed sum."""

    name: str
    rates: tuple[float, float, float]
    calls: int
    lives: int
    is_revenue: bool = False


CASES: Final = (
    Case("the same, 10 %", (0.1, 0.1, 0.1), 10_000, 200),
    Case("the same, 1 %", (0.01, 0.01, 0.01), 10_000, 200),
    Case("the same, revenue", (0.1, 0.1, 0.1), 10_000, 200, is_revenue=True),
    Case("blue 13 % for 10", (0.13, 0.1, 0.1), 20_000, 60),
    Case("blue 15 % for 10", (0.15, 0.1, 0.1), 20_000, 60),
)


def told(case: Case, seed: int) -> list[int | None]:
    """Of one life, after how many calls a difference of blue and of green was told; None if never."""
    chance = random.Random(seed)
    pairs = [(Difference(), share_of(weight, WEIGHTS[2])) for weight in WEIGHTS[:2]]
    found: list[int | None] = [None, None]
    for number in range(1, case.calls + 1):
        arm = chance.choices(range(3), WEIGHTS)[0]
        value = float(chance.random() < case.rates[arm])
        if case.is_revenue:
            value *= chance.lognormvariate(3, 1)
        for place, (difference, share) in enumerate(pairs):
            if arm in (place, 2):
                difference.observe(value, share, is_canary=arm == place)
        if number % LOOK_CALLS == 0:
            for place, (difference, _) in enumerate(pairs):
                one = difference.interval(10_000, MEAN_ALPHA / len(pairs))
                if found[place] is None and one.lower is not None and one.needed == 0:
                    found[place] = number
    return found


def row(case: Case) -> tuple[object, ...]:
    """A line of the table."""
    lives = [told(case, seed) for seed in range(case.lives)]
    blue = [life[0] for life in lives if life[0] is not None]
    after = f"{median(blue):,.0f}" if blue else ""
    either = sum(any(life) for life in lives)
    return case.name, f"{case.calls:,}", case.lives, either, len(blue), after


def main() -> None:
    """Write the table."""
    head = ("case", "calls", "lives", "blue or green told", "blue told", "after calls (median)")
    write_part(DOCS / "experiments.md", "simulation", f"{table(head, map(row, CASES))}\n{machine()}")


if __name__ == "__main__":
    main()
