"""Simulated rollouts in numbers, for docs/rollouts.md: false aborts, detection, promotion, intervals, sample ratio.

python benchmarks/simulate.py [--runs 1000] [--write]      or: make simulate, which keeps the tables in docs/rollouts.md

The lives are those of `tests/rollout/lives.py`, which `test_simulation.py` beside it compares with `Evidence` itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from report import DOCS, machine, table, write_part

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/rollout"))

from lives import (
    Life,
    Traffic,
    alarm_at,
    coverage_misses,
    flat,
    is_mismatched,
    is_stopped_at_the_end,
    is_stopped_by_looking,
    live,
    once_each_window,
    proven_at,
    ramp,
)

SINGLE = 1 / 0.05  # one guardrail at alpha = 0.05
SHARED = 3 / 0.04  # one of the three hard ones, as served
SEED = 20_261_120
with_ = msgspec.structs.replace


def lives(traffic: Traffic, runs: int) -> Iterator[Life]:
    """That many lives, the same ones in every run of this program."""
    chance = np.random.default_rng(SEED)
    return (live(traffic, chance) for _ in range(runs))


def percent(flags: Sequence[bool]) -> str:
    """`2.1 %`"""
    return f"{100 * sum(flags) / len(flags):.1f} %"


def middle(found: Sequence[int | None]) -> str:
    """The median and the nine tenths, in canary requests; None is never."""
    values = [np.inf if at is None else at for at in found]
    shown = [f"{np.sort(values)[int(part * len(values))]:,.0f}".replace("inf", "not within") for part in (0.5, 0.9)]
    return f"{shown[0]} ({shown[1]})"


def false_aborts(runs: int) -> str:
    """Identical canaries that are aborted all the same."""
    sticky = with_(ramp(20_000), callers=5_000)
    rows = [
        ("10 %, base 1 %", flat(20_000)),
        ("10 %, base 0.1 %", flat(20_000, base=0.001)),
        ("1 → 50 %, base 1 %", ramp(20_000)),
        ("1 → 50 %, base rising from 0.5 to 3 %", ramp(20_000, base=0.005, end=0.03)),
        ("1 → 50 %, 5,000 sticky callers of a power law", sticky),
    ]
    head = ["identical canary, 20,000 requests", "E, K = 1, α = 0.05", "E as served (K = 3, α = 0.04)"]
    head += [
        "events of a caller counted each time",
        "… once per 1,000 requests",
        "z, looked at every 100",
        "z, once at the end",
    ]
    return table(head, (_false_row(name, list(lives(traffic, runs))) for name, traffic in rows))


def _false_row(name: str, held: list[Life]) -> list[str]:
    tests: list[Callable[[Life], object]] = [
        lambda life: alarm_at(life, SINGLE),
        lambda life: alarm_at(life, SHARED),
        lambda life: alarm_at(life, SINGLE, places=np.flatnonzero(life.is_event)),
        lambda life: alarm_at(life, SINGLE, places=once_each_window(life)),
    ]
    aborted = [percent([test(life) is not None for life in held]) for test in tests]
    naive = [percent([test(life) for life in held]) for test in (is_stopped_by_looking, is_stopped_at_the_end)]
    return [name, *aborted, *naive]


def detection(runs: int) -> str:
    """How many canary requests a worse canary gets."""
    rows = []
    cases = [
        ("3 %, champion 1 %", 0.01, 3.0, 0.0, 263),
        ("5 %, champion 1 %", 0.01, 5.0, 0.0, 96),
        ("10 %, champion 1 %", 0.01, 10.0, 0.0, 28),
        ("5 %, champion without", 0.0, 1.0, 0.05, 35),
    ]
    for name, base, ratio, extra, designed in cases:
        held = list(lives(with_(flat(20_000, base=base), ratio=ratio, extra=extra), runs))
        found = [middle([alarm_at(life, limit) for life in held]) for limit in (SINGLE, SHARED)]
        rows.append([name, f"{designed}", *found])
    return table(
        ["canary's errors, at 10 %", "design, K = 1, α = 0.05", "K = 1, α = 0.05", "as served (K = 3, α = 0.04)"], rows
    )


def breakdown(runs: int) -> str:
    """A canary that is as good as the champion until it gets 25 %."""
    rows = []
    for requests in (20_000, 200_000):
        chance = np.random.default_rng(SEED)
        found: list[int | None] = []
        for life in lives(ramp(requests), max(runs // 10, 20)):
            late = (life.shares >= 0.25) & life.is_canary & (chance.random(requests) < 0.04)
            broken = Life(life.shares, life.is_canary, life.is_event | late, life.callers)
            at = alarm_at(broken, SHARED)
            found.append(None if at is None else at - int(np.count_nonzero(life.is_canary & (life.shares < 0.25))))
        rows.append([f"{requests // 2:,}", middle(found)])
    return table(["requests at 1 and 5 %, all well", "canary requests at 25 % until the abort"], rows)


def promotion(runs: int) -> str:
    """How many canary requests it takes to prove a guardrail."""
    rows = []
    for name, traffic in (
        ("identical, no errors", flat(20_000, base=0.0)),
        ("identical, 0.1 %", flat(40_000, base=0.001)),
        ("identical, 1 %", flat(100_000)),
        ("identical, 5 %", flat(50_000, base=0.05)),
    ):
        rows.append([name, middle([proven_at(life) for life in lives(traffic, max(runs // 10, 20))])])
    for name, traffic in (
        ("worse: 1 % beside 0.5 %", with_(flat(20_000, base=0.005), ratio=2.0)),
        ("worse: 1.5 % beside 1 %", with_(flat(20_000), ratio=1.5)),
        ("worse by 0.5 points and a half, 1 → 50 %, base rising", with_(ramp(20_000, 0.01, 0.03), ratio=1.5)),
    ):
        rows.append([name, f"proven in {percent([proven_at(life) is not None for life in lives(traffic, runs // 2)])}"])
    return table(["canary", "canary requests until proven (as served, α = 0.05)"], rows)


def intervals(runs: int) -> str:
    """In how many lives the interval of a mean ever misses the truth."""
    chance = np.random.default_rng(SEED)
    draws: list[tuple[str, Callable[[], NDArray[np.float64]]]] = [
        ("normal", lambda: chance.normal(5, 1, 20_000)),
        ("lognormal, winsorised at 10", lambda: np.minimum(chance.lognormal(0, 1, 20_000), 10)),
        ("conversion of 10 %", lambda: (chance.random(20_000) < 0.1).astype(float)),
        (
            "lognormal, level rising by 2",
            lambda: np.minimum(chance.lognormal(0, 1, 20_000), 10) + np.linspace(0, 2, 20_000),
        ),
    ]
    rows = []
    for name, draw in draws:
        missed = [
            percent([coverage_misses(life, draw(), 10_000) for life in lives(traffic, runs // 2)])
            for traffic in (flat(20_000), ramp(20_000))
        ]
        rows.append([name, *missed])
    return table(["values, 20,000 requests", "10 %", "1 → 50 %"], rows)


def sample_ratio(runs: int) -> str:
    """Sample-ratio mismatch, with and without one."""
    chance = np.random.default_rng(SEED)
    rows = []
    for weight, true in ((0.1, 0.1), (0.5, 0.5), (0.1, 0.08), (0.1, 0.05), (0.5, 0.48)):
        shares = np.full(20_000, weight)
        found = percent([is_mismatched(chance.random(20_000) < true, shares) for _ in range(runs)])
        rows.append([f"{weight:.0%}", f"{true:.0%}", found])
    return table(["weight", "callers that reach the canary", "mismatch told within 20,000 callers"], rows)


def report(runs: int) -> str:
    """All tables."""
    parts = [
        ("False aborts, looked at after every request", false_aborts),
        ("Detection: canary requests until the abort, median (nine tenths)", detection),
        ("A canary that breaks down late (errors of 5 %, champion 1 %)", breakdown),
        ("Promotion: canary requests until a hard guardrail is proven, at 10 %, median (nine tenths)", promotion),
        ("Means: lives in which the 95 % interval ever misses the truth", intervals),
        ("Sample ratio, α = 0.001", sample_ratio),
    ]
    text = f"`make simulate`: {runs:,} lives a row (fewer where requests are many), seed {SEED}; {machine()}.\n"
    for title, part in parts:
        text += f"\n**{title}**\n\n{part(runs)}"
        print(text.rpartition("**")[2], flush=True)
    return text


def main() -> None:
    """Simulate, print, and with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/rollouts.md")
    options = parser.parse_args()
    text = report(options.runs)
    if options.write:
        write_part(DOCS / "rollouts.md", "simulation", text)


if __name__ == "__main__":
    main()
